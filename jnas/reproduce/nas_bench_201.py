"""The multi-trial methods of the NAS-Bench-201 and NATS-Bench papers, on their table.

Dong and Yang 2020, arXiv 2001.00326 (a search has 12,000 simulated seconds) and Dong et al. 2021,
arXiv 2009.00437 (20,000). A method searches on CIFAR-10 by the validation accuracy after 12 epochs;
an evaluation takes as long as these epochs did. The cell with the best of them is then looked up
on all three data sets, after 200 epochs.
"""

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import recipes, spaces, tables
from jnas.analysis import figures, reproduction
from jnas.base import InputError, Space, Strategy, index
from jnas.compiling import jit
from jnas.errors import positive
from jnas.evaluators import tabular
from jnas.files import write_whole
from jnas.search import search

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
OPTIMUM = (94.37, 73.51, 47.31)  # test accuracy, arXiv 2001.00326, table 5
EPOCHS = 12 / 200  # of the table's training times
NEEDED = ("val_acc_12", "test_acc_200")
POINTS = 200  # of a curve over simulated time


class Published(NamedTuple):
    """Test accuracies, mean and standard deviation over the searches, on the three data sets."""

    source: str
    seconds: int  # the simulated budget of a search
    figures: dict[str, tuple[tuple[float, float], ...]]


PUBLISHED = (
    Published(
        "arXiv 2001.00326v2, table 5",
        12000,
        {
            "random search": ((93.70, 0.36), (71.04, 1.07), (44.57, 1.25)),
            "regularized evolution": ((93.92, 0.30), (71.84, 0.99), (45.54, 1.03)),
            "REINFORCE": ((93.85, 0.37), (71.71, 1.09), (45.24, 1.18)),
            "BOHB": ((93.61, 0.52), (70.85, 1.28), (44.42, 1.49)),
        },
    ),
    Published(
        "arXiv 2009.00437v4, table 5",
        20000,
        {
            "random search": ((93.86, 0.23), (71.55, 0.97), (45.28, 0.97)),
            "regularized evolution": ((94.02, 0.31), (72.23, 0.84), (45.77, 0.80)),
            "REINFORCE": ((93.90, 0.26), (71.86, 0.89), (45.64, 0.78)),
            "BOHB": ((93.94, 0.28), (72.00, 0.86), (45.70, 0.86)),
        },
    ),
)


class Method(NamedTuple):
    """A method with the settings of one paper.

    name: as in `PUBLISHED`.
    make: from the space to the strategy.
    papers: which of `PUBLISHED` it belongs to.
    """

    name: str
    make: Callable[[Space], Strategy]
    papers: tuple[int, ...] = (0, 1)


def _bohb(space: Space) -> Strategy:
    """BOHB with 4 samples of the model, none at random, and a least bandwidth of 0.3."""
    return recipes.bohb(
        space, eta=3, min_budget=3 / 108, candidates=4, random=0.0, min_bandwidth=0.3
    )


# Settings: AutoDL-Projects, scripts-search/NAS-Bench-201-algos and exps/NATS-algos. There too an
# evaluation of BOHB has 12 epochs whatever its budget, for the first of the two papers.
METHODS = (
    Method("random search", recipes.random_search),
    Method(
        "regularized evolution",
        lambda space: recipes.regularized_evolution(space, population=10, sample=3),
    ),
    Method("REINFORCE", lambda space: recipes.reinforce(space, learning_rate=0.001), (0,)),
    Method("REINFORCE", lambda space: recipes.reinforce(space, learning_rate=0.01), (1,)),
    Method("BOHB", _bohb),
)


class Found(NamedTuple):
    """What the searches of a method have found.

    cell: int32[seeds, steps], the best cell so far after every evaluation.
    clock: f32[seeds, steps], the simulated seconds until then.
    """

    cell: np.ndarray
    clock: np.ndarray
    seconds: float
    compile_seconds: float

    def at(self, seconds: float) -> np.ndarray:
        """The best cell of every search that `seconds` suffice for: int[seeds]."""
        done = np.sum(self.clock <= seconds, 1)  # the clock only rises
        return self.cell[np.arange(len(done)), np.maximum(done - 1, 0)]

    def evaluations(self, seconds: float) -> float:
        """The mean number of evaluations that `seconds` suffice for."""
        return float(np.mean(np.sum(self.clock <= seconds, 1)))


def reproduce(
    table: str, *, seeds: int = 500, seed: int = 0, workdir: Path, say: Callable[[str], Any] = print
) -> list[dict[str, Any]]:
    """Runs all methods, writes `results.csv` and `curves.png`, and returns the rows.

    A method that is finished stays in `workdir`, so that the same call goes on after a stop.

    Args:
      table: the path of an npz with `val_acc_12` and `test_acc_200`.
      seeds: searches of each method.
      seed: the first of them.
      workdir: the folder of all results.
      say: takes a line of progress.

    Returns:
      A row for each method, budget and data set.

    Raises:
      InputError: the table lacks a column, or there is less than 1 seed.
    """
    positive(seeds=seeds)
    columns = [tables.TABLES["nas_bench_201"](table, name) for name in DATASETS]
    missing = [name for name in NEEDED if name not in columns[0]]
    if missing:
        raise InputError(f"table {table!r} lacks {', '.join(missing)}, which this needs")
    workdir.mkdir(parents=True, exist_ok=True)
    test = np.stack([c["test_acc_200"] for c in columns], -1)
    validation = np.stack([c["val_acc_200"] for c in columns], -1)
    rows, curves = [], {}
    started, new = time.perf_counter(), 0
    for i, method in enumerate(METHODS):
        horizon = max(PUBLISHED[p].seconds for p in method.papers)
        found, fresh = _kept(method, horizon, columns[0], seeds, seed, workdir)
        new += fresh
        left = (time.perf_counter() - started) / max(new, 1) * (len(METHODS) - i - 1)
        say(
            f"{i + 1}/{len(METHODS)} {method.name}, {seeds} searches: {found.seconds:.1f} s, "
            f"compiled in {found.compile_seconds:.1f} s, about {left:.0f} s left"
        )
        for p in method.papers:
            rows += _rows(method, PUBLISHED[p], found, test, validation, seeds)
        times = np.linspace(0, horizon, POINTS + 1)[1:]
        mean = np.stack([test[found.at(t)].mean(0) for t in times], -1)
        began = times >= found.clock[:, 0].max()  # every search has a cell
        label = method.name if len(method.papers) == len(PUBLISHED) else _label(method)
        curves[label] = times[began], mean[:, began]
    _write_csv(workdir / "results.csv", rows)
    marks = [
        (p.seconds, name, [mean for mean, _ in values])
        for p in PUBLISHED
        for name, values in p.figures.items()
    ]
    figure = reproduction.curves(curves, marks, DATASETS, OPTIMUM)
    figures.save(figure, workdir / "curves.png")
    return rows


