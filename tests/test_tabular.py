"""A table with fidelities and a simulated clock, against plain Python sums."""

import heapq
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED_DATA
from ml_collections import ConfigDict

import jnas
from jnas import configs
from jnas.base import Evaluator, InputError, Space, Trials, from_index, propose, size
from jnas.evaluators import tabular
from jnas.links import hyperband, sample_uniform

BITS = Space("bits", np.full(5, 2))
RNG = np.random.default_rng(0)
CURVES = {  # a learning curve for every architecture, as columns
    f"at_{k}": np.sort(RNG.random((4, size(BITS))), 0)[i] for i, k in enumerate((1, 3, 9, 27))
}
TABLE = {**CURVES, "seconds": RNG.integers(10, 100, size(BITS)).astype(float)}
FIDELITIES = {1 / 27: "at_1", 1 / 9: "at_3", 1 / 3: "at_9"}


def _clocked(**options: Any) -> Evaluator:
    return tabular(BITS, TABLE, "at_27", fidelities=FIDELITIES, cost="seconds", **options)


def _asked(rows: list[int], budgets: list[float]) -> Trials:
    return propose(from_index(BITS, jnp.asarray(rows)))._replace(budget=jnp.asarray(budgets))


@pytest.mark.parametrize(
    ("budget", "column"),
    [
        (1.0, "at_27"),
        (0.99, "at_9"),
        (1 / 3, "at_9"),
        (0.2, "at_3"),
        (1 / 9, "at_3"),
        (1 / 27, "at_1"),
        (0.01, "at_1"),
    ],
)
def test_a_row_gets_the_largest_fidelity_that_its_budget_covers(budget: float, column: str) -> None:
    evaluator = tabular(BITS, TABLE, "at_27", fidelities=FIDELITIES)
    trials, _ = evaluator.evaluate(jax.random.key(0), _asked([3, 17], [budget] * 2), ())
    np.testing.assert_array_equal(trials.score, TABLE[column][[3, 17]].astype(np.float32))


def test_without_budgets_a_row_is_evaluated_in_full() -> None:
    evaluator = _clocked()
    trials = propose(from_index(BITS, jnp.asarray([4, 9])))
    trials, state = evaluator.evaluate(jax.random.key(0), trials, evaluator.init(jax.random.key(0)))
    np.testing.assert_array_equal(trials.score, TABLE["at_27"][[4, 9]].astype(np.float32))
    np.testing.assert_array_equal(trials.metrics["cost"], TABLE["seconds"][[4, 9]])
    assert state.seconds == TABLE["seconds"][[4, 9]].sum()


