"""The exact semantics of every link, against naive references."""

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorder import remember_sum
from scipy import stats

import jnas
from jnas.base import (
    Space,
    Strategy,
    Trials,
    chain,
    choice_counts,
    first,
    index,
    mixture,
    neighbours,
    on_tell,
    replay,
    template,
    to_vector,
)
from jnas.links import (
    keep_best,
    keep_youngest,
    mutate_one,
    sample_uniform,
    select_tournament,
    select_uniform,
)

LINE = Space("line", 1000)  # an architecture is a number: easy to follow


def _batches(rng: np.random.Generator, sizes: list[int]) -> list[Trials]:
    """Random evaluated rows; some dead, some of equal score."""
    made, count = [], 0
    for n in sizes:
        made.append(
            Trials(
                jnp.arange(count, count + n, dtype=jnp.int32),
                jnp.asarray(rng.integers(0, 6, n), jnp.float32),
                weight=jnp.asarray(rng.random(n) < 0.7, jnp.float32),
                metrics={"cost": jnp.asarray(rng.random(n), jnp.float32)},
            )
        )
        count += n
    return made


def _rows(trials: Trials) -> list[tuple[int, float, float]]:
    columns = (trials.arch, trials.score, trials.metrics["cost"], trials.weight)
    zipped = zip(*(np.asarray(c).tolist() for c in columns), strict=True)
    return [(a, s, c) for a, s, c, w in zipped if w > 0]


SIZES = [3, 1, 12, 3, 1, 30, 3, 3]  # smaller and larger than the memory


@pytest.mark.parametrize("size", [1, 5])
def test_keep_youngest_is_a_queue_of_bounded_length(size: int) -> None:
    link = keep_youngest(size, metrics=["cost"])
    tell = jax.jit(link.tell)
    state = link.init(jax.random.key(0), template(LINE))
    queue: collections.deque = collections.deque(maxlen=size)
    for trials in _batches(np.random.default_rng(size), SIZES):
        _, state = tell(jax.random.key(0), trials, state)
        queue.extend(_rows(trials))
        assert sorted(_rows(link.ask(jax.random.key(0), state, 1))) == sorted(queue)
    told = sum(len(_rows(t)) for t in _batches(np.random.default_rng(size), SIZES))
    assert state.told == told


@pytest.mark.parametrize("size", [1, 5])
def test_keep_best_is_a_sorted_list_in_which_the_older_of_equals_stays(size: int) -> None:
    link = keep_best(size, metrics=["cost"])
    tell = jax.jit(link.tell)
    state = link.init(jax.random.key(0), template(LINE))
    best: list[tuple[int, float, float]] = []
    for trials in _batches(np.random.default_rng(size), SIZES):
        _, state = tell(jax.random.key(0), trials, state)
        best = sorted(best + _rows(trials), key=lambda row: -row[1])[:size]
        assert _rows(link.ask(jax.random.key(0), state, 1)) == best


def _memory_of(scores: list[float], weights: list[float]) -> Trials:
    return Trials(
        jnp.arange(len(scores), dtype=jnp.int32), jnp.asarray(scores), weight=jnp.asarray(weights)
    )


def _picked(link: Strategy, memory: Trials, draws: int) -> np.ndarray:
    chosen = link.ask(jax.random.key(17), (), draws, memory)
    return np.bincount(np.asarray(chosen.arch), minlength=memory.arch.shape[0])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_tournament_is_won_as_often_as_the_formula_says(size: int) -> None:
    scores, weights = [3.0, 9.0, -1.0, 5.0, 8.0, 2.0], [1.0, 1.0, 1.0, 0.0, 1.0, 0.5]
    counts = _picked(select_tournament(size), _memory_of(scores, weights), 40_000)
    live = [i for i, w in enumerate(weights) if w > 0]
    below = {i: sum(scores[j] < scores[i] for j in live) for i in live}
    m = len(live)
    chance = [((below[i] + 1) / m) ** size - (below[i] / m) ** size for i in live]
    assert counts[3] == 0  # a row of weight 0 never competes
    assert stats.chisquare(counts[live], 40_000 * np.asarray(chance)).pvalue > 1e-3