def _label(method: Method) -> str:
    return f"{method.name}, {PUBLISHED[method.papers[0]].seconds:,} s"


def _kept(
    method: Method,
    horizon: float,
    columns: dict[str, np.ndarray],
    seeds: int,
    seed: int,
    workdir: Path,
) -> tuple[Found, bool]:
    """The searches of a method, from `workdir` where they are there; and whether they are new."""
    word = _label(method).replace(" ", "_").replace(",", "")
    file = workdir / f"{word}_{seeds}x{seed}.npz"
    if file.exists():
        with np.load(file, allow_pickle=False) as saved:
            times = float(saved["seconds"]), float(saved["compile_seconds"])
            return Found(saved["cell"], saved["clock"], *times), False
    found = _search(method, horizon, columns, seeds, seed)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found._asdict())
    write_whole(file, buffer.getvalue())
    return found, True


def _search(
    method: Method, horizon: float, columns: dict[str, np.ndarray], seeds: int, seed: int
) -> Found:
    """All searches of a method in one program, for at least `horizon` simulated seconds."""
    space = spaces.nas_bench_201()
    cost = columns["train_time_200"] * np.float32(EPOCHS)
    evaluator = tabular(space, {"val": columns["val_acc_12"], "cost": cost}, "val")
    strategy = method.make(space)

    def one(key: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
        _, trials = search(key, strategy, evaluator, space, steps=steps)
        score, cell = trials.score[:, 0], index(space, trials.arch)[:, 0]
        better = lambda a, b: jax.tree.map(lambda x, y: jnp.where(b[0] > a[0], y, x), a, b)
        _, best = jax.lax.associative_scan(better, (score, cell))
        return best, jnp.cumsum(trials.metrics["cost"][:, 0])

    keys = jax.vmap(jax.random.key)(jnp.arange(seed, seed + seeds))
    steps, compile_seconds = int(1.5 * horizon / cost.mean()), 0.0
    while True:
        started = time.perf_counter()
        program = jit(jax.vmap(lambda key, n=steps: one(key, n))).lower(keys).compile()
        compile_seconds += time.perf_counter() - started
        started = time.perf_counter()
        cell, clock = jax.device_get(program(keys))
        seconds = time.perf_counter() - started
        if clock[:, -1].min() > horizon:
            return Found(cell, clock, seconds, compile_seconds)
        steps *= 2  # a search of cheap cells has time for more of them


def _rows(
    method: Method,
    published: Published,
    found: Found,
    test: np.ndarray,
    validation: np.ndarray,
    seeds: int,
) -> list[dict[str, Any]]:
    cells = found.at(published.seconds)
    rows = []
    for d, (mean, std) in enumerate(published.figures[method.name]):
        accuracy = test[cells, d].astype(float)
        rows.append(
            {
                "method": method.name,
                "simulated_seconds": published.seconds,
                "dataset": DATASETS[d],
                "test_mean": round(accuracy.mean(), 3),
                "test_std": round(accuracy.std(), 3),
                "published_mean": mean,
                "published_std": std,
                "within_published_std": bool(abs(accuracy.mean() - mean) <= std),
                "optimum": OPTIMUM[d],
                "validation_mean": round(float(validation[cells, d].mean()), 3),
                "evaluations": round(found.evaluations(published.seconds), 1),
                "seeds": seeds,
                "seconds": round(found.seconds, 3),
                "compile_seconds": round(found.compile_seconds, 3),
                "source": published.source,
            }
        )
    return rows


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table for people: reproduced beside published."""
    lines = []
    for seconds in sorted({row["simulated_seconds"] for row in rows}):
        part = [row for row in rows if row["simulated_seconds"] == seconds]
        lines.append(
            f"test accuracy after {seconds:,} simulated seconds, {part[0]['seeds']} searches "
            f"on CIFAR-10; published: {part[0]['source']}"
        )
        lines.append(
            f"  {'method':24s}{'data set':16s}{'reproduced':>15s}{'published':>15s}   evals"
        )
        for row in part:
            ours = f"{row['test_mean']:.2f} ± {row['test_std']:.2f}"
            theirs = f"{row['published_mean']:.2f} ± {row['published_std']:.2f}"
            mark = "" if row["within_published_std"] else "  differs by more than published std"
            lines.append(
                f"  {row['method']:24s}{row['dataset']:16s}{ours:>15s}{theirs:>15s}"
                f"   {row['evaluations']:5.1f}{mark}"
            )
        best = ", ".join(f"{o:.2f}" for o in OPTIMUM)
        lines.append(f"  {'optimum of the table':40s}{best:>30s}")
    return "\n".join(lines)
