"""Training of populations: metrics, equal plans, reproducible rows, and failures kept apart."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from jnas.base import InputError, Trials, from_index, propose, size
from jnas.evaluators import Examples, Training, train
from jnas.evaluators.metrics import confusion, from_confusion, measure
from jnas.evaluators.shuffle import shuffled
from jnas.evaluators.tasks import classification
from jnas.evaluators.train import advance, begin
from jnas.nets import Net, OneOf, functional
from jnas.nets.layers import BatchNorm

CLASSES = 3


class Small(nnx.Module):
    """A linear layer, a chosen operation with statistics in one branch, a linear layer."""

    def __init__(self, rngs: nnx.Rngs):
        options = {
            "skip": lambda x: x,
            "norm": BatchNorm(8),
            "linear": nnx.Linear(8, 8, rngs=rngs),
            "explode": lambda x: x * 1e30 * 1e30,
        }
        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.middle = OneOf(options, name="middle")
        self.last = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(jax.nn.relu(self.middle(self.first(x))))


NET = functional(Small)
TRAINING = Training(optax.sgd(0.3, momentum=0.9), steps=25, batch_size=16)
EXPLODE = 3


def _blobs(seed: int, n: int) -> Examples:
    """Three separable clouds of points, stored as raw bytes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n).astype(np.int32)
    centres = np.array([[40, 200, 40, 120], [200, 40, 40, 120], [120, 120, 220, 20]])
    x = np.clip(centres[y] + rng.normal(0, 20, (n, 4)), 0, 255).astype(np.uint8)
    return Examples(x, y, np.full(4, 120, np.float32), np.full(4, 70, np.float32))


FIT, HELD_OUT = _blobs(0, 70), _blobs(1, 300)  # 300 is not a multiple of the scoring batch


def _arch(*choices: int) -> Any:
    return {"middle": jnp.asarray(choices, jnp.int32)}


POPULATION = (0, 1, 2, EXPLODE, 1)


def _evaluate(choices: tuple[int, ...] = POPULATION, plan: str = "map", **options: Any) -> Trials:
    evaluator = train(NET, TRAINING, FIT, HELD_OUT, classes=CLASSES, plan=plan, **options)
    trials = propose(_arch(*choices))
    return jax.jit(lambda key: evaluator.evaluate(key, trials, ())[0])(jax.random.key(0))


@pytest.fixture(scope="module")
def mapped() -> Trials:
    return _evaluate()


@pytest.fixture(scope="module")
def vmapped() -> Trials:
    return _evaluate(plan="vmap")


def _alone(choice: int, row: int) -> dict[str, jax.Array]:
    """One candidate of the population, trained in a plain Python loop of steps."""
    key = jax.random.split(jax.random.key(0), len(POPULATION))[row]
    k_init, k_order = jax.random.split(key)
    arch = jax.tree.map(lambda x: x[0], _arch(choice))
    params, state = NET.init(k_init)
    opt = TRAINING.optimizer.init(params)

    @jax.jit
    def step(params: Any, state: Any, opt: Any, x: jax.Array, y: jax.Array) -> tuple:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, new = NET.apply(params, state, arch, x, train=True)
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], -1)), new

        grads, new = jax.grad(loss, has_aux=True)(params)
        updates, opt2 = TRAINING.optimizer.update(grads, opt, params)
        return optax.apply_updates(params, updates), new, opt2

    size, per_epoch = TRAINING.batch_size, FIT.y.size // TRAINING.batch_size
    x = (FIT.x.astype(np.float32) - FIT.mean) / FIT.std
    for i in range(TRAINING.steps):
        if i % per_epoch == 0:
            k_epoch = jax.random.fold_in(k_order, i // per_epoch)
            order = np.asarray(shuffled(k_epoch, FIT.y.size))
        rows = order[i % per_epoch * size :][:size]
        params, state, opt = step(params, state, opt, x[rows], FIT.y[rows])
    x = (HELD_OUT.x.astype(np.float32) - HELD_OUT.mean) / HELD_OUT.std
    logits = np.asarray(NET.apply(params, state, arch, x)[0])
    guess = logits.argmax(-1)
    average = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": sklearn_metrics.accuracy_score(HELD_OUT.y, guess),
        "recall": sklearn_metrics.recall_score(HELD_OUT.y, guess, **average),
        "f1": sklearn_metrics.f1_score(HELD_OUT.y, guess, **average),
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, HELD_OUT.y).mean(),
    }


