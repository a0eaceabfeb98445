"""Local search: climb from neighbour to neighbour, and start again from a local optimum."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import (
    Architecture,
    InputError,
    Space,
    Strategy,
    Trials,
    choice_counts,
    from_vector,
    propose,
    repaired,
    repairs,
    sample,
    settle,
    to_vector,
)
from jnas.links.candidates import among, equal


class Point(NamedTuple):
    """An evaluated architecture, or none where the score is -inf."""

    vector: jax.Array  # int32[L]
    score: jax.Array  # f32[]


class Climb(NamedTuple):
    centre: Point  # whose neighbours are evaluated; none while starts are gathered
    better: Point  # the best neighbour so far
    start: Point  # the best start so far of the next climb
    starts: jax.Array  # int32[], starts gathered for it
    seen: jax.Array  # bool[M], for each choice of each place: the neighbour is evaluated
    idle: jax.Array  # int32[], starts told since the last neighbour was
    optima: jax.Array  # int32[], local optima found


PATIENCE = 16  # a start comes before the last neighbour half of the time: this often in 2^16 times


def hill_climb(space: Space, steepest: bool = True, starts: int = 1) -> Strategy:
    """Evaluates the neighbours of an architecture in random order and moves to a better one.

    A neighbour differs in exactly one choice. Where no neighbour is better, the architecture is a
    local optimum, and the climb starts again from the best of `starts` random architectures.
    White et al. 2020, "Local Search is State of the Art for Neural Architecture Search
    Benchmarks", arXiv 2005.02960, Algorithm 1 and section 3; with `steepest=False` its
    `query_until_lower`.

    A neighbour that was evaluated around this architecture, or around the one before it, is not
    evaluated again. Where a batch is larger than what is left of the neighbourhood, the rest are
    starts of the next climb. One such start is always drawn for beside the neighbours that are
    left, so that neighbours which fail for good cannot hold the search: a neighbourhood is given
    up when 16 starts in a row came back and no neighbour. A row is known by its architecture, so
    late rows count while they are neighbours still. Where a neighbour is not valid, what it is
    repaired to counts as the neighbour.

    Args:
      space: the space of the architectures.
      steepest: evaluate the whole neighbourhood and move to its best; else move as soon as a
        batch holds a better one.
      starts: the random architectures that a climb starts from the best of.

    Returns:
      A strategy that proposes from nothing.

    Raises:
      InputError: no start, or a space of one architecture.
    """
    counts = choice_counts(space)
    if starts < 1:
        raise InputError(f"starts={starts}: a climb starts from at least 1 architecture")
    if np.all(counts == 1):
        raise InputError(f"space {space.name!r} has one architecture: it has no neighbours")
    place = np.repeat(np.arange(counts.size), counts)
    value = np.concatenate([np.arange(c) for c in counts]).astype(np.int32)
    around = _around(space) if repairs(space) else _steps(place, value)

    def init(key: jax.Array, arch: Architecture) -> Climb:
        del key
        none = Point(to_vector(space, arch), jnp.float32(-jnp.inf))
        zero = jnp.int32(0)
        return Climb(none, none, none, zero, jnp.ones(place.size, bool), zero, zero)

    def ask(key: jax.Array, state: Climb, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError("hill_climb proposes from its own state: put it first in the chain.")
        k_order, k_start = jax.random.split(key)
        left = jnp.append(~state.seen, True)  # the last is a start
        bits = jax.random.bits(k_order, left.shape, jnp.uint32) >> 1
        rank, nth = jax.lax.top_k(jnp.where(left, bits.astype(jnp.int32), -1), min(n, left.size))
        nth = jnp.where(rank < 0, place.size, nth)  # nothing is left of the neighbourhood
        nth = jnp.pad(nth, (0, n - nth.size), constant_values=place.size)
        start = nth == place.size
        near = around.at(state.centre.vector, jnp.minimum(nth, place.size - 1))
        random = to_vector(space, sample(space, k_start, n))
        vectors = jnp.where(start[:, None], random, near)
        return propose(from_vector(space, vectors))._replace(trace=start)

    def tell(key: jax.Array, trials: Trials, state: Climb) -> tuple[Trials, Climb]:
        del key
        trials = settle(trials, "hill_climb")
        live, x = trials.weight > 0, to_vector(space, trials.arch)
        which = around.match(state.centre.vector, x)
        near = live & jnp.any(which, -1) & jnp.isfinite(state.centre.score)
        seen = state.seen | jnp.any(near[:, None] & which, 0)
        better = _best(state.better, x, trials.score, near)
        begun = live & trials.trace
        start = _best(state.start, x, trials.score, begun)
        new = jnp.sum(begun, dtype=jnp.int32)
        ready = state.starts + new
        idle = jnp.where(jnp.any(near & ~trials.trace), 0, state.idle + new)

        done = jnp.all(seen) | (idle >= PATIENCE)
        up = better.score > state.centre.score
        climb = up & (done | (not steepest))
        stuck = done & ~up & jnp.any(live)
        restart = stuck & (ready >= starts)

        none = Point(state.centre.vector, jnp.float32(-jnp.inf))
        centre = _pick(climb, better, _pick(restart, start, _pick(stuck, none, state.centre)))
        found = stuck & jnp.all(seen) & jnp.isfinite(state.centre.score)
        seen = jnp.where(climb, around.shared(state.centre.vector, better.vector, seen), seen)
        seen = jnp.where(stuck, ~restart | around.own(start.vector), seen)
        return trials, Climb(
            centre,
            _pick(climb | stuck, none, better),
            _pick(restart, none, start),
            jnp.where(restart, 0, ready),
            seen,
            jnp.where(climb | stuck, 0, idle),
            state.optima + found,
        )

    return Strategy(init, ask, tell)


class _Around(NamedTuple):
    """The M neighbours of an architecture, one for each choice of each place.

    at: `(centre int32[L], i int32[n]) -> int32[n, L]`, neighbours by their numbers.
    match: `(centre, x int32[n, L]) -> bool[n, M]`, which neighbours the rows are; none is the
      centre.
    own: `centre -> bool[M]`, which of its neighbours are the centre itself.
    shared: `(old, new, seen bool[M]) -> bool[M]`, which neighbours of the new centre are that
      itself, the old centre, or a neighbour of that which has been seen.
    """

    at: Callable[..., jax.Array]
    match: Callable[..., jax.Array]
    own: Callable[..., jax.Array]
    shared: Callable[..., jax.Array]


def _steps(place: np.ndarray, value: np.ndarray) -> _Around:
    """Neighbours that put the choice `value[i]` at `place[i]`."""
    own = lambda vector: vector[..., place] == value  # [..., M]: the choices of an architecture

    def at(centre: jax.Array, i: jax.Array) -> jax.Array:
        here = np.arange(centre.size) == jnp.asarray(place)[i][:, None]
        return jnp.where(here, jnp.asarray(value)[i][:, None], centre)

    def match(centre: jax.Array, x: jax.Array) -> jax.Array:
        differs = x != centre
        one = jnp.sum(differs, -1) == 1
        return one[:, None] & differs[:, place] & own(x)

    def shared(old: jax.Array, new: jax.Array, seen: jax.Array) -> jax.Array:
        return (new != old)[place] & seen | own(new)

    return _Around(at, match, own, shared)


def _around(space: Space) -> _Around:
    """Neighbours that are repaired where they are not valid; several may be the same."""
    counts = choice_counts(space)
    place = np.repeat(np.arange(counts.size), counts)
    steps = _steps(place, np.concatenate([np.arange(c) for c in counts]).astype(np.int32))

    def at(centre: jax.Array, i: jax.Array) -> jax.Array:
        return to_vector(space, repaired(space, from_vector(space, steps.at(centre, i))))

    every = lambda centre: at(centre, jnp.arange(place.size))
    own = lambda centre: jnp.all(every(centre) == centre, -1)

    def match(centre: jax.Array, x: jax.Array) -> jax.Array:
        return equal(x, every(centre)) & jnp.any(x != centre, -1)[:, None]

    def shared(old: jax.Array, new: jax.Array, seen: jax.Array) -> jax.Array:
        near = every(new)
        return among(near, every(old), seen) | jnp.all(near == new, -1) | jnp.all(near == old, -1)

    return _Around(at, match, own, shared)


def _best(old: Point, vectors: jax.Array, scores: jax.Array, allowed: jax.Array) -> Point:
    """The best allowed row, where it is better than the old one; of equals the first."""
    scores = jnp.where(allowed, scores, -jnp.inf)
    i = jnp.argmax(scores)
    return _pick(scores[i] > old.score, Point(vectors[i], scores[i]), old)


def _pick(yes: jax.Array, a: Point, b: Point) -> Point:
    return jax.tree.map(lambda x, y: jnp.where(yes, x, y), a, b)
