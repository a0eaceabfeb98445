"""Counts that are exact for concrete architectures, however large, and jittable for all."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space, choice_counts, from_vector

LARGEST = 2**31 - 1


class Numbers:
    """Arrays to count with: NumPy's of int64, or JAX's of int32, or of float32 where too large."""

    def __init__(self, library: Any, dtype: Any):
        self.library, self.dtype = library, dtype

    def take(self, table: Any, *index: Any) -> Any:
        """The entries of a table of numbers at some choices."""
        return self.library.asarray(table, self.dtype)[index]

    def flag(self, condition: Any) -> Any:
        """1 where a condition holds."""
        return self.library.asarray(condition, self.dtype)

    def sum(self, x: Any) -> Any:
        """Over the last axis; an int stays one of the dtype."""
        return self.library.sum(x, -1, dtype=self.dtype)


def exact(
    count: Callable[[Numbers, Architecture], Any], most: int
) -> Callable[[Architecture], Any]:
    """A count as a function of an architecture.

    Args:
      count: the formula, of additions and products of numbers that `Numbers` gives, for leaves
        `[..., *shape]`.
      most: no architecture has more.

    Returns:
      The function: int64 for architectures of NumPy ints; else jittable, int32, or float32 (to 7
      digits) where some architecture has more than an int32 holds.
    """
    dtype = jnp.int32 if most <= LARGEST else jnp.float32

    def number(arch: Architecture) -> Any:
        concrete = all(not isinstance(x, jax.Array) for x in jax.tree.leaves(arch))
        library, kind = (np, np.int64) if concrete else (jnp, dtype)
        index = jax.tree.map(lambda x: library.asarray(x), arch)
        return count(Numbers(library, kind), index)

    return number


def exact_counts(
    space: Space, formulas: dict[str, Callable[[Numbers, Architecture], Any]]
) -> dict[str, Callable]:
    """`exact` for each formula, its largest value bounded from below by uniform architectures.

    Those are all that have choice k, or the last one where there are fewer, at every place of some
    leaves and the last choice at all others: formulas that grow with every size and take one block
    or another have their largest value among them.
    """
    counts = choice_counts(space)
    rows = [np.minimum(k, counts - 1) for k in range(int(counts.max()))]
    read = lambda row: jax.tree.map(np.asarray, from_vector(space, jnp.asarray(row)))
    last, uniform = read(counts - 1), [read(row) for row in rows]
    mixed = [last, *uniform]
    if isinstance(last, dict):
        mixed += [{**last, key: row[key]} for row in uniform for key in last]
    made = {}
    for name, formula in formulas.items():
        most = max(int(formula(Numbers(np, np.int64), arch)) for arch in mixed)
        made[name] = exact(formula, most)
    return made


def counted(space: Space, settings: Any, params: Callable, flops: Callable) -> Space:
    """A space that has these counts, exact.

    Args:
      space: it is given the counts.
      settings: of the space.
      params: `(settings, numbers, arch) -> ` the parameters, a formula as `exact` takes it.
      flops: the same for multiply-adds.
    """
    given = lambda formula: lambda numbers, arch: formula(settings, numbers, arch)
    space.counts.update(exact_counts(space, {"params": given(params), "flops": given(flops)}))
    return space


def rising(name: str, values: Sequence[float]) -> tuple:
    """The values as a tuple.

    Raises:
      InputError: they are none, not positive or not in rising order.
    """
    values = tuple(values)
    if not values or not all(a < b for a, b in zip((0, *values), values, strict=False)):
        raise InputError(f"{name}={list(values)}: at least one, positive and in rising order")
    return values


def rising_numbers(name: str, values: Sequence[float]) -> tuple:
    """`rising`, with whole numbers as ints."""
    return tuple(int(x) if x == int(x) else x for x in rising(name, values))


def odd(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """`rising`, of odd numbers.

    Raises:
      InputError: one is even.
    """
    values = rising(name, values)
    if any(x % 2 == 0 for x in values):
        raise InputError(f"{name}={list(values)}: they have to be odd")
    return values


def depths(least: int, depth: int) -> None:
    """Checks the fewest and the most layers.

    Raises:
      InputError: the fewest are more than the most.
    """
    if least > depth:
        raise InputError(f"least={least}: it has to be at most depth={depth}")


def some_of(name: str, values: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """The values as a tuple.

    Raises:
      InputError: they are none, unknown or not different.
    """
    values = tuple(values)
    if not values or set(values) - set(allowed) or len(set(values)) < len(values):
        words = ", ".join(allowed)
        raise InputError(f"{name}={list(values)}: at least one, each once, of {words}")
    return values


def at_least(least: int, /, **values: int) -> None:
    """Checks whole numbers.

    Raises:
      InputError: one is less than `least`.
    """
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name}={value!r}: it has to be a whole number of at least {least}")