def test_select_uniform_draws_every_live_row_equally_often() -> None:
    weights = [0.0, 1.0, 1.0, 0.0, 2.0, 1.0, 0.0]
    counts = _picked(select_uniform(), _memory_of([1.0, -2, 3, 4, 5, 6, 7], weights), 40_000)
    assert (counts[[0, 3, 6]] == 0).all()
    assert stats.chisquare(counts[[1, 2, 4, 5]]).pvalue > 1e-3


def test_selection_hands_on_whole_rows() -> None:
    memory = _batches(np.random.default_rng(0), [20])[0]
    for link in (select_uniform(), select_tournament(3)):
        chosen = link.ask(jax.random.key(0), (), 50, memory)
        assert set(_rows(chosen)) <= set(_rows(memory)) and len(_rows(chosen)) == 50


def test_mutate_one_draws_a_place_uniformly_and_then_another_choice() -> None:
    space = Space("small", {"a": np.array([2, 1, 4]), "b": 3})
    parent = {"a": jnp.array([1, 0, 2]), "b": jnp.int32(0)}
    draws = 60_000
    parents = jax.tree.map(lambda x: jnp.broadcast_to(x, (draws, *x.shape)), parent)
    child = mutate_one(space).ask(jax.random.key(18), (), draws, Trials(parents)).arch
    differ = to_vector(space, child) != to_vector(space, parent)
    assert (differ.sum(-1) == 1).all()
    counts = np.bincount(np.asarray(index(space, child)), minlength=24)
    near = neighbours(space, parent)
    numbers = np.asarray(index(space, near))
    places = np.argmax(to_vector(space, near) != to_vector(space, parent), -1)
    chance = 1 / 3 / (choice_counts(space)[places] - 1)
    assert counts[numbers].sum() == draws
    assert stats.chisquare(counts[numbers], draws * chance).pvalue > 1e-3


def test_mutate_one_is_uniform_over_the_neighbours_where_all_places_are_alike() -> None:
    space = Space("cube", np.full(4, 3))
    parents = jnp.broadcast_to(jnp.array([0, 1, 2, 1], jnp.int32), (40_000, 4))
    child = mutate_one(space).ask(jax.random.key(19), (), 40_000, Trials(parents)).arch
    near = np.asarray(index(space, neighbours(space, parents[0])))
    counts = np.bincount(np.asarray(index(space, child)), minlength=81)
    assert counts[near].sum() == 40_000
    assert stats.chisquare(counts[near]).pvalue > 1e-3


