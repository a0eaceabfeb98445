"""Searches at several budgets, against naive references."""

import collections
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas.base import InputError, Space, Strategy, Trials, chain, template
from jnas.links import (
    asha,
    hyperband,
    keep_best,
    per_budget,
    sample_uniform,
    select_uniform,
    successive_halving,
)
from jnas.links.hyperband import schedule
from jnas.links.multi_fidelity import rungs, top
from jnas.links.successive_halving import halved

LINE = Space("line", 10**6)  # an architecture is a number: easy to follow
BATCHES = [1, 4, 13]


def _score(arch: Any, budget: Any) -> np.ndarray:
    """What a candidate gets at a budget: another order of the candidates at every budget."""
    x = np.asarray(arch, np.int64)
    noise = (x * 7919 + np.rint(np.asarray(budget) * 1000).astype(np.int64) * 104729) % 997
    return (x / 1e4 + noise * 0.05).astype(np.float32)


def _rounds(
    strategy: Strategy, n: int, rounds: int, score: Callable[..., np.ndarray] = _score
) -> tuple[list[Trials], Any]:
    """The told batches of a search, and its last state."""
    state = strategy.init(jax.random.key(0), template(LINE))
    ask, tell = _compiled(strategy, n)
    told = []
    for i in range(rounds):
        asked = ask(jax.random.key(2 * i), state)
        trials = asked._replace(score=jnp.asarray(score(asked.arch, asked.budget)))
        _, state = tell(jax.random.key(2 * i + 1), trials, state)
        told.append(jax.device_get(trials))
    return told, state


@functools.cache
def _compiled(strategy: Strategy, n: int) -> tuple[Callable, Callable]:
    return jax.jit(lambda key, state: strategy.ask(key, state, n)), jax.jit(strategy.tell)


