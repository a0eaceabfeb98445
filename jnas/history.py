"""The history of a search: its rows, the best of them, and the result."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jnas.analysis import figures
from jnas.base import InputError, Space, Trials, to_vector


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
      best_architecture: the text form of the best architecture of all seeds, among the trials of
        the largest budget.
      best: the architecture itself, as NumPy ints.
      best_score: its score.
      history: one array for each column, a row for each trial: `seed`, `evaluation` (from 1 within
        its seed), `architecture`, `score`, `weight`, `budget` where the strategy asked for parts
        of an evaluation, and the metrics.
      evaluations: the trials of each seed.
      seconds: spent searching, over all pieces of the run.
      compile_seconds: spent compiling, apart from `seconds`.
      seed: the first seed.
      state: of strategy and evaluator at the end, with a leading axis where there are several
        seeds.
    """

    best_architecture: str
    best: Any
    best_score: float
    history: Mapping[str, np.ndarray]
    evaluations: int
    seconds: float
    compile_seconds: float
    seed: int
    state: Any = None

    def best_rows(self) -> np.ndarray:
        """The row of the best trial of every seed, in the order of the seeds: int[seeds].

        Of every seed, only the trials of the largest budget that it reached are compared.
        """
        seeds = self.history["seed"]
        return np.asarray([_best_row(self.history, seeds == s) for s in np.unique(seeds)])

    def plot(self, score_name: str = "score", title: str = "", negated: bool = False) -> Any:
        """The search as a figure: best so far, and every trial, against evaluations."""
        return figures.search_curve(
            self.history, score_name=score_name, title=title, negated=negated
        )


def result_of(history: Mapping[str, np.ndarray], space: Space, **numbers: Any) -> Result:
    """The result of a search with this history.

    Raises:
      InputError: every trial failed.
    """
    if not np.any(history["weight"] > 0):
        raise InputError("every trial of the search failed: its scores were not finite numbers")
    best = _best_row(history, history["weight"] > 0)
    text = str(history["architecture"][best])
    return Result(
        best_architecture=text,
        best=space.parse(text),
        best_score=float(history["score"][best]),
        history=history,
        **numbers,
    )


def _best_row(history: Mapping[str, np.ndarray], among: np.ndarray) -> int:
    """The row of the best score among those of the largest budget, of a mask bool[n]."""
    comparable = among & (history["weight"] > 0)
    if "budget" in history and comparable.any():
        comparable &= history["budget"] == history["budget"][comparable].max()
    score = np.where(comparable, history["score"], -np.inf)
    return int(np.flatnonzero(among)[np.argmax(score[among])])


class Table:
    """The history as rows of plain values, seed by seed within a chunk."""

    def __init__(self, space: Space, seed: int, seeds: int, batch: int):
        self.space, self.seed, self.seeds, self.batch = space, seed, seeds, batch
        self.rows: list[dict[str, Any]] = []
        self.words: dict[bytes, str] = {}
        self._best = (0.0, -np.inf)  # budget, score

    @property
    def best_score(self) -> float:
        return self._best[1]

    def extend(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows
        found = [(r.get("budget", 0.0), r["score"]) for r in rows if r["weight"] > 0]
        self._best = max([self._best, *found])

    def add(self, trials: Trials, before: int, every: int = 1) -> list[dict[str, Any]]:
        """Rows for trials with leaves `[seeds, steps, batch, ...]`, or without the first axis.

        `before` trials of a seed came before, and a step is the last of `every` rounds.
        """
        many = self.seeds > 1
        flat = lambda x: np.asarray(x).reshape(self.seeds, -1, *np.shape(x)[3 if many else 2 :])
        arch = jax.tree.map(flat, trials.arch)
        codes = np.asarray(to_vector(self.space, arch), np.int32)
        columns = {"score": trials.score, "weight": trials.weight}
        columns |= {} if trials.budget is None else {"budget": trials.budget}
        columns |= trials.metrics or {}
        values = {k: flat(v).astype(np.float32) for k, v in columns.items()}
        new = []
        for s in range(self.seeds):
            for i in range(codes.shape[1]):
                code = codes[s, i].tobytes()
                if code not in self.words:
                    one = jax.tree.map(lambda x, s=s, i=i: x[s, i], arch)
                    self.words[code] = self.space.describe(one)
                rounds = (i // self.batch + 1) * every - 1
                number = before + rounds * self.batch + i % self.batch + 1
                row: dict[str, Any] = {"seed": self.seed + s, "evaluation": number}
                row["architecture"] = self.words[code]
                new.append(row | {k: float(v[s, i]) for k, v in values.items()})
        self.extend(new)
        return new

    def columns(self) -> dict[str, np.ndarray]:
        rows = sorted(self.rows, key=lambda row: (row["seed"], row["evaluation"]))
        kind = {"seed": np.int64, "evaluation": np.int64, "architecture": np.str_}
        return {k: np.asarray([r[k] for r in rows], kind.get(k, np.float32)) for k in rows[0]}
