"""Relaxations: their weights, and gradients pulled back as direct differentiation gives them."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

from jnas import base, links, spaces
from jnas.base import InputError, Space, Strategy, Trials, template
from jnas.links.relaxation import dirichlet_mean, dirichlet_mode
from jnas.links.relaxed import ABSENT

K = 4
SPACE = Space("flat", np.full(3, K))
RAGGED = Space("ragged", {"a": np.array([2, 4, 3]), "b": 5})
LOGITS = jnp.asarray(np.random.default_rng(0).normal(0, 1.5, (2, 3, K)), jnp.float32)
TARGET = jnp.asarray(np.random.default_rng(1).normal(size=(3, K)), jnp.float32)


def loss(weights: jax.Array) -> jax.Array:
    """A loss of one architecture [3, K] that is neither linear nor separable."""
    return jnp.sum(weights * TARGET) ** 2 + jnp.sum(jnp.sin(3 * weights) * TARGET[::-1])


def quick(strategy: Strategy) -> Strategy:
    """The same, each function as one program: compiling is nearly all of the time here."""
    jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    return Strategy(jit(strategy.init), jit(strategy.ask, static_argnums=2), jit(strategy.tell))


def chain(*parts: Strategy) -> Strategy:
    return quick(base.chain(*parts))


def held(logits: jax.Array) -> Trials:
    return Trials(logits, weight=jnp.ones(logits.shape[0]))


def pulled(link: Strategy, key: jax.Array, logits: jax.Array = LOGITS) -> tuple[Any, Any]:
    """The weights of a link for logits, and the gradient of the loss that it passes to the left."""
    link = quick(link)
    state = link.init(jax.random.key(99), template(SPACE))
    asked = link.ask(key, state, 2, held(logits))
    grad = slope(asked.arch)
    told = asked._replace(score=jnp.zeros(2), grad=grad)
    back, _ = link.tell(jax.random.key(98), told, state)
    np.testing.assert_array_equal(back.arch, logits)
    return asked.arch, back.grad


slope = jax.jit(jax.vmap(jax.grad(loss)))


def straight(value: jax.Array, surrogate: jax.Array) -> jax.Array:
    return surrogate + jax.lax.stop_gradient(value - surrogate)


def leaf_key(key: jax.Array) -> jax.Array:
    return jax.random.split(key, 1)[0]  # of the only leaf


def gumbel(t: float, hard: bool) -> Callable:
    def direct(key: jax.Array, x: jax.Array) -> jax.Array:
        y = jax.nn.softmax((jax.nn.log_softmax(x) + jax.random.gumbel(key, x.shape)) / t)
        return straight(jax.nn.one_hot(jnp.argmax(y, -1), K), y) if hard else y

    return direct


DIRECT = {
    "softmax": (links.softmax(SPACE, 0.7), lambda key, x: jax.nn.softmax(x / 0.7)),
    "soft": (links.gumbel_softmax(SPACE, 0.5), gumbel(0.5, False)),
    "hard": (links.gumbel_softmax(SPACE, 2.0, hard=True), gumbel(2.0, True)),
    "dirichlet": (
        links.dirichlet(SPACE),
        lambda key, x: jax.random.dirichlet(key, jax.nn.elu(x) + 1),
    ),
    "sigmoid": (links.sigmoid(SPACE), lambda key, x: jax.nn.sigmoid(x)),
}


@pytest.mark.parametrize("name", DIRECT)
def test_the_pull_back_equals_differentiation_through_the_sample(name: str) -> None:
    link, direct = DIRECT[name]
    weights, grad = pulled(link, jax.random.key(3))
    through = lambda x: direct(leaf_key(jax.random.key(3)), x)
    value = jax.jit(through)(LOGITS)
    np.testing.assert_allclose(weights, value, rtol=1e-5, atol=1e-6)
    total = lambda x: jnp.sum(through(x) * slope(weights))
    expected = jax.jit(jax.grad(total))(LOGITS)
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)


def test_hard_samples_are_corners_exactly_and_of_the_right_frequency() -> None:
    link = quick(links.gumbel_softmax(SPACE, 3.0, hard=True))
    x = jnp.tile(LOGITS[:1], (20_000, 1, 1))
    weights = link.ask(jax.random.key(0), jnp.int32(0), 20_000, held(x)).arch
    assert set(np.unique(weights)) == {0.0, 1.0} and (weights.sum(-1) == 1).all()
    np.testing.assert_allclose(weights.mean(0), jax.nn.softmax(LOGITS[0]), atol=0.015)


@pytest.mark.slow
def test_reinmax_is_exact_on_average_for_a_quadratic_loss_and_gumbel_is_not() -> None:
    rng = np.random.default_rng(5)
    x = jnp.asarray(rng.normal(size=K), jnp.float32)
    q, c = jnp.asarray(rng.normal(size=(K, K))), jnp.asarray(rng.normal(size=K))
    quadratic = lambda w: w @ q @ w + c @ w
    corners = jnp.eye(K)
    truth = jax.grad(lambda x: jax.nn.softmax(x) @ jax.vmap(quadratic)(corners))(x)
    space = Space("one", np.full(1, K))
    average = {}
    for name, link in (
        ("reinmax", links.reinmax(space)),
        ("straight", links.gumbel_softmax(space, 1.0, hard=True)),
    ):
        n, link = 4_000, quick(link)
        asked = link.ask(jax.random.key(1), jnp.int32(0), n, held(jnp.tile(x, (n, 1, 1))))
        grad = jax.vmap(jax.grad(quadratic))(asked.arch[:, 0])[:, None]
        back, _ = link.tell(
            jax.random.key(2), asked._replace(score=jnp.zeros(n), grad=grad), jnp.int32(0)
        )
        # The share of every corner is known, so only the gradient at it is taken from the sample.
        k = jnp.argmax(asked.arch[:, 0], -1)
        at = jnp.stack([back.grad[k == i, 0].mean(0) for i in range(K)])
        average[name] = jax.nn.softmax(x) @ at
    np.testing.assert_allclose(average["reinmax"], truth, atol=1e-5)
    assert np.abs(average["straight"] - truth).max() > 0.05


def test_reinmax_equals_its_published_rule() -> None:
    link, t = links.reinmax(SPACE, 1.3), 1.3
    sample, grad = pulled(link, jax.random.key(7))

    def published(x: jax.Array) -> jax.Array:
        p0 = jax.nn.softmax(x)
        p1 = (sample + jax.nn.softmax(x / t)) / 2
        p1 = jax.nn.softmax(jax.lax.stop_gradient(jnp.log(p1) - x) + x)
        return straight(sample, 2 * p1 - p0 / 2)

    np.testing.assert_allclose(published(LOGITS), sample, atol=1e-6)
    expected = jax.jit(jax.grad(lambda x: jnp.sum(jax.vmap(loss)(published(x)))))(LOGITS)
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)


def naive_entmax(z: np.ndarray, alpha: float) -> np.ndarray:
    """By bisection on the threshold, in float64."""
    mass = lambda tau: np.maximum((alpha - 1) * z - tau, 0) ** (1 / (alpha - 1))
    top = (alpha - 1) * z.max()
    tau = optimize.brentq(lambda tau: mass(tau).sum() - 1, top - 1, top, xtol=1e-14)
    return mass(tau)


@pytest.mark.parametrize(("name", "alpha"), [("sparsemax", 2.0), ("entmax15", 1.5)])
def test_sparse_maps_equal_bisection_and_its_finite_differences(name: str, alpha: float) -> None:
    link = getattr(links, name)(SPACE)
    weights, grad = pulled(link, jax.random.key(0))
    z = np.asarray(LOGITS, np.float64)
    exact = np.apply_along_axis(naive_entmax, -1, z, alpha)
    np.testing.assert_allclose(weights, exact, atol=2e-6)
    assert (np.asarray(weights) == 0).any() and (weights > 0).sum(-1).max() > 1
    given = np.asarray(jax.vmap(jax.grad(loss))(weights), np.float64)
    for row, place, k in itertools.product(range(2), range(3), range(K)):
        step = np.zeros(K)
        step[k] = 1e-6
        ends = [naive_entmax(z[row, place] + s * step, alpha) for s in (1, -1)]
        slope = given[row, place] @ (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(grad[row, place, k], slope, atol=1e-4)


EVERY = {
    "softmax": links.softmax,
    "gumbel": links.gumbel_softmax,
    "hard": lambda space: links.gumbel_softmax(space, hard=True),
    "reinmax": links.reinmax,
    "sparsemax": links.sparsemax,
    "entmax15": links.entmax15,
    "dirichlet": links.dirichlet,
    "sigmoid": links.sigmoid,
}


@pytest.mark.parametrize("name", EVERY)
def test_choices_that_are_not_there_have_weight_and_gradient_0(name: str) -> None:
    strategy = chain(links.descend(RAGGED, optax.sgd(1.0), 1.0), EVERY[name](RAGGED))
    state = strategy.init(jax.random.key(0), template(RAGGED))
    logits = state[0].logits
    gone = {"a": logits["a"].at[1, 2].set(ABSENT), "b": logits["b"].at[0].set(ABSENT)}
    state = (state[0]._replace(logits=gone), state[1])
    asked = strategy.ask(jax.random.key(1), state, 5)
    assert (asked.arch["a"][:, 0, 2:] == 0).all() and (asked.arch["a"][:, 2, 3] == 0).all()
    assert (asked.arch["a"][:, 1, 2] == 0).all() and (asked.arch["b"][:, 0] == 0).all()
    if name != "sigmoid":
        for leaf in jax.tree.leaves(asked.arch):
            np.testing.assert_allclose(leaf.sum(-1), 1, rtol=1e-6)
    grad = jax.tree.map(lambda w: jnp.cos(w + jnp.arange(w.shape[-1])), asked.arch)
    told = asked._replace(score=jnp.zeros(5), grad=grad)
    _, new = strategy.tell(jax.random.key(2), told, state)
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), new[0].logits, gone)
    expected = np.array([[1, 1, 0, 0], [1, 1, 0, 1], [1, 1, 1, 0]], bool)
    assert np.isfinite(new[0].logits["a"]).all() and not moved["b"][0]
    assert not (moved["a"] & ~expected).any()
    if name not in ("sparsemax", "entmax15"):  # a choice of weight 0 has no gradient there
        np.testing.assert_array_equal(moved["a"], expected)
        assert moved["b"][1:].all()


def test_temperatures_follow_the_tells_that_count() -> None:
    schedule = optax.linear_schedule(10.0, 0.1, 3)  # GDAS: from 10 to 0.1
    link = quick(links.softmax(SPACE, schedule))
    state = link.init(jax.random.key(0), template(SPACE))
    for told, weight in enumerate([1.0, 1.0, 0.0, 1.0]):
        asked = link.ask(jax.random.key(0), state, 2, held(LOGITS))
        count = told - (told > 2)
        np.testing.assert_allclose(
            asked.arch, jax.nn.softmax(LOGITS / schedule(count)), rtol=1e-4, atol=1e-7
        )
        feedback = asked._replace(score=jnp.zeros(2), grad=asked.arch, weight=jnp.full(2, weight))
        _, state = link.tell(jax.random.key(1), feedback, state)
    assert state == 3


def test_a_late_row_is_pulled_back_at_the_temperature_of_its_time() -> None:
    link = quick(links.softmax(SPACE, lambda count: 1.0 + count))
    asked = link.ask(jax.random.key(0), jnp.int32(1), 2, held(LOGITS))
    told = asked._replace(score=jnp.zeros(2), grad=jax.vmap(jax.grad(loss))(asked.arch))
    early, late = (link.tell(jax.random.key(1), told, jnp.int32(s))[0].grad for s in (1, 50))
    np.testing.assert_array_equal(early, late)


@pytest.mark.slow
def test_the_dirichlet_has_the_mean_and_mode_of_its_concentration() -> None:
    x = jnp.asarray([[1.0, 0.5, 2.0, -1.0], [0.2, 0.1, 0.3, 0.4], [-1.0, -0.5, -3.0, -2.0]])
    link, n = quick(links.dirichlet(SPACE)), 20_000
    drawn = link.ask(jax.random.key(0), jnp.int32(0), n, held(jnp.tile(x, (n, 1, 1)))).arch
    np.testing.assert_allclose(drawn.mean(0), dirichlet_mean(SPACE, x), atol=0.01)
    mode = dirichlet_mode(SPACE, x)
    np.testing.assert_allclose(mode[0], np.array([1, 0.5, 2, 0]) / 3.5, rtol=1e-6)
    np.testing.assert_allclose(mode[1], [0.2, 0.1, 0.3, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(mode[2], [0, 1, 0, 0])


# ----------------------------------------------------------------- descent and its gradient


def told(link: Strategy, state: Any, arch: Any, grad: Any, weight: Any = None) -> tuple:
    n = jax.tree.leaves(arch)[0].shape[0]
    trials = Trials(arch, jnp.zeros(n), grad, jnp.ones(n) if weight is None else weight)
    return link.tell(jax.random.key(0), trials, state)


@pytest.mark.slow
def test_descent_is_the_optimizer_on_the_mean_gradient_by_weight() -> None:
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.05, b1=0.5))
    link = quick(links.descend(SPACE, optimizer, 0.5))
    state = link.init(jax.random.key(0), template(SPACE))
    rng = np.random.default_rng(0)
    grads = jnp.asarray(rng.normal(size=(2, 4, 3, K)), jnp.float32)
    weight = jnp.asarray([1.0, 0.0, 2.0, 0.5])
    logits, memory = state.logits, optimizer.init(state.logits)
    for grad in grads:
        _, state = told(link, state, jnp.zeros((4, 3, K)), grad, weight)
        average = jnp.einsum("n,nlk->lk", weight, grad) / 3.5
        update, memory = optimizer.update(average, memory, logits)
        logits = logits + update
    np.testing.assert_allclose(state.logits, logits, rtol=1e-5, atol=1e-6)


def test_a_row_whose_gradient_is_not_finite_teaches_nothing() -> None:
    link = quick(links.descend(SPACE, optax.sgd(1.0)))
    state = link.init(jax.random.key(0), template(SPACE))
    grad = jnp.ones((2, 3, K)).at[0, 1, 2].set(jnp.nan)
    passed, new = told(link, state, jnp.zeros((2, 3, K)), grad)
    np.testing.assert_array_equal(passed.weight, [0, 1])
    np.testing.assert_allclose(new.logits, state.logits - 1, rtol=1e-6)


def test_the_zero_one_loss_is_fair_darts_own() -> None:
    weights = jax.nn.sigmoid(LOGITS)
    link = quick(links.zero_one_loss(SPACE, 10.0))
    passed, _ = told(link, (), weights, jnp.zeros_like(weights))
    published = lambda w: -10 * jnp.mean((w - 0.5) ** 2)  # ConvSeparateLoss: -mse_loss(w, 0.5)
    np.testing.assert_allclose(passed.grad, jax.vmap(jax.grad(published))(weights), rtol=1e-5)


def test_frozen_links_to_the_left_do_not_learn_at_first() -> None:
    strategy = chain(links.descend(SPACE, optax.adam(0.1)), links.freeze(2), links.softmax(SPACE))
    state = strategy.init(jax.random.key(0), template(SPACE))
    for i in range(3):
        asked = strategy.ask(jax.random.key(i), state, 2)
        trials = asked._replace(score=jnp.zeros(2), grad=jnp.tile(TARGET, (2, 1, 1)))
        _, new = strategy.tell(jax.random.key(9), trials, state)
        moved = bool((new[0].logits != state[0].logits).any())
        assert moved == (i == 2)
        state = new


# --------------------------------------------------------------------------------- shrinking


def test_every_stage_keeps_the_strongest_and_they_stay_kept() -> None:
    space = Space("eight", np.full(2, 8))
    strategy = chain(
        links.descend(space, optax.sgd(0.0), 1.0),
        links.shrink(space, keep=(5, 3), after=(2, 4)),
        links.softmax(space),
    )
    state = strategy.init(jax.random.key(0), template(space))
    logits = np.asarray(state[0].logits)
    order = np.argsort(-logits, -1)
    for i in range(6):
        asked = strategy.ask(jax.random.key(i), state, 3)
        k = 8 if i < 2 else 5 if i < 4 else 3
        strong = np.zeros((2, 8), bool)
        np.put_along_axis(strong, order[:, :k], True, -1)
        expected = np.where(strong, np.exp(logits), 0)
        expected /= expected.sum(-1, keepdims=True)
        np.testing.assert_allclose(asked.arch, np.tile(expected, (3, 1, 1)), rtol=1e-5)
        feedback = asked._replace(score=jnp.zeros(3), grad=jnp.ones_like(asked.arch))
        _, state = strategy.tell(jax.random.key(9), feedback, state)
        # Logits that rise again do not bring a choice back.
        if i == 3:
            logits = np.where(strong, logits, 9.0).astype(np.float32)
            order = np.argsort(-np.where(strong, logits, -np.inf), -1)
            state = (state[0]._replace(logits=jnp.asarray(logits)), *state[1:])


def test_pruning_takes_weak_choices_as_it_anneals_and_leaves_one() -> None:
    schedule = lambda count: 2.0 * 0.5**count
    strategy = chain(
        links.descend(SPACE, optax.sgd(0.0), 1.0),
        links.prune(SPACE, threshold=0.4, temperature=schedule, grace=1),
        links.softmax(SPACE, schedule),
    )
    state = strategy.init(jax.random.key(4), template(SPACE))
    logits, stays = np.asarray(state[0].logits), np.ones((3, K), bool)
    left = []
    for i in range(10):
        asked = strategy.ask(jax.random.key(i), state, 1)
        np.testing.assert_array_equal(asked.arch[0] > 0, stays)
        left.append(stays.sum())
        feedback = asked._replace(score=jnp.zeros(1), grad=jnp.ones_like(asked.arch))
        _, state = strategy.tell(jax.random.key(9), feedback, state)
        if i + 1 > 1:
            x = np.where(stays, logits / (2.0 * 0.5 ** (i + 1)), -np.inf)
            e = np.exp(x - x.max(-1, keepdims=True))
            stays = stays & (e / e.sum(-1, keepdims=True) >= 0.4 / K)
    assert left[:2] == [12, 12] and 3 < left[3] < 12 and left[-1] == 3


# ------------------------------------------------------------------------------------- noise


def test_perturbed_weights_stay_near_and_gradients_pass_where_they_were_not_clipped() -> None:
    link = quick(links.perturb(SPACE, 0.1))
    weights = jax.nn.softmax(2 * LOGITS)
    asked = link.ask(jax.random.key(0), jnp.int32(0), 2, held(weights))
    moved = asked.arch - weights
    assert np.abs(moved).max() <= 0.1 + 1e-6 and np.abs(moved).max() > 0.08
    assert asked.arch.min() >= 0 and asked.arch.max() <= 1
    trials = asked._replace(score=jnp.zeros(2), grad=jnp.full_like(weights, 3.0))
    back, count = link.tell(jax.random.key(1), trials, jnp.int32(0))
    inside = (asked.arch > 0) & (asked.arch < 1)
    assert not inside.all() and count == 1
    np.testing.assert_array_equal(back.grad, jnp.where(inside, 3.0, 0.0))
    np.testing.assert_array_equal(back.arch, weights)


def test_dropped_operations_are_those_named_and_keep_their_mean() -> None:
    space = spaces.nas_bench_201()
    link = quick(links.drop_operations(space, {"skip_connect": 0.25}))
    n = 20_000
    weights = jnp.tile(jax.nn.softmax(jnp.arange(5.0)), (n, 6, 1))
    asked = link.ask(jax.random.key(0), jnp.int32(0), n, held(weights))
    others = np.array([0, 2, 3, 4])
    np.testing.assert_array_equal(asked.arch[..., others], weights[..., others])
    skip = np.asarray(asked.arch[..., 1] / weights[..., 1])
    np.testing.assert_allclose(np.unique(skip.round(5)), [0, 1.33333], atol=1e-5)
    np.testing.assert_allclose(skip.mean(0), 1, atol=0.02)
    trials = asked._replace(score=jnp.zeros(n), grad=jnp.ones_like(weights))
    back, _ = link.tell(jax.random.key(1), trials, jnp.int32(0))
    np.testing.assert_allclose(back.grad[..., 1], skip, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: links.softmax(SPACE, 0.0), "temperature=0.0: a positive number"),
        (lambda: links.descend(SPACE, optax.sgd(1.0), -1.0), "init_scale=-1.0"),
        (lambda: links.shrink(SPACE, (2, 3), (1, 2)), "keep falling"),
        (lambda: links.shrink(SPACE, (3,), (1, 2)), "as many of each"),
        (lambda: links.shrink(SPACE, (3,), (0,)), "after rising from at least 1"),
        (lambda: links.prune(SPACE, 0.0), "threshold=0.0"),
        (lambda: links.perturb(SPACE, 0.1, "adversarial"), "allowed is random; adversarial is"),
        (lambda: links.perturb(SPACE, -0.1), "epsilon=-0.1"),
        (lambda: links.drop_operations(SPACE, {"skip": 0.1}), "'skip': the space has 0, 1, 2, 3"),
        (lambda: links.drop_operations(SPACE, {"0": 1.0}), r"a rate in \[0, 1\)"),
        (lambda: links.freeze(-1), r"freeze\(-1\)"),
    ],
)
def test_impossible_settings_are_refused_in_a_sentence(make: Callable, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("link", [links.softmax(SPACE), links.freeze(1), links.sigmoid(SPACE)])
def test_scores_without_gradients_are_refused_with_what_to_do(link: Strategy) -> None:
    strategy = chain(links.descend(SPACE, optax.sgd(1.0)), links.softmax(SPACE))
    state = strategy.init(jax.random.key(0), template(SPACE))
    asked = strategy.ask(jax.random.key(0), state, 2)
    with pytest.raises(ValueError, match=r"such as jnas\.evaluators\.bilevel"):
        link.tell(jax.random.key(0), asked._replace(score=jnp.zeros(2)), jnp.int32(0))