def _by_rung(told: list[Trials]) -> dict[tuple[int, int], dict[int, tuple[float, float]]]:
    """`{(bracket, rung): {arch: (score, budget)}}` of all rows that belong to a bracket."""
    found: dict = collections.defaultdict(dict)
    for trials in told:
        where = trials.trace
        columns = (where.bracket, where.rung, trials.arch, trials.score, trials.budget)
        for bracket, rung, arch, score, budget in zip(
            *map(np.ndarray.tolist, columns), strict=True
        ):
            if bracket >= 0:
                found[bracket, rung][arch] = (score, budget)
    return found


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize(
    ("strategy", "plan"),
    [
        (
            successive_halving(sample_uniform(LINE), 20, 3, 1 / 9),
            [((20, 6, 2), (1 / 9, 1 / 3, 1))],
        ),
        (
            hyperband(sample_uniform(LINE), 3, 1 / 9),
            [((9, 3, 1), (1 / 9, 1 / 3, 1)), ((5, 1), (1 / 3, 1)), ((3,), (1,))],
        ),
        (
            hyperband(sample_uniform(LINE), 2, 1, budgets=(0.06, 0.5, 1), parallel=3),
            [((4, 2, 1), (0.06, 0.5, 1)), ((3, 1), (0.5, 1)), ((3,), (1,))],
        ),
    ],
)
def test_exactly_the_best_of_each_rung_reach_the_next(
    strategy: Strategy, plan: list, n: int
) -> None:
    told, state = _rounds(strategy, n, 240 // n)
    found = _by_rung(told)
    ended = int(state.done)
    assert ended >= 3
    for bracket in range(ended):
        sizes, budgets = plan[bracket % len(plan)]
        rows = [found[bracket, k] for k in range(len(sizes))]
        assert tuple(map(len, rows)) == sizes
        for k, budget in enumerate(budgets):
            assert {b for _, b in rows[k].values()} == {np.float32(budget)}
        for below, above in itertools.pairwise(rows):
            ranked = sorted(below, key=lambda arch: -below[arch][0])
            assert set(above) == set(ranked[: len(above)])


def test_no_row_is_wasted_on_a_rung_that_is_full() -> None:
    told, _ = _rounds(successive_halving(sample_uniform(LINE), 20, 3, 1 / 9), 4, 60)
    spare = sum(int((t.trace.bracket < 0).sum()) for t in told)
    assert spare == 0  # the next bracket has places for all


@pytest.mark.slow
def test_rows_that_no_bracket_has_a_place_for_are_new_candidates_at_the_lowest_budget() -> None:
    told, _ = _rounds(successive_halving(sample_uniform(LINE), 2, 2, 0.25), 9, 4)
    for trials in told:
        spare = trials.trace.bracket < 0
        assert spare.sum() >= 5 and (trials.budget[spare] == 0.25).all()


def test_the_brackets_are_those_of_the_paper() -> None:
    plan = schedule(3, rungs(3, 1 / 81))
    table = [  # (n_i, r_i) for R = 81 and eta = 3, by Algorithm 1
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    found = [[(n, round(81 * b)) for n, b in zip(*bracket, strict=True)] for bracket in plan]
    assert found == table


def test_the_best_of_some_rows_are_those_of_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    for k in (0, 1, 5, 12, 40):
        score = rng.choice([-3e30, -1.5, -0.0, 0.0, 1e-30, 2.0, 7.0], (30, 12)).astype(np.float32)
        there = rng.random((30, 12)) < 0.7
        found = jax.jit(top)(score, there, jnp.full(30, k))
        for row in range(30):
            ranked = sorted(np.flatnonzero(there[row]), key=lambda i, row=row: -score[row, i])
            assert np.flatnonzero(found[row]).tolist() == sorted(ranked[:k])


@pytest.mark.parametrize(("eta", "smallest"), [(2, 1 / 64), (3, 1 / 243), (4, 0.004), (16.7, 0.06)])
def test_sizes_and_budgets_follow_the_formulas(eta: float, smallest: float) -> None:
    budgets = rungs(eta, smallest)
    assert budgets[-1] == 1 and smallest - 1e-9 <= budgets[0] < smallest * eta
    np.testing.assert_allclose(budgets[1:] / budgets[:-1], eta)
    for n in (1, 5, 27, 64, 100):
        exact = [max(int(n / eta**k + 1e-9), 1) for k in range(4)]
        assert halved(n, eta, 4) == tuple(exact)


# ------------------------------------------------------------------------------------- ASHA


class NaiveAsha:
    """Algorithm 2 of the paper in plain Python."""

    def __init__(self, eta: float, budgets: np.ndarray, capacity: int):
        self.eta, self.budgets, self.capacity = eta, budgets, capacity
        self.rungs: list[list[tuple[float, int, int]]] = [[] for _ in budgets]  # score, age, arch
        self.promoted: set[tuple[int, int]] = set()

    def jobs(self, n: int) -> list[tuple[int, float]]:
        """What n workers that ask one after another get; less where new candidates are drawn."""
        found, taken = [], set(self.promoted)
        for _ in range(n):
            job = self._job(taken)
            if job is None:
                break
            rung, age, arch = job
            taken.add((rung, age))
            found.append((arch, float(np.float32(self.budgets[rung + 1]))))
        return found

    def _job(self, taken: set[tuple[int, int]]) -> tuple[int, int, int] | None:
        for rung in reversed(range(len(self.budgets) - 1)):
            rows = self.rungs[rung][-self.capacity :]
            top = sorted(rows, key=lambda row: (-row[0], row[1] % self.capacity))
            for _, age, arch in top[: int(len(rows) / self.eta)]:
                if (rung, age) not in taken:
                    return rung, age, arch
        return None

    def report(self, rung: int, score: float, arch: int, parent: int) -> None:
        self.rungs[rung].append((score, len(self.rungs[rung]), arch))
        if rung:
            self.promoted.add((rung - 1, parent))


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("capacity", [20, 300])
def test_promotions_are_those_of_the_papers_algorithm(n: int, capacity: int) -> None:
    strategy = asha(sample_uniform(LINE), 3, 1 / 9, capacity=capacity)
    told, _ = _rounds(strategy, n, 180 // n)
    naive = NaiveAsha(3, rungs(3, 1 / 9), capacity)
    away = promotions = 0
    for trials in told:
        up = naive.jobs(n)
        rows = list(zip(trials.arch.tolist(), trials.budget.tolist(), strict=True))
        if up and len(up) == n and rows[-1][1] == np.float32(1 / 9):
            away, up = away + 1, up[:-1]  # now and then the last row is left to a new candidate
        promotions += len(up)
        assert rows[: len(up)] == up
        assert all(budget == np.float32(1 / 9) for _, budget in rows[len(up) :])
        columns = (trials.trace.rung, trials.score, trials.arch, trials.trace.parent)
        for row in zip(*map(np.ndarray.tolist, columns), strict=True):
            naive.report(*row)
    assert promotions > 30 and away <= 180 / n / 4


# --------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize(
    "strategy",
    [
        successive_halving(sample_uniform(LINE), 9, 3, 1 / 9),
        hyperband(sample_uniform(LINE), 3, 1 / 9),
        asha(sample_uniform(LINE), 3, 1 / 9),
    ],
    ids=["successive_halving", "hyperband", "asha"],
)
def test_a_candidate_that_always_fails_at_a_larger_budget_does_not_stop_the_search(
    strategy: Strategy, n: int
) -> None:
    def score(arch: Any, budget: Any) -> np.ndarray:
        failing = (np.asarray(arch) % 3 == 0) & (np.asarray(budget) > 0.3)
        return np.where(failing, np.nan, _score(arch, budget))

    told, _ = _rounds(strategy, n, 900 // n, score)
    full = np.concatenate([t.arch[(t.budget == 1) & np.isfinite(t.score)] for t in told])
    assert len(set(full.tolist())) >= 8
    late = np.concatenate([t.arch[t.budget == 1] for t in told[-300 // n :]])
    assert (late % 3 > 0).any()


# ------------------------------------------------------------------------ sources and inputs


@pytest.mark.slow
def test_the_source_of_a_budget_learns_from_that_budget_alone() -> None:
    memory = chain(keep_best(3), select_uniform())
    strategy = per_budget(memory, (0.1, 0.5, 1), enough=2)
    state = strategy.init(jax.random.key(0), template(LINE))
    trace = strategy.ask(jax.random.key(1), state, 5).trace
    trials = Trials(
        arch=jnp.asarray([10, 20, 30, 40, 50]),
        score=jnp.asarray([1.0, 9.0, 2.0, 3.0, 4.0]),
        weight=jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0]),
        budget=jnp.asarray([0.1, 1.0, 0.5, 0.5, 1.0], jnp.float32),
        trace=trace,
    )
    _, state = strategy.tell(jax.random.key(2), trials, state)
    assert state.told.tolist() == [1, 2, 1]
    asked = strategy.ask(jax.random.key(3), state, 20)
    assert set(asked.arch.tolist()) == {30, 40}  # the largest budget with two rows


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda s: successive_halving(s, n=0), "n=0: a rung has a whole number"),
        (lambda s: successive_halving(s, eta=1), "eta=1: it has to be a number greater than 1"),
        (lambda s: hyperband(s, min_budget=0), r"min_budget=0: it has to be in \(0, 1\]"),
        (lambda s: hyperband(s, budgets=(0.5, 0.2, 1)), "have to rise from more than 0 to 1"),
        (lambda s: hyperband(s, parallel=1), "parallel=1: at least 2 brackets"),
        (lambda s: hyperband(s, patience=0), "patience=0"),
        (lambda s: asha(s, min_budget=1), "there is only one rung"),
        (lambda s: asha(s, eta=4, capacity=3), "capacity=3: a whole number of at least eta=4"),
        (lambda s: per_budget(s, (0.5, 1), enough=0), "enough=0"),
    ],
)
def test_impossible_settings_are_refused(make: Callable, told: str) -> None:
    with pytest.raises(InputError, match=told):
        make(sample_uniform(LINE))


def test_a_source_of_evaluated_trials_is_refused_with_what_to_do() -> None:
    strategy = asha(keep_best(4))
    with pytest.raises(ValueError, match="put a selection and a variation behind the memory"):
        strategy.ask(jax.random.key(0), strategy.init(jax.random.key(0), template(LINE)), 4)


@pytest.mark.slow
def test_a_search_counts_budgets_in_one_scan() -> None:
    strategy = hyperband(sample_uniform(LINE), 3, 1 / 9)

    def evaluate(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        return trials._replace(score=trials.budget), state

    evaluator = jnas.Evaluator(lambda key: (), evaluate)
    _, history = jnas.search(jax.random.key(0), strategy, evaluator, LINE, steps=23)
    # 9 at 1/9, then 3 + 5 at 1/3, then 1 + 1 + 3 in full, and what the next cycle has begun.
    assert sorted(np.ravel(history.score).round(3).tolist())[-5:] == [1.0] * 5
