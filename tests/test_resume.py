"""Training that goes on where it stopped equals training that never stopped."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_cli import kill_at_random
from test_cli import run as command
from test_train import CLASSES, EXPLODE, FIT, HELD_OUT, NET, TRAINING

import jnas
from jnas.base import Evaluator, InputError, Trials, propose
from jnas.evaluators import resume, train
from jnas.evaluators.metrics import measure
from jnas.evaluators.tasks import classification
from jnas.evaluators.train import advance, begin
from jnas.links import hyperband, sample_uniform
from jnas.runs import RunFolder

ARCHS = np.asarray([0, 1, 2, 1], np.int32)  # two candidates of one architecture
BUDGETS = [0.2, 0.6, 1.0]
STEPS = [5, 15, 25]


def _evaluator(plan: str = "map", remember: int = 5, **options: Any) -> Evaluator:
    return train(
        NET, TRAINING, FIT, HELD_OUT, classes=CLASSES, plan=plan, remember=remember, **options
    )


def compiled(evaluator: Evaluator) -> tuple[Callable, Any]:
    """`(key, choices, budget, state) -> (trials, state)`, and the first state."""

    @jax.jit
    def go(key: jax.Array, choices: Any, budget: jax.Array, state: Any) -> tuple[Trials, Any]:
        trials = propose({"middle": jnp.asarray(choices)})
        return evaluator.evaluate(
            key, trials._replace(budget=jnp.full(len(choices), budget)), state
        )

    return go, evaluator.init(jax.random.key(0))


def _same(a: Trials, b: Trials) -> None:
    for name in sorted(set(a.metrics) - {"steps_done"}):
        np.testing.assert_array_equal(a.metrics[name], b.metrics[name], err_msg=name)
    np.testing.assert_array_equal(a.score, b.score)


@pytest.mark.parametrize("plan", ["map", pytest.param("vmap", marks=pytest.mark.slow), "grouped"])
def test_going_on_twice_equals_training_at_once_bit_for_bit(plan: str) -> None:
    go, start = compiled(_evaluator(plan))
    whole, _ = go(jax.random.key(0), ARCHS, 1.0, start)
    state, done = start, []
    for i, budget in enumerate(BUDGETS):
        trials, state = go(jax.random.key(i), ARCHS, budget, state)
        done.append(trials.metrics["steps_done"].tolist())
    assert done == [[5] * 4, [10] * 4, [10] * 4]
    assert whole.metrics["steps_done"].tolist() == [25] * 4
    _same(trials, whole)
    assert (state.steps == 0).all()  # nothing is left to be continued


@pytest.mark.slow
def test_rows_that_go_on_equal_a_candidate_trained_alone() -> None:
    go, state = compiled(_evaluator())
    _, state = go(jax.random.key(7), ARCHS, 0.2, state)
    trials, _ = go(jax.random.key(8), ARCHS, 0.6, state)
    data, held_out = (jax.tree.map(jnp.asarray, part) for part in (FIT, HELD_OUT))
    alone = jax.jit(lambda k_init, k_order, arch: advance(
        NET, TRAINING, data, k_order, arch, begin(NET, TRAINING, data, k_init), 0, 15
    )[0])  # fmt: skip
    for row, key in enumerate(jax.random.split(jax.random.key(7), 4)):
        k_init, k_order = jax.random.split(key)
        arch = {"middle": jnp.int32(ARCHS[row])}
        now = alone(k_init, k_order, arch)
        found = measure(NET, held_out, arch, now.params, now.state, classification(CLASSES))
        np.testing.assert_allclose(trials.metrics["loss"][row], found["loss"], rtol=1e-5)


@pytest.mark.slow
def test_a_full_budget_equals_no_budget() -> None:
    evaluator = _evaluator(remember=0)
    go, state = compiled(evaluator)
    trials, _ = go(jax.random.key(0), ARCHS, 1.0, state)
    plain = jax.jit(
        lambda key: evaluator.evaluate(key, propose({"middle": jnp.asarray(ARCHS)}), ())[0]
    )(jax.random.key(0))
    assert "steps_done" not in plain.metrics
    _same(plain, trials)


def test_without_memory_every_row_starts_afresh() -> None:
    go, state = compiled(_evaluator(remember=0))
    _, state = go(jax.random.key(0), ARCHS, 0.2, state)
    trials, state = go(jax.random.key(1), ARCHS, 0.6, state)
    assert trials.metrics["steps_done"].tolist() == [15] * 4 and state == ()


@pytest.mark.slow
def test_a_candidate_that_diverged_is_not_kept() -> None:
    go, state = compiled(_evaluator())
    trials, state = go(jax.random.key(0), np.asarray([EXPLODE, 1], np.int32), 0.2, state)
    assert trials.weight.tolist() == [0, 1] and (state.steps > 0).sum() == 1
    trials, _ = go(jax.random.key(1), np.asarray([EXPLODE, 1], np.int32), 0.6, state)
    assert trials.metrics["steps_done"].tolist() == [15, 10]


@pytest.mark.slow
def test_the_same_or_a_smaller_budget_trains_another_candidate() -> None:
    go, state = compiled(_evaluator())
    one, state = go(jax.random.key(0), ARCHS[:1], 0.6, state)
    two, state = go(jax.random.key(1), ARCHS[:1], 0.6, state)
    assert two.metrics["steps_done"].tolist() == [15]
    assert one.metrics["loss"] != two.metrics["loss"] and (state.steps > 0).sum() == 2


class NaiveStore:
    """What is kept, as a list of dicts."""

    def __init__(self, size: int):
        self.slots: list[dict | None] = [None] * size
        self.round = 0

    def evaluate(self, rows: list[tuple[int, int, int]], total: int) -> list[tuple[int, int]]:
        """Rows `(arch, name of a new candidate, steps)` to `(name, steps before)`."""
        taken, found = set(), []
        for arch, name, steps in rows:
            best = None
            for i, kept in enumerate(self.slots):
                fits = kept and kept["arch"] == arch and kept["steps"] < steps and i not in taken
                if fits and (best is None or kept["steps"] > self.slots[best]["steps"]):
                    best = i
            if best is None:
                found.append((None, name, 0))
            else:
                taken.add(best)
                found.append((best, self.slots[best]["name"], self.slots[best]["steps"]))
        for (slot, _, _), (_, _, steps) in zip(found, rows, strict=True):
            if slot is not None and steps == total:
                self.slots[slot] = None
        kept_on = {s for (s, _, _), row in zip(found, rows, strict=True) if s is not None
                   and row[2] < total}  # fmt: skip
        age = lambda i: (self.slots[i] is not None, self.slots[i] and self.slots[i]["used"], i)
        free = sorted((i for i in range(len(self.slots)) if i not in kept_on), key=age)
        for (slot, name, _), (arch, _, steps) in zip(found, rows, strict=True):
            if steps == total:
                continue
            if slot is None:
                if not free:
                    continue
                slot = free.pop(0)
            self.slots[slot] = {"arch": arch, "name": name, "steps": steps, "used": self.round}
        self.round += 1
        return [(name, steps) for _, name, steps in found]


@pytest.mark.parametrize(("size", "n"), [(1, 3), (4, 3), (6, 2), (3, 8)])
def test_what_is_kept_is_what_a_list_in_python_keeps(size: int, n: int) -> None:
    rng, total = np.random.default_rng(size), 9
    shape = jax.ShapeDtypeStruct((), jnp.int32)
    store = resume.empty({"a": shape}, jnp.zeros(2, jnp.uint32), [shape], size)
    naive, resumed = NaiveStore(size), 0

    @jax.jit
    def step(store: resume.Store, arch: Any, names: jax.Array, steps: jax.Array) -> tuple:
        place = resume.find(store, arch, steps)
        keys = jnp.stack([names, names], -1).astype(jnp.uint32)
        keys, [who], before = resume.take(store, place, keys, [names])
        return who, before, keys, resume.put(store, place, arch, keys, [who], steps, steps < total)

    for i in range(150):
        arch, steps = rng.integers(0, 3, n), rng.choice([1, 3, 9], n)
        names = np.arange(n) + i * n
        rows = list(zip(arch.tolist(), names.tolist(), steps.tolist(), strict=True))
        who, before, keys, store = step(store, {"a": arch.astype(np.int32)}, names, steps)
        expected = naive.evaluate(rows, total)
        assert list(zip(who.tolist(), before.tolist(), strict=True)) == expected
        assert keys[:, 0].tolist() == who.tolist()
        resumed += int((before > 0).sum())
    assert resumed > 15


def _run(folder: Path | None) -> jnas.Result:
    strategy = hyperband(sample_uniform(NET.space), 3, 1 / 9)
    return jnas.run(
        strategy,
        _evaluator(remember=12),
        NET.space,
        evaluations=48,
        batch=4,
        chunk=1,
        workdir=folder,
        verbose=False,
    )


@pytest.mark.slow
def test_a_run_stopped_between_two_budgets_goes_on_with_the_same_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, saves, real = _run(None), [], RunFolder.save

    def stop(self: RunFolder, *args: Any) -> None:
        if len(saves) == 3:
            raise KeyboardInterrupt
        saves.append(1)
        real(self, *args)

    monkeypatch.setattr(RunFolder, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path)
    monkeypatch.setattr(RunFolder, "save", real)
    again = _run(tmp_path)
    for name, column in whole.history.items():
        np.testing.assert_array_equal(again.history[name], column)
    # A promotion costs the difference only.
    history = whole.history
    steps = {np.float32(1 / 9): 3, np.float32(1 / 3): 8, np.float32(1): 25}
    target = np.asarray([steps[b] for b in history["budget"]])
    fine = history["weight"] > 0
    assert set((target - history["steps_done"])[fine & (target == 8)].tolist()) >= {5 - 5, 3}
    assert (history["steps_done"][fine & (target == 25)] < 25).any()


HYPERBAND = Path(__file__).parents[1] / "experiments" / "configs" / "digits_hyperband.py"


@pytest.mark.slow
def test_a_killed_hyperband_ends_with_the_same_history(tmp_path: Path) -> None:
    small = ["--config.evaluations=28", "--config.batch=4", "--config.net.channels=4"]
    small += ["--config.train.steps=36", "--config.final.steps=20"]

    def args(name: str) -> list[str]:
        return ["search", f"--config={HYPERBAND}", f"--workdir={tmp_path / name}", *small]

    assert command(args("whole"), tmp_path).returncode == 0
    kill_at_random(args("cut"), tmp_path / "cut", tmp_path, kills=3, longest=1.5)
    whole, killed = ((tmp_path / d / "history.csv").read_text() for d in ("whole", "cut"))
    assert whole == killed
    rows = [dict(zip(whole.split("\n")[0].split(","), line.split(","), strict=True))
            for line in whole.splitlines()[1:]]  # fmt: skip
    full = {row["steps_done"] for row in rows if row["budget"] == "1.0"}
    assert {"24.0", "36.0"} >= full >= {"24.0"}  # from 1/3 on, or at once


@pytest.mark.slow
def test_meshes_go_on_with_the_same_numbers() -> None:
    root = Path(__file__).parents[1]
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(root / "tests" / "resume_probe.py")],
        env={**environment, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["alone"]["steps_done"] == [10] * 4
    assert told["4x1"] == told["alone"]
    for name in ("2x2", "vmap 4x1"):
        for metric, values in told["alone"].items():
            np.testing.assert_allclose(told[name][metric], values, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("remember", [-1, 2.5, True])
def test_a_memory_that_cannot_be_is_refused(remember: Any) -> None:
    with pytest.raises(InputError, match=f"remember={remember!r}"):
        _evaluator(remember=remember)


def test_steps_to_validate_at_and_budgets_exclude_each_other() -> None:
    training = TRAINING._replace(validate_at=(5,))
    evaluator = train(NET, training, FIT, HELD_OUT, classes=CLASSES, remember=2)
    trials = propose({"middle": jnp.asarray(ARCHS)})
    with pytest.raises(InputError, match="validate_at"):
        evaluator.evaluate(jax.random.key(0), trials, evaluator.init(jax.random.key(0)))
