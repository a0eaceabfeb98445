"""Variation: links that make new architectures, from nothing or from one parent each.

Where a space has architectures that are not valid, a mutation is drawn until the child is valid, 8
times at most, and the child is repaired then.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import (
    InputError,
    Space,
    Strategy,
    Trials,
    choice_counts,
    from_vector,
    on_ask,
    propose,
    repaired,
    repairs,
    sample,
    to_vector,
)


def sample_uniform(space: Space) -> Strategy:
    """Proposes architectures drawn uniformly from the space; ignores what comes from the left."""
    return on_ask(lambda key, trials, n: propose(sample(space, key, n)))


def mutate_one(space: Space) -> Strategy:
    """Changes exactly one choice, drawn uniformly, to another one.

    Real et al. 2019, arXiv 1802.01548, section 3.2. Places with a single choice are never drawn.

    Args:
      space: the space of the architectures.

    Returns:
      A link from `[n]` parents to `[n]` children.
    """
    counts = choice_counts(space)
    free, nth = np.uint32(np.sum(counts > 1)), np.cumsum(counts > 1).astype(np.uint32) - 1
    if not free:
        raise ValueError(f"mutate_one: space {space.name!r} has no choice that could be changed.")

    def change(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        x = _parents("mutate_one", space, trials, n)
        bits = jax.random.bits(key, _draws(space, (n, 2)), jnp.uint32)  # as in `below`
        hit = nth == bits[..., :1] % free
        step = 1 + bits[..., 1:] % np.maximum(counts - 1, 1).astype(np.uint32)
        moved = (x + step.astype(jnp.int32)) % counts
        return _children(space, jnp.where(hit & (counts > 1), moved, x))

    return on_ask(change)


def mutate_resample(space: Space, rate: Any) -> Strategy:
    """Changes each choice to another one with a chance of `rate`, apart from the others.

    The mutation of genetic algorithms, for genes of any number of values; a rate of one by the
    number of choices is the usual one (Bäck 1993, "Optimal mutation rates in genetic search").

    Args:
      space: the space of the architectures.
      rate: a probability, or f32[n] with one for each child; it may be traced.

    Returns:
      A link from `[n]` parents to `[n]` children. A child may equal its parent.

    Raises:
      InputError: the rate is not in [0, 1], or the space has nothing to change.
    """
    counts = choice_counts(space)
    others = np.maximum(counts - 1, 1).astype(np.uint32)

    def change(bits: jax.Array, x: jax.Array) -> jax.Array:
        return (x + 1 + (bits % others).astype(jnp.int32)) % counts

    return _mutation("mutate_resample", space, rate, counts > 1, change)


def flip_bits(space: Space, rate: Any) -> Strategy:
    """Flips each binary choice with a chance of `rate`; places of more choices stay as they are.

    Holland 1975; the mutation of the textbook's genetic algorithm.

    Args:
      space: the space of the architectures.
      rate: a probability, or f32[n] with one for each child; it may be traced.

    Returns:
      A link from `[n]` parents to `[n]` children.

    Raises:
      InputError: the rate is not in [0, 1], or no place of the space has two choices.
    """
    return _mutation("flip_bits", space, rate, choice_counts(space) == 2, lambda bits, x: 1 - x)


def mutate_step(space: Space, rate: Any, ordered: Any = None, reflect: bool = True) -> Strategy:
    """Moves each ordered choice up or down by one with a chance of `rate`: creep mutation.

    For places whose choices are a scale, such as widths and depths. Davis 1991, "Handbook of
    Genetic Algorithms".

    Args:
      space: the space of the architectures.
      rate: a probability, or f32[n] with one for each child; it may be traced.
      ordered: a tree like `space.num_choices` of booleans, or of boolean arrays, that says which
        places are ordered; None for all. The others stay as they are.
      reflect: a step over the end goes the other way; else it stays where it is.

    Returns:
      A link from `[n]` parents to `[n]` children.

    Raises:
      InputError: the rate is not in [0, 1], or there is no ordered place of two choices or more.
    """
    counts = choice_counts(space)

    def change(bits: jax.Array, x: jax.Array) -> jax.Array:
        step = jnp.where(bits & 1, 1, -1)
        outside = (x + step < 0) | (x + step >= counts)
        return jnp.where(outside, x - step if reflect else x, x + step)

    where = np.ones(counts.size, bool)
    if ordered is not None:
        where = by_place(space, ordered, bool, "ordered", "booleans")
    return _mutation("mutate_step", space, rate, where & (counts > 1), change)


def happens(bits: jax.Array, rate: jax.Array | float) -> jax.Array:
    """True with a chance of `rate`, decided by 32 random bits (uint32).

    Where it is true, the low bits are still random, unless the rate is tiny.
    """
    rate = jnp.asarray(rate, jnp.float32)
    limit = jnp.clip(rate * 2.0**32, 0, 2.0**32 - 2.0**8).astype(jnp.uint32)
    return (bits < limit) | (rate >= 1)


def check_rate(who: str, rate: Any, name: str = "rate") -> None:
    """Raises `InputError` unless the rate is a probability; one that is traced passes."""
    if isinstance(rate, jax.Array):
        return
    number = isinstance(rate, int | float | np.number | np.ndarray)
    if not number or not np.all((rate >= 0) & (rate <= 1)):
        raise InputError(f"{who}({name}={rate!r}): a probability is in [0, 1]")


def _mutation(who: str, space: Space, rate: Any, places: np.ndarray, change: Any) -> Strategy:
    """A link that replaces choices `x` by `change(bits, x)`, each of the `places` at the rate."""
    check_rate(who, rate)
    if not places.any():
        raise InputError(f"{who}: space {space.name!r} has no choice that it could change")

    def mutate(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        x = _parents(who, space, trials, n)
        bits = jax.random.bits(key, _draws(space, x.shape), jnp.uint32)
        hit = happens(bits, jnp.asarray(rate)[..., None])
        return _children(space, jnp.where(hit & places, change(bits, x), x))

    return on_ask(mutate)


TRIES = 8  # mutants of a parent, of which the first valid one is its child


def _draws(space: Space, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the random bits: several for each child where a mutant may be invalid."""
    return (TRIES, *shape) if repairs(space) else shape


