"""An exact memory of the last vectors of choices, searched in constant time by their hash."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NONE = -1  # no number


class Lookup(NamedTuple):
    """The last `size` vectors put in, which are numbered 0, 1, ... as they come.

    Number `i` lies in row `i % size`. Vectors of equal hash form a chain from the youngest to the
    oldest, so that a number that is too old ends the chain and nothing is ever taken out of it.
    """

    rows: jax.Array  # int32[size, L]
    older: jax.Array  # int32[size], the number of the next older vector of that hash
    youngest: jax.Array  # int32[buckets], the number of the youngest vector of every hash
    told: jax.Array  # int32[], vectors ever put in


def empty(size: int, length: int) -> Lookup:
    """A memory of `size` vectors of some length."""
    buckets = 1 << (2 * size - 1).bit_length()
    none = lambda n: jnp.full(n, NONE, jnp.int32)
    return Lookup(jnp.zeros((size, length), jnp.int32), none(size), none(buckets), jnp.int32(0))


def find(lookup: Lookup, vector: jax.Array) -> jax.Array:
    """The number of a vector int32[L], int32[]; `NONE` where it is not among the last ones."""
    size = lookup.rows.shape[0]
    oldest = jnp.maximum(lookup.told - size, 0)

    def differs(i: jax.Array) -> jax.Array:
        return (i >= oldest) & jnp.any(lookup.rows[i % size] != vector)

    i = jax.lax.while_loop(differs, lambda i: lookup.older[i % size], _first(lookup, vector))
    return jnp.where(i >= oldest, i, NONE)


def insert(lookup: Lookup, vectors: jax.Array, wanted: jax.Array) -> tuple[Lookup, jax.Array]:
    """Puts vectors in that are not there yet.

    Args:
      lookup: the memory.
      vectors: int32[n, L].
      wanted: bool[n], which of them to put in. Of equal ones the first is.

    Returns:
      The memory, and the row that each vector was put in, int32[n]: `size` for a vector that was
      not, or that younger ones of the same call have pushed out already.
    """
    size, buckets = lookup.rows.shape[0], lookup.youngest.size

    def put(now: Lookup, row: tuple[jax.Array, jax.Array]) -> tuple[Lookup, jax.Array]:
        vector, want = row
        new = want & (find(now, vector) == NONE)
        place = jnp.where(new, now.told % size, size)
        bucket = jnp.where(new, _bucket(vector, buckets), buckets)
        return Lookup(
            now.rows.at[place].set(vector, mode="drop"),
            now.older.at[place].set(_first(now, vector), mode="drop"),
            now.youngest.at[bucket].set(now.told, mode="drop"),
            now.told + new,
        ), jnp.where(new, now.told, NONE)

    lookup, numbers = jax.lax.scan(put, lookup, (vectors, wanted))
    lasts = numbers >= jnp.maximum(lookup.told - size, 0)
    return lookup, jnp.where(lasts, numbers % size, size)


def repeats(vectors: jax.Array) -> jax.Array:
    """The row of the first vector that equals each, int32[n], of vectors int32[n, L]."""
    n, length = vectors.shape
    equal = jnp.ones((n, n), bool)
    for i in range(length):
        equal &= vectors[:, i] == vectors[:, None, i]
    return jnp.argmax(equal, -1).astype(jnp.int32)


def _first(lookup: Lookup, vector: jax.Array) -> jax.Array:
    return lookup.youngest[_bucket(vector, lookup.youngest.size)]


def _bucket(vector: jax.Array, buckets: int) -> jax.Array:
    """A hash below a power of 2: odd random factors, then the high bits mixed into the low ones."""
    odd = np.random.default_rng(0).integers(2**32, size=vector.size, dtype=np.uint32) | 1
    h = jnp.sum((vector.astype(jnp.uint32) + 1) * odd, dtype=jnp.uint32)
    h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
    return ((h ^ (h >> 13)) & np.uint32(buckets - 1)).astype(jnp.int32)