@pytest.mark.parametrize("batch", [1, 5])
def test_a_mixture_asks_its_first_for_exactly_first_n_proposals(batch: int) -> None:
    anything = sample_uniform(Space("point", np.ones(1)))
    strategy = mixture(anything, anything, first(12))
    state = strategy.init(jax.random.key(0), jnp.zeros(1, jnp.int32))
    from_first = []
    for key in jax.random.split(jax.random.key(20), 30 // batch):
        k_ask, k_tell = jax.random.split(key)
        trials = strategy.ask(k_ask, state, batch)
        from_first += np.asarray(trials.trace[0]).tolist()
        _, state = strategy.tell(k_tell, trials._replace(score=jnp.ones(batch)), state)
    assert from_first == [True] * 12 + [False] * 18


def test_failed_trials_do_not_use_up_the_warm_up_of_a_mixture() -> None:
    strategy = mixture(sample_uniform(LINE), sample_uniform(LINE), first(4))
    state = strategy.init(jax.random.key(0), template(LINE))
    trials = strategy.ask(jax.random.key(1), state, 3)
    scores = jnp.array([1.0, jnp.nan, jnp.nan])
    _, state = strategy.tell(jax.random.key(2), trials._replace(score=scores), state)
    assert state.told == 1
    assert strategy.ask(jax.random.key(3), state, 5).trace[0].tolist() == [True] * 3 + [False] * 2


@pytest.mark.parametrize("learn_from_all", [True, False])
def test_the_parts_of_a_mixture_learn_from_all_rows_or_from_their_own(learn_from_all: bool) -> None:
    learner = chain(sample_uniform(LINE), remember_sum())
    strategy = mixture(learner, learner, 0.4, learn_from_all)
    state = strategy.init(jax.random.key(0), template(LINE))
    trials = strategy.ask(jax.random.key(1), state, 200)
    trials = trials._replace(score=jnp.ones(200))
    _, state = strategy.tell(jax.random.key(2), trials, state)
    from_a = int(trials.trace[0].sum())
    assert 50 < from_a < 110  # binomial(200, 0.4): five standard deviations
    heard = (float(state.a[1][0]), float(state.b[1][0]))
    assert heard == ((200, 200) if learn_from_all else (from_a, 200 - from_a))


def test_a_mixture_draws_from_each_part_with_its_probability() -> None:
    low, high = (
        Strategy(
            sample_uniform(LINE).init,
            lambda key, state, n, trials=None, v=v: jnas.base.propose(jnp.full(n, v, jnp.int32)),
            sample_uniform(LINE).tell,
        )
        for v in (0, 1)
    )
    strategy = mixture(low, high, 0.3)
    state = strategy.init(jax.random.key(0), template(LINE))
    trials = strategy.ask(jax.random.key(21), state, 20_000)
    assert (np.asarray(trials.arch) == ~np.asarray(trials.trace[0])).all()
    assert stats.binomtest(int((trials.arch == 0).sum()), 20_000, 0.3).pvalue > 1e-3


def test_replay_passes_on_rows_of_its_memory_only() -> None:
    link = replay(chain(keep_youngest(4, metrics=["cost"]), select_uniform()), 50)
    tell = jax.jit(link.tell)
    state = link.init(jax.random.key(0), template(LINE))
    seen: list[tuple[int, float, float]] = []
    keys = jax.random.split(jax.random.key(1), len(SIZES))
    for key, trials in zip(keys, _batches(np.random.default_rng(3), SIZES), strict=True):
        past, state = tell(key, trials, state)
        seen += _rows(trials)
        expected = set(seen[-4:]) if _rows(trials) else set()
        assert set(_rows(past)) == expected


def test_a_chain_hands_every_link_the_trace_that_it_left() -> None:
    heard = {}

    def tagger(name: str, proposes: bool) -> Strategy:
        def ask(key: Any, state: Any, n: int, trials: Trials | None = None) -> Trials:
            got = jnas.base.propose(jnp.arange(n)) if proposes else trials
            return got._replace(trace=(name, jnp.arange(n)))

        def tell(key: Any, trials: Trials, state: Any) -> tuple[Trials, Any]:
            heard[name] = trials.trace
            return trials._replace(trace=None), state

        return Strategy(jnas.base.no_init, ask, tell)

    strategy = chain(tagger("a", True), chain(tagger("b", False), tagger("c", False)))
    state = strategy.init(jax.random.key(0), template(LINE))
    trials = strategy.ask(jax.random.key(1), state, 3)
    strategy.tell(jax.random.key(2), trials._replace(score=jnp.ones(3)), state)
    assert {name: trace[0] for name, trace in heard.items()} == {"a": "a", "b": "b", "c": "c"}


def test_a_link_of_feedback_cannot_bring_a_failed_row_back() -> None:
    link = on_tell(lambda t: t._replace(score=jnp.where(t.score > 1, jnp.nan, t.score + 1)))
    trials = Trials(jnp.arange(3), jnp.array([1.0, 2.0, jnp.nan]))
    passed, _ = link.tell(jax.random.key(0), trials, ())
    assert passed.weight.tolist() == [1, 0, 0]
    assert np.isfinite(passed.score).all() and passed.score[0] == 2