@pytest.mark.parametrize(
    ("batch", "workers", "resume"), [(1, 1, True), (8, 1, True), (5, 3, True), (5, 3, False)]
)
def test_the_clock_of_a_search_is_the_sum_that_python_finds(
    batch: int, workers: int, resume: bool
) -> None:
    strategy = hyperband(sample_uniform(BITS), 3, 1 / 27)
    steps = 160 // batch
    search = jax.jit(
        lambda key: jnas.search(
            key, strategy, _clocked(workers=workers, resume=resume), BITS, steps=steps, batch=batch
        )
    )
    (_, state), history = search(jax.random.key(0))
    rows = np.asarray(jnas.base.index(BITS, history.arch))
    paid, now, resumed = dict.fromkeys(range(size(BITS)), 0.0), 0.0, 0
    for i in range(steps):
        free = [now] * workers
        for j in range(batch):
            row, budget = rows[i, j], float(history.budget[i, j])
            part = max(f for f in [*FIDELITIES, 1.0] if f <= budget * 1.0001)
            cost = max(part - paid[row], 0.0) * TABLE["seconds"][row]
            resumed += 0 < paid[row] < part
            paid[row] = max(paid[row], part) if resume else 0.0
            start = heapq.heappop(free)
            heapq.heappush(free, start + cost)
            np.testing.assert_allclose(history.metrics["cost"][i, j], cost, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(history.metrics["clock"][i, j], start + cost, rtol=1e-4)
        now = max(free)
    np.testing.assert_allclose(state.seconds, now, rtol=1e-4)
    assert (resumed > 10) == resume


@pytest.mark.slow
def test_the_best_of_a_run_is_among_the_rows_of_the_largest_budget(tmp_path: Any) -> None:
    table = {"short": 10 + TABLE["at_1"], "full": TABLE["at_27"]}
    evaluator = tabular(BITS, table, "full", fidelities={0.25: "short"})
    strategy = hyperband(sample_uniform(BITS), 4, 0.25)
    result = jnas.run(
        strategy, evaluator, BITS, evaluations=24, batch=4, seeds=3, workdir=tmp_path, verbose=False
    )
    full = result.history["budget"] == 1
    assert set(result.history["budget"].tolist()) == {0.25, 1.0}
    assert result.best_score == result.history["score"][full].max() < 2
    for seed, row in zip((0, 1, 2), result.best_rows(), strict=True):
        mine = full & (result.history["seed"] == seed)
        assert full[row] and result.history["score"][row] == result.history["score"][mine].max()
    again = jnas.run(
        strategy, evaluator, BITS, evaluations=24, batch=4, seeds=3, workdir=tmp_path, verbose=False
    )
    for name, column in result.history.items():
        np.testing.assert_array_equal(again.history[name], column)
    result.plot()


def test_the_best_of_a_search_that_reached_no_full_budget_is_of_the_largest_it_reached() -> None:
    strategy = hyperband(sample_uniform(BITS), 3, 1 / 27)
    evaluator = tabular(BITS, TABLE, "at_27", fidelities=FIDELITIES)
    result = jnas.run(strategy, evaluator, BITS, evaluations=30, verbose=False)
    at = result.history["budget"] == np.float32(1 / 9)
    assert result.history["budget"].max() == np.float32(1 / 9)
    assert result.best_score == result.history["score"][at].max()
    result.plot()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fidelities": {0.5: "at_2"}}, r"fidelities\[0.5\] 'at_2': the table has at_1"),
        ({"fidelities": {1.5: "at_9"}}, r"fidelities: 1.5 has to be a number in \(0, 1\]"),
        ({"fidelities": {1.0: "at_9"}}, "a full evaluation is score='at_27'"),
        ({"cost": "hours"}, "cost 'hours': the table has"),
        ({"cost": "seconds", "workers": 0}, "workers=0"),
    ],
)
def test_impossible_settings_are_refused(options: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        tabular(BITS, TABLE, "at_27", **options)


def test_a_column_may_not_have_the_name_of_a_metric_of_the_clock() -> None:
    with pytest.raises(InputError, match="column 'clock'"):
        tabular(BITS, {**TABLE, "clock": TABLE["seconds"]}, "at_27", cost="seconds")


def test_a_config_names_the_columns_of_the_fidelities(nb201: dict) -> None:
    path = SHARED_DATA / "nb201.npz"
    config = ConfigDict(
        {
            "table": str(path),
            "fidelities": {"val_acc_12": 0.06},
            "cost": "train_time_200",
            "workers": 2,
        }
    )
    job = configs.job_of(config)
    trials = propose(from_index(job.space, jnp.asarray([7, 8])))
    trials = trials._replace(budget=jnp.asarray([0.1, 1.0]))
    trials, state = job.evaluator.evaluate(
        jax.random.key(0), trials, job.evaluator.init(jax.random.key(0))
    )
    table = [nb201["val_acc_12"][7, 0], nb201["val_acc_200"][8, 0]]
    np.testing.assert_array_equal(trials.score, table)
    seconds = nb201["train_time_200"][[7, 8], 0] * [0.06, 1]
    np.testing.assert_allclose(trials.metrics["cost"], seconds, rtol=1e-5)
    np.testing.assert_allclose(state.seconds, seconds.max(), rtol=1e-5)
    config.fidelities = ConfigDict({"val_acc_12": 0.06, "test_acc_12": 0.06})
    with pytest.raises(InputError, match="another column has the same part"):
        configs.job_of(config)
