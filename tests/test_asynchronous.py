"""Search on the host with workers that do not wait for each other."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jnas
from jnas import asynchronous
from jnas.asynchronous import as_function, run_async
from jnas.base import InputError, Space, from_index, index, size
from jnas.evaluators import tabular
from jnas.links import asha, keep_best, sample_uniform, successive_halving
from jnas.links.multi_fidelity import rungs
from jnas.runs import RunFolder

SPACE = Space("bits", np.full(16, 2))
RNG = np.random.default_rng(0)
TABLE = {
    **{f"at_{k}": RNG.random(size(SPACE)) + i for i, k in enumerate((1, 3, 9))},
    "seconds": RNG.integers(10, 100, size(SPACE)).astype(float),
}
EVALUATOR = tabular(SPACE, TABLE, "at_9", fidelities={1 / 9: "at_1", 1 / 3: "at_3"}, cost="seconds")
ASHA = asha(sample_uniform(SPACE), 3, 1 / 9, capacity=200)


def _simulated(strategy: jnas.Strategy = ASHA, n: int = 120, **more: Any) -> jnas.Result:
    setting = {"evaluations": n, "workers": 4, "simulate": True, "verbose": False}
    return run_async(strategy, as_function(EVALUATOR), SPACE, **(setting | more))


@pytest.fixture(scope="module")
def simulated() -> jnas.Result:
    return _simulated()


@pytest.mark.slow
def test_a_simulated_search_is_repeatable(simulated: jnas.Result) -> None:
    again = _simulated()
    for name, column in simulated.history.items():
        np.testing.assert_array_equal(again.history[name], column)
    assert not np.array_equal(_simulated(seed=1).history["score"], simulated.history["score"])


def test_no_worker_waits_and_none_does_two_things(simulated: jnas.Result) -> None:
    end, cost = simulated.history["clock"], simulated.history["cost"]
    start = end - cost
    assert (np.diff(end) >= 0).all()
    for moment in (start + 1e-3)[cost > 0]:
        assert ((start <= moment) & (moment < end)).sum() <= 4
    idle = 4 * end[-1] - cost.sum()
    assert 0 <= idle < 4 * cost.max()  # only at the end


@pytest.mark.slow
def test_the_best_of_a_simulated_search_is_a_full_evaluation(simulated: jnas.Result) -> None:
    full = simulated.history["budget"] == 1
    assert simulated.best_score == simulated.history["score"][full].max()


def test_no_promotion_is_given_out_twice_and_each_is_among_the_best_of_its_rung() -> None:
    given: list[tuple[int, float]] = []
    look_up = as_function(EVALUATOR)

    def evaluate(arch: Any, budget: float) -> Any:
        given.append((int(index(SPACE, arch)), budget))
        return look_up(arch, budget)

    workers = 4
    result = run_async(
        ASHA, evaluate, SPACE, evaluations=150, workers=workers, simulate=True, verbose=False
    )
    told = [
        (int(index(SPACE, SPACE.parse(a))), float(b), float(s))
        for a, b, s in zip(
            *(result.history[k] for k in ("architecture", "budget", "score")), strict=True
        )
    ]
    levels = [float(np.float32(b)) for b in rungs(3, 1 / 9)]
    promotions = 0
    for i, (arch, budget) in enumerate(given):
        rung = levels.index(budget)
        if rung == 0:
            continue
        promotions += 1
        assert (arch, budget) not in given[:i]
        seen = [(s, a) for a, b, s in told[: max(0, i - workers + 1)] if b == levels[rung - 1]]
        best = sorted(seen, key=lambda row: -row[0])[: len(seen) // 3]
        assert arch in {a for _, a in best}
    assert promotions > 20


@pytest.mark.slow
def test_asha_has_full_evaluations_earlier_than_halving_in_rounds() -> None:
    halving = successive_halving(sample_uniform(SPACE), 27, 3, 1 / 9, patience=10**6)
    earliest = lambda r: r.history["clock"][r.history["budget"] == 1].min()
    rounds = _simulated(halving, workers=9, n=90)
    assert earliest(_simulated(workers=9, n=90)) < earliest(rounds)


def _slow(arch: Any, budget: float) -> Any:
    time.sleep(0.02)
    if arch[:2].sum() == 2:
        raise ValueError("a bad\nmoment")
    return float(arch.sum()), {"first": arch[0]}


def test_threads_run_side_by_side_and_an_exception_fails_one_trial(capsys: Any) -> None:
    running, most, called, lock = 0, 0, 0, threading.Lock()
    together = threading.Barrier(3, timeout=60)  # the first three wait for each other

    def evaluate(arch: Any, budget: float) -> Any:
        nonlocal running, most, called
        with lock:
            running += 1
            called += 1
            waits = called <= 3
            most = max(most, running)
        try:
            if waits:
                together.wait()
            return _slow(arch, budget)
        finally:
            with lock:
                running -= 1

    result = run_async(
        sample_uniform(SPACE), evaluate, SPACE, evaluations=40, workers=3, verbose=False
    )
    assert most == 3
    rows = result.history
    bad = np.asarray([SPACE.parse(a)[:2].sum() == 2 for a in rows["architecture"]])
    assert bad.any() and (rows["weight"][bad] == 0).all() and (rows["weight"][~bad] == 1).all()
    told = capsys.readouterr().err
    assert told.count("\n") == bad.sum() and "ValueError: a bad moment" in told
    assert result.best_score == rows["score"][~bad].max()
    assert rows["evaluation"].tolist() == list(range(1, 41))


@pytest.mark.slow
def test_a_promotion_that_fails_is_not_tried_again() -> None:
    look_up, tried = as_function(EVALUATOR), []

    def evaluate(arch: Any, budget: float) -> Any:
        if budget > 0.5:
            tried.append(arch.tobytes())
            raise RuntimeError("out of luck")
        return look_up(arch, budget)

    run_async(ASHA, evaluate, SPACE, evaluations=120, simulate=True, verbose=False)
    assert len(tried) > 3 and len(set(tried)) == len(tried)


def test_all_failed_is_one_clear_error() -> None:
    with pytest.raises(InputError, match="every trial of the search failed"):
        run_async(ASHA, lambda a, b: float("nan"), SPACE, evaluations=5, workers=1, verbose=False)


@pytest.mark.slow
def test_a_stopped_search_goes_on_with_the_state_that_its_results_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asynchronous, "SAVE_EVERY", 0.0)
    look_up, calls, lock = as_function(EVALUATOR), [], threading.Lock()

    def evaluate(arch: Any, budget: float) -> Any:
        with lock:
            calls.append(1)
            if len(calls) == 25:
                raise KeyboardInterrupt
            return look_up(arch, budget)

    go = lambda: run_async(
        ASHA, evaluate, SPACE, evaluations=60, workers=3, workdir=tmp_path, verbose=False
    )
    with pytest.raises(KeyboardInterrupt):
        go()
    loop = asynchronous._Loop(ASHA, SPACE, 3, 0)
    with RunFolder(tmp_path, {"evaluations": 60, "workers": 3, "seed": 0}) as folder:
        loop.restore(folder)
    before = [dict(row) for row in loop.table.rows]
    assert 15 <= len(before) < 25
    state, _ = loop.carry
    assert int(np.asarray(state.entered).sum()) == sum(r["budget"] < 0.9 for r in before)
    for row in before:
        arch = SPACE.parse(row["architecture"])
        mine = state.arch.reshape(-1, 16)[np.asarray(state.number).ravel() >= 0]
        assert row["budget"] == 1 or (np.asarray(mine) == arch).all(-1).any()
    result = go()
    assert result.evaluations == 60 and len(result.history["score"]) == 60
    for i, row in enumerate(before):
        assert result.history["architecture"][i] == row["architecture"]
        assert result.history["score"][i] == np.float32(row["score"])


SCRIPT = """
import time
import numpy as np
import jnas
from jnas import asynchronous
asynchronous.SAVE_EVERY = 0.0
space = jnas.Space("bits", np.full(10, 2))
def evaluate(arch, budget):
    time.sleep(0.05)
    return float(arch.sum())
