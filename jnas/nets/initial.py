"""Initial weights of a whole network from one draw.

A draw for each layer costs more to compile than the layer: a hash of 20 rounds for every shape. So
layers take their uniform numbers from a pool that is filled once.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class _Pool:
    """Uniform numbers in [-1, 1) to be taken in order; without numbers, it only counts."""

    def __init__(self, numbers: jax.Array | None):
        self.numbers, self.taken = numbers, 0

    def take(self, n: int) -> jax.Array:
        start, self.taken = self.taken, self.taken + n
        return jnp.zeros(n) if self.numbers is None else self.numbers[start : self.taken]


_pools: list[_Pool] = []


class _Idle:
    """Stands for the random streams of layers that take all their numbers from the pool."""

    def params(self) -> None:
        return None


def idle(rngs: nnx.Rngs) -> Any:
    """Random streams for layers that draw by `uniform` alone: of no use where there is a pool.

    A stream counts its draws, and in a traced program of many layers that takes minutes.
    """
    return _Idle() if _pools else rngs


def uniform(key: jax.Array, shape: Sequence[int], bound: float) -> jax.Array:
    """Uniform numbers in [-bound, bound): from the pool of the network that is being made.

    Args:
      key: of the draw where there is no pool.
      shape: of the result.
      bound: the largest absolute value.

    Returns:
      float32 of that shape.
    """
    if _pools:
        return bound * _pools[-1].take(math.prod(shape)).reshape(shape)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def lecun_uniform(key: jax.Array, shape: Sequence[int], *unused: Any, **unused_too: Any) -> Any:
    """LeCun's uniform initialiser for a dense kernel `[inputs, outputs]`, as Flax calls it."""
    del unused, unused_too
    return uniform(key, shape, math.sqrt(3 / shape[0]))


@contextlib.contextmanager
def _pool(numbers: jax.Array | None) -> Iterator[_Pool]:
    _pools.append(_Pool(numbers))
    try:
        yield _pools[-1]
    finally:
        _pools.pop()


def pooled(make: Callable[[nnx.Rngs], nnx.Module], key: jax.Array) -> nnx.Module:
    """`make(rngs)` with the uniform numbers of all its layers drawn at once."""
    with _pool(None) as counter:
        nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    k_pool, k_rest = jax.random.split(key)
    numbers = jax.random.uniform(k_pool, (counter.taken,), minval=-1.0)
    with _pool(numbers):
        return make(nnx.Rngs(k_rest))