def _children(space: Space, x: jax.Array) -> Trials:
    """Trials of the mutants int32[n, L], or of the first valid ones of int32[TRIES, n, L].

    Where none is valid the first is repaired, which may make it equal to its parent.
    """
    if x.ndim == 3:
        valid = jax.vmap(jax.vmap(space.is_valid))(from_vector(space, x))
        x = jnp.take_along_axis(x, jnp.argmax(valid, 0)[None, :, None], 0)[0]
    return propose(repaired(space, from_vector(space, x)))


def _parents(who: str, space: Space, trials: Trials | None, n: int) -> jax.Array:
    """The vectors `[n, L]` of one parent for each child."""
    if trials is None:
        raise ValueError(f"{who} needs parents: put a selection to its left.")
    x = to_vector(space, trials.arch)
    if x.ndim != 2:
        raise ValueError(
            f"{who} was given {x.shape[1]} parents for each child: put a crossover to its left."
        )
    if x.shape[0] != n:
        raise ValueError(
            f"{who} was given {x.shape[0]} parents for {n} children: "
            "put a selection between the memory and it."
        )
    return x


def by_place(space: Space, tree: Any, dtype: type, name: str, what: str) -> np.ndarray:
    """Values by place, from a tree like `num_choices` of values, or of arrays of them: [L].

    Raises:
      InputError: a tree of another form; it is called by its name, and says what is in it.
    """

    def spread(count: np.ndarray, x: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(x, dtype), count.shape).ravel()

    try:
        parts = jax.tree.map(spread, space.num_choices, tree)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}={tree}: it has to be a tree of {what} in the form of num_choices, "
            f"{jax.tree.structure(space.num_choices)}"
        ) from None
    return np.concatenate(jax.tree.leaves(parts))
