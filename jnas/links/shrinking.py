"""Shrinking of the search: links that take weak choices out of it for good."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space, Strategy, Trials
from jnas.links.relaxed import (
    ABSENT,
    Schedule,
    at,
    exists,
    leaves,
    positive,
    soft,
    told,
    unflatten,
    with_gradient,
)
from jnas.links.sums import mean


class Shrunk(NamedTuple):
    stays: Any  # bool[..., K] for every leaf of the space
    told: jax.Array  # int32[], tells so far


def shrink(space: Space, keep: Sequence[int], after: Sequence[int]) -> Strategy:
    """Search space approximation of P-DARTS: every stage keeps the strongest choices of a place.

    Chen et al. 2019, arXiv 1904.12760, section 3.2.1. There 8 operations become 5, then 3. Here
    logits and weights go on from where they are; there every stage trains a new, deeper supernet.

    Args:
      space: the space.
      keep: how many choices of each place stay in each stage after the first, falling.
      after: the tells after which each of these stages begins, rising.

    Returns:
      A link that takes choices out of logits, between `descend` and the relaxation.

    Raises:
      InputError: numbers that do not go with each other.
    """
    rising = all(a < b for a, b in zip((0, *after), after, strict=False))
    falling = all(a > b for a, b in itertools.pairwise(keep)) and min(keep, default=0) >= 1
    if len(keep) != len(after) or not rising or not falling:
        raise InputError(
            f"shrink(keep={list(keep)}, after={list(after)}): as many of each are needed, keep "
            "falling to at least 1 and after rising from at least 1"
        )
    ends, kept = np.asarray(after, np.int32), np.asarray(keep, np.int32)

    def stay(logits: jax.Array, stays: jax.Array, count: jax.Array) -> jax.Array:
        stage = jnp.sum(count >= ends)
        most = jnp.where(stage > 0, jnp.asarray(kept)[jnp.maximum(stage - 1, 0)], logits.shape[-1])
        return _rank(logits, stays) < most

    return _shrinking("shrink", space, stay)


def prune(
    space: Space, threshold: Schedule, temperature: Schedule = 1.0, grace: int = 0
) -> Strategy:
    """Annealing and pruning of ASAP: choices of a small weight go.

    Noy et al. 2020, arXiv 1904.04123. At every tell the choices go whose weight
    `softmax(alpha / temperature)` is below `threshold / K`, where K is the number of choices that
    the place had at first; the strongest always stays.

    Args:
      space: the space.
      threshold: a number or a schedule of the tells so far.
      temperature: that of the `softmax(space, temperature)` to the right.
      grace: tells at the start in which nothing goes.

    Returns:
      A link that takes choices out of logits, between `descend` and the relaxation.

    Raises:
      InputError: a threshold or temperature that is not positive.
    """
    positive("prune", "threshold", threshold)
    positive("prune", "temperature", temperature)

    def stay(logits: jax.Array, stays: jax.Array, count: jax.Array) -> jax.Array:
        weights = soft(logits / at(temperature, count), stays)
        weak = weights * weights.shape[-1] < at(threshold, count)
        return ~weak | (_rank(logits, stays) < 1) | (count <= grace)

    return _shrinking("prune", space, stay)


def _rank(logits: jax.Array, stays: jax.Array) -> jax.Array:
    """The rank of every choice among those that stay, from 0 for the strongest: int[..., K]."""
    x = jnp.where(stays, logits, -jnp.inf)
    earlier = np.tri(x.shape[-1], k=-1, dtype=bool)  # of equal ones the first is the stronger
    other, own = x[..., None, :], x[..., :, None]
    return jnp.sum((other > own) | ((other == own) & earlier), -1)


def _shrinking(name: str, space: Space, stay: Callable[..., jax.Array]) -> Strategy:
    """A link whose `stay(logits, stays, tells) -> bool[..., K]` says what does not go now."""
    real = exists(space)

    def init(key: jax.Array, arch: Architecture) -> Shrunk:
        del key, arch
        return Shrunk(unflatten(space, [jnp.asarray(r) for r in real]), jnp.int32(0))

    def ask(key: jax.Array, state: Shrunk, n: int, trials: Trials | None = None) -> Trials:
        del key, n
        given = leaves(trials, space, name, "descend(space, ...)")
        assert trials is not None
        parts = zip(given, jax.tree.leaves(state.stays), strict=True)
        out = [jnp.where(stays, x, ABSENT) for x, stays in parts]
        return trials._replace(arch=unflatten(space, out), trace=())

    def tell(key: jax.Array, trials: Trials, state: Shrunk) -> tuple[Trials, Shrunk]:
        del key
        trials = with_gradient(trials, name)
        live, count = told(trials), state.told + told(trials)
        kept, grads = [], []
        parts = zip(*(map(jax.tree.leaves, (trials.arch, trials.grad, state.stays))), strict=True)
        for logits, grad, stays in parts:
            average = mean(jnp.moveaxis(logits, 0, -1), trials.weight)
            kept.append(stays & (stay(average, stays, count) | (live == 0)))
            grads.append(jnp.where(stays, grad, 0.0))
        new = Shrunk(unflatten(space, kept), count)
        return trials._replace(grad=unflatten(space, grads)), new

    return Strategy(init, ask, tell)
