"""Searches of the NAS-Bench-201 table: jnas beside plain Python, in the same run.

Command: python experiments/benchmarks/table_search.py
  (add --table=FILE.npz for a table that has test accuracies)
Cost: about 2 minutes on 2 cores, most of it Python's.
Measured: microseconds per evaluation, the whole search included, of all seeds as one compiled
  program (compile time apart), spread over the cores as devices, and of a loop in plain Python that
  takes some seeds only. The first figures are those of regularized evolution; `tuned_python` is the
  same loop with all that Python has for speed. `others` holds the same for a genetic algorithm,
  REINFORCE, local search and BANANAS, whose loop trains its networks with NumPy. Both sides run the
  same algorithm with the same settings, so `mean_best` and `python_mean_best`, the mean over seeds
  of the best validation accuracy, have to agree within their standard errors (`..._se`).
  `mean_test` is the test accuracy of those best cells, `std_test` its spread over the seeds.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import _python_searches as python
import jax
import jax.numpy as jnp
import numpy as np
from _timing import Parser, compiled, device, interleaved, main, rounded, say, spread
from jax.sharding import Mesh, PartitionSpec

from jnas import recipes, spaces, tables
from jnas.base import InputError, Strategy
from jnas.evaluators import tabular
from jnas.search import search

SCORE, TEST = "val_acc_200", "test_acc_200"
BANANAS = {"members": 3, "depth": 3, "width": 20, "steps": 200, "learning_rate": 0.01}


class Case(NamedTuple):
    """One algorithm, in jnas and in plain Python.

    make: from the space to the strategy.
    plain: from a seed and the table to the best score.
    evaluations: of each seed.
    batch: proposals in a round.
    seeds: that jnas runs side by side.
    python_seeds: that Python runs in a round.
    """

    make: Callable[..., Strategy]
    plain: Callable[[int, Any], float]
    evaluations: int
    batch: int
    seeds: int
    python_seeds: int


def cases(flags: argparse.Namespace) -> dict[str, Case]:
    """The algorithms beside regularized evolution, of 300 evaluations each."""
    few = flags.other_evaluations
    plain = functools.partial
    hot = lambda cell: np.eye(5, dtype=np.float32)[list(cell)].ravel()
    return {
        "genetic": Case(
            lambda space: recipes.genetic(space, population=50, crossover=0.9),
            lambda seed, table: python.genetic(seed, table, few, 50, 0.9),
            few, 50, flags.other_seeds, flags.python_seeds,
        ),
        "reinforce": Case(
            lambda space: recipes.reinforce(space, learning_rate=0.1, decay=0.9),
            lambda seed, table: python.reinforce(seed, table, few, 0.1, 0.9),
            few, 1, flags.other_seeds, flags.python_seeds,
        ),
        "local_search": Case(
            lambda space: recipes.local_search(space, starts=10),
            lambda seed, table: python.local_search(seed, table, few, 10),
            few, 1, flags.other_seeds, flags.python_seeds,
        ),
        "bananas": Case(
            lambda space: recipes.bananas(space, warmup=10, pool=100, parents=10, **BANANAS),
            plain(
                python.bananas,
                evaluations=few, batch=10, pool=100, parents=10, inputs=hot, **BANANAS,
            ),
            few, 10, max(flags.other_seeds // 25, 1), 1,
        ),
    }  # fmt: skip


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """Runs everything and returns what the last line shows."""
    split = f"--xla_force_host_platform_device_count={os.cpu_count() or 1}"
    os.environ["XLA_FLAGS"] = f"{split} {os.environ.get('XLA_FLAGS', '')}".strip()  # his own wins
    others = cases(flags)
    if any(name and name not in others for name in flags.others.split(",")):
        raise InputError(f"--others={flags.others}: allowed are {', '.join(others)}")
    columns = tables.TABLES["nas_bench_201"](flags.table, flags.dataset)
    space = spaces.nas_bench_201()
    in_base_5 = np.empty(len(columns[SCORE]))
    in_base_5[space.order] = columns[SCORE]
    cells = np.stack(np.unravel_index(np.arange(len(in_base_5)), (5,) * 6), -1).tolist()
    table = dict(zip(map(tuple, cells), in_base_5.tolist(), strict=True))
    # A tuned cell counts its first edge lowest.
    tuned = in_base_5.reshape((5,) * 6).transpose().ravel().tolist()

    size = flags.population, flags.sample
    evolution = Case(
        lambda space: recipes.regularized_evolution(space, *size),
        lambda seed, table: python.evolution(seed, table, flags.evaluations, *size),
        flags.evaluations, 1, flags.seeds, flags.python_seeds,
    )  # fmt: skip
    also = lambda seed: python.tuned_evolution(seed, tuned, flags.evaluations, *size)
    results = compare("regularized evolution", evolution, columns, table, flags.rounds, also)
    results["others"] = {
        name: compare(name, case, columns, table, flags.rounds)
        for name, case in others.items()
        if name in flags.others.split(",")
    }
    return rounded(results) | {
        "population": flags.population,
        "sample": flags.sample,
        "evaluations": flags.evaluations,
        "seeds": flags.seeds,
        "rounds": flags.rounds,
        "dataset": flags.dataset,
        "device": device(),
    }


def compare(
    name: str,
    case: Case,
    columns: dict[str, np.ndarray],
    table: python.Table,
    rounds: int,
    tuned: Callable[[int], float] | None = None,
) -> dict[str, Any]:
    """Both sides of one algorithm, in turn."""
    space = spaces.nas_bench_201()
    names = [column for column in (SCORE, TEST) if column in columns]
    evaluator = tabular(space, {column: columns[column] for column in names}, SCORE)
    strategy = case.make(space)
    steps = case.evaluations // case.batch

    def best(key: jax.Array) -> dict[str, jax.Array]:
        """The best score of one search, and its test accuracy where the table has one."""
        _, h = search(key, strategy, evaluator, space, steps=steps, batch=case.batch)
        row = jnp.argmax(jnp.where(h.weight > 0, h.score, -jnp.inf))
        return {k: jnp.ravel(x)[row] for k, x in ({SCORE: h.score} | h.metrics).items()}

    mesh = Mesh(jax.devices(), ("pop",))
    rows = PartitionSpec("pop")
    every = jax.shard_map(jax.vmap(best), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    seeds = -(-case.seeds // mesh.size) * mesh.size
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    evaluations = steps * case.batch
    say(f"{name}: {seeds} seeds of {evaluations} evaluations on {device()}")
    program, compile_seconds = compiled(every, keys)
    say(f"compiled in {compile_seconds:.2f} s")
    found = {k: np.asarray(x, np.float64)[: case.seeds] for k, x in program(keys).items()}

    of_python: list[float] = []

    def numbers(i: int) -> range:
        return range(i * case.python_seeds, (i + 1) * case.python_seeds)

    jobs: dict[str, Callable[[int], Any]] = {
        "jnas": lambda i: program(keys),
        "python": lambda i: of_python.extend(case.plain(seed, table) for seed in numbers(i)),
    }
    if tuned is not None:
        jobs["tuned_python"] = lambda i: [tuned(seed) for seed in numbers(i)] and None
    seconds = interleaved(jobs, rounds)
    us = seconds["jnas"] / (seeds * evaluations) * 1e6
    python_us = {
        k: s / (case.python_seeds * case.evaluations) * 1e6
        for k, s in seconds.items()
        if k != "jnas"
    }
    mean, error = spread(found[SCORE].tolist())
    python_mean, python_error = spread(of_python)
    say(f"jnas    {us:.3f} us per evaluation, best {mean:.3f} ± {error:.3f}")
    say(f"python  {python_us['python']:.3f} us, best {python_mean:.3f} ± {python_error:.3f}")
    results: dict[str, Any] = {"us_per_evaluation": us}
    results |= {f"{k}_us_per_evaluation": v for k, v in python_us.items()}
    results |= {f"ratio_{k}": v / us for k, v in python_us.items()}
    results |= {
        "compile_seconds": compile_seconds,
        "mean_best": mean,
        "mean_best_se": error,
        "python_mean_best": python_mean,
        "python_mean_best_se": python_error,
        "python_seeds": len(of_python),
    }
    if TEST in found:
        results |= {"mean_test": found[TEST].mean().item(), "std_test": found[TEST].std().item()}
    return results


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--population", 100, "P, the youngest cells that are alive")
    flags.add_count("--sample", 10, "S, the size of a tournament")
    flags.add_count("--evaluations", 1000, "cells that a seed evaluates")
    flags.add_count("--seeds", 5000, "seeds that jnas runs side by side")
    flags.add_count("--python-seeds", 20, "seeds that plain Python runs in a round, new ones each")
    flags.add_count("--other-seeds", 1000, "seeds of the other algorithms; a part for bananas")
    flags.add_count("--other-evaluations", 300, "their evaluations, a multiple of 50", 50)
    flags.add_count("--rounds", 5, "times both are measured, in turn; the median counts")
    flags.add_argument(
        "--others",
        default="genetic,reinforce,local_search,bananas",
        help="which of genetic, reinforce, local_search, bananas (all), with commas; '' for none",
    )
    flags.add_table()
    return flags


if __name__ == "__main__":
    sys.exit(main("table_search", parser(), measure))
