"""Every strategy on the NAS-Bench-201 table: the tables of docs/strategies, one row after another.

Command: python experiments/benchmarks/strategies.py --table=FILE.npz [--pages=evolution,local]
Cost: some 40 minutes on 2 cores, half of it `gp_bo` and the surrogates; a finished row stays in
  --workdir, and the same command goes on from there.
Measured: over `--seeds` searches of `--evaluations` cells each, the test accuracy after 200 epochs
  of the cell of best validation accuracy (mean, standard deviation), the mean after 50, 100 and
  150 evaluations, the share of the seeds that found the cell of best validation accuracy, and
  after how many evaluations they did on average. Strategies that ask for parts of evaluations have
  the 12-epoch training as their smaller one, pay in full for each, and are compared when they have
  spent what the full evaluations cost; `full` is how many full ones they made.
Result: a Markdown table for each page, results.json, and one line of JSON.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _timing import Parser, device, main, rounded, say

from jnas import recipes, search, spaces, tables
from jnas.base import Evaluator, InputError
from jnas.compiling import jit
from jnas.evaluators import tabular
from jnas.files import write_json

SCORE, SHORT, TEST, PART = "val_acc_200", "val_acc_12", "test_acc_200", 12 / 200
CELLS = spaces.nas_bench_201()
OBJECTIVES = {"score": "max", "params": "min"}
AT = (50, 100, 150)


class Row(NamedTuple):
    """One line of a table.

    recipe: of `recipes.STRATEGIES`.
    settings: of it.
    batch: proposals in a round.
    rounds: of a recipe that asks for parts of evaluations: enough to cost what the full ones do.
    seeds: the most that are run of it, where a search takes long.
    """

    recipe: str
    settings: dict[str, Any] = {}  # noqa: RUF012
    batch: int = 1
    rounds: int = 0
    seeds: int = 1_000_000


SHORTER = {"eta": 16.6, "min_budget": 0.06}
LSTM, NET = {"hidden": 16, "learning_rate": 0.01}, {"hidden": 16, "minibatch": 16}
PAGES = {
    "evolution": [
        Row("genetic", {"population": 10}, 10),
        Row("genetic", {"population": 20}, 20),
        Row("mu_comma_lambda", {"mu": 5, "lambda_": 20}, 20),
        Row("mu_comma_lambda", {"mu": 5, "lambda_": 20, "plus": True}, 20),
        Row("island_evolution", {"count": 3, "population": 10, "sample": 3, "every": 10}),
        Row("self_adaptive_evolution", {"mu": 5, "lambda_": 20}, 20),
        Row("regularized_evolution", {"population": 10, "sample": 3}),
        Row("nsga2", {"population": 20, "objectives": OBJECTIVES}, 20),
    ],
    "local": [
        Row("regularized_evolution", {"population": 10, "sample": 3}),
        Row("local_search"),
        Row("local_search", batch=5),
        Row("hill_climbing"),
        Row("simulated_annealing", {"initial": 3, "final": 0.05}),
        Row("simulated_annealing", {"initial": 2, "final": 0.1, "walkers": 3}),
    ],
    "reinforce": [
        Row("reinforce"),
        Row("reinforce", {"learning_rate": 0.01}),
        Row("reinforce", {"learning_rate": 0.1}),
        Row("reinforce", {"learning_rate": 0.2}),
        Row("reinforce", {"learning_rate": 0.3}),
        Row("reinforce_rnn", {}, 8),
        Row("reinforce_rnn", LSTM, 5),
        Row("enas_controller", {}, 10),
        Row("enas_controller", {**LSTM, "learning_rate": 0.03}, 5),
        Row("ppo", {}, 20),
        Row("ppo", {**LSTM, "epochs": 5}, 10),
    ],
    "q_learning": [
        Row(
            "q_learning",
            {"evaluations": 300, "learning_rate": 0.1, "initial": 50.0, "shaped": True},
        ),
        Row("q_learning", {"evaluations": 300, "initial": 50.0}),
        Row("dqn", {"evaluations": 300, "learning_rate": 0.02, **NET}),
        Row("double_dqn", {"evaluations": 300, "learning_rate": 0.02, **NET}),
        Row("edit_q_learning"),
        Row("edit_dqn", NET),
    ],
    "surrogate": [
        Row("bananas", {"depth": 2, "members": 3, "steps": 150}, 10),
        Row("npenas", {"width": 16, "steps": 150}, 10),
        Row("predictor_evolution", {}, 10),
    ],
    "bayesian": [
        Row("tpe", {"repeats": True}, 5),
        Row("tpe", {}, 5),
        Row("tpe", {"joint": False}, 5),
        Row("gp_bo", {}, 10),
        Row("gp_bo", {"warp": "standard"}, 10, seeds=40),
        Row("gp_bo", {"acquisition": "upper_confidence"}, 10, seeds=40),
        Row("gp_bo", {"acquisition": "thompson"}, 10, seeds=40),
    ],
    "multi_fidelity": [
        Row("successive_halving", {"n": 17, **SHORTER}, rounds=2800),
        Row("hyperband", SHORTER, rounds=1700),
        Row("asha", SHORTER, rounds=3000),
        Row("bohb", {**SHORTER, "joint": False, "size": 60}, 5, rounds=200),
    ],
}


def evaluator_of(columns: dict[str, np.ndarray], partial: bool) -> Evaluator:
    """The table; with parts of evaluations where they are asked for."""
    names = [SCORE, TEST, "params", *((SHORT,) if partial else ())]
    kept = {name: columns[name] for name in names}
    if not partial:
        return tabular(CELLS, kept, SCORE)
    kept["whole"] = np.ones(len(kept[SCORE]))
    return tabular(CELLS, kept, SCORE, fidelities={PART: SHORT}, cost="whole", resume=False)


def searched(row: Row, columns: dict[str, np.ndarray], seeds: int, trials: int) -> dict[str, Any]:
    """What the seeds found, and the seconds."""
    strategy = recipes.STRATEGIES[row.recipe](CELLS, **row.settings)
    evaluator = evaluator_of(columns, row.rounds > 0)
    steps = row.rounds * trials // 300 if row.rounds else trials // row.batch

    def one(key: jax.Array) -> tuple[jax.Array, ...]:
        _, history = search(key, strategy, evaluator, CELLS, steps=steps, batch=row.batch)
        found = jax.tree.map(jnp.ravel, history._replace(arch=()))
        fair = jnp.ones(found.score.shape, bool)
        if row.rounds:
            fair = (found.budget == 1) & (found.metrics["clock"] <= trials)
        return jnp.where(fair, found.score, -jnp.inf), found.metrics[TEST], fair

    program = jit(jax.vmap(one)).lower(keys := jax.random.split(jax.random.key(22), seeds))
    started = time.perf_counter()
    compiled = program.compile()
    ready = time.perf_counter()
    score, test, fair = map(np.asarray, compiled(keys))
    ended = time.perf_counter()
    pick = lambda n: np.take_along_axis(test, score[:, :n].argmax(1)[:, None], 1)[:, 0]
    optimum = np.float32(np.max(columns[SCORE]))
    hit = score >= optimum
    found = hit.any(1)
    results: dict[str, Any] = {
        "mean": float(pick(None).mean()),
        "std": float(pick(None).std()),
        "found": float(found.mean()),
        "after": float((hit[found].argmax(1) + 1).mean()) if found.any() else None,
        "full": float(fair.sum(1).mean()),
        "compile_seconds": ready - started,
        "seconds": ended - ready,
    }
    if not row.rounds:
        results |= {f"at_{n}": float(pick(n).mean()) for n in AT if n <= trials}
    return results


def line(row: Row, found: dict[str, Any]) -> str:
    """A row of a Markdown table."""
    words = ", ".join(f"{k}={v!r}" for k, v in row.settings.items() if k != "objectives")
    early = " | ".join(f"{found[f'at_{n}']:.2f}" if f"at_{n}" in found else "" for n in AT)
    share = f"{100 * found['found']:.0f} %"
    if found["after"] is not None and found["found"] >= 0.9 and not row.rounds:
        share += f", after {found['after']:.0f}"
    accuracy = f"{found['mean']:.2f} ± {found['std']:.2f}"
    setting = f"`{words}`" if words else ""
    setting += f" ({row.seeds} seeds)" if row.seeds < 1000 else ""
    return (
        f"| `{row.recipe}` | {setting} | {row.batch} | {found['full']:.0f} | {early} "
        f"| {accuracy} | {share} |"
    )


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """All rows of the pages that are not in the folder yet."""
    pages = flags.pages.split(",") if flags.pages else list(PAGES)
    for page in pages:
        if page not in PAGES:
            raise InputError(f"--pages: {page!r}: allowed are {', '.join(PAGES)}")
    columns = tables.TABLES["nas_bench_201"](flags.table, flags.dataset)
    for name in (TEST, SHORT):
        if name not in columns:
            raise InputError(f"table {flags.table!r} lacks {name}, which this needs")
    folder, results = Path(flags.workdir), {}
    folder.mkdir(parents=True, exist_ok=True)
    for page in pages:
        lines = []
        for row in [Row("random_search"), *PAGES[page]]:
            seeds = min(row.seeds, flags.seeds)
            setting = [*row[:4], seeds, flags.evaluations, flags.dataset]
            mark = hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:12]
            file = folder / f"{row.recipe}_{mark}.json"
            if not file.exists():
                write_json(file, searched(row, columns, seeds, flags.evaluations))
            found = json.loads(file.read_text())
            results.setdefault(page, []).append({"recipe": row.recipe, **row.settings, **found})
            lines.append(line(row, found))
            say(f"{page}: {lines[-1]} {found['seconds']:.1f} s")
        heads = ["recipe", "settings", "in a round", "full evaluations", *map(str, AT)]
        heads += [f"{flags.evaluations} evaluations", "found the best cell"]
        say(f"\n{page}\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        say("\n".join(lines) + "\n")
    write_json(folder / "results.json", results)
    short = {
        page: [rounded({k: r[k] for k in ("recipe", "mean", "std", "found")}) for r in rows]
        for page, rows in results.items()
    }
    counts = {"seeds": flags.seeds, "evaluations": flags.evaluations}
    return {"pages": short, "dataset": flags.dataset, **counts, "device": device()}


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_argument("--pages", default="", help=f"some of {', '.join(PAGES)} (all)")
    flags.add_argument("--workdir", default="runs/strategies", help="where finished rows stay")
    flags.add_count("--seeds", 200, "searches of each strategy")
    flags.add_count("--evaluations", 300, "of each search", least=20)
    flags.add_table()
    return flags


if __name__ == "__main__":
    sys.exit(main("strategies", parser(), measure))
