"""Every search space: its size, how fast it is sampled, and a population of it in training.

Command: python experiments/benchmarks/spaces.py --json
  (--spaces=mlp,darts takes some of them, --samples=10000 is quick, --no-population trains none)
Cost: about a minute for each space on 2 cores, most of it to compile the population's program.
Measured, for each space:
  - `architectures`: how many there are, a whole number as text; `distinct`: how many differ, where
    it is known (isomorphic ones count once);
  - `sample_seconds`: to draw 1e6 architectures (`--samples`), in batches of 10,000, those that are
    not valid drawn again or repaired; `canonical_per_second`: canonical forms of such batches. Both
    without compiling, `compile_seconds` together;
  - `population_seconds`: 16 architectures of a small network of the space trained for 20 steps of
    32 random examples, by the plan `map`, without compiling, `population_compile_seconds`; and how
    many of them have a finite loss, `population_alive`. Where a network cannot be made with the
    settings here, `population_error` says why.
  `published` compares the parameters of known networks (`jnas.nets.published`), counted on the
  network itself, with the published numbers; the exit code is 1 where one differs.
"""

import argparse
import inspect
import math
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import Parser, compiled, device, main, rounded, say

from jnas import base, nets
from jnas.base import InputError
from jnas.evaluators import Examples, Training, tasks, train
from jnas.nets import published
from jnas.spaces import SPACES, different

BATCH, CANDIDATES, STEPS, EXAMPLES = 10_000, 16, 20, 32
# Settings that make a network small, of which each takes those that it knows.
SMALL: dict[str, Any] = {
    "channels": 4, "cells": 1, "layers": 3, "stages": 1, "classes": 10, "image": 8, "inputs": 1,
}  # fmt: skip
# By the axes of the labels: a class for an example, for a token, for a pixel.
TASKS = {1: tasks.classification, 2: tasks.language_model, 3: tasks.segmentation}
# What a network needs beside or instead of them, and the shape of one input where it is no image;
# with `tokens` inputs are ints below that number. One line for a space.
OTHERS: dict[str, dict[str, Any]] = {
    "amoebanet": {"blocks": 3, "repeats": 1},
    "enas_micro": {"blocks": 3, "repeats": 1},
    "metaqnn": {"filters": (4, 8), "units": (8, 4)},
    "nas_bench_101": {"channels": 8, "stacks": 1, "modules": 1},
    "nas_bench_201": {"stages": 1},
    "nasnet": {"blocks": 3, "repeats": 1},
    "ofa": {"stages": 2},
    "pnas": {"blocks": 3, "repeats": 1},
    "proxylessnas": {"stages": 2},
    "resnet": {"depths": (1, 2), "widths": ((4, 8), (8, 16)), "kernels": (3, 5), "stem": 4},
    "series": {"depth": 2, "widths": (8, 12), "length": 16, "features": 12, "shape": (16, 12)},
    "tc_resnet": {"channels": (4, 6, 8), "length": 16, "features": 8, "shape": (16, 8)},
    "transformer": {"depth": 2, "vocabulary": 32, "length": 16, "shape": (16,), "tokens": 32},
}


def small(name: str) -> tuple[nets.Net, tuple[int, ...], int]:
    """A small network of a space, the shape of an input, and the number of tokens (0: images)."""
    own = dict(OTHERS.get(name, {}))
    shape, tokens = own.pop("shape", None), own.pop("tokens", 0)
    make = nets.NETS[name]
    takes = inspect.signature(make).parameters
    if any(p.kind == p.VAR_KEYWORD for p in takes.values()):  # it passes them on to the space
        takes = inspect.signature(SPACES[name]).parameters
    settings = {**{k: v for k, v in SMALL.items() if k in takes}, **own}
    image = settings.get("image", SMALL["image"])
    return make(**settings), shape or (image, image, settings.get("inputs", 1)), tokens


def outputs(net: nets.Net, key: jax.Array, x: np.ndarray) -> jax.Array:
    """Of any architecture."""
    params, state = net.init(key)
    return net.apply(params, state, base.template(net.space), x)[0]


