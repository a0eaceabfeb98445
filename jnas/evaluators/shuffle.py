"""Random orders of examples."""

import math

import jax
import jax.numpy as jnp


def shuffled(key: jax.Array, n: int) -> jax.Array:
    """A random order of `n` examples: int32[n].

    Sorts random numbers that carry the example in their lowest bits. XLA on CPU sorts one array
    several times faster than pairs, which is what `jax.random.permutation` sorts: for a perceptron
    that was a fifth of a training step. Equal random bits leave the rows of a tie in the order
    that they had; there are enough rounds for less than one tie to be expected.
    """
    if n > 2**16:
        return jax.random.permutation(key, n)
    low = max(n - 1, 1).bit_length()
    rounds = max(1, math.ceil((2 * math.log2(n) - 1) / (32 - low)))
    order = jnp.arange(n, dtype=jnp.uint32)
    for bits in jax.random.bits(key, (rounds, n), jnp.uint32):
        place = jax.lax.sort((bits >> low << low) | jnp.arange(n, dtype=jnp.uint32))
        order = order[place & (2**low - 1)]
    return order.astype(jnp.int32)