def test_the_population_equals_a_plain_loop_for_every_candidate(mapped: Trials) -> None:
    for row in (0, 1, 4):
        for name, value in _alone(POPULATION[row], row).items():
            np.testing.assert_allclose(mapped.metrics[name][row], value, rtol=2e-3, atol=1e-5)


@pytest.mark.slow
def test_both_plans_give_the_same_numbers(mapped: Trials, vmapped: Trials) -> None:
    np.testing.assert_array_equal(vmapped.weight, mapped.weight)
    for name in mapped.metrics:
        close = {"rtol": 2e-3, "atol": 1e-5}
        np.testing.assert_allclose(vmapped.metrics[name], mapped.metrics[name], **close)


def test_the_same_seed_gives_the_same_bits(mapped: Trials) -> None:
    jax.tree.map(np.testing.assert_array_equal, _evaluate(), mapped)


def test_training_learns_separable_classes(mapped: Trials) -> None:
    fine = np.array(POPULATION) != EXPLODE
    assert (mapped.score[fine] > 0.9).all()


def test_candidates_of_one_architecture_start_and_shuffle_differently(mapped: Trials) -> None:
    assert mapped.metrics["loss"][1] != mapped.metrics["loss"][4]


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["map", "vmap"])
def test_a_diverged_candidate_gets_weight_0_and_disturbs_no_other(
    plan: str, mapped: Trials, vmapped: Trials
) -> None:
    with_bad = mapped if plan == "map" else vmapped
    without = _evaluate((0, 1, 2, 0, 1), plan)
    assert with_bad.weight.tolist() == [1, 1, 1, 0, 1] and with_bad.score[3] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(with_bad))
    rows = np.array([0, 1, 2, 4])
    assert (without.weight == 1).all()
    for name, value in with_bad.metrics.items():
        np.testing.assert_array_equal(value[rows], without.metrics[name][rows])


@pytest.mark.slow
def test_training_in_pieces_equals_training_at_once() -> None:
    arch = {"middle": jnp.int32(1)}

    def run(pieces: list[int]) -> tuple[Any, Any]:
        now, losses, start = begin(NET, TRAINING, FIT, jax.random.key(1)), [], 0
        data = jax.tree.map(jnp.asarray, FIT)
        for steps in pieces:
            go = jax.jit(
                lambda now, start, steps=steps: advance(
                    NET, TRAINING, data, jax.random.key(2), arch, now, start, steps
                )
            )
            now, loss = go(now, start)
            losses.append(loss)
            start += steps
        return now, np.concatenate(losses)

    (now, losses), (whole, at_once) = run([7, 5, 13]), run([25])
    np.testing.assert_array_equal(losses, at_once)
    jax.tree.map(np.testing.assert_array_equal, now, whole)


@pytest.mark.parametrize("n", [1, 2, 3, 70, 1024, 5000, 70_000])
def test_an_order_holds_every_example_once_and_changes_with_its_key(n: int) -> None:
    order = np.asarray(shuffled(jax.random.key(0), n))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    if n > 3:
        assert (order != np.asarray(shuffled(jax.random.key(1), n))).any()
        assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 4 / n**0.5


def test_all_orders_of_four_examples_are_equally_likely() -> None:
    keys = jax.random.split(jax.random.key(0), 24_000)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: shuffled(key, 4)))(keys))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert counts.size == 24 and stats.chisquare(counts).pvalue > 1e-4


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    few = jax.tree.map(lambda x: x[:10] if np.ndim(x) and len(x) == 70 else x, FIT)
    data = jax.tree.map(jnp.asarray, few)
    arch = {"middle": jnp.int32(0)}
    big = TRAINING._replace(batch_size=64)
    now = begin(NET, big, data, jax.random.key(1))
    now, losses = advance(NET, big, data, jax.random.key(2), arch, now, 0, 3)
    assert np.isfinite(losses).all() and sorted(now.order.tolist()) == list(range(10))