def small_population(name: str) -> tuple[base.Evaluator, base.Trials]:
    """How small networks of a space train, and some of them."""
    net, shape, tokens = small(name)
    random = np.random.default_rng(0)
    size = (EXAMPLES, *shape)
    x = random.integers(0, tokens, size) if tokens else random.normal(size=size).astype(np.float32)
    *places, classes = jax.eval_shape(lambda key: outputs(net, key, x), jax.random.key(0)).shape
    scaling = {"mean": None} if tokens else {}
    examples = Examples(x, random.integers(0, classes, places).astype(np.int32), **scaling)
    training = Training(optax.sgd(0.05, momentum=0.9), STEPS, EXAMPLES)
    task = TASKS[len(places)](classes)
    evaluator = train(net, training, examples, examples, plan="map", task=task)
    return evaluator, base.propose(base.sample(net.space, jax.random.key(1), CANDIDATES))


def population(name: str) -> dict[str, Any]:
    """Times the training of a population of small networks."""
    evaluator, trials = small_population(name)
    state = evaluator.init(jax.random.key(2))
    program, seconds = compiled(evaluator.evaluate, jax.random.key(3), trials, state)
    started = time.perf_counter()
    found, _ = jax.block_until_ready(program(jax.random.key(3), trials, state))
    return {
        "population_seconds": time.perf_counter() - started,
        "population_compile_seconds": seconds,
        "population_alive": int((jnp.isfinite(found.metrics["loss"]) & (found.weight > 0)).sum()),
    }


def speeds(space: base.Space, samples: int) -> dict[str, Any]:
    """Times samples and canonical forms."""
    batch = min(BATCH, samples)
    rounds = math.ceil(samples / batch)
    drawn, compile_sample = compiled(lambda key: base.sample(space, key, batch), jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), rounds)
    batches = [drawn(keys[0])]
    started = time.perf_counter()
    for key in keys:
        batches = [*batches[-2:], drawn(key)]
    jax.block_until_ready(batches)
    sample_seconds = (time.perf_counter() - started) * samples / (rounds * batch)
    form, compile_form = compiled(jax.vmap(space.canonical), batches[-1])
    jax.block_until_ready(form(batches[-1]))
    times = []
    for arch in batches:
        started = time.perf_counter()
        jax.block_until_ready(form(arch))
        times.append(time.perf_counter() - started)
    return {
        "sample_seconds": sample_seconds,
        "canonical_per_second": batch / min(times),
        "compile_seconds": compile_sample + compile_form,
    }


def compare() -> list[dict[str, Any]]:
    """Parameters of published networks beside the published numbers."""
    rows = []
    for row in published.every():
        found = int(row.params())
        rows.append({"name": row.name, "params": found, "published": row.number,
                     "source": row.source, "equal": found == row.number})  # fmt: skip
        say(f"{row.name:32s} {found:>13,} {'equal' if found == row.number else row.number}")
    return rows


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """All spaces, one after another."""
    names = sorted(SPACES) if flags.spaces is None else flags.spaces.split(",")
    for name in names:
        if name not in SPACES:
            raise InputError(f"--spaces: unknown space {name!r}; allowed: {', '.join(SPACES)}")
    spaces = {}
    for name in names:
        space = SPACES[name]()
        row: dict[str, Any] = {"architectures": str(base.size(space)), "distinct": different(space)}
        row |= speeds(space, flags.samples)
        if flags.population and name in nets.NETS:
            try:
                row |= population(name)
            except InputError as error:  # it takes other settings: see OTHERS
                row["population_error"] = str(error)
        spaces[name] = rounded(row)
        jax.clear_caches()
        say(f"{name:20s} {spaces[name]}")
    return {
        "spaces": spaces,
        "published": compare() if flags.published else [],
        "samples": flags.samples,
        "device": device(),
    }


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_argument("--spaces", default=None, help="some of them, with commas between")
    flags.add_count("--samples", 1_000_000, "architectures to draw")
    for name in ("population", "published"):
        flags.add_argument(f"--no-{name}", dest=name, action="store_false", help="leave it out")
    return flags


if __name__ == "__main__":
    wrong: list[str] = []

    def run(flags: argparse.Namespace) -> dict[str, Any]:
        """Measures, and notes the networks whose parameters differ."""
        found = measure(flags)
        wrong.extend(row["name"] for row in found["published"] if not row["equal"])
        return found

    code = main("spaces", parser(), run)
    if wrong:
        print(f"spaces: parameters differ from the published ones: {wrong}", file=sys.stderr)
    sys.exit(code or bool(wrong))