strategy = jnas.links.asha(jnas.links.sample_uniform(space), 3, 1 / 9)
asynchronous.run_async(strategy, evaluate, space, evaluations=60, workers=3, workdir="run")
"""


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SCRIPT]
    history = tmp_path / "run" / "history.csv"
    child = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not (history.exists() and history.read_bytes().count(b"\n") > 10):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    before = history.read_bytes().splitlines()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    after = history.read_bytes().splitlines()
    assert len(before) < len(after) == 61
    assert after[: len(before) - 2] == before[:-2]  # the last may have been behind the checkpoint


@pytest.mark.slow
def test_processes_evaluate_too() -> None:
    result = run_async(
        sample_uniform(SPACE),
        _slow,
        SPACE,
        evaluations=8,
        workers=2,
        processes=True,
        verbose=False,
    )
    assert set(result.history) >= {"first", "clock", "score"} and result.best_score > 0


def test_a_memory_sees_every_result_of_a_plain_strategy() -> None:
    strategy = jnas.mixture(
        sample_uniform(SPACE),
        jnas.chain(
            keep_best(4),
            jnas.links.select_tournament(2),
            jnas.links.mutate_one(SPACE),
        ),
        jnas.first(10),
    )
    result = run_async(
        strategy,
        lambda arch, budget: float(arch.sum()),
        SPACE,
        evaluations=60,
        workers=4,
        verbose=False,
    )
    assert result.best_score >= 14 and "budget" not in result.history


def test_an_evaluator_as_a_function_gives_its_own_numbers() -> None:
    look_up = as_function(EVALUATOR)
    arch = jax.device_get(from_index(SPACE, np.int32(77)))
    score, metrics = look_up(arch, 1 / 3)
    assert score == np.float32(TABLE["at_3"][77])
    np.testing.assert_allclose(metrics["cost"], TABLE["seconds"][77] / 3, rtol=1e-5)
    score, metrics = look_up(arch, 1.0)
    np.testing.assert_allclose(metrics["cost"], TABLE["seconds"][77] * 2 / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"evaluations": 0}, "evaluations=0"),
        ({"workers": 0}, "workers=0"),
        ({"simulate": True, "workdir": "x"}, "workdir='x': a simulated search has none"),
        ({"simulate": True}, "evaluate has to return"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, told: str) -> None:
    setting: dict[str, Any] = {"evaluations": 4, "verbose": False}
    with pytest.raises(InputError, match=told):
        run_async(ASHA, lambda a, b: 1.0, SPACE, **(setting | options))
