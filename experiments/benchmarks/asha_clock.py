"""ASHA beside successive halving in rounds, with many workers on the clock of NAS-Bench-201.

Command: python experiments/benchmarks/asha_clock.py --table=FILE.npz
Cost: 1 to 2 minutes on 2 cores.
Measured: for each method, mean over seeds, the simulated hours until the first full evaluation is
  done, and at the end how many are done and the test accuracy of the best; nothing is trained.
"""

import argparse
import sys
from typing import Any

import numpy as np
from _timing import Parser, main, rounded, say

from jnas import spaces, tables
from jnas.asynchronous import as_function, run_async
from jnas.evaluators import tabular
from jnas.links import asha, sample_uniform, successive_halving

BUDGETS = (12 / 200, 1.0)  # epochs of the table


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """Both methods with the same workers and seeds."""
    space = spaces.nas_bench_201()
    columns = tables.TABLES["nas_bench_201"](flags.table, flags.dataset)
    evaluator = tabular(
        space,
        columns,
        "val_acc_200",
        fidelities={BUDGETS[0]: "val_acc_12"},
        cost="train_time_200",
        resume=False,
    )
    source = sample_uniform(space)
    methods = {
        "asha": asha(source, eta=4, budgets=BUDGETS),
        "halving": successive_halving(source, flags.rung, 4, budgets=BUDGETS, patience=10**9),
    }
    found: dict[str, list] = {name: [] for name in methods}
    for seed in range(flags.seeds):
        for name, strategy in methods.items():
            numbers = {"evaluations": flags.evaluations, "workers": flags.workers, "seed": seed}
            evaluate = as_function(evaluator)
            result = run_async(strategy, evaluate, space, **numbers, simulate=True, verbose=False)
            found[name].append(result.history)
    end = float(min(h["clock"][-1] for histories in found.values() for h in histories))
    results: dict[str, Any] = {"hours": end / 3600}
    for name, histories in found.items():
        results[name] = told = _summary(histories, end)
        say(f"{name:8s}{rounded(told)}")
    return rounded(results) | {
        "workers": flags.workers,
        "rung": flags.rung,
        "evaluations": flags.evaluations,
        "seeds": flags.seeds,
        "dataset": flags.dataset,
    }


def _summary(histories: list, end: float) -> dict[str, float]:
    first, many, test = [], [], []
    for history in histories:
        done = (history["budget"] == 1) & (history["clock"] <= end)
        first.append(history["clock"][history["budget"] == 1].min() / 3600)
        many.append(done.sum())
        best = np.argmax(np.where(done, history["score"], -np.inf))
        test.append(history["test_acc_200"][best])
    return {
        "first_full_hours": float(np.mean(first)),
        "full": float(np.mean(many)),
        "mean_test": float(np.mean(test)),
        "std_test": float(np.std(test)),
    }


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--workers", 16, "that evaluate side by side")
    flags.add_count("--rung", 64, "candidates of the first rung of successive halving")
    flags.add_count("--evaluations", 400, "of each method, partial ones included", least=20)
    flags.add_count("--seeds", 5, "searches of each method")
    flags.add_argument("--table", required=True, help="the path of an .npz with 12 epochs too")
    flags.add_argument(
        "--dataset", default="cifar10", help="cifar10 (the default), cifar100 or ImageNet16-120"
    )
    return flags


if __name__ == "__main__":
    sys.exit(main("asha_clock", parser(), measure))
