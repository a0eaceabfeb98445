"""Random keys that cost a third of JAX's own: for the choices of a strategy.

Random bits are most of what a search on a table costs, and Threefry is made to withstand more than
a search asks of it. These keys hash a counter by two rounds of a 32-bit mixer, each keyed by one
word. They are no cryptography, and they are not the user's keys: evaluators keep those.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

_GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: neighbours in a count land far apart


def _mix(x: jax.Array) -> jax.Array:
    """A permutation of uint32 in which every bit of `x` moves about half of all bits.

    The constants are those of the `lowbias32` mixer (C. Wellons, "Prospecting for hash functions",
    2018), found by search for the smallest bias.
    """
    word = jnp.uint32
    x = (x ^ (x >> word(16))) * word(0x7FEB352D)
    x = (x ^ (x >> word(15))) * word(0x846CA68B)
    return x ^ (x >> word(16))


def _hash(key: jax.Array, count: jax.Array) -> jax.Array:
    """32 bits for each count, under a key u32[2]."""
    first = _mix(count * jnp.uint32(_GOLDEN) + key[0])
    return _mix(first ^ key[1])


def _pair(key: jax.Array, count: jax.Array) -> jax.Array:
    """A key for each count: u32[..., 2]. A high bit keeps it from the bits of `_random_bits`."""
    other = jnp.stack([key[1], ~key[0]])
    return jnp.stack([_hash(other, count), _hash(other, ~count)], -1)


def _seed(seed: jax.Array) -> jax.Array:
    low = jnp.asarray(seed).astype(jnp.uint32)
    return _pair(jnp.stack([low, jnp.uint32(_GOLDEN)]), jnp.uint32(0))


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    count = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _pair(key, count)


def _fold_in(key: jax.Array, data: Any) -> jax.Array:
    return _pair(jnp.stack([~key[0], key[1]]), jnp.asarray(data).astype(jnp.uint32))


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    n = math.prod(shape)
    if bit_width == 64:
        words = _hash(key, jax.lax.iota(jnp.uint32, 2 * n)).reshape(2, n).astype(jnp.uint64)
        return (words[0] << jnp.uint64(32) | words[1]).reshape(shape)
    found = _hash(key, jax.lax.iota(jnp.uint32, n)).reshape(shape)
    return found if bit_width == 32 else (found >> (32 - bit_width)).astype(f"uint{bit_width}")


QUICK = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="quick",
    tag="quick",
)


def quick(key: jax.Array) -> jax.Array:
    """A quick key from any other: of the same shape, and as different as those were."""
    if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    return jax.random.wrap_key_data(key[..., :2], impl=QUICK)
