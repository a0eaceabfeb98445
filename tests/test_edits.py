"""Walks by edits of one choice: which there are, what they are worth, and who moves."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_q_learning import COUNTS, EVERY, TINY, WORTH, scored, started, vectors

from jnas import links
from jnas.base import Space, Strategy, chain, replay
from jnas.links.edits import Edit


def test_edits_change_add_and_remove() -> None:
    space = Space(
        "edits",
        {"depth": np.array(4), "ops": np.array([3, 4])},
        is_valid=lambda arch: arch["depth"] + arch["ops"][0] < 5,
    )
    absent, ordered = {"depth": None, "ops": 1}, {"depth": True, "ops": False}
    for kinds in (["change"], ["add", "remove"], ["change", "add", "remove"]):
        environment = links.edit_environment(space, absent, ordered, kinds)
        for x in itertools.product(range(4), range(3), range(4)):
            allowed = np.zeros((3, 4), bool)
            for place, choice in itertools.product(range(3), range(4)):
                new = list(x)
                new[place] = choice
                if choice >= (4, 3, 4)[place] or choice == x[place] or new[0] + new[1] >= 5:
                    continue
                if place == 0:
                    kind = "change" if abs(choice - x[0]) == 1 else None
                else:
                    kind = "remove" if choice == 1 else "add" if x[place] == 1 else "change"
                allowed[place, choice] = kind in kinds
            found = environment.allowed(jnp.array(x, jnp.int32))
            np.testing.assert_array_equal(found, allowed, err_msg=f"{x} {kinds}")


def test_values_of_edits_converge_to_those_of_value_iteration() -> None:
    environment = links.edit_environment(TINY)
    q = links.tabular_q(TINY, "architecture")
    discount = 0.5
    strategy = links.edit_q_learning(
        environment, q, 0.5, 1.0, walkers=24, episode=1000, discount=discount
    )

    def step(state: Any, number: jax.Array) -> tuple[Any, None]:
        trials = scored(strategy.ask(jax.random.key(number), state, 24))
        return strategy.tell(jax.random.key(0), trials, state)[1], None

    state = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(400))[0])(started(strategy))
    edits = lambda x: [
        (place, k, (*x[:place], k, *x[place + 1 :]))
        for place in range(3)
        for k in range(COUNTS[place])
        if k != x[place]
    ]
    worth = dict.fromkeys(EVERY, 0.0)
    gain = lambda x, y: WORTH[y] - WORTH[x] + discount * worth[y]
    for _ in range(60):
        worth = {x: max(gain(x, y) for _, _, y in edits(x)) for x in EVERY}
    for x in EVERY:
        for place, k, y in edits(x):
            learned = q.apply(state.learned.params, jnp.array(x), place)[k]
            np.testing.assert_allclose(learned, gain(x, y), atol=1e-3)


def walking(**settings: Any) -> Strategy:
    q = links.tabular_q(TINY, "architecture")
    return links.edit_q_learning(links.edit_environment(TINY), q, 0.5, 0.5, **settings)


@pytest.mark.slow
def test_a_walk_starts_anew_after_an_episode_of_edits() -> None:
    strategy = walking(walkers=2, episode=3)
    state = started(strategy)
    positions = []
    for i in range(12):
        trials = scored(strategy.ask(jax.random.key(i), state, 2))
        positions.append(vectors(trials))
        _, state = strategy.tell(jax.random.key(50 + i), trials, state)
        assert [tuple(map(int, x)) for x in state.walkers.x] == positions[-1]
        np.testing.assert_array_equal(state.walkers.score, trials.score)
    distance = lambda a, b: sum(p != q for p, q in zip(a, b, strict=True))
    for walker in range(2):
        walk = [p[walker] for p in positions]
        for i in range(1, 12):
            if i % 4:
                assert distance(walk[i - 1], walk[i]) == 1
    assert any(distance(positions[i - 1][w], positions[i][w]) != 1 for i in (4, 8) for w in (0, 1))


@pytest.mark.slow
def test_rows_move_the_walker_that_asked_for_them_from_where_it_stood() -> None:
    strategy = walking(walkers=2, episode=5)
    state = started(strategy)
    trials = scored(strategy.ask(jax.random.key(0), state, 2))
    _, state = strategy.tell(jax.random.key(1), trials, state)

    early = scored(strategy.ask(jax.random.key(2), state, 2))
    late = scored(strategy.ask(jax.random.key(3), state, 4))
    failed = early._replace(score=jnp.array([jnp.nan, 0.5]))
    _, moved = strategy.tell(jax.random.key(4), failed, state)
    assert vectors(early)[1] == tuple(moved.walkers.x[1].tolist())
    np.testing.assert_array_equal(moved.walkers.x[0], state.walkers.x[0])
    assert moved.walkers.step.tolist() == [1, 2]

    _, after = strategy.tell(jax.random.key(5), late, moved)  # rows 0, 2 are of walker 0
    better = max((0, 2), key=lambda i: float(late.score[i]))
    assert tuple(after.walkers.x[0].tolist()) == vectors(late)[better]
    np.testing.assert_array_equal(after.walkers.x[1], moved.walkers.x[1])
    assert after.walkers.step.tolist() == [2, 2]
    assert not np.array_equal(after.learned.params, moved.learned.params)


@pytest.mark.slow
def test_only_edits_are_learned_from() -> None:
    strategy = walking(walkers=1)
    state = started(strategy)
    first = scored(strategy.ask(jax.random.key(0), state, 1))
    _, now = strategy.tell(jax.random.key(1), first, state)
    np.testing.assert_array_equal(now.learned.params, state.learned.params)
    asked = strategy.ask(jax.random.key(2), now, 1)
    other = jax.tree.map(lambda x, c: (x + 1) % c, first.arch, TINY.num_choices)
    _, then = strategy.tell(jax.random.key(3), scored(asked._replace(arch=other)), now)
    jax.tree.map(np.testing.assert_array_equal, then.walkers, now.walkers)
    np.testing.assert_array_equal(then.learned.params, now.learned.params)


@pytest.mark.slow
def test_the_memory_of_a_walk_keeps_edits_and_their_rewards() -> None:
    experience = replay(chain(links.keep_youngest(4), links.select_uniform()), 3)
    strategy = walking(walkers=1, experience=experience)
    state = started(strategy)
    for i in range(3):
        trials = scored(strategy.ask(jax.random.key(i), state, 1))
        _, state = strategy.tell(jax.random.key(10 + i), trials, state)
    kept = state.experience[0].rows
    assert kept.weight.tolist() == [1, 1, 0, 0] and isinstance(kept.arch, Edit)
    for row in range(2):
        a, b = (tuple(map(int, x[row])) for x in kept.arch)
        assert float(kept.score[row]) == WORTH[b] - WORTH[a] and a != b
