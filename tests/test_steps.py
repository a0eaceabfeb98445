"""What a training does beside descending: schedules, soft labels, averages, validation, stops."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from quick import QUICK

from jnas.base import InputError, Trials, propose
from jnas.configs import training_of
from jnas.evaluators import Augment, Examples, Training, joint, train
from jnas.evaluators.augment import augment
from jnas.evaluators.metrics import METRICS, measure
from jnas.evaluators.tasks import classification
from jnas.evaluators.train import Progress, advance, begin, weights
from jnas.final import train_final
from jnas.nets import OneOf, functional
from jnas.nets.layers import ReLUConvBN

CLASSES = 3
CONV, SKIP, EXPLODE = range(3)
PLANS = ["map", pytest.param("vmap", marks=pytest.mark.slow)]


class Small(nnx.Module):
    """A network for images of 6 x 6 with a chosen operation and batch statistics."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = ReLUConvBN(1, 4, 3, rngs=rngs)
        options = {
            "conv": ReLUConvBN(4, 4, 1, rngs=rngs),
            "skip": lambda x: x,
            "explode": lambda x: x * 1e30 * 1e30,
        }
        self.middle = OneOf(options, name="middle")
        self.last = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(jax.nn.relu(self.middle(self.stem(x))).mean((1, 2)))


NET = functional(Small)
CONFIG = {"steps": 12, "batch_size": 16, "learning_rate": 0.1, "warmup": 3}
TRAINING = training_of(CONFIG, "train")
EVERYTHING = training_of(
    CONFIG
    | {"clip": 0.5, "flip": True, "crop": 1, "cutout": 2, "mixup": 0.3, "smoothing": 0.1}
    | {"ema": 0.8, "dtype": "bfloat16", "weight_decay": 1e-3},
    "train",
)


