"""Samplers of shared weights: fair counts, sandwiches, stages and frozen policies."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jnas.base import InputError, Space, chain, choice_counts, propose, template, to_vector
from jnas.links import frozen, open_gradually, reinforce, sample_fairly, sample_sandwich
from jnas.links.policies import categorical_policy
from jnas.links.sampling import fair_rows, largest, smallest

SPACE = Space("mixed", {"ops": np.array([[2, 3, 5, 3], [5, 4, 1, 5]]), "depth": 4})
COUNTS = choice_counts(SPACE)


def _ask(strategy: Any, n: int, seed: int = 0, state: Any = None) -> np.ndarray:
    state = strategy.init(jax.random.key(9), template(SPACE)) if state is None else state
    return np.asarray(to_vector(SPACE, strategy.ask(jax.random.key(seed), state, n).arch))


def _count(x: np.ndarray, place: int) -> np.ndarray:
    return np.bincount(x[:, place], minlength=COUNTS[place])


def _is_uniform(values: np.ndarray, count: int) -> bool:
    found = np.bincount(np.ravel(values), minlength=count)
    return found.size == count and (count == 1 or stats.chisquare(found).pvalue > 1e-5)


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_fair_round_activates_every_choice_of_a_full_place_exactly_once(rounds: int) -> None:
    assert fair_rows(SPACE) == 5
    for seed in range(20):
        x = _ask(sample_fairly(SPACE), 5 * rounds, seed)
        for place, count in enumerate(COUNTS):
            for block in np.split(x, rounds):
                found = _count(block, place)
                assert found.sum() == 5 and found.max() - found.min() <= 1
                if count == 5:
                    assert (found == 1).all()


@pytest.mark.slow
def test_the_permutations_of_a_fair_round_are_uniform_and_apart_from_each_other() -> None:
    x = np.stack([_ask(sample_fairly(SPACE), 5, seed) for seed in range(600)])  # [600, 5, L]
    full = np.flatnonzero(COUNTS == 5)
    for place, count in enumerate(COUNTS):
        for row in (0, 4):  # the first of a round, and the last
            assert _is_uniform(x[:, row, place], count)
    pairs = x[:, 0, full[0]] * 5 + x[:, 0, full[1]]
    assert _is_uniform(pairs, 25)


@pytest.mark.slow
def test_a_sandwich_is_the_largest_the_smallest_and_random_ones() -> None:
    x = np.stack([_ask(sample_sandwich(SPACE), 4, seed) for seed in range(300)])
    np.testing.assert_array_equal(x[:, 0], np.broadcast_to(COUNTS - 1, x[:, 0].shape))
    assert (x[:, 1] == 0).all()
    for place, count in enumerate(COUNTS):
        assert _is_uniform(x[:, 2:, place], count)
    np.testing.assert_array_equal(to_vector(SPACE, largest(SPACE)), COUNTS - 1)
    np.testing.assert_array_equal(to_vector(SPACE, smallest(SPACE)), np.zeros_like(COUNTS))


@pytest.mark.slow
def test_places_without_an_order_are_random_in_every_row_of_a_sandwich() -> None:
    strategy = sample_sandwich(SPACE, ordered={"ops": False, "depth": True})
    x = np.stack([_ask(strategy, 3, seed) for seed in range(300)])
    depth = 0  # of to_vector: leaves in the order of their names
    assert (x[:, 0, depth] == 3).all() and (x[:, 1, depth] == 0).all()
    for row in range(3):
        assert _is_uniform(x[:, row, -1], 5)
    with pytest.raises(InputError, match="ordered=True: it has to be a tree of booleans"):
        sample_sandwich(SPACE, ordered=True)


STAGES = [
    (0, {"ops": 1, "depth": 1}),
    (8, {"ops": 1, "depth": 3}),
    (20, {"ops": np.minimum(2, SPACE.num_choices["ops"]), "depth": 3}),
    (30, SPACE.num_choices),
]


def test_choices_open_in_stages_from_the_largest_down() -> None:
    strategy = open_gradually(SPACE, STAGES)
    state = strategy.init(jax.random.key(0), template(SPACE))
    told = 0
    ask, tell = jax.jit(strategy.ask, static_argnums=2), jax.jit(strategy.tell)
    for i in range(12):
        trials = ask(jax.random.key(i), state, 4)
        x = np.asarray(to_vector(SPACE, trials.arch))
        for row, number in zip(x, range(told, told + 4), strict=True):
            now = [tree for first, tree in STAGES if first <= number][-1]
            spread = jax.tree.map(lambda c, o: np.broadcast_to(o, c.shape), SPACE.num_choices, now)
            room = np.concatenate([np.ravel(o) for o in jax.tree.leaves(spread)])
            assert (row >= COUNTS - room).all() and (row < COUNTS).all()
        weight = jnp.asarray([1.0, 1.0, 0.0, 1.0])  # a row that failed does not count
        trials = trials._replace(score=jnp.zeros(4), weight=weight)
        _, state = tell(jax.random.key(99), trials, state)
        told += 3
        assert state.told == told


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.data())
def test_what_is_squeezed_keeps_its_ends_and_stays_uniform(count: int, data: Any) -> None:
    room = data.draw(st.integers(1, count))
    space = Space("one", np.full(1, count))
    link = open_gradually(space, [(0, room)])
    state = link.init(jax.random.key(0), template(space))
    every = propose(jnp.repeat(jnp.arange(count, dtype=jnp.int32), 700)[:, None])
    x = np.asarray(link.ask(jax.random.key(1), state, 700 * count, every).arch)[:, 0]
    by_choice = x.reshape(count, 700)
    assert (by_choice[0] == count - room).all() and (by_choice[-1] == count - 1).all()
    assert (np.diff(by_choice.min(1)) >= 0).all()  # in the order of the choices
    if room == count:
        np.testing.assert_array_equal(by_choice, np.arange(count)[:, None] + 0 * by_choice)
    assert _is_uniform(x - (count - room), room)


def test_a_sandwich_in_a_stage_is_that_of_what_is_open() -> None:
    strategy = chain(sample_sandwich(SPACE), open_gradually(SPACE, [(0, {"ops": 1, "depth": 2})]))
    x = _ask(strategy, 3)
    np.testing.assert_array_equal(x[0], COUNTS - 1)
    np.testing.assert_array_equal(x[1], COUNTS - np.r_[2, np.ones(8, int)])


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([], r"stages start at \[\]: 0 first"),
        ([(1, {"ops": 1, "depth": 1})], r"stages start at \[1\]: 0 first"),
        ([(0, {"ops": 1, "depth": 1}), (-1, {"ops": 1, "depth": 1})], "and then rising numbers"),
        ([(0, {"ops": 0, "depth": 1})], "from 1 to all of"),
        ([(0, {"ops": 2, "depth": 1})], "from 1 to all of"),  # a place has one choice only
        ([(0, {"ops": 1})], "open=.* it has to be a tree of ints"),
    ],
)
def test_stages_that_cannot_be_are_refused(stages: list, told: str) -> None:
    with pytest.raises(InputError, match=told):
        open_gradually(SPACE, stages)


def test_a_frozen_policy_goes_on_proposing_as_it_did() -> None:
    policy = reinforce(categorical_policy(SPACE, 1.0), optax.sgd(1.0))
    state = policy.init(jax.random.key(3), template(SPACE))
    still = frozen(policy, state)
    own = still.init(jax.random.key(7), template(SPACE))
    for seed in range(3):
        asked = still.ask(jax.random.key(seed), own, 5)
        np.testing.assert_array_equal(to_vector(SPACE, asked.arch), _ask(policy, 5, seed, state))
        told = asked._replace(score=jnp.arange(5.0))
        _, own = still.tell(jax.random.key(50), told, own)
