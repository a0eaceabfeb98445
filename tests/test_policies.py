"""Policies and their learners, against naive code and exact enumeration."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnas.base import InputError, Space, Trials, choice_counts, from_vector, template, to_vector
from jnas.links import ppo, reinforce, subtract_ema, subtract_mean
from jnas.links.policies import Policy, categorical_policy, lstm_controller

TINY = Space("tiny", {"ops": np.array([2, 3]), "depth": 3})
ALL = np.array(list(itertools.product(*map(range, choice_counts(TINY)))), np.int32)
ARCHS = from_vector(TINY, jnp.asarray(ALL))
REWARD = np.random.default_rng(0).uniform(size=len(ALL)).astype(np.float32)

POLICIES = {
    "categorical": categorical_policy(TINY, 1.0),
    "lstm": lstm_controller(TINY, 5, 2, 1.7, 2.5, init_scale=1.0),
    "shared": lstm_controller(Space("equal", np.array([3, 3])), 4, init_scale=1.0, shared=True),
}
two = pytest.mark.parametrize("name", ["categorical", "lstm"])


def params_of(policy: Policy) -> Any:
    return policy.init(jax.random.key(3))


def probabilities(policy: Policy, params: Any) -> jax.Array:
    return jnp.exp(jnp.sum(policy.evaluate(params, ARCHS)[0], -1))


def close(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, atol), a, b)


def naive_lstm(params: Any, arch: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Log-probability and summed entropy of one architecture, one number after the other."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    hidden, layers = p["start"].size, len(p["lstm"])
    output, cell = np.zeros((layers, hidden)), np.zeros((layers, hidden))
    x, log_prob, entropy = p["start"], 0.0, 0.0
    for place, choice in enumerate(arch):
        for i in range(layers):
            gates = np.concatenate([x, output[i]]) @ p["lstm"][i]
            enter, forget, leave, new = gates.reshape(4, hidden)
            cell[i] = sigmoid(forget) * cell[i] + sigmoid(enter) * np.tanh(new)
            x = output[i] = sigmoid(leave) * np.tanh(cell[i])
        logits = (x @ p["softmax"][place] + p["bias"][place])[: counts[place]]
        chance = np.exp(2.5 * np.tanh(logits / 1.7))
        chance /= chance.sum()
        log_prob += np.log(chance[choice])
        entropy -= np.sum(chance * np.log(chance))
        x = p["embedding"][place, choice]
    return log_prob, entropy


@pytest.mark.slow
def test_the_controller_is_the_lstm_of_a_naive_loop() -> None:
    policy = POLICIES["lstm"]
    params = params_of(policy) | {"bias": jax.random.normal(jax.random.key(4), (3, 3))}
    got = [np.sum(x, -1) for x in policy.evaluate(params, ARCHS)]
    naive = np.transpose([naive_lstm(params, arch, choice_counts(TINY)) for arch in ALL])
    np.testing.assert_allclose(got, naive, 1e-5)


@two
def test_probabilities_add_up_to_1_and_the_entropies_of_places_to_the_entropy(name: str) -> None:
    policy = POLICIES[name]
    params = params_of(policy)
    chance = np.asarray(probabilities(policy, params))
    np.testing.assert_allclose(chance.sum(), 1, 1e-5)
    assert chance.max() > 1.5 * chance.min()
    of_places = chance @ np.sum(policy.evaluate(params, ARCHS)[1], -1)
    np.testing.assert_allclose(of_places, -np.sum(chance * np.log(chance)), 1e-5)


@two
def test_architectures_are_drawn_as_often_as_they_are_probable(name: str) -> None:
    policy, n = POLICIES[name], 20_000
    params = params_of(policy)
    drawn = to_vector(TINY, policy.sample(params, jax.random.key(5), n))
    often = np.mean(np.all(np.asarray(drawn)[:, None] == ALL, -1), 0)
    chance = np.asarray(probabilities(policy, params))
    np.testing.assert_array_less(abs(often - chance), 5 * np.sqrt(chance / n))


def test_places_of_a_kind_share_a_softmax_and_an_embedding() -> None:
    params = params_of(POLICIES["shared"])
    assert params["softmax"].shape == (1, 4, 3) and params["embedding"].shape == (1, 3, 4)
    mixed = lstm_controller(Space("s", (np.array([3, 2, 3]), np.array(3))), 4, shared=True)
    assert params_of(mixed)["softmax"].shape == (3, 4, 3)


@pytest.mark.slow
@two
def test_the_mean_of_the_policy_gradient_is_the_gradient_of_the_expected_reward(
    name: str,
) -> None:
    policy = POLICIES[name]
    params = params_of(policy)
    exact = jax.grad(lambda p: probabilities(policy, p) @ REWARD)(params)
    learner = reinforce(policy, optax.sgd(1.0))
    state = learner.init(jax.random.key(3), template(TINY))
    trials = Trials(ARCHS, jnp.asarray(REWARD), weight=probabilities(policy, params))
    _, new = learner.tell(jax.random.key(0), trials, state)
    close(jax.tree.map(jnp.subtract, new.params, params), exact)


@pytest.mark.slow
def test_the_entropy_of_independent_choices_is_climbed_exactly() -> None:
    policy = POLICIES["categorical"]
    params = params_of(policy)

    def entropy(p: Any) -> jax.Array:
        chance = probabilities(policy, p)
        return -jnp.sum(chance * jnp.log(chance))

    learner = reinforce(policy, optax.sgd(1.0), entropy=0.3)
    state = learner.init(jax.random.key(3), template(TINY))
    trials = Trials(ARCHS, jnp.zeros(len(ALL)), weight=jnp.ones(len(ALL)))
    _, new = learner.tell(jax.random.key(0), trials, state)
    exact = jax.tree.map(lambda g: 0.3 * g, jax.grad(entropy)(params))
    close(jax.tree.map(jnp.subtract, new.params, params), exact)


def asked(learner: Any, n: int) -> tuple[Any, Trials]:
    state = learner.init(jax.random.key(3), template(TINY))
    trials = learner.ask(jax.random.key(6), state, n)
    return state, trials._replace(score=jnp.linspace(-1.0, 1.0, n))


@pytest.mark.slow
def test_one_epoch_of_ppo_is_reinforce_and_more_epochs_keep_to_the_clip() -> None:
    policy = POLICIES["categorical"]
    state, trials = asked(ppo(policy, optax.sgd(0.5), epochs=1), 7)
    _, once = ppo(policy, optax.sgd(0.5), epochs=1).tell(None, trials, state)
    _, plain = reinforce(policy, optax.sgd(0.5)).tell(None, trials, state)
    close(once.params, plain.params)

    def naive(epochs: int, clip: float) -> Any:
        params, old = state.params, policy.evaluate(state.params, trials.arch)[0]
        for _ in range(epochs):

            def loss(p: Any) -> jax.Array:
                ratio = jnp.exp(policy.evaluate(p, trials.arch)[0] - old)
                r = trials.score[:, None]
                gain = jnp.where(
                    r > 0, jnp.minimum(ratio, 1 + clip) * r, jnp.maximum(ratio, 1 - clip) * r
                )
                return -jnp.sum(gain) / 7

            params = params - 0.5 * jax.grad(loss)(params)
        return params

    learner = ppo(policy, optax.sgd(0.5), clip=0.1, epochs=6)
    _, new = learner.tell(None, trials, state)
    close(new.params, naive(6, 0.1))
    assert np.abs(naive(6, 0.1) - naive(6, 10.0)).max() > 1e-2


@pytest.mark.slow
def test_ppo_takes_a_late_row_by_the_probability_that_it_had() -> None:
    policy = POLICIES["categorical"]
    learner = ppo(policy, optax.sgd(0.5), epochs=1, clip=0.1)
    state, trials = asked(learner, 5)
    moved = state._replace(params=-state.params)
    _, late = learner.tell(None, trials, moved)
    foreign = trials._replace(
        trace=trials.trace._replace(arch=jax.tree.map(lambda x: x - 1, trials.arch))
    )
    _, fresh = learner.tell(None, foreign, moved)
    _, plain = reinforce(policy, optax.sgd(0.5)).tell(None, trials, moved)
    close(fresh.params, plain.params)
    assert np.abs(late.params - plain.params).max() > 1e-3


@pytest.mark.parametrize("include_new", [False, True])
def test_the_moving_average_is_that_of_a_naive_loop(include_new: bool) -> None:
    link = subtract_ema(0.9, include_new)
    state = link.init(jax.random.key(0), template(TINY))
    rewards, means = np.random.default_rng(1).uniform(size=(4, 3)), []
    for row in rewards:
        weight = jnp.array([1.0, 1.0, 0.0])
        got, state = link.tell(None, Trials((), jnp.asarray(row), weight=weight), state)
        before = len(means)
        means.append(row[:2].mean())
        known = means if include_new else means[:before] or means
        decays = 0.9 ** np.arange(len(known))[::-1]
        baseline = decays @ known / decays.sum()
        np.testing.assert_allclose(got.score, [*(row[:2] - baseline), 0], 1e-5, 1e-6)


def test_the_mean_of_a_round_is_taken_by_weight() -> None:
    trials = Trials((), jnp.array([1.0, 3.0, 99.0]), weight=jnp.array([3.0, 1.0, 0.0]))
    got, _ = subtract_mean().tell(None, trials, ())
    np.testing.assert_allclose(got.score, [-0.5, 1.5, 0])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: subtract_ema(1.0), r"decay=1.0"),
        (lambda p: reinforce(p, optax.sgd(1.0), entropy=-1.0), r"entropy=-1.0"),
        (lambda p: ppo(p, optax.sgd(1.0), clip=0.0), r"clip=0.0"),
        (lambda p: ppo(p, optax.sgd(1.0), epochs=0), r"epochs=0"),
        (lambda p: lstm_controller(TINY, 0), r"hidden=0"),
        (lambda p: lstm_controller(TINY, layers=0), r"layers=0"),
        (lambda p: lstm_controller(TINY, temperature=0.0), r"temperature=0.0"),
        (lambda p: lstm_controller(TINY, tanh_constant=-1.0), r"tanh_constant=-1.0"),
    ],
)
def test_impossible_settings_are_refused_where_they_are_made(make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        make(POLICIES["categorical"])
    assert "\n" not in str(caught.value)