def _examples(seed: int, n: int) -> Examples:
    """Bars in one of three rows, with noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n).astype(np.int32)
    x = rng.integers(0, 120, (n, 6, 6, 1))
    x[np.arange(n), 2 * y] += 130
    return jax.tree.map(
        jnp.asarray, Examples(x.astype(np.uint8), y, np.float32(70), np.float32(60))
    )


FIT, HELD_OUT = _examples(0, 50), _examples(1, 40)


def _arch(choice: int) -> Any:
    return {"middle": jnp.int32(choice)}


@functools.cache
def _start(training: Training) -> Progress:
    return jax.jit(lambda: begin(NET, training, FIT, jax.random.key(1)), compiler_options=QUICK)()


@functools.cache
def _piece(training: Training, steps: int) -> Callable:
    def piece(now: Progress, arch: Any, start: jax.Array) -> tuple[Progress, jax.Array]:
        return advance(NET, training, FIT, jax.random.key(2), arch, now, start, steps)

    return jax.jit(piece, compiler_options=QUICK)


def _run(training: Training, pieces: tuple[int, ...], choice: int = CONV) -> tuple[Progress, Any]:
    """A training in pieces, from the same keys always."""
    now, losses, start = _start(training), [], 0
    for steps in pieces:
        now, loss = _piece(training, steps)(now, _arch(choice), jnp.int32(start))
        losses.append(loss)
        start += steps
    return now, np.concatenate(losses)


def _evaluate(net: Any, training: Training, arch: Any, **options: Any) -> Trials:
    evaluator = train(net, training, FIT, HELD_OUT, classes=CLASSES, **options)
    score = lambda key, arch: evaluator.evaluate(key, propose(arch), ())[0]
    return jax.jit(score, compiler_options=QUICK)(jax.random.key(0), arch)


def _archs(*choices: int) -> Any:
    return {"middle": jnp.asarray(choices, jnp.int32)}


def _rates(settings: dict[str, Any]) -> np.ndarray:
    """The learning rate of every step, as the optimizer of a config applies it."""
    rule = training_of(settings, "train").optimizer
    state, rates = rule.init(jnp.zeros(())), []
    for _ in range(settings["steps"]):
        update, state = rule.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    return np.asarray(rates)


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_the_rate_rises_in_a_line_and_falls_as_a_cosine_to_zero(warmup: int) -> None:
    found = _rates({"steps": 10, "warmup": warmup, "learning_rate": 0.3, "momentum": 0.0})
    t = np.arange(10)
    fall = 0.15 * (1 + np.cos(np.pi * (t - warmup) / (10 - warmup)))
    rise = 0.3 * t / max(warmup, 1)
    np.testing.assert_allclose(found, np.where(t < warmup, rise, fall), rtol=1e-5)


def test_the_norm_of_each_candidates_gradient_is_clipped_and_no_other() -> None:
    rule = training_of({"learning_rate": 1.0, "momentum": 0.0, "clip": 2.0}, "train").optimizer
    gradient = {"a": jnp.array([3.0, 0.3]), "b": jnp.array([[4.0], [0.4]])}  # norms 5 and 0.5
    zero = jax.tree.map(jnp.zeros_like, gradient)
    step = lambda g, p: rule.update(g, rule.init(p), p)[0]
    update = jax.vmap(step)(gradient, zero)
    np.testing.assert_allclose(update["a"], [-3 * 2 / 5, -0.3], rtol=1e-6)
    np.testing.assert_allclose(update["b"], [[-4 * 2 / 5], [-0.4]], rtol=1e-6)


@pytest.mark.slow
def test_clipping_reaches_the_steps() -> None:
    slow = training_of(CONFIG | {"momentum": 0.0, "clip": 1e-3, "warmup": 0}, "train")
    (now, _), start = _run(slow, (1,)), _start(slow)
    moved = jax.tree.map(jnp.subtract, now.params, start.params)
    np.testing.assert_allclose(optax.tree.norm(moved), 0.1 * 1e-3, rtol=1e-3)


@pytest.mark.parametrize(("smoothing", "alpha"), [(0.0, 0.0), (0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_the_loss_is_the_cross_entropy_of_the_soft_labels(smoothing: float, alpha: float) -> None:
    training = TRAINING._replace(smoothing=smoothing, augment=Augment(mixup=alpha))
    now, losses = _run(training, (1,))
    rows = np.asarray(now.order)[:16]
    labels = np.eye(CLASSES)[np.asarray(FIT.y)[rows]] * (1 - smoothing) + smoothing / CLASSES
    x = (np.asarray(FIT.x)[rows].astype(np.float32) - 70) / 60
    if alpha:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(2), 2**32 - 1), 0)
        _, drawn = augment(Augment(mixup=alpha), key, FIT.x[rows], FIT.scaled)
        share, before = float(drawn), np.arange(16) - 1
        assert 0.02 < share < 0.98
        x = share * x + (1 - share) * x[before]
        labels = share * labels + (1 - share) * labels[before]
    params, state = _start(training)[:2]
    apply = jax.jit(lambda x: NET.apply(params, state, _arch(CONV), x, train=True)[0])
    logits = np.asarray(apply(x), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(losses[0], -(labels * log_p).sum(-1).mean(), rtol=1e-5)


@pytest.mark.slow
def test_the_evaluated_weights_are_the_average_of_those_after_each_step() -> None:
    training, decay = TRAINING._replace(ema=0.7), 0.7
    now, seen = _start(TRAINING), []
    for i in range(6):  # without averaging
        now, _ = _piece(TRAINING, 1)(now, _arch(CONV), jnp.int32(i))
        seen.append((now.params, now.state))
    share = decay ** np.arange(5, -1, -1)
    share = share / share.sum()
    expected = jax.tree.map(lambda *x: sum(s * v for s, v in zip(share, x, strict=True)), *seen)
    now, _ = _run(training, (6,))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, weights(training, now), expected)
    jax.tree.map(close, (now.params, now.state), seen[-1])  # the training itself is as without


def _by_hand(training: Training, key: jax.Array) -> dict[str, jax.Array]:
    """A convolution trained and measured with its averages."""

    def run(key: jax.Array) -> dict[str, jax.Array]:
        k_init, k_order = jax.random.split(key)
        now = begin(NET, training, FIT, k_init)
        now, _ = advance(NET, training, FIT, k_order, _arch(CONV), now, 0, training.steps)
        return measure(NET, HELD_OUT, _arch(CONV), *weights(training, now), classification(CLASSES))

    return jax.jit(run, compiler_options=QUICK)(key)


@pytest.mark.slow
def test_averages_are_what_is_scored() -> None:
    training = TRAINING._replace(ema=0.9)
    found = _evaluate(NET, training, _archs(CONV))
    expected = _by_hand(training, jax.random.split(jax.random.key(0), 1)[0])
    for name, value in expected.items():
        np.testing.assert_allclose(found.metrics[name][0], value, rtol=1e-5)
    plain = _evaluate(NET, TRAINING, _archs(CONV))
    assert plain.metrics["loss"][0] != found.metrics["loss"][0]


@pytest.mark.slow
def test_bfloat16_is_close_to_float32_and_keeps_all_state_in_float32() -> None:
    half = TRAINING._replace(dtype="bfloat16", ema=0.9)
    start = _start(half)
    now, losses = _run(half, (12,))
    _, exact = _run(TRAINING, (12,))
    assert 0 < np.abs(losses - exact).max() < 0.03
    same = lambda a, b: (a.dtype, a.shape) == (b.dtype, b.shape)
    assert all(jax.tree.leaves(jax.tree.map(same, start, now)))
    assert jnp.bfloat16 not in {leaf.dtype for leaf in jax.tree.leaves(now)}
    step = lambda now: advance(NET, half, FIT, jax.random.key(2), _arch(CONV), now, 0, 1)
    products = [line for line in str(jax.make_jaxpr(step)(start)).split("\n") if "dot_gen" in line]
    products = [line for line in products if "f32[1," not in line]  # sums of batch statistics
    assert products and all("bf16" in line for line in products)


@pytest.mark.parametrize("plan", PLANS)
def test_a_validation_equals_a_training_that_stops_there(plan: str) -> None:
    archs = _archs(CONV, SKIP)
    full = TRAINING._replace(validate_at=(7, 3), ema=0.5)
    found = _evaluate(NET, full, archs, plan=plan)
    at = {f"{name}_at_{step}" for name in METRICS for step in (3, 7)}
    assert set(found.metrics) == at | set(METRICS)
    for stop in (3, 7, 12):
        short = _evaluate(NET, full._replace(steps=stop, validate_at=()), archs, plan=plan)
        for name in METRICS:
            full_name = name if stop == 12 else f"{name}_at_{stop}"
            np.testing.assert_allclose(
                found.metrics[full_name], short.metrics[name], rtol=1e-5, atol=1e-6
            )
    assert len({float(found.metrics[name][0]) for name in ("loss", "loss_at_3", "loss_at_7")}) == 3


@pytest.mark.slow
def test_a_loss_at_a_step_can_be_the_score() -> None:
    training = TRAINING._replace(steps=4, validate_at=(2,))
    found = _evaluate(NET, training, _archs(SKIP), score="loss_at_2")
    assert found.score[0] == -found.metrics["loss_at_2"][0] < 0


def _leap(steps: int, at: int) -> Training:
    """A rate that makes everything infinite in one step."""
    rate = lambda i: jnp.where(i == at, 1e38, 0.05)
    return Training(optax.adam(rate), steps, 16)


def test_a_diverged_candidate_takes_no_more_steps() -> None:
    now, losses = _run(_leap(12, at=4), (12,))
    count = int(
        optax.tree.get(now.optimizer, "count", filtering=lambda p, x: "adam" in str(p).lower())
    )
    stopped = int(np.flatnonzero(~np.isfinite(losses))[0])
    assert 4 < stopped < 8 and count == stopped + 1
    assert not now.alive and np.isnan(losses[stopped + 1 :]).all()
    again, in_pieces = _run(_leap(12, at=4), (3, 4, 5))
    np.testing.assert_array_equal(losses, in_pieces)
    jax.tree.map(np.testing.assert_array_equal, now, again)


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["map", "vmap"])
def test_a_diverged_candidate_has_weight_0_and_the_values_from_before(plan: str) -> None:
    training = _leap(12, at=8)._replace(validate_at=(8, 11))
    found = _evaluate(NET, training, _archs(CONV, SKIP), plan=plan)
    assert found.weight.tolist() == [0, 0] and found.score.tolist() == [0, 0]
    assert (found.metrics["loss_at_8"] > 0).all()
    assert found.metrics["loss"].tolist() == found.metrics["accuracy"].tolist() == [0, 0]


@pytest.mark.parametrize("plan", PLANS)
def test_a_diverged_candidate_disturbs_no_other_with_everything_switched_on(plan: str) -> None:
    training = EVERYTHING._replace(validate_at=(5,))
    bad = _evaluate(NET, training, _archs(CONV, EXPLODE, SKIP), plan=plan)
    fine = _evaluate(NET, training, _archs(CONV, SKIP, SKIP), plan=plan)
    assert bad.weight.tolist() == [1, 0, 1] and fine.weight.tolist() == [1, 1, 1]
    rows = np.array([0, 2])
    for name in bad.metrics:
        np.testing.assert_array_equal(bad.metrics[name][rows], fine.metrics[name][rows])


@pytest.mark.slow
def test_training_in_pieces_equals_training_at_once_with_everything_switched_on() -> None:
    (now, losses), (whole, at_once) = _run(EVERYTHING, (5, 1, 6)), _run(EVERYTHING, (12,))
    np.testing.assert_array_equal(losses, at_once)
    jax.tree.map(np.testing.assert_array_equal, now, whole)
    assert np.isfinite(losses).all() and not np.array_equal(losses, _run(TRAINING, (12,))[1])


@pytest.mark.slow
def test_populations_side_by_side_equal_each_alone_with_everything_switched_on() -> None:
    training = EVERYTHING._replace(validate_at=(5,), steps=8)
    evaluator = train(NET, training, FIT, HELD_OUT, classes=CLASSES)
    score = lambda key: evaluator.evaluate(key, propose(_archs(CONV, EXPLODE)), ())[0].metrics
    keys = lambda: jax.random.split(jax.random.key(3), 2)
    with jax.debug_key_reuse(False):  # it takes keys that a vmapped scan runs over for used ones
        together = jax.jit(jax.vmap(score), compiler_options=QUICK)(keys())
    alone = jax.jit(score, compiler_options=QUICK)
    for i in range(2):
        for name, value in alone(keys()[i]).items():
            np.testing.assert_allclose(together[name][i], value, rtol=0.02, atol=1e-3)
    assert (together["loss"][:, 0] > 0).all() and (together["loss"][:, 1] == 0).all()


@pytest.mark.slow
def test_both_plans_give_the_same_numbers_with_everything_in_float32() -> None:
    training, archs = EVERYTHING._replace(dtype="float32"), _archs(CONV, SKIP, CONV)
    mapped, vmapped = (_evaluate(NET, training, archs, plan=plan) for plan in ("map", "vmap"))
    for name in METRICS:
        close = {"rtol": 5e-3, "atol": 1e-4}
        np.testing.assert_allclose(mapped.metrics[name], vmapped.metrics[name], **close)


def test_what_is_off_adds_nothing_to_a_step() -> None:
    def operations(training: Training) -> list[str]:
        start = jax.eval_shape(lambda: begin(NET, training, FIT, jax.random.key(1)))
        step = lambda now: advance(NET, training, FIT, jax.random.key(2), _arch(CONV), now, 0, 1)
        return str(jax.make_jaxpr(step)(start)).split()

    count = lambda words, what: sum(word.startswith(what) for word in words)
    plain = operations(TRAINING)
    assert count(plain, "random_fold_in") == 1  # the order of an epoch
    assert count(plain, "bf16") == 0 and _start(TRAINING).average == ()
    for change in (
        {"augment": Augment(flip=True)},
        {"augment": Augment(mixup=0.2)},
        {"ema": 0.9},
        {"smoothing": 0.1},
        {"dtype": "bfloat16"},
    ):
        more = operations(TRAINING._replace(**change))
        assert more != plain, change
        drawn = 3 if "augment" in change else 1
        assert count(more, "random_fold_in") == drawn, change
    off = {"augment": Augment(), "ema": 0.0, "smoothing": 0.0, "dtype": "float32"}
    assert operations(TRAINING._replace(**off, validate_at=(3,))) == plain


RATES, DECAYS = (0.02, 0.1, 0.3), (0.0, 0.01)


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("sgd", "adam")]


@pytest.mark.parametrize("optimizer", [*OTHERS, "adamw"])
def test_a_candidate_with_hyperparameters_equals_a_training_with_those_values(
    optimizer: str,
) -> None:
    net = joint(NET, learning_rate=RATES, weight_decay=DECAYS)
    settings = CONFIG | {"optimizer": optimizer}
    archs = {
        "architecture": _archs(CONV, CONV, SKIP),
        "hyperparameters": {
            "learning_rate": jnp.array([0, 2, 1]),
            "weight_decay": jnp.array([1, 0, 1]),
        },
    }
    searched = settings | {"learning_rate": RATES, "weight_decay": DECAYS}
    found = _evaluate(net, training_of(searched, "train"), archs)
    for row, (i, j) in enumerate([(0, 1), (2, 0), (1, 1)]):
        fixed = settings | {"learning_rate": RATES[i], "weight_decay": DECAYS[j]}
        alone = _evaluate(NET, training_of(fixed, "train"), archs["architecture"])
        for name in METRICS:
            np.testing.assert_allclose(
                found.metrics[name][row], alone.metrics[name][row], rtol=1e-5, atol=1e-6
            )
    assert len(set(found.metrics["loss"].tolist())) == 3


def test_a_searched_momentum_of_0_is_no_momentum() -> None:
    searched = training_of(CONFIG | {"momentum": (0.0, 0.9)}, "train").optimizer
    values = {"momentum": jnp.float32(0)}
    plain = training_of(CONFIG | {"momentum": 0.0}, "train").optimizer
    params = jnp.array([1.0, -2.0])
    rule = searched(values)
    state, other = rule.init(params), plain.init(params)
    for g in ([0.5, 1.0], [-1.0, 3.0], [2.0, 0.1]):
        update, state = rule.update(jnp.asarray(g), state, params)
        expected, other = plain.update(jnp.asarray(g), other, params)
        np.testing.assert_allclose(update, expected, rtol=1e-6)


@pytest.mark.slow
def test_the_final_training_takes_a_joint_architecture_and_the_averaged_weights() -> None:
    net = joint(NET, learning_rate=RATES)
    settings = CONFIG | {"learning_rate": RATES, "ema": 0.8}
    arch = {
        "architecture": {"middle": np.int32(CONV)},
        "hyperparameters": {"learning_rate": np.int32(2)},
    }
    options: dict = {"classes": CLASSES, "chunk": 5, "verbose": False}
    found = train_final(net, arch, training_of(settings, "train"), FIT, HELD_OUT, **options)
    fixed = training_of(settings | {"learning_rate": RATES[2]}, "train")
    alone = train_final(NET, arch["architecture"], fixed, FIT, HELD_OUT, **options)
    names = ("test_loss", "test_accuracy", "params")
    assert [found[k] for k in names] == pytest.approx([alone[k] for k in names], rel=1e-5)
    expected = _by_hand(fixed, jax.random.key(0))
    assert alone["test_loss"] == pytest.approx(float(expected["loss"]), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"smoothing": 1.0}, "smoothing=1.0: it has to be at least 0 and less than 1"),
        ({"ema": -0.1}, "ema=-0.1: it has to be at least 0 and less than 1"),
        ({"ema": "x"}, "ema='x'"),
        ({"dtype": "float16"}, "dtype 'float16': allowed are float32, bfloat16"),
        ({"validate_at": (3, 13)}, r"validate_at=\(3, 13\): .* from 1 to 12"),
        ({"validate_at": (3, 3)}, r"validate_at=\(3, 3\): different"),
        ({"validate_at": (1.5,)}, "validate_at"),
        ({"validate_at": 5}, "validate_at=5"),
        ({"augment": Augment(crop=7)}, "crop=7: allowed are 0 to 6"),
        ({"optimizer": lambda values: optax.sgd(0.1)}, "a net from jnas.evaluators.joint"),
    ],
)
def test_an_impossible_training_is_refused_with_what_is_allowed(change: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        train(NET, TRAINING._replace(**change), FIT, HELD_OUT, classes=CLASSES)


def test_a_joint_net_needs_an_optimizer_of_its_hyperparameters() -> None:
    net = joint(NET, learning_rate=RATES)
    with pytest.raises(InputError, match="need each other"):
        train(net, TRAINING, FIT, HELD_OUT, classes=CLASSES)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"clip": -1}, "clip=-1: a number of at least 0 is needed"),
        ({"clip": (1, 2)}, r"clip=\(1, 2\): a number"),
        ({"learning_rate": "x"}, "learning_rate='x': a number of at least 0"),
        ({"learning_rate": (0.1, -0.1)}, "learning_rate=-0.1: a number of at least 0"),
        ({"momentum": 1.0}, "momentum=1.0: a number of at least 0 and less than 1"),
        ({"weight_decay": float("nan")}, "weight_decay=nan"),
        ({"steps": 1.5}, "steps=1.5: a whole number"),
        ({"smothing": 0.1}, "train.smothing: no such setting; allowed: .*smoothing"),
    ],
)
def test_a_bad_setting_of_a_config_is_refused(settings: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        training_of(settings, "train")
