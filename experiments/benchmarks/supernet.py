"""A step of DARTS on its supernet: jnas beside the same supernet in PyTorch.

Command: python experiments/benchmarks/supernet.py
  (`pip install jnas[bench]` brings PyTorch)
Cost: 15 to 19 minutes on 2 cores.
Measured: seconds of a search step, C=16 and 8 layers: of the architecture by Adam on one batch,
  then of the weights by SGD on another, as published (Liu, Simonyan and Yang 2019, arXiv
  1806.09055). First order, and second order by finite differences; images of 8x8 in batches of
  64, and of 32x32 in batches of 8, the same on both sides.
  - `ratio_torch` is the least of the `ratios`, PyTorch's seconds over those of jnas. PyTorch runs
    in eager mode with one thread or all, whichever is faster. `largest_loss_difference` is between
    both over the first steps from the same weights and batches; in second order, rounding in the
    short finite difference makes most of it (in float64 the searches agree).
  - `ratio_20_over_8` compares the seconds to compile the programs of a first-order step, of 20 and
    of 8 layers.
  - `ratio_gdas` is a step of the weights on one path, the largest weight of every edge chosen by
    data (GDAS, arXiv 1910.04465), over that of a network compiled with the same operations fixed.
  - `memory_mb`: what the programs of a step need at most beside their arguments, and what they and
    PyTorch's process had at most; the latter counts the libraries.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import Parser, compiled, device, interleaved, main, rounded, say

from jnas import base
from jnas.nets import Net
from jnas.nets.darts_supernet import darts_supernet

CLASSES, INPUTS = 10, 3
SIZES = {8: 64, 32: 8}  # images of a batch by their height
DEPTHS = (8, 20)
RATES = {  # as published for CIFAR-10
    **{"weights": 0.025, "momentum": 0.9, "decay": 3e-4, "clip": 5.0},
    **{"arch": 3e-4, "arch_decay": 1e-3},
}
SMALL_STEP = 0.01  # of the finite difference, over the norm of the gradient (section 2.3)
COMPARED = 2  # steps whose losses are compared
ORDERS = ("first", "second")


class State(NamedTuple):
    """What a search holds."""

    params: Any
    statistics: Any
    logits: Any
    sgd: Any
    adam: Any


def rules() -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """The optimizers of the weights and of the architecture."""
    sgd = optax.chain(
        optax.clip_by_global_norm(RATES["clip"]),
        optax.add_decayed_weights(RATES["decay"]),
        optax.sgd(RATES["weights"], RATES["momentum"]),
    )
    decay = optax.add_decayed_weights(RATES["arch_decay"])
    return sgd, optax.chain(decay, optax.adam(RATES["arch"], b1=0.5))


def begin(net: Net, key: jax.Array) -> State:
    """A search before its first step."""
    k_net, *keys = jax.random.split(key, 3)
    params, state = net.init(k_net)
    names = zip(("normal", "reduce"), keys, strict=True)
    logits = {name: 1e-3 * jax.random.normal(k, (14, 8)) for name, k in names}
    sgd, adam = rules()
    return State(params, state, logits, sgd.init(params), adam.init(logits))


def batches(image: int, batch: int) -> list[Any]:
    """Images and classes of a batch for the weights and one for the architecture."""
    made = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(batch, image, image, INPUTS)).astype(np.float32)
        made.append((jnp.asarray(x), jnp.asarray(rng.integers(0, CLASSES, batch))))
    return made


def loss_of(net: Net, sparse: bool = False) -> Callable:
    """`(params, architecture, statistics, batch) -> (loss, statistics)`."""

    def loss(params: Any, arch: Any, state: Any, batch: Any) -> tuple[jax.Array, Any]:
        logits, state = net.apply(params, state, arch, batch[0], train=True, sparse=sparse)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return jnp.mean(losses), state

    return loss


class Programs:
    """The compiled parts of a step."""

    def __init__(self, net: Net, now: State, batch: Any, orders: tuple[str, ...] = ORDERS):
        sgd, adam = rules()
        loss = loss_of(net)
        soft = lambda logits: jax.tree.map(jax.nn.softmax, logits)
        value = lambda p, a, s, b: loss(p, soft(a), s, b)[0]

        def weights(now: State, batch: Any) -> tuple[State, jax.Array]:
            grad = jax.value_and_grad(loss, has_aux=True)
            (found, state), grads = grad(now.params, soft(now.logits), now.statistics, batch)
            updates, velocity = sgd.update(grads, now.sgd, now.params)
            params = optax.apply_updates(now.params, updates)
            return now._replace(params=params, statistics=state, sgd=velocity), found

        def architecture(now: State, grads: Any) -> State:
            updates, moments = adam.update(grads, now.adam, now.logits)
            return now._replace(logits=optax.apply_updates(now.logits, updates), adam=moments)

        def unrolled(now: State, grads: Any) -> Any:
            trace = optax.tree_utils.tree_get(now.sgd, "trace")
            rate, momentum, decay = RATES["weights"], RATES["momentum"], RATES["decay"]
            step = lambda w, v, g: w - rate * (momentum * v + g + decay * w)
            return jax.tree.map(step, now.params, trace, grads)

        def around(params: Any, vector: Any) -> tuple[Any, Any, jax.Array]:
            size = SMALL_STEP / optax.global_norm(vector)
            move = lambda by: jax.tree.map(lambda w, v: w + by * v, params, vector)
            return move(size), move(-size), size

        def corrected(direct: Any, above: Any, below: Any, size: jax.Array) -> Any:
            slope = lambda d, p, n: d - RATES["weights"] * (p - n) / (2 * size)
            return jax.tree.map(slope, direct, above, below)

        args = (now.params, now.logits, now.statistics, batch)
        self.seconds, self.temporary = 0.0, 0

        def large(f: Callable, *args: Any) -> Callable:
            program, seconds = compiled(f, *args)
            self.seconds += seconds
            say(f"  compiled in {seconds:.1f} s")
            analysis = program.memory_analysis()  # type: ignore
            self.temporary = max(self.temporary, analysis.temp_size_in_bytes)
            return program

        self.weights = large(weights, now, batch)
        self.slope = large(jax.grad(value, 1), *args)
        if "second" in orders:
            self.both = large(jax.grad(value, (0, 1)), *args)
        self.architecture, self.unrolled = jax.jit(architecture), jax.jit(unrolled)
        self.around, self.corrected = jax.jit(around), jax.jit(corrected)

    def step(self, now: State, train: Any, valid: Any, second: bool) -> tuple[State, jax.Array]:
        """A step of the architecture and one of the weights; returns the loss of the latter."""
        logits, state = now.logits, now.statistics
        if second:
            moved = self.unrolled(now, self.both(now.params, logits, state, train)[0])
            vector, direct = self.both(moved, logits, state, valid)
            above, below, size = self.around(now.params, vector)
            slopes = [self.slope(params, logits, state, train) for params in (above, below)]
            grads = self.corrected(direct, *slopes, size)
        else:
            grads = self.slope(now.params, logits, state, valid)
        return self.weights(self.architecture(now, grads), train)


def paths(net: Net, now: State, batch: Any) -> dict[str, Callable]:
    """The gradient of the weights on one path chosen by data, and with that path compiled in."""
    rng = np.random.default_rng(2)
    ops = {name: rng.integers(0, 8, 14).astype(np.int32) for name in ("normal", "reduce")}
    hot = {name: jnp.asarray(np.eye(8, dtype=np.float32)[row]) for name, row in ops.items()}
    chosen, _ = compiled(
        jax.grad(loss_of(net, sparse=True), (0, 1), has_aux=True),
        *(now.params, hot, now.statistics, batch),
    )
    fixed = lambda p, s, b: jax.grad(lambda p: loss_of(net)(p, ops, s, b), has_aux=True)(p)
    single, _ = compiled(fixed, now.params, now.statistics, batch)
    return {
        "gdas": lambda i: chosen(now.params, hot, now.statistics, batch)[0],
        "single": lambda i: single(now.params, now.statistics, batch)[0],
    }


def net_of(flags: argparse.Namespace, image: int, layers: int) -> Net:
    """The supernet."""
    return darts_supernet(flags.channels, layers, CLASSES, image, INPUTS)


class Case(NamedTuple):
    """One order at one size: seconds of a step by side, and how far the first losses differ."""

    seconds: dict[str, float]
    threads: int
    difference: float


def case(
    flags: argparse.Namespace, programs: "Programs", first: State, pair: list, second: bool
) -> Case:
    """Steps of both sides in turn."""
    import torch

    search, theirs = torch_search(flags, first, pair)
    held, difference = [first], 0.0

    def ours(i: int) -> jax.Array:
        held[0], loss = programs.step(held[0], *pair, second)
        return loss

    other = lambda i: search.step(*theirs, second)
    for i in range(COMPARED):
        losses = float(ours(i)), other(i)
        difference = max(difference, abs(losses[0] - losses[1]))
        say(f"losses {losses[0]:.6f} of jnas, {losses[1]:.6f} of PyTorch")
    sample = {}
    for threads in {1, os.cpu_count() or 1}:
        torch.set_num_threads(threads)
        sample[threads] = interleaved({f"torch, {threads} threads": other}, 2)
    threads = min(sample, key=lambda n: min(sample[n].values()))
    torch.set_num_threads(threads)
    seconds = interleaved({"jnas": ours, "torch": other}, flags.rounds)
    return Case(seconds, threads, difference)


def torch_search(flags: argparse.Namespace, first: State, pair: list) -> tuple[Any, list]:
    """The search in PyTorch from the same weights, and its batches."""
    import torch
    from _torch_darts import Search

    size = (flags.channels, flags.layers, CLASSES, INPUTS)
    logits = [first.logits[name] for name in ("normal", "reduce")]
    batches = [
        (torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)), torch.tensor(np.asarray(y)).long())
        for x, y in pair
    ]
    return Search(size, first.params, logits, RATES), batches


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """Runs all of them and returns what the last line shows."""
    if len(flags.images) != len(flags.batches):
        raise base.InputError(f"--batches={flags.batches}: as many as --images={flags.images}")
    if flags.peak_of:
        return peak(flags)
    for image in flags.images:
        net_of(flags, image, flags.layers)  # a network that cannot be is told before all the work
    if importlib.util.find_spec("torch") is None:
        raise base.InputError("PyTorch is missing: pip install 'jnas[bench]'")
    import torch

    say(f"C={flags.channels}, {flags.layers} layers on {device()}")
    cases: dict[str, Case] = {}
    memory: dict[str, float] = {}
    gdas: dict[str, float] = {}
    for image, batch in zip(flags.images, flags.batches, strict=True):
        net = net_of(flags, image, flags.layers)
        first, pair = begin(net, jax.random.key(0)), batches(image, batch)
        say(f"images of {image}x{image}, batches of {batch}")
        programs = Programs(net, first, pair[0])
        memory[f"jnas_{image}"] = programs.temporary / 2**20
        for order in ORDERS:
            say(f"{order} order")
            cases[f"{order}_{image}"] = case(flags, programs, first, pair, order == "second")
        if not gdas:
            gdas = interleaved(paths(net, first, pair[0]), 3 * flags.rounds)
    compile_seconds = compiling(flags)
    ratios = {name: c.seconds["torch"] / c.seconds["jnas"] for name, c in cases.items()}
    results = {
        "ratio_torch": min(ratios.values()),
        "ratios": ratios,
        "jnas_seconds": {name: c.seconds["jnas"] for name, c in cases.items()},
        "torch_seconds": {name: c.seconds["torch"] for name, c in cases.items()},
        "largest_loss_difference": max(c.difference for c in cases.values()),
        "ratio_20_over_8": compile_seconds["20"] / compile_seconds["8"],
        "compile_seconds": compile_seconds,
        "ratio_gdas": gdas["gdas"] / gdas["single"],
        "gdas_seconds": gdas,
        "memory_mb": memory | peaks(flags),
    }
    return rounded(results) | {
        "torch_threads": {name: c.threads for name, c in cases.items()},
        "torch": torch.__version__,
        "channels": flags.channels,
        "layers": flags.layers,
        "images": flags.images,
        "batches": flags.batches,
        "rounds": flags.rounds,
        "device": device(),
    }


def compiling(flags: argparse.Namespace) -> dict[str, float]:
    """Seconds to compile a first-order step, of either depth in turn: by depth."""
    image, batch = flags.images[0], flags.batches[0]
    found: dict[int, list[float]] = {layers: [] for layers in DEPTHS}
    for _ in range(flags.compile_rounds):
        for layers in DEPTHS:
            jax.clear_caches()
            net = net_of(flags, image, layers)
            now, pair = begin(net, jax.random.key(0)), batches(image, batch)
            found[layers].append(Programs(net, now, pair[0], ("first",)).seconds)
            say(f"{layers} layers: compiled in {found[layers][-1]:.1f} s")
    return {str(layers): statistics.median(times) for layers, times in found.items()}


def peak(flags: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: a few steps of one side, and what the process held at most."""
    side, image, batch = flags.peak_of, flags.images[0], flags.batches[0]
    net, pair = net_of(flags, image, flags.layers), batches(image, batch)
    now = begin(net, jax.random.key(0))
    if side == "jnas":
        programs = Programs(net, now, pair[0], ("first",))
        for _ in range(2):
            now, _ = programs.step(now, *pair, False)
        jax.block_until_ready(now)
    else:
        search, theirs = torch_search(flags, now, pair)
        for _ in range(2):
            search.step(*theirs, False)
    return {"peak_mb": _high_water()}


