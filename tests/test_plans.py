"""Plans of a population: the same numbers as a plain loop, memory kept, the fastest remembered."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jnas import nets
from jnas.base import InputError, propose, sample
from jnas.evaluators import Examples, Training, plans, train, tuning
from jnas.evaluators.metrics import measure
from jnas.evaluators.plans import Plan
from jnas.evaluators.tasks import classification
from jnas.evaluators.train import advance, begin
from jnas.nets.choices import OneOf, Repeat, Slim
from jnas.nets.convolutions import conv
from jnas.nets.functional import functional

CLASSES, ROWS = 3, 5


class Pieces(nnx.Module):
    """Every piece that a net is built from: an operation, a depth and a width."""

    def __init__(self, rngs: nnx.Rngs):
        block = lambda rngs: OneOf([nnx.Linear(6, 6, rngs=rngs), jnp.tanh, lambda x: x])
        self.first = Slim(nnx.Linear(16, 6, rngs=rngs), [2, 6])
        self.middle = Repeat(block, 3, rngs=rngs)
        self.last = nnx.Linear(6, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.middle(self.first(x.reshape(x.shape[0], -1))))


NETS = {
    "cells": lambda: nets.nas_bench_201(3, 1, CLASSES, 4, 1, stages=1),
    "perceptrons": lambda: nets.mlp(2, (2, 4), classes=CLASSES, image=4),
    "pieces": lambda: functional(Pieces),
}


def _examples(seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, 24)
    return Examples(rng.normal(size=(24, 4, 4, 1)).astype(np.float32) + y[:, None, None, None], y)


FIT, HELD_OUT = _examples(0), _examples(1)
TRAINING = Training(optax.sgd(0.05, momentum=0.9), steps=4, batch_size=8)


def _loop(net: nets.Net, archs: Any, key: jax.Array) -> dict[str, np.ndarray]:
    """One candidate after another, each a program of its own with nothing to choose."""
    on, held_out = (jax.tree.map(jnp.asarray, part) for part in (FIT, HELD_OUT))
    found = []
    for i, k in enumerate(jax.random.split(key, ROWS)):
        k_init, k_order = jax.random.split(k)
        arch = jax.tree.map(lambda x, i=i: np.asarray(x[i]), archs)
        now = begin(net, TRAINING, on, k_init)
        now, _ = advance(net, TRAINING, on, k_order, arch, now, 0, TRAINING.steps)
        found.append(measure(net, held_out, arch, now.params, now.state, classification(CLASSES)))
    return jax.tree.map(lambda *rows: np.stack(rows), *found)


@pytest.fixture(scope="module", params=NETS)
def known(request: pytest.FixtureRequest) -> tuple:
    """A net, five of its architectures, and what the plain loop makes of them."""
    net = NETS[request.param]()
    archs = sample(net.space, jax.random.key(1), ROWS)
    with jax.debug_key_reuse(False):  # the loop and the plans draw from the same keys
        return net, archs, _loop(net, archs, jax.random.key(2))


def _metrics(net: nets.Net, archs: Any, **options: Any) -> dict[str, jax.Array]:
    evaluator = train(net, TRAINING, FIT, HELD_OUT, classes=CLASSES, **options)
    run = jax.jit(lambda key, archs: evaluator.evaluate(key, propose(archs), ())[0].metrics)
    return run(jax.random.key(2), archs)


@pytest.mark.parametrize(
    "plan", ["map", "vmap", "grouped", Plan("vmap", chunk=2), Plan("grouped", chunk=3)], ids=str
)
def test_every_plan_has_the_numbers_of_a_plain_loop_for_every_space(known, plan):
    net, archs, want = known
    found = _metrics(net, archs, plan=plan)
    for name, values in want.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=2e-4, err_msg=name)


def test_the_chosen_plan_is_the_fastest_and_is_measured_once(monkeypatch, tmp_path):
    monkeypatch.setenv("JNAS_CACHE", str(tmp_path))
    calls = []

    def measured(probe: Any, batch: Any, allowed: Any) -> dict[Plan, float]:
        jax.block_until_ready(jax.vmap(probe)(batch))
        calls.append(len(jax.tree.leaves(batch)[0]))
        return {Plan("map"): 2.0, Plan("grouped", 0, (("convs", "columns"),)): 1.0}

    monkeypatch.setattr(tuning, "measure", measured)
    probe, rows = lambda row: jnp.sum(row**2), lambda n: jnp.ones((n, 3))
    for _ in range(2):
        plan = tuning.Tuner(probe, rows, "auto").plan(20)
        assert plan == Plan("grouped", 0, (("convs", "columns"),))
    assert calls == [tuning.ROWS]
    tuning.Tuner(lambda row: jnp.sum(row), rows, "auto").plan(20)  # other work, another choice
    assert len(calls) == 2
    (one, _) = sorted((tmp_path / "plans").iterdir())
    assert json.loads(one.read_text())["plan"][0] == "grouped"


def test_a_measurement_runs_every_plan_with_every_form_that_it_meets():
    weights = jnp.ones((2, 3, 3, 4, 4))

    def probe(row: Any) -> jax.Array:
        return jnp.sum(conv(jnp.ones((1, 4, 4, 4)), row) ** 2)

    found = tuning.measure(probe, weights)
    form_of = lambda plan, operation: dict(plan.forms).get(operation)
    chosen = {(plan.name, form_of(plan, "conv"), form_of(plan, "convs")) for plan in found}
    assert {("map", form, None) for form in ("rows", "lax", "columns")} < chosen
    assert {(n, None, f) for n in ("vmap", "grouped") for f in ("rows", "columns")} < chosen
    assert all(0 < seconds < 60 for seconds in found.values())


def test_a_choice_that_was_kept_for_a_run_is_kept_when_it_goes_on(monkeypatch, tmp_path):
    monkeypatch.setenv("JNAS_CACHE", str(tmp_path / "cache"))
    seconds = {Plan("map"): 1.0, Plan("vmap"): 2.0}
    monkeypatch.setattr(tuning, "measure", lambda *_: seconds)
    make = lambda: tuning.Tuner(lambda x: x.sum(), jnp.ones, "auto", file=tmp_path / "plan.json")
    assert make().plan(4) == Plan("map")
    monkeypatch.setenv("JNAS_CACHE", str(tmp_path / "another"))
    seconds[Plan("vmap")] = 0.5  # now another would win
    assert make().plan(4) == Plan("map")


def test_ten_thousand_candidates_stream_within_the_budget():
    width, budget = 64, 2_000_000
    rows = lambda n: jnp.ones((n, width))
    probe = lambda row: jnp.sum(jnp.sin(jnp.outer(row, row)) @ row)  # 16 kB and more each
    plan = tuning.Tuner(probe, rows, "vmap", memory=budget).plan(10_000)
    assert 1 < plan.chunk < 1000
    run = jax.jit(plans.population(probe, plan)).lower(rows(10_000)).compile()
    used, given = run.memory_analysis(), 4 * 10_000 * width
    assert used.temp_size_in_bytes <= budget + 2 * given  # candidates, and the batch itself
    whole = jax.jit(jax.vmap(probe)).lower(rows(10_000)).compile().memory_analysis()
    assert whole.temp_size_in_bytes > 10 * budget
    np.testing.assert_allclose(run(rows(10_000))[::999], jax.vmap(probe)(rows(11)), rtol=1e-5)


def test_the_budget_is_what_the_device_has_unless_it_is_given():
    assert 10**8 < tuning.memory_budget() < 10**13
    small = tuning.Tuner(lambda row: row.sum(), jnp.ones, "vmap").plan(100)
    assert small.chunk == 0  # far below the memory: nothing is cut


@pytest.mark.slow
def test_half_the_memory_is_half_the_candidates_at_once():
    options: dict[str, Any] = {"classes": CLASSES, "plan": Plan("vmap", chunk=4)}
    net = NETS["pieces"]()
    evaluator = train(net, TRAINING, FIT, HELD_OUT, **options)
    assert evaluator.halve is not None and evaluator.halve() is None  # it has not run yet
    archs = sample(net.space, jax.random.key(1), 8)
    score = lambda e: jax.jit(lambda k, a: e.evaluate(k, propose(a), ())[0].score)
    found = [score(evaluator)(jax.random.key(2), archs)]
    while (evaluator := evaluator.halve()) is not None:
        found.append(score(evaluator)(jax.random.key(2), archs))
    assert len(found) == 3  # 4, 2 and 1 at once
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plan": "pmap"}, "plan 'pmap': allowed are map, vmap, grouped, auto"),
        ({"memory": -1}, "memory=-1"),
        ({"memory": "lots"}, "memory='lots'"),
    ],
)
def test_a_wrong_plan_or_budget_is_named(options, words):
    with pytest.raises(InputError, match=words):
        train(NETS["pieces"](), TRAINING, FIT, HELD_OUT, classes=CLASSES, **options)


@pytest.mark.slow
def test_a_budget_below_one_candidate_says_what_one_needs():
    net = NETS["pieces"]()
    with pytest.raises(InputError, match=r"memory=1000: one candidate needs about \d+ bytes"):
        _metrics(net, sample(net.space, jax.random.key(1), 4), plan="vmap", memory=1000)