class _Table(nnx.Module):
    """Its logits are its input: what is measured is then known."""

    def __init__(self, rngs: nnx.Rngs):
        self.which = OneOf({"plain": lambda x: x, "reversed": lambda x: -x}, name="which")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.which(x)


@pytest.mark.parametrize("n", [1, 5, 255, 256, 257, 600])
def test_measuring_counts_every_example_once_whatever_their_number(n: int) -> None:
    rng = np.random.default_rng(n)
    logits, y = rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 4, n).astype(np.int32)
    net = functional(_Table)
    data = Examples(jnp.asarray(logits), jnp.asarray(y))
    params, state = net.init(jax.random.key(0))
    found = measure(net, data, {"which": jnp.int32(0)}, params, state, classification(4))
    guess = logits.argmax(-1)
    average = {"average": "macro", "zero_division": 0}
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(y, guess),
        "top5": 1.0,
        "precision": sklearn_metrics.precision_score(y, guess, **average),
        "recall": sklearn_metrics.recall_score(y, guess, **average),
        "f1": sklearn_metrics.f1_score(y, guess, **average),
        "loss": -log_p[np.arange(n), y].mean(),
    }
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=12, max_size=12))
def test_metrics_equal_those_of_scikit_learn_with_absent_classes_too(pairs: list) -> None:
    y, guess = (np.asarray(part, np.int32) for part in zip(*pairs, strict=True))
    matrix = confusion(jnp.asarray(y), jnp.asarray(guess), jnp.ones(12), 6)
    np.testing.assert_array_equal(
        matrix, sklearn_metrics.confusion_matrix(y, guess, labels=np.arange(6))
    )
    found = from_confusion(matrix)
    average = {"average": "macro", "zero_division": 0}
    close = {"rtol": 1e-5, "atol": 1e-7}
    scorers = (sklearn_metrics.recall_score, sklearn_metrics.f1_score)
    recall, f1 = (f(y, guess, **average) for f in scorers)
    precision = sklearn_metrics.precision_score(y, guess, **average)
    np.testing.assert_allclose(found["precision"], precision, **close)
    np.testing.assert_allclose(found["accuracy"], (y == guess).mean(), **close)
    np.testing.assert_allclose(found["recall"], recall, **close)
    np.testing.assert_allclose(found["f1"], f1, **close)


@pytest.mark.slow
def test_the_score_may_be_any_metric_or_a_function_of_them(mapped: Trials) -> None:
    fine = np.asarray(mapped.weight) > 0
    by_loss = _evaluate(score="loss")
    np.testing.assert_array_equal(by_loss.score, -mapped.metrics["loss"])
    blend = _evaluate(score=lambda m: m["f1"] - 0.1 * m["loss"])
    expected = mapped.metrics["f1"] - 0.1 * mapped.metrics["loss"]
    np.testing.assert_allclose(blend.score[fine], expected[fine], rtol=1e-6)
    assert blend.score[~fine].tolist() == [0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"plan": "pmap"}, "plan 'pmap': allowed are map, vmap"),
        ({"score": "acuracy"}, "score 'acuracy': allowed are accuracy, recall, f1, loss"),
    ],
)
def test_an_unknown_plan_or_score_is_refused_with_what_is_allowed(options: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        train(NET, TRAINING, FIT, HELD_OUT, classes=CLASSES, **options)


def test_the_counts_of_the_space_are_metrics_that_can_be_scored() -> None:
    counts = {"params": lambda arch: 10 * arch["middle"]}
    net: Net = NET._replace(space=dataclasses.replace(NET.space, counts=counts))
    quick = TRAINING._replace(steps=1)
    evaluator = train(net, quick, FIT, HELD_OUT, classes=CLASSES, score="params")
    arch = from_index(net.space, jnp.arange(size(net.space)))
    trials = propose(arch)._replace(weight=jnp.array([1.0, 0.0, 0.5, 1.0]))
    done = jax.jit(lambda k: evaluator.evaluate(k, trials, ())[0])(jax.random.key(0))
    assert done.metrics["params"].tolist() == [0, 10, 20, 30]
    assert done.score.tolist() == [0, 10, 20, 0]
    assert done.weight.tolist() == [1, 0, 0.5, 0]  # weights from before stay