def _high_water() -> float:
    """The most memory that this process has held, in MB.

    Linux keeps the mark of `getrusage` over the start of another program, so that a child has that
    of its parent; the one in /proc is the process's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM:")]
        return float(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def peaks(flags: argparse.Namespace) -> dict[str, float]:
    """The most that a process of either side held in a first-order search: MB by name."""
    found = {}
    for image, batch in zip(flags.images, flags.batches, strict=True):
        for side in ("jnas", "torch"):
            sizes = [f"--images={image}", f"--batches={batch}", f"--channels={flags.channels}"]
            command = [sys.executable, __file__, f"--peak-of={side}", *sizes]
            done = subprocess.run(
                [*command, f"--layers={flags.layers}"], capture_output=True, text=True, check=True
            )
            found[f"{side}_process_{image}"] = json.loads(done.stdout.splitlines()[-1])["peak_mb"]
    return found


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--channels", 16, "C, the width of the first cells")
    flags.add_count("--layers", 8, "cells of the supernet", least=3)
    counts = lambda text: [int(word) for word in text.split(",")]
    for flag, default, about in (
        ("--images", list(SIZES), "heights of images"),
        ("--batches", list(SIZES.values()), "images of a batch, for each height"),
    ):
        words = ",".join(map(str, default))
        flags.add_argument(
            flag, type=counts, default=default, metavar="N,...", help=f"{about} ({words})"
        )
    flags.add_count("--rounds", 5, "times all are measured, in turn; the median counts")
    flags.add_count("--compile-rounds", 1, "times either depth is compiled; the median counts")
    flags.add_argument("--peak-of", default="", choices=("", "jnas", "torch"), help="inner use")
    return flags


if __name__ == "__main__":
    sys.exit(main("supernet", parser(), measure))
