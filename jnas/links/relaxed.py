"""Relaxed architectures: trees of weights or logits f32[n, ..., K], and the gradients on them.

`K` is the most choices of a leaf; a place with fewer has weight 0 on those that it lacks. Logits of
`ABSENT` and below stand for a choice that is out of the search for good.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space, Trials, settle
from jnas.links.sums import log_softmax

ABSENT = -1e9

Schedule = float | Callable[[jax.Array], Any]


def exists(space: Space) -> list[np.ndarray]:
    """Which choices each place has, a bool[..., K] for every leaf of the space."""
    counts = jax.tree.leaves(space.num_choices)
    return [np.arange(int(c.max())) < c[..., None] for c in counts]


def present(real: np.ndarray, logits: jax.Array) -> jax.Array:
    """Which choices are in the search still: they exist and no logit rules them out."""
    return jnp.asarray(real) & (logits > ABSENT)


def soft(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """The softmax over the choices of a mask; all others have weight 0 and gradient 0."""
    return jnp.exp(log_softmax(jnp.where(mask, logits, -jnp.inf)))


def leaves(trials: Trials | None, space: Space, who: str, left: str) -> list[jax.Array]:
    """The relaxed leaves f32[n, ..., K] that a link was given to work on.

    Raises:
      ValueError: there are none, or they are not relaxed; it says what to put to the left.
    """
    if trials is None:
        raise ValueError(f"{who} has nothing to work on: put {left} to its left.")
    given = jax.tree.leaves(trials.arch)
    wanted = [real.shape for real in exists(space)]
    floats = all(jnp.issubdtype(x.dtype, jnp.floating) for x in given)
    if not floats or [x.shape[1:] for x in given] != wanted:
        raise ValueError(
            f"{who} was given architectures that are not relaxed over the space {space.name!r}: "
            f"put {left} to its left."
        )
    return given


def unflatten(space: Space, parts: list[Any]) -> Architecture:
    """Leaves in the structure of an architecture."""
    return jax.tree.unflatten(jax.tree.structure(space.num_choices), parts)


def with_gradient(trials: Trials, who: str) -> Trials:
    """Settled trials with a gradient; rows in which it is not finite get weight 0.

    Raises:
      ValueError: the trials have no gradient.
    """
    trials = settle(trials, who)
    if trials.grad is None:
        raise ValueError(
            f"{who} learns from gradients but was told scores alone: use an evaluator that gives "
            "the gradient of the loss, such as jnas.evaluators.bilevel."
        )
    fine = jnp.ones(trials.weight.shape, bool)
    for g in jax.tree.leaves(trials.grad):
        fine &= jnp.all(jnp.isfinite(g.reshape(g.shape[0], -1)), -1)
    return trials._replace(weight=jnp.where(fine, trials.weight, 0.0))


def told(trials: Trials) -> jax.Array:
    """1 where a tell has a row that counts, else 0: int32[]."""
    return jnp.any(trials.weight > 0).astype(jnp.int32)


def at(schedule: Schedule, count: jax.Array) -> jax.Array:
    """The value of a schedule after so many tells: f32[]."""
    value = schedule(count) if callable(schedule) else schedule
    return jnp.asarray(value, jnp.float32)


def positive(who: str, what: str, value: Schedule) -> None:
    """Raises `InputError` for a number that is not positive; a schedule passes."""
    if not callable(value) and not value > 0:
        raise InputError(f"{who}: {what}={value}: a positive number or a schedule is needed")


def per_row(value: jax.Array, like: jax.Array) -> jax.Array:
    """f32[n] in a shape that broadcasts with leaves `[n, ...]`."""
    return value.reshape(value.shape + (1,) * (like.ndim - 1))
