"""One-shot methods: their data, their runs, and what they find on digits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick import QUICK
from scipy import stats
from test_weight_sharing import CLASSES, FIT, HELD_OUT, NET, TRAINING

import jnas
from jnas.base import InputError, Space, choice_counts, propose, sample
from jnas.evaluators import Examples, Training, shared_scores, train
from jnas.links.sampling import largest
from jnas.recipes.sharing import SHARING, OneShot, shrinking_stages

SPACE = Space("rising", {"depth": 3, "width": np.array([2, 4])})


def _method(name: str, steps: int = 6) -> OneShot:
    small: dict[str, dict[str, Any]] = {
        "enas": {"batch": 2, "derive": 4},
        "fairnas": {"population": 4, "generations": 2},
        "few_shot": {"place": 1, "population": 4, "generations": 2},
        "once_for_all": {"population": 4, "generations": 2, "parents": 2},
        "rs_ws": {"evaluations": 8, "batch": 4},
        "spos": {"population": 4, "generations": 2, "parents": 2},
    }
    return SHARING[name](NET.space, steps, **small[name])


def _run(method: OneShot, key: jax.Array) -> Any:
    return jnas.one_shot(key, method, NET, _training, FIT, HELD_OUT, classes=CLASSES)


def _training(steps: int) -> Training:
    return TRAINING._replace(steps=steps)


def _weight_steps(shared: Any) -> int:
    return int(np.sum(shared.step))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "fairnas" else pytest.mark.slow) for n in SHARING]
)
def test_a_method_trains_for_its_steps_and_finds_the_best_of_its_search(name: str) -> None:
    method = _method(name)
    found = jax.jit(lambda key: _run(method, key), compiler_options=QUICK)(jax.random.key(0))
    steps = 3 if name == "few_shot" else 6  # after the split
    assert _weight_steps(found.shared) == steps
    assert len(found.trained) == (2 if name == "few_shot" else 1)
    scores = np.ravel(found.trials.score)
    assert scores.size == (4 if name == "enas" else 8) and found.score == scores.max()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.shared.params))
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[scores.argmax()], found.trials.arch)
    jax.tree.map(np.testing.assert_array_equal, found.best, flat)
    # Its score is that of the frozen weights, whoever asks.
    options = {"split": 1} if name == "few_shot" else {}
    evaluator = shared_scores(NET, found.shared, HELD_OUT, classes=CLASSES, **options)
    alone = propose(jax.tree.map(lambda x: x[None], found.best))
    judged, _ = evaluator.evaluate(jax.random.key(1), alone, evaluator.init(jax.random.key(2)))
    np.testing.assert_allclose(judged.score[0], found.score, rtol=1e-5)


def test_the_settings_are_those_of_the_papers() -> None:
    space = jnas.spaces.nas_bench_201()
    spos, rs_ws = SHARING["spos"](space, 500), SHARING["rs_ws"](space, 500)
    assert spos.train[0].options == {"rows": "each", "score_batches": 0}
    assert (spos.train[0].evaluations, spos.train[0].batch, spos.train[0].steps) == (500, 1, 500)
    assert (spos.find(()).evaluations, spos.find(()).batch) == (1000, 50)
    assert rs_ws.find(()).evaluations == 1000
    fairnas = SHARING["fairnas"](space, 500)
    assert (fairnas.train[0].evaluations, fairnas.train[0].batch) == (2500, 5)
    assert fairnas.train[0].options["rows"] == "sum" and fairnas.train[0].steps == 500
    enas = SHARING["enas"](space, 500)
    assert (enas.train[0].evaluations, enas.train[0].batch) == (500, 10)
    few = SHARING["few_shot"](space, 500, share=0.4)
    assert [(t.evaluations, t.steps) for t in few.train] == [(200, 200), (300, 60)]
    assert few.train[1].options["split"] == few.find(()).options["split"] == 0
    every = SHARING["once_for_all"](SPACE, 500)
    assert (every.train[0].evaluations, every.train[0].batch) == (2000, 4)
    jax.tree.map(np.testing.assert_array_equal, every.train[0].options["teacher"], largest(SPACE))


@pytest.mark.slow
def test_evolution_on_shared_weights_proposes_nothing_twice() -> None:
    space = jnas.spaces.nas_bench_201()
    find = SHARING["spos"](space, 10).find(())
    score = lambda arch: jnp.mean(arch == 3, dtype=jnp.float32)
    evaluate = lambda key, trials, state: (
        trials._replace(score=jax.vmap(score)(trials.arch)),
        state,
    )
    evaluator = jnas.Evaluator(lambda key: (), evaluate)
    run = lambda key: jnas.search(key, find.strategy, evaluator, space, steps=20, batch=50)[1]
    trials = jax.jit(run, compiler_options=QUICK)(jax.random.key(0))
    assert len(np.unique(trials.arch.reshape(-1, 6), axis=0)) == 1000
    assert trials.score.max() == 1 and trials.score[0].max() < 1
    # Late generations are random again: the neighbourhood of the best has no new cells.
    assert trials.score[3:7].mean() > trials.score[0].mean() + 0.2


def test_shrinking_opens_leaf_by_leaf_one_choice_at_a_time() -> None:
    stages = shrinking_stages(SPACE, 1000, warm=0.5)
    rows = [(at, int(o["depth"]), np.asarray(o["width"]).tolist()) for at, o in stages]
    assert rows == [
        (0, 1, [1, 1]),
        (500, 2, [1, 1]),
        (600, 3, [1, 1]),
        (700, 3, [2, 2]),
        (800, 3, [2, 3]),
        (900, 3, [2, 4]),
    ]
    other = shrinking_stages(SPACE, 1000, order=[1, 0], ordered={"depth": False, "width": True})
    assert [int(o["depth"]) for _, o in other] == [3] * 4
    assert [np.asarray(o["width"]).tolist() for _, o in other] == [[1, 1], [2, 2], [2, 3], [2, 4]]
    assert [at for at, _ in other] == [0, 300, 533, 767]


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("spos", {"steps": 0}, "steps=0: a whole number of at least 1"),
        ("spos", {"population": 0}, "population=0"),
        ("few_shot", {"place": 7}, "place=7: it has to be from 0 to 2"),
        ("few_shot", {"share": 1.0}, "share=1.0 of 10 steps: both stages need steps"),
        ("once_for_all", {"warm": 1.0}, "warm=1.0: a part of the steps"),
        ("once_for_all", {"order": [0]}, r"order=\[0\]: the numbers 0 to 1, each once"),
        ("rs_ws", {"batch": 0}, "batch=0"),
    ],
)
def test_methods_that_cannot_be_are_refused(name: str, settings: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        SHARING[name](SPACE, **{"steps": 10, **settings})
    assert choice_counts(SPACE).tolist() == [3, 2, 4]


def _digits() -> tuple[Examples, Examples]:
    digits = jnas.data.load("digits")
    fit_on, score_on = (
        Examples(*s, digits.mean, digits.std) for s in (digits.train, digits.validation)
    )
    return fit_on, score_on


def _on_digits(steps: int) -> Training:
    rate = optax.cosine_decay_schedule(0.1, steps)
    return Training(optax.sgd(rate, momentum=0.9, nesterov=True), steps, batch_size=64)


@pytest.mark.slow
def test_on_digits_shared_weights_rank_cells_and_lead_to_a_good_one() -> None:
    fit_on, score_on = _digits()
    net = jnas.nets.nas_bench_201(channels=8, cells=1, image=8, inputs=1, stages=1)
    options: Any = {"classes": 10, "score": "loss"}
    method = SHARING["fairnas"](net.space, 600, population=20, generations=5)
    run = lambda key: jnas.one_shot(key, method, net, _on_digits, fit_on, score_on, **options)
    found = jax.jit(run)(jax.random.key(0))

    cells = sample(net.space, jax.random.key(5), 24)
    half = lambda i: score_on._replace(x=score_on.x[i::2], y=score_on.y[i::2])
    scores = []
    for examples in (half(0), half(1), score_on):
        evaluator = shared_scores(net, found.shared, examples, **options)
        state = evaluator.init(jax.random.key(0))
        judged = jax.jit(evaluator.evaluate)(jax.random.key(0), propose(cells), state)[0]
        scores.append(judged.score)
    every = jnp.concatenate([cells, jnp.repeat(found.best[None], 3, 0)])
    alone = train(net, _on_digits(300), fit_on, score_on, **options)
    trained = jax.jit(alone.evaluate)(jax.random.key(1), propose(every), ())[0]

    assert stats.kendalltau(scores[0], scores[1]).statistic > 0.6  # one half has the other's order
    agreement = stats.kendalltau(scores[2], trained.score[:24])
    assert agreement.statistic > 0.35 and agreement.pvalue < 0.005
    accuracy = np.asarray(trained.metrics["accuracy"])
    assert accuracy[24:].mean() > np.median(accuracy[:24])


@pytest.mark.slow
def test_on_digits_the_controller_of_enas_comes_to_propose_better_cells_than_chance() -> None:
    fit_on, score_on = _digits()
    net = jnas.nets.nas_bench_201(channels=8, cells=1, image=8, inputs=1, stages=1)
    method = SHARING["enas"](net.space, 1000, derive=40, learning_rate=0.01)
    run = lambda key: jnas.one_shot(key, method, net, _on_digits, fit_on, score_on, classes=10)
    found = jax.jit(run)(jax.random.key(0))
    evaluator = shared_scores(net, found.shared, score_on, classes=10)
    uniform = propose(sample(net.space, jax.random.key(5), 40))
    state = evaluator.init(jax.random.key(0))
    judged = jax.jit(evaluator.evaluate)(jax.random.key(0), uniform, state)[0]
    assert found.trials.score.mean() > judged.score.mean() + 0.2
