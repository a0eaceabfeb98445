"""Compile time of the training program of NAS-Bench-201's network by its depth.

Command: python experiments/benchmarks/compile_time.py
Cost: 4 to 6 minutes on 2 cores.
Measured: seconds from the traced evaluator `train` (a population of 2 cells, one program for all
  architectures) to the compiled program, for 5, 10 and 20 cells in each of the 3 stages; medians
  of rounds in which all depths take turns, caches off. `trace_seconds` is the part before XLA,
  `cpu_seconds` what the process spent on all cores, which other work on the machine disturbs less.
  The cells of a stage are scanned, so `ratio_20_over_5` should be near 1.
"""

import argparse
import statistics
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import Parser, device, main, rounded, say

from jnas import base, nets
from jnas.compiling import jit
from jnas.evaluators import Examples, Training, train

DEPTHS = (5, 10, 20)
BATCH, CLASSES, POPULATION = 64, 10, 2


class Compiling(NamedTuple):
    """What it took to compile one depth."""

    seconds: float  # of tracing and compiling
    trace_seconds: float
    cpu_seconds: float
    program_bytes: int  # of the lowered program as text


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """Compiles every depth in turn and returns what the last line shows."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (BATCH, flags.image, flags.image, 3)).astype(np.uint8)
    examples = Examples(x, rng.integers(0, CLASSES, BATCH).astype(np.int32), 128.0, 64.0)
    rule = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, 0.9, nesterov=True))

    def compiling(cells: int) -> Compiling:
        """Traces and compiles the program of one depth."""
        jax.clear_caches()
        net = nets.nas_bench_201(flags.channels, cells, CLASSES, flags.image, 3)
        training = Training(rule, 10, BATCH)
        evaluator = train(net, training, examples, examples, classes=CLASSES, plan=flags.plan)
        run = lambda key, archs: evaluator.evaluate(key, base.propose(archs), ())[0]
        key, archs = jax.random.key(0), jnp.zeros((POPULATION, 6), jnp.int32)
        started, on_cpu = time.perf_counter(), time.process_time()
        lowered = jit(run).lower(key, archs)
        traced = time.perf_counter()
        lowered.compile()
        ended = time.perf_counter()
        used = time.process_time() - on_cpu
        return Compiling(ended - started, traced - started, used, len(lowered.as_text()))

    say(f"plan {flags.plan} on {device()}")
    compiling(1)  # what is loaded once
    found: dict[int, list[Compiling]] = {cells: [] for cells in DEPTHS}
    for i in range(flags.rounds):
        for cells in DEPTHS:
            now = compiling(cells)
            found[cells].append(now)
            say(f"round {i + 1}: {cells} cells: {now.seconds:.1f} s, {now.cpu_seconds:.1f} of CPU")

    def medians(field: str) -> dict[str, float]:
        every = {cells: [getattr(now, field) for now in found[cells]] for cells in DEPTHS}
        return {str(cells): statistics.median(values) for cells, values in every.items()}

    seconds, on_cpu = medians("seconds"), medians("cpu_seconds")
    results = {
        "ratio_20_over_5": seconds["20"] / seconds["5"],
        "cpu_ratio_20_over_5": on_cpu["20"] / on_cpu["5"],
        "seconds": seconds,
        "trace_seconds": medians("trace_seconds"),
        "cpu_seconds": on_cpu,
    }
    return rounded(results) | {
        "program_bytes": medians("program_bytes"),
        "plan": flags.plan,
        "image": flags.image,
        "channels": flags.channels,
        "rounds": flags.rounds,
        "device": device(),
    }


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--image", 32, "height and width of the images")
    flags.add_count("--channels", 16, "C, the width of the first stage")
    flags.add_count("--rounds", 3, "times every depth is compiled, in turn; the median counts")
    flags.add_argument("--plan", default="map", help="of the population (map)")
    return flags


if __name__ == "__main__":
    sys.exit(main("compile_time", parser(), measure))
