"""Local search and annealing against naive references."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jnas
from jnas.base import (
    InputError,
    Space,
    Strategy,
    Trials,
    choice_counts,
    from_index,
    from_vector,
    index,
    neighbours,
    size,
    template,
    to_vector,
)
from jnas.links import anneal, hill_climb
from jnas.links.annealing import geometric

SPACE = Space("small", {"a": np.array([3, 1, 4]), "b": 3})
NEAR = int(np.sum(choice_counts(SPACE) - 1))
TABLE = np.random.default_rng(0).permutation(size(SPACE)).astype(np.float32)  # no ties


@functools.cache
def _near(i: int) -> set[int]:
    near = neighbours(SPACE, from_index(SPACE, jnp.int32(i)))
    return set(np.asarray(index(SPACE, near)).tolist())


def _run(
    strategy: Strategy, table: np.ndarray, rounds: int, n: int
) -> tuple[Any, list[tuple[Any, np.ndarray, np.ndarray]]]:
    """The last state, and the state before each round with its proposals and their traces."""
    ask, tell = jax.jit(strategy.ask, static_argnums=2), jax.jit(strategy.tell)
    state, history = strategy.init(jax.random.key(0), template(SPACE)), []
    scores = jnp.asarray(table)
    for k in range(rounds):
        k_ask, k_tell = jax.random.split(jax.random.fold_in(jax.random.key(0), k))
        trials = ask(k_ask, state, n)
        i = index(SPACE, trials.arch)
        history.append((state, np.asarray(i), jax.tree.map(np.asarray, trials.trace)))
        _, state = tell(k_tell, trials._replace(score=scores[i]), state)
    return state, history


def _centre(state: Any) -> int:
    return int(np.ravel_multi_index(np.asarray(state.centre.vector), choice_counts(SPACE)))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("steepest", [True, False])
def test_a_climb_evaluates_its_neighbourhood_once_and_moves_as_the_naive_one(
    steepest: bool, n: int
) -> None:
    _, history = _run(hill_climb(SPACE, steepest, starts=2), TABLE, 90, n)
    seen: set[int] = set()
    climbs = 0
    for (state, rows, starts), (later, _, _) in itertools.pairwise(history):
        if not np.isfinite(state.centre.score):
            assert starts.all()
            seen = set()
            continue
        here = _centre(state)
        assert float(state.centre.score) == TABLE[here]
        asked = rows[~starts].tolist()
        assert len(set(asked)) == len(asked) and set(asked) <= _near(here) - seen
        seen |= set(rows.tolist()) & _near(here)  # a start may be a neighbour by chance
        whole = _near(here) <= seen
        to = _centre(later) if np.isfinite(later.centre.score) else None
        better = max(seen, key=lambda i: TABLE[i], default=here)
        if TABLE[better] > TABLE[here] and (whole or not steepest):
            assert to == better
            climbs += 1
            seen = (seen | {here}) & _near(better)
        elif whole:
            seen = set()  # a local optimum: it starts again, perhaps at the same place
        else:
            assert to == here
    assert climbs > 5


def test_a_batch_with_room_asks_for_the_whole_neighbourhood_and_for_starts() -> None:
    _, history = _run(hill_climb(SPACE), TABLE, 2, 2 * NEAR)
    state, rows, starts = history[1]
    asked = rows[~starts].tolist()
    assert len(asked) == NEAR and set(asked) == _near(_centre(state))
    assert len(set(rows[starts].tolist())) > 1


@pytest.mark.slow
def test_climbs_end_at_the_strict_local_optima_of_the_table(nb201: dict[str, np.ndarray]) -> None:
    space = jnas.spaces.nas_bench_201()
    everywhere = jnp.arange(size(space), dtype=jnp.int32)
    near = jax.vmap(lambda i: index(space, neighbours(space, from_index(space, i))))(everywhere)
    near = np.asarray(near)
    for column, optima in enumerate((17, 23, 34)):
        scores = nb201["test_acc_200"][:, column]
        peaks = set(np.flatnonzero((scores[:, None] > scores[near]).all(-1)).tolist())
        assert len(peaks) == optima
        evaluator = jnas.evaluators.tabular(space, {"score": scores}, "score")
        strategy = hill_climb(space, steepest=bool(column % 2))

        def one(key: jax.Array, evaluator: Any = evaluator, strategy: Any = strategy) -> Any:
            """One climb from its start: the centres after each round, and the optima found."""
            state = strategy.init(key, template(space))

            def round_of(state: Any, key: jax.Array) -> tuple[Any, Any]:
                trials = strategy.ask(key, state, 24)
                trials, _ = evaluator.evaluate(key, trials, ())
                state = strategy.tell(key, trials, state)[1]
                return state, (state.centre, state.optima)

            hashed = jax.random.key_data(jax.random.split(key, 60))
            wrapped = lambda s, h: round_of(s, jax.random.wrap_key_data(h))
            return jax.lax.scan(wrapped, state, hashed)[1]

        centre, found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(column), 60))
        ended = np.argmax(np.asarray(found) > 0, -1)  # the round in which the first climb ended
        assert (ended > 0).all()
        vectors = np.asarray(centre.vector)[np.arange(60), ended - 1]
        ends = set(np.asarray(index(space, from_vector(space, jnp.asarray(vectors)))).tolist())
        weak = set(np.flatnonzero((scores[:, None] >= scores[near]).all(-1)).tolist())
        assert ends <= weak and len(ends & peaks) > 3


@pytest.mark.slow
def test_neighbours_that_fail_for_good_do_not_hold_the_search() -> None:
    table = np.where(np.arange(size(SPACE)) % 2, TABLE, np.nan)
    _, history = _run(hill_climb(SPACE, steepest=False), table, 2000, 1)
    starts = np.asarray([state.starts for state, _, _ in history])  # 0 again where a climb begins
    assert np.sum(np.diff(starts) < 0) > 8


def test_late_neighbours_count_and_strangers_do_not() -> None:
    link = hill_climb(SPACE, steepest=False)
    state = link.init(jax.random.key(0), template(SPACE))

    def told(state: Any, i: int, score: float, start: bool = False) -> Any:
        arch = from_index(SPACE, jnp.array([i], jnp.int32))
        row = Trials(arch, jnp.array([score]), weight=jnp.ones(1), trace=jnp.array([start]))
        return link.tell(jax.random.key(1), row, state)[1]

    state = told(state, 0, 1.0, start=True)
    stranger = next(i for i in range(1, size(SPACE)) if i not in _near(0))
    same = told(state, stranger, 9.0)
    assert _centre(same) == 0 and bool((same.seen == state.seen).all())
    neighbour = min(_near(0))
    assert _centre(told(same, neighbour, 0.5)) == 0
    moved = told(same, neighbour, 2.0)
    assert _centre(moved) == neighbour and float(moved.centre.score) == 2


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.7, lambda count: jnp.where(count == 1, 0.7, 99.0)])
def test_annealing_accepts_a_loss_as_often_as_the_formula_says(temperature: Any) -> None:
    link = anneal(SPACE, temperature)
    start = link.init(jax.random.key(0), template(SPACE))
    for loss in (0.2, 1.5):

        def one(key: jax.Array, loss: float = loss) -> jax.Array:
            k_first, k_second = jax.random.split(key)
            trials = link.ask(k_first, start, 1)
            _, state = link.tell(key, trials._replace(score=jnp.array([5.0])), start)
            trials = link.ask(k_second, state, 1)
            _, state = link.tell(key, trials._replace(score=jnp.array([5.0 - loss])), state)
            return state.score[0] < 5

        taken = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(1), 4000)))
        assert stats.binomtest(int(taken.sum()), 4000, np.exp(-loss / 0.7)).pvalue > 1e-3


def test_annealing_always_accepts_gains_and_at_temperature_0_nothing_else() -> None:
    _, history = _run(anneal(SPACE, 0.0), TABLE, 60, 1)
    scores = [float(state.score[0]) for state, _, _ in history]
    best = np.maximum.accumulate([-np.inf, *[TABLE[rows[0]] for _, rows, _ in history]])
    np.testing.assert_array_equal(scores, best[: len(scores)])


def test_walkers_take_turns_and_stand_at_what_they_accepted() -> None:
    link = anneal(SPACE, 1e9, walkers=3)  # accepts everything
    state, asked = link.init(jax.random.key(0), template(SPACE)), []
    for k in range(4):
        trials = link.ask(jax.random.fold_in(jax.random.key(2), k), state, 2)
        asked += list(zip(trials.trace[0].tolist(), to_vector(SPACE, trials.arch), strict=True))
        score = jnp.asarray(TABLE)[index(SPACE, trials.arch)]
        _, state = link.tell(jax.random.key(0), trials._replace(score=score), state)
    assert [walker for walker, _ in asked] == [0, 1, 2, 0, 1, 2, 0, 1]
    last = dict(asked)
    for walker in range(3):
        assert (state.vector[walker] == last[walker]).all()
    for (_, a), (_, b) in ((asked[0], asked[3]), (asked[3], asked[6])):
        assert int(jnp.sum(a != b)) == 1  # a walk from neighbour to neighbour


def test_the_geometric_schedule_falls_by_equal_factors_and_then_stays() -> None:
    at = geometric(8.0, 1.0, 3)
    np.testing.assert_allclose([at(i) for i in (0, 1, 2, 3, 50)], [8, 4, 2, 1, 1], 1e-5)


def test_impossible_settings_are_refused() -> None:
    for make, told in (
        (lambda: hill_climb(SPACE, starts=0), "starts=0"),
        (lambda: hill_climb(Space("one", np.ones(2))), "has one architecture"),
        (lambda: anneal(SPACE, 1.0, walkers=0), "walkers=0"),
        (lambda: anneal(SPACE, -1.0), "temperature=-1.0"),
        (lambda: geometric(0.0, 1.0, 5), "temperatures 0.0 to 1.0"),
        (lambda: geometric(1.0, 0.1, 0), "steps=0"),
    ):
        with pytest.raises(InputError, match=told):
            make()
