"""Local search: climb from neighbour to neighbour, and start again from a local optimum."""

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
    sample,
    settle,
    to_vector,
)


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
    late rows count while they are neighbours still.

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
    own = lambda vector: vector[..., place] == value  # [..., M]: the choices of an architecture

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
        i = jnp.minimum(nth, place.size - 1)
        here = np.arange(counts.size) == jnp.asarray(place)[i][:, None]
        near = jnp.where(here, jnp.asarray(value)[i][:, None], state.centre.vector)
        random = to_vector(space, sample(space, k_start, n))
        vectors = jnp.where(start[:, None], random, near)
        return propose(from_vector(space, vectors))._replace(trace=start)

    def tell(key: jax.Array, trials: Trials, state: Climb) -> tuple[Trials, Climb]:
        del key
        trials = settle(trials, "hill_climb")
        live, x = trials.weight > 0, to_vector(space, trials.arch)
        differs = x != state.centre.vector
        near = live & (jnp.sum(differs, -1) == 1) & jnp.isfinite(state.centre.score)
        seen = state.seen | jnp.any(near[:, None] & differs[:, place] & own(x), 0)
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

        moved = better.vector != state.centre.vector
        none = Point(state.centre.vector, jnp.float32(-jnp.inf))
        centre = _pick(climb, better, _pick(restart, start, _pick(stuck, none, state.centre)))
        found = stuck & jnp.all(seen) & jnp.isfinite(state.centre.score)
        seen = jnp.where(climb, moved[place] & seen | own(better.vector), seen)
        seen = jnp.where(stuck, ~restart | own(start.vector), seen)
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


def _best(old: Point, vectors: jax.Array, scores: jax.Array, allowed: jax.Array) -> Point:
    """The best allowed row, where it is better than the old one; of equals the first."""
    scores = jnp.where(allowed, scores, -jnp.inf)
    i = jnp.argmax(scores)
    return _pick(scores[i] > old.score, Point(vectors[i], scores[i]), old)


def _pick(yes: jax.Array, a: Point, b: Point) -> Point:
    return jax.tree.map(lambda x, y: jnp.where(yes, x, y), a, b)
