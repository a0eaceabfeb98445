"""Crossover: links that make one child of two parents, leaves `[n, 2, ...]` to `[n, ...]`.

An architecture is read as the sequence of its choices, leaf after leaf. A child carries the metrics
of its first parent, so that what a link keeps there (a mutation rate) is inherited. With `space`, a
child that is not valid is repaired; a mutation to the right of a crossover repairs it anyhow.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space, Strategy, Trials, on_ask, propose, repaired
from jnas.links.variation import check_rate, happens


def crossover_one_point(rate: Any = 1.0, space: Space | None = None) -> Strategy:
    """The first parent up to a random cut, the second from there on (Holland 1975).

    Args:
      rate: the chance of a crossover; without one, the child is its first parent.
      space: where not all of its architectures are valid.

    Returns:
      A link from `[n, 2]` parents to `[n]` children.

    Raises:
      InputError: the rate is not in [0, 1].
    """
    return _at_points("crossover_one_point", 1, rate, space)


def crossover_two_point(rate: Any = 1.0, space: Space | None = None) -> Strategy:
    """The first parent, but for the stretch between two random cuts, which is the second's.

    De Jong 1975. The cuts are distinct, so that every crossover takes genes of both.

    Args:
      rate: the chance of a crossover; without one, the child is its first parent.
      space: where not all of its architectures are valid.

    Returns:
      A link from `[n, 2]` parents to `[n]` children.

    Raises:
      InputError: the rate is not in [0, 1].
    """
    return _at_points("crossover_two_point", 2, rate, space)


def crossover_multi_point(points: int, rate: Any = 1.0, space: Space | None = None) -> Strategy:
    """The parents in turn, from each of `points` distinct random cuts to the next.

    De Jong 1975, "An analysis of the behavior of a class of genetic adaptive systems".

    Args:
      points: how many cuts, drawn uniformly from the places between two choices.
      rate: the chance of a crossover; without one, the child is its first parent.
      space: where not all of its architectures are valid.

    Returns:
      A link from `[n, 2]` parents to `[n]` children.

    Raises:
      InputError: the rate is not in [0, 1], there is no point, or (as it is traced) the
        architecture has too few choices for so many cuts.
    """
    return _at_points("crossover_multi_point", points, rate, space)


def crossover_uniform(rate: Any = 1.0, swap: Any = 0.5, space: Space | None = None) -> Strategy:
    """Each choice is the second parent's with a chance of `swap`, else the first's.

    Syswerda 1989, "Uniform crossover in genetic algorithms".

    Args:
      rate: the chance of a crossover; without one, the child is its first parent.
      swap: a probability.
      space: where not all of its architectures are valid.

    Returns:
      A link from `[n, 2]` parents to `[n]` children.

    Raises:
      InputError: the rate or the swap is not in [0, 1].
    """
    check_rate("crossover_uniform", swap, "swap")

    def second(key: jax.Array, n: int, length: int) -> tuple[jax.Array, jax.Array]:
        bits = jax.random.bits(key, (n, length + 1), jnp.uint32)
        return bits[:, 0], happens(bits[:, 1:], swap)

    return _crossover("crossover_uniform", rate, second, space)


def _at_points(who: str, points: int, rate: Any, space: Space | None) -> Strategy:
    if points < 1:
        raise InputError(f"{who}({points}): a crossover cuts at 1 point or more")

    def second(key: jax.Array, n: int, length: int) -> tuple[jax.Array, jax.Array]:
        if points > length - 1:
            raise InputError(
                f"{who} cuts at {points} points, but an architecture of {length} choices has "
                f"{length - 1} places to cut"
            )
        bits = jax.random.bits(key, (n, points + 1), jnp.uint32)
        cuts = _distinct(bits[:, 1:], length - 1)
        behind = jnp.sum(np.arange(length) > cuts[..., None], 1)
        return bits[:, 0], behind % 2 == 1

    return _crossover(who, rate, second, space)


def _distinct(bits: jax.Array, bound: int) -> jax.Array:
    """Distinct integers in `[0, bound)`, `[n, k]` of 32 random bits each: Floyd's sampling."""
    chosen: list[jax.Array] = []
    for i in range(bits.shape[1]):
        last = bound - bits.shape[1] + i
        drawn = (bits[:, i] % np.uint32(last + 1)).astype(jnp.int32)
        taken = jnp.any(jnp.stack([drawn == c for c in chosen]), 0) if chosen else False
        chosen.append(jnp.where(taken, last, drawn))
    return jnp.stack(chosen, -1)


def _crossover(
    who: str,
    rate: Any,
    second: Callable[[jax.Array, int, int], tuple[jax.Array, jax.Array]],
    space: Space | None,
) -> Strategy:
    """A link that takes the choices `second(key, n, L)` of the second parent.

    `second` gives random bits uint32[n] for the crossover itself, and a mask bool[n, L].
    """
    check_rate(who, rate)

    def cross(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        trials = _pairs(who, trials, n)
        leaves, tree = jax.tree.flatten(trials.arch)
        sizes = [x[0, 0].size for x in leaves]
        bits, of_second = second(key, n, sum(sizes))
        of_second &= happens(bits, rate)[:, None]
        parts = jnp.split(of_second, np.cumsum(sizes)[:-1], -1)
        pick = lambda x, mask: jnp.where(mask.reshape(x[:, 0].shape), x[:, 1], x[:, 0])
        child = [pick(x, mask) for x, mask in zip(leaves, parts, strict=True)]
        metrics = jax.tree.map(lambda x: x[:, 0], trials.metrics)
        made = jax.tree.unflatten(tree, child)
        made = made if space is None else repaired(space, made)
        return propose(made)._replace(metrics=metrics)

    return on_ask(cross)


def _pairs(who: str, trials: Trials | None, n: int) -> Trials:
    """The trials, if they are two parents for each child."""
    shape = None if trials is None or trials.weight is None else trials.weight.shape
    if trials is None or shape != (n, 2):
        got = "one" if shape is None or len(shape) < 2 else shape[1]
        raise ValueError(
            f"{who} needs two parents for each child but was given {got}: "
            "put a selection with arity=2 to its left."
        )
    return trials
