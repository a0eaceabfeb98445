"""Predictors on the NAS-Bench-201 table: how they rank unseen cells, and what they search out.

Command: python experiments/benchmarks/predictors.py --table=FILE.npz
Cost: 3 to 5 minutes on 2 cores, half of it compiling.
Measured: `rank_...` is Spearman's correlation of predictions for 2,000 cells with their validation
  accuracy, after learning from `--known` others, mean over 10 draws. `test_...` is the mean over
  seeds of the test accuracy of the cell with the best validation accuracy (that accuracy itself
  where the table has none for test), for `--evaluations` cells a seed in batches of 10, and
  `std_...` its standard deviation; `repeats_...` are the evaluations of a seed, after its 10
  random ones, that were of a cell it had seen.
"""

import argparse
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import Parser, device, main, rounded, say
from scipy import stats

from jnas import recipes, spaces, tables
from jnas.base import index, sample
from jnas.evaluators import tabular
from jnas.links.encodings import one_hot_encoding, path_encoding
from jnas.links.graph_predictors import gcn_predictor, gin_predictor
from jnas.links.predictors import Predictor, mlp_ensemble
from jnas.search import search

SCORE, TEST, BATCH = "val_acc_200", "test_acc_200", 10
CELLS = spaces.nas_bench_201()
LEARNERS = {
    "paths": mlp_ensemble(path_encoding(CELLS, 2), 20, 2, members=3, steps=150),
    "all_paths": mlp_ensemble(path_encoding(CELLS), 20, 2, members=3, steps=150),
    "one_hot": mlp_ensemble(one_hot_encoding(CELLS), 32, 2, members=3, steps=200),
    "gin": gin_predictor(CELLS, 16, steps=300),
    "gcn": gcn_predictor(CELLS, 16, 3, 16, 0.01, steps=300, batch_size=16),
}
SEARCHES: dict[str, dict[str, Any]] = {
    "random_search": {},
    "bananas": {"depth": 2, "members": 3, "steps": 150, "memory": 300},
    "npenas": {"width": 16, "steps": 150, "memory": 300},
    "predictor_evolution": {"memory": 300},
}


def rank_correlation(predictor: Predictor, score: jax.Array, known: int, draws: int = 10) -> float:
    """Spearman's, for cells that the predictor has not seen."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        k_rows, k_init, k_fit = jax.random.split(key, 3)
        cells = sample(CELLS, k_rows, known + 2000)
        value = score[index(CELLS, cells)]
        start = predictor.init(k_init)
        params = predictor.fit(k_fit, start, cells[:known], value[:known], jnp.ones(known))
        return predictor.predict(params, cells[known:]).mean, value[known:]

    pairs = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(18), draws))
    return float(np.mean([stats.spearmanr(a, b).statistic for a, b in zip(*pairs, strict=True)]))


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """All predictors, then all searches."""
    columns = tables.TABLES["nas_bench_201"](flags.table, flags.dataset)
    score = jnp.asarray(columns[SCORE], jnp.float32)
    results: dict[str, Any] = {}
    for name, predictor in LEARNERS.items():
        results[f"rank_{name}"] = rank_correlation(predictor, score, flags.known)
        say(f"{name:20s} Spearman {results[f'rank_{name}']:.3f}")
    evaluator = tabular(CELLS, {k: columns[k] for k in (SCORE, TEST) if k in columns}, SCORE)
    keys = jax.random.split(jax.random.key(22), flags.seeds)
    for name, settings in SEARCHES.items():
        strategy = recipes.STRATEGIES[name](CELLS, **settings)
        steps = flags.evaluations // BATCH

        def one(key: jax.Array, strategy: Any = strategy, steps: int = steps) -> tuple:
            _, found = search(key, strategy, evaluator, CELLS, steps=steps, batch=BATCH)
            flat = jnp.ravel(found.metrics.get(TEST, found.score))
            return flat[jnp.argmax(found.score)], jnp.ravel(index(CELLS, found.arch))

        started = time.perf_counter()
        test, cells = map(np.asarray, jax.jit(jax.vmap(one))(keys))
        seconds = time.perf_counter() - started
        repeats = np.mean(
            [len(row) - BATCH - len({*row[BATCH:]} - {*row[:BATCH]}) for row in cells]
        )
        results |= {f"test_{name}": test.mean().item(), f"std_{name}": test.std().item()}
        results[f"repeats_{name}"] = float(repeats)
        accuracy = f"{test.mean():.3f} ± {test.std():.3f}"
        say(f"{name:20s} {accuracy}, {repeats:.1f} repeats, {seconds:.0f} s")
    counts = {"known": flags.known, "evaluations": flags.evaluations, "seeds": flags.seeds}
    return rounded(results) | counts | {"dataset": flags.dataset, "device": device()}


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--known", 150, "cells that a predictor learns from")
    flags.add_count("--evaluations", 300, "cells that a seed evaluates", least=BATCH)
    flags.add_count("--seeds", 200, "seeds side by side")
    flags.add_table()
    return flags


if __name__ == "__main__":
    sys.exit(main("predictors", parser(), measure))
