"""A population of NAS-Bench-201 cells trained on digits: jnas beside compiling every candidate.

Command: python experiments/benchmarks/population.py
Cost: 3 to 4 minutes on 2 cores, most of it compiling.
Measured: microseconds per candidate and training step, initialisation and validation included, of
  - `jnas_us`, `vmap_us`: the evaluator `train` with its plans map and vmap, one program for all
    architectures; `spread_us`: the plan map over `--devices` devices (the CPU is split into them);
  - `each_us`: a loop in which every candidate is a program of its own, its architecture fixed, so
    that it has no branches and runs no unused operations; initialisation, the same for all, is
    compiled once. The loop takes a few candidates only, evenly spaced in multiply-adds;
    `jnas_same_us` is the plan map on just those.
  Network, data, optimizer, batch and steps are the same in all three, and so are the keys:
  `largest_accuracy_difference` is between the plan map and the loop.
  `ratio_compile_each` is the time from nothing to all scores, compile time included: that of the
  loop, scaled to all candidates, over that of the plan map. `floor_us` is the time of the
  multiply-adds alone at the rate `matmul_gflops` of a large product on the same machine; the
  backward pass counts as two forward passes.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import Parser, compiled, device, interleaved, main, rounded, say

from jnas import base, data, nets
from jnas.configs import examples, training_of
from jnas.evaluators import make_mesh, train
from jnas.evaluators.train import advance, begin, measure

BATCH = 64
RULE = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
PRODUCT = 1024  # rows and columns of the product that shows the machine's rate
PRODUCTS = 10  # of them in a measurement


def distinct_cells(space: base.Space, n: int) -> np.ndarray:
    """Cells drawn without replacement, no two of them isomorphic: int32[n, 6]."""
    order = np.random.default_rng(0).permutation(base.size(space))
    kind = base.index(space, jax.vmap(space.canonical)(base.from_index(space, order)))
    kinds, first = np.unique(np.asarray(kind), return_index=True)
    if n > len(kinds):
        raise base.InputError(f"--candidates={n}: the space has {len(kinds)} distinct cells")
    return np.asarray(base.from_index(space, order[np.sort(first)[:n]]))


def compare(flags: argparse.Namespace) -> dict[str, Any]:
    """Runs all three and returns what the last line shows."""
    if flags.devices > 1:
        split = f"--xla_force_host_platform_device_count={flags.devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {split}".strip()
    dataset = data.load("digits")
    fit_on, score_on = (examples(dataset, s) for s in (dataset.train, dataset.validation))
    image, _, inputs = dataset.shape
    classes = dataset.num_classes
    net = nets.nas_bench_201(flags.channels, flags.cells, classes, image, inputs)
    training = training_of({"steps": flags.steps, "batch_size": BATCH, **RULE}, "train")

    archs = distinct_cells(net.space, flags.candidates)
    n = len(archs)
    flops = np.asarray([2 * nets.count_flops(net, arch, dataset.shape) for arch in archs])
    few = min(flags.compiled_each, n)
    middles = ((np.arange(few) + 0.5) * n / few).astype(int)
    chosen = np.argsort(flops)[middles]
    key = jax.random.key(0)
    say(f"{n} candidates, {flags.steps} steps of batch {BATCH} on {device()}")

    def population(plan: str, devices: int = 1) -> Callable[..., dict[str, jax.Array]]:
        options = {"classes": classes, "plan": plan, "mesh": make_mesh(devices)}
        evaluator = train(net, training, fit_on, score_on, **options)
        return lambda key, archs: evaluator.evaluate(key, base.propose(archs), ())[0].metrics

    on, held_out = (jax.tree.map(jnp.asarray, part) for part in (fit_on, score_on))

    def alone(arch: np.ndarray) -> Callable[[jax.Array, Any], dict[str, jax.Array]]:
        """What `train` does for one row after its initialisation, with the architecture fixed."""

        def run(key: jax.Array, now: Any) -> dict[str, jax.Array]:
            now, _ = advance(net, training, on, key, arch, now, 0, training.steps)
            return measure(net, held_out, arch, now.params, now.state, classes)

        return run

    compile_seconds = {}
    every = jnp.asarray(archs)
    one_program, compile_seconds["map"] = compiled(population("map"), key, every)
    say(f"map: compiled in {compile_seconds['map']:.1f} s")
    spread, compile_seconds["spread"] = compiled(population("map", flags.devices), key, every)
    say(f"map on {flags.devices} devices: compiled in {compile_seconds['spread']:.1f} s")
    masked = every[: flags.vmap_candidates]
    at_once, compile_seconds["vmap"] = compiled(population("vmap"), key, masked)
    say(f"vmap of {len(masked)}: compiled in {compile_seconds['vmap']:.1f} s")
    start = lambda key: begin(net, training, on, key)
    initial, compile_seconds["each_once"] = compiled(start, key)
    say(f"initialisation for the loop: compiled in {compile_seconds['each_once']:.1f} s")
    programs, each_compile = [], []
    for i in chosen:
        k_init, k_order = jax.random.split(jax.random.split(key, n)[i])  # as the evaluator does
        program, seconds = compiled(alone(archs[i]), k_order, initial(k_init))
        say(f"candidate {i}, {net.space.describe(archs[i])}: compiled in {seconds:.1f} s")
        programs.append((program, k_init, k_order))
        each_compile.append(seconds)
    compile_seconds["each_per_candidate"] = float(np.mean(each_compile))

    def loop(i: int) -> np.ndarray:
        """The accuracies of the few, one candidate after another."""
        found = [program(order, initial(init)) for program, init, order in programs]
        return np.asarray([metrics["accuracy"] for metrics in found])

    together = np.asarray(one_program(key, every)["accuracy"])[chosen]
    difference = float(np.abs(together - loop(0)).max())
    same = every[np.resize(chosen, n)]  # the few cells again and again
    square = jax.random.normal(key, (PRODUCT, PRODUCT)) / PRODUCT**0.5
    product = jax.jit(lambda a, b: a @ b)

    def products(i: int) -> jax.Array:
        x = square
        for _ in range(PRODUCTS):
            x = product(x, square)
        return x

    products(0)
    seconds = interleaved(
        {
            "map": lambda i: one_program(key, every),
            "spread": lambda i: spread(key, every),
            "each": loop,
            "map of the same": lambda i: one_program(key, same),
            "vmap": lambda i: at_once(key, masked),
            "products": products,
        },
        flags.rounds,
    )
    us = lambda name, candidates: seconds[name] / (candidates * flags.steps) * 1e6
    per_step = float(flops.mean()) * 3 * BATCH
    gflops = 2 * PRODUCT**3 * PRODUCTS / seconds["products"] / 1e9
    results = {
        "jnas_us": us("map", n),
        "spread_us": us("spread", n),
        "vmap_us": us("vmap", len(masked)),
        "each_us": us("each", few),
        "jnas_same_us": us("map of the same", n),
        "compile_seconds": compile_seconds,
        "end_to_end_seconds": {
            "map": compile_seconds["map"] + seconds["map"],
            "spread": compile_seconds["spread"] + seconds["spread"],
            "each": compile_seconds["each_once"]
            + (compile_seconds["each_per_candidate"] + seconds["each"] / few) * n,
        },
        "flops_per_candidate_step": per_step,
        "matmul_gflops": gflops,
        "floor_us": per_step / gflops / 1e3,
        "largest_accuracy_difference": difference,
    }
    total = results["end_to_end_seconds"]
    results["ratio_compile_each"] = total["each"] / total["map"]
    results["floor_ratio"] = results["jnas_us"] / results["floor_us"]
    say(f"map {results['jnas_us']:.0f} us per candidate and step, vmap {results['vmap_us']:.0f}")
    say(f"map on {flags.devices} devices {results['spread_us']:.0f}")
    say(f"each {results['each_us']:.0f}, map of the same cells {results['jnas_same_us']:.0f}")
    say(f"the multiply-adds alone {results['floor_us']:.0f} at {gflops:.0f} GFLOP/s")
    say(f"{n} candidates from nothing: map {total['map']:.1f} s, each {total['each']:.1f} s")
    return rounded(results) | {
        "each": f"measured on {few} of {n} candidates; end to end scaled to {n}",
        "candidates": n,
        "compiled_each": few,
        "vmap_candidates": len(masked),
        "devices": flags.devices,
        "steps": flags.steps,
        "batch": BATCH,
        "channels": flags.channels,
        "cells": flags.cells,
        "rounds": flags.rounds,
        "device": device(),
    }


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--channels", 16, "C, the width of the first stage")
    flags.add_count("--cells", 1, "N, the cells of a stage")
    flags.add_count("--candidates", 8, "distinct cells in the population")
    flags.add_count("--steps", 50, "training steps of a candidate")
    flags.add_count("--rounds", 3, "times all are measured, in turn; the median counts")
    flags.add_count("--compiled-each", 2, "candidates that the loop compiles, at most")
    flags.add_count("--devices", 2, "devices that the plan map is spread over")
    flags.add_count("--vmap-candidates", 4, "candidates in the plan vmap, at most")
    return flags


if __name__ == "__main__":
    sys.exit(main("population", parser(), compare))
