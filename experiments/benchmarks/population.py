"""A population of networks trained on digits: jnas beside PyTorch, and beside compiling each.

Command: python experiments/benchmarks/population.py --space=nas_bench_201
  (`pip install jnas[bench]` brings PyTorch; --no-torch leaves it out)
  python experiments/benchmarks/population.py --space=mlp
  python experiments/benchmarks/population.py --space=nas_bench_201 --image=32 --cells=5
  is the network of the paper.
Cost: 2 minutes on 2 cores, 1 minute for the space mlp, 5 minutes for the network of the paper.
Measured: microseconds per candidate and training step, initialisation and validation included:
  - `jnas_us`: the evaluator `train`, one program for all architectures, over all devices (the CPU
    is split into one for each core);
  - `torch_us`: PyTorch in eager mode, one candidate after another, each with just its own
    operations and units, with as many threads as are faster, one or all;
  - `each_us`: JAX with a program for every candidate, its architecture fixed; initialisation, the
    same for all, is compiled once. It takes a few candidates, evenly spaced in multiply-adds.
  Networks, data, optimizer, batch and steps are the same in all: `largest_loss_difference` is
  between PyTorch and jnas over the first steps of some candidates from the same weights (beside the
  median of the candidates: in one of them rounding may turn a kink),
  `largest_accuracy_difference` between the population and the programs for each.
  `ratio_compile_each` is the time from nothing to all scores, compile time included: that of the
  programs for each, scaled to all candidates, over that of the population. `floor_us` is the time
  of the multiply-adds alone at the rate `matmul_gflops` of large products on all devices; the
  backward pass counts as two forward passes.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import Parser, compiled, device, interleaved, main, matmul_gflops, rounded, say

from jnas import base, data, nets
from jnas.evaluators import Examples, Training, make_mesh, train
from jnas.evaluators.metrics import measure
from jnas.evaluators.shuffle import shuffled
from jnas.evaluators.tasks import classification
from jnas.evaluators.train import advance, begin
from jnas.problems import examples

BATCH = 64
RATE, MOMENTUM, DECAY, ADAM_RATE = 0.1, 0.9, 5e-4, 0.01
COMPARED = 4  # candidates and
FIRST_STEPS = 5  # steps in which the losses of both libraries are compared
DEFAULTS = {
    "nas_bench_201": {"candidates": 64, "steps": 100, "stages": 1, "plan": "map"},
    "mlp": {"candidates": 256, "steps": 100, "stages": 1, "plan": "vmap"},
}
LARGE = {"candidates": 8, "steps": 12, "stages": 3, "plan": "map"}  # more than one cell


class Task(NamedTuple):
    """What all of them train."""

    net: nets.Net
    training: Training
    fit_on: Examples
    score_on: Examples
    classes: int
    archs: Any  # leaves [n, ...], NumPy
    multiply_adds: np.ndarray  # [n], of a forward pass


def task_of(flags: argparse.Namespace) -> Task:
    """Network, data and candidates."""
    dataset = data.load("digits")
    fit_on, score_on = (
        resized(examples(dataset, s), flags.image) for s in (dataset.train, dataset.validation)
    )
    shape = {"classes": dataset.num_classes, "image": flags.image, "inputs": fit_on.x.shape[-1]}
    if flags.space == "mlp":
        net, rule = nets.mlp(**shape), optax.adam(ADAM_RATE)
    else:
        size = {"channels": flags.channels, "cells": flags.cells, "stages": flags.stages}
        net = nets.nas_bench_201(**size, **shape)
        sgd = optax.sgd(RATE, momentum=MOMENTUM, nesterov=True)
        rule = optax.chain(optax.add_decayed_weights(DECAY), sgd)
    archs = distinct(net.space, flags.candidates)
    costs = np.asarray(jax.vmap(net.space.counts["flops"])(archs))
    training = Training(rule, flags.steps, BATCH)
    return Task(net, training, fit_on, score_on, dataset.num_classes, archs, costs)


def resized(examples: Examples, image: int) -> Examples:
    """The digits at another size, by the nearest pixel, and then in the three colours of CIFAR."""
    if image == examples.x.shape[1]:
        return examples
    near = np.arange(image) * examples.x.shape[1] // image
    return examples._replace(x=np.repeat(examples.x[:, near][:, :, near], 3, -1))


def distinct(space: base.Space, n: int) -> Any:
    """Architectures drawn without replacement, no two of them isomorphic: leaves [n, ...]."""
    order = np.random.default_rng(0).permutation(base.size(space))
    kind = base.index(space, jax.vmap(space.canonical)(base.from_index(space, order)))
    kinds, first = np.unique(np.asarray(kind), return_index=True)
    if n > len(kinds):
        raise base.InputError(f"--candidates={n}: the space has {len(kinds)} distinct ones")
    return jax.tree.map(np.asarray, base.from_index(space, order[np.sort(first)[:n]]))


def nth(archs: Any, i: int) -> Any:
    """One architecture of many."""
    return jax.tree.map(lambda x: x[i], archs)


def evenly(costs: np.ndarray, n: int) -> np.ndarray:
    """Candidates evenly spaced in cost."""
    middles = ((np.arange(n) + 0.5) * len(costs) / n).astype(int)
    return np.argsort(costs)[middles]


class Each(NamedTuple):
    """A program for every candidate of a few."""

    chosen: np.ndarray
    compile_once: float  # seconds
    compile_each: float
    accuracies: Callable[[], np.ndarray]


def compile_each(task: Task, key: jax.Array, few: int) -> Each:
    """Compiles what `train` does for one row, with the architecture fixed, for a few rows."""
    net, training = task.net, task.training
    on, held_out = (jax.tree.map(jnp.asarray, part) for part in (task.fit_on, task.score_on))
    initial, once = compiled(lambda key: begin(net, training, on, key), key)
    say(f"initialisation for the programs for each: compiled in {once:.1f} s")

    def alone(arch: Any) -> Callable[[jax.Array, Any], dict[str, jax.Array]]:
        def run(key: jax.Array, now: Any) -> dict[str, jax.Array]:
            now, _ = advance(net, training, on, key, arch, now, 0, training.steps)
            return measure(net, held_out, arch, now.params, now.state, classification(task.classes))

        return run

    programs, seconds = [], []
    chosen = evenly(task.multiply_adds, few)
    for i in chosen:
        k_init, k_order = jax.random.split(jax.random.split(key, len(task.multiply_adds))[i])
        program, took = compiled(alone(nth(task.archs, i)), k_order, initial(k_init))
        say(f"{net.space.describe(nth(task.archs, i))}: compiled in {took:.1f} s")
        programs.append((program, k_init, k_order))
        seconds.append(took)

    def accuracies() -> np.ndarray:
        found = [program(order, initial(init)) for program, init, order in programs]
        return np.asarray([metrics["accuracy"] for metrics in found])

    return Each(chosen, once, float(np.mean(seconds)), accuracies)


class Torch(NamedTuple):
    """PyTorch, ready to train."""

    train: Callable[[], None]  # all candidates
    facts: dict[str, Any]


def torch_of(task: Task, flags: argparse.Namespace, key: jax.Array) -> Torch:
    """The same networks in PyTorch, checked against jnas from the same weights."""
    import _torch_nets as twins
    import torch

    where = twins.device(jax.default_backend() == "gpu")
    scaled = lambda e: (e.x.astype(np.float32) - e.mean) / e.std
    kinds, space = task.net.space.labels, task.net.space
    inputs, image = task.fit_on.x.shape[-1], flags.image

    def make(i: int) -> torch.nn.Module:
        arch = nth(task.archs, i)
        if flags.space == "mlp":
            widths = [kinds["width"][w] for w in arch["width"]]
            activations = [kinds["activation"][a] for a in arch["activation"]]
            return twins.perceptron(image * image * inputs, widths, activations, task.classes)
        size = (flags.channels, flags.cells, flags.stages, task.classes, inputs)
        return twins.CellNetwork(arch.tolist(), *size)

    sgd = {"lr": RATE, "momentum": MOMENTUM, "weight_decay": DECAY, "nesterov": True}
    is_mlp = flags.space == "mlp"
    loop = twins.Loop(
        make,
        twins.copy_perceptron if is_mlp else twins.copy_cells,
        lambda p: torch.optim.Adam(p, ADAM_RATE) if is_mlp else torch.optim.SGD(p, **sgd),
        *(twins.tensors(scaled(e), e.y, where) for e in (task.fit_on, task.score_on)),
        BATCH,
    )
    n = len(task.multiply_adds)
    steps = min(FIRST_STEPS, len(task.fit_on.y) // BATCH)
    on = jax.tree.map(jnp.asarray, task.fit_on)
    now = jax.jit(lambda key: begin(task.net, task.training, on, key))(key)
    first = jax.jit(lambda arch: advance(task.net, task.training, on, key, arch, now, 0, steps)[1])
    order = shuffled(jax.random.fold_in(key, 0), len(on.y))
    differences = []
    for i in evenly(task.multiply_adds, min(COMPARED, n)):
        ours, theirs = first(nth(task.archs, i)), loop.losses(i, now.params, order, steps)
        differences.append(float(np.abs(np.asarray(ours) - theirs).max()))
        say(f"{space.describe(nth(task.archs, i))}: losses {ours} of jnas, {theirs} of PyTorch")

    cores = os.cpu_count() or 1
    middle = int(evenly(task.multiply_adds, 1)[0])
    sample = {}
    for threads in (1, cores):
        twins.use_threads(threads)
        loop.train(middle, 2)
        sample[threads] = interleaved({"torch": lambda i: loop.train(middle, flags.steps)}, 3)
    threads = min(sample, key=lambda n: sample[n]["torch"])
    twins.use_threads(threads)

    def train_all() -> None:
        for i in range(n):
            loop.train(i, flags.steps)

    facts = {"torch_threads": threads, "torch_device": str(where), "torch": torch.__version__}
    facts["largest_loss_difference"] = max(differences)
    facts["median_loss_difference"] = float(np.median(differences))
    return Torch(train_all, facts)


def compare(flags: argparse.Namespace) -> dict[str, Any]:
    """Runs all of them and returns what the last line shows."""
    large = flags.space != "mlp" and max(flags.cells, flags.stages) > 1
    for name, value in (LARGE if large else DEFAULTS[flags.space]).items():
        setattr(flags, name, getattr(flags, name) or value)
    if not flags.no_torch and importlib.util.find_spec("torch") is None:
        raise base.InputError("PyTorch is missing: pip install 'jnas[bench]', or pass --no-torch")
    split = f"--xla_force_host_platform_device_count={flags.devices or os.cpu_count() or 1}"
    os.environ["XLA_FLAGS"] = f"{split} {os.environ.get('XLA_FLAGS', '')}".strip()  # his own wins
    task, key = task_of(flags), jax.random.key(0)
    n, steps = flags.candidates, flags.steps
    evaluator = train(
        task.net,
        task.training,
        task.fit_on,
        task.score_on,
        classes=task.classes,
        plan=flags.plan,
        mesh=make_mesh(flags.devices),
    )
    say(f"{n} candidates, {steps} steps of batch {BATCH} on {device()}")
    torch = None if flags.no_torch else torch_of(task, flags, jax.random.key(1))
    every = jax.tree.map(jnp.asarray, task.archs)
    evaluate = lambda key, archs: evaluator.evaluate(key, base.propose(archs), ())[0].metrics
    program, compile_seconds = compiled(evaluate, key, every)
    say(f"the population: compiled in {compile_seconds:.1f} s")
    each = compile_each(task, key, min(flags.compiled_each, n))
    together = np.asarray(program(key, every)["accuracy"])[each.chosen]
    difference = float(np.abs(together - each.accuracies()).max())

    jobs = {"jnas": lambda i: program(key, every), "each": lambda i: each.accuracies()}
    if torch is not None:
        jobs["torch"] = lambda i: torch.train()
    seconds = interleaved(jobs, flags.rounds)
    gflops = matmul_gflops()
    per_step = float(task.multiply_adds.mean()) * 2 * 3 * BATCH
    us = lambda name, candidates=n: seconds[name] / (candidates * steps) * 1e6
    each_seconds = each.compile_each + seconds["each"] / len(each.chosen)
    end_to_end = {
        "jnas": compile_seconds + seconds["jnas"],
        "each": each.compile_once + each_seconds * n,
    }
    results: dict[str, Any] = {
        "jnas_us": us("jnas"),
        "each_us": us("each", len(each.chosen)),
        "floor_us": per_step / gflops / 1e3,
        "floor_ratio": us("jnas") * gflops * 1e3 / per_step,
        "ratio_compile_each": end_to_end["each"] / end_to_end["jnas"],
        "end_to_end_seconds": end_to_end,
        "compile_seconds": {
            "jnas": compile_seconds,
            "each_once": each.compile_once,
            "each_per_candidate": each.compile_each,
        },
        "flops_per_candidate_step": per_step,
        "matmul_gflops": gflops,
        "largest_accuracy_difference": difference,
    }
    if torch is not None:
        ratio = us("torch") / us("jnas")
        results = {"torch_us": us("torch"), "ratio_torch": ratio, **results, **torch.facts}
    return rounded(results) | {
        "space": flags.space,
        "plan": flags.plan,
        "devices": flags.devices or len(jax.devices()),
        "candidates": n,
        "compiled_each": len(each.chosen),
        "steps": steps,
        "batch": BATCH,
        "image": flags.image,
        **({} if flags.space == "mlp" else _size(flags)),
        "rounds": flags.rounds,
        "device": device(),
    }


def _size(flags: argparse.Namespace) -> dict[str, int]:
    return {"channels": flags.channels, "cells": flags.cells, "stages": flags.stages}


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_argument(
        "--space", choices=list(DEFAULTS), default="nas_bench_201", help="(nas_bench_201)"
    )
    flags.add_count("--image", 8, "height and width of the images")
    flags.add_count("--channels", 16, "C, the width of the first stage of cells")
    flags.add_count("--cells", 1, "N, the cells of a stage")
    flags.add_count(
        "--stages", 0, "stages of cells; 0 is 1, or the paper's 3 where N is more than 1", least=0
    )
    flags.add_count(
        "--candidates",
        0,
        "distinct networks; 0 is 64 cells, 8 networks of several cells, 256 perceptrons",
        least=0,
    )
    flags.add_count("--steps", 0, "training steps; 0 is 100, or 12 of several cells", least=0)
    flags.add_count("--rounds", 5, "times all are measured, in turn; the median counts")
    flags.add_count("--compiled-each", 3, "candidates with a program of their own, at most")
    flags.add_count("--devices", 0, "devices that the population is spread over; 0 is all", least=0)
    flags.add_argument("--plan", default="", help="of the population; map for cells, else vmap")
    flags.add_argument("--no-torch", action="store_true", help="leaves PyTorch out")
    return flags


if __name__ == "__main__":
    sys.exit(main("population", parser(), compare))
