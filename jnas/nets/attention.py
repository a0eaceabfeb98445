"""Multi-head attention of which an architecture takes the first heads, and position encodings.

Vaswani et al. 2017, arXiv 1706.03762; rotary positions of Su et al. 2021, arXiv 2104.09864.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.nets.sizes import Dense, Embedding, Pick, Size

POSITIONS = ("learned", "sinusoidal", "rotary", "none")
BASE = 10_000.0  # of the wavelengths of sinusoids and rotations; both papers


class Attention(nnx.Module):
    """Attention of `x` to itself, or to a memory.

    Args:
      width: of the input and the output.
      inner: the width of all heads together.
      head: the width of a head.
      causal: nothing attends to what comes later.
      position: the choice of encoding where rotary may be one; its labels are of `POSITIONS`.
      rngs: the source of the parameters.
    """

    def __init__(
        self,
        width: Size,
        inner: Size,
        head: int,
        *,
        causal: bool = False,
        position: Pick | None = None,
        rngs: nnx.Rngs,
    ):
        self.query, self.key, self.value = (Dense(width, inner, rngs=rngs) for _ in range(3))
        self.out = Dense(inner, width, rngs=rngs)
        self.head, self.causal, self.position = head, causal, position

    def __call__(
        self, x: jax.Array, keep: jax.Array | None = None, memory: jax.Array | None = None
    ) -> jax.Array:
        """Attends.

        Args:
          x: `[B, T, width]`.
          keep: f32[B, S], 0 for what nothing attends to; None for all.
          memory: `[B, S, width]`; None is x itself.

        Returns:
          `[B, T, width]`.
        """
        memory = x if memory is None else memory
        q, k, v = self._heads(self.query(x)), self._heads(self.key(memory)), self.value(memory)
        if self.position is not None:
            q, k = self._turned(q), self._turned(k)
        y = attend(q, k, self._heads(v), keep, self.causal)
        return self.out(y.reshape(*x.shape[:-1], -1))

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], -1, self.head)

    def _turned(self, x: jax.Array) -> jax.Array:
        assert self.position is not None
        turned, plain = lambda: rotary(x), lambda: x
        words = self.position.labels
        return self.position.blend(*(turned if word == "rotary" else plain for word in words))


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, keep: jax.Array | None, causal: bool
) -> jax.Array:
    """Attention of scaled products: `softmax(q k / sqrt(D)) v`, the softmax in float32.

    Args:
      q: `[B, T, H, D]`.
      k: `[B, S, H, D]`.
      v: `[B, S, H, D]`.
      keep: f32[B, S], 0 for what nothing attends to; None for all.
      causal: whether step t attends to steps up to t only.

    Returns:
      `[B, T, H, D]`. Where a row has nothing to attend to it takes the mean.
    """
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    low = jnp.finfo(jnp.float32).min / 2
    if keep is not None:
        scores = jnp.where(keep[:, None, None, :] > 0, scores, low)
    if causal:
        ahead = np.arange(k.shape[1]) > np.arange(q.shape[1])[:, None]
        scores = jnp.where(ahead, low, scores)
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, -1).astype(v.dtype), v)


def rotary(x: jax.Array) -> jax.Array:
    """Turns the pairs (i, i + D/2) of every head `[B, T, H, D]` by angles that grow with time."""
    half = x.shape[-1] // 2
    speed = BASE ** (-np.arange(half) / half)
    angle = np.arange(x.shape[1])[:, None] * speed
    cos, sin = (jnp.asarray(f(angle), x.dtype)[:, None] for f in (np.cos, np.sin))
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def sinusoids(length: int, width: Size) -> jax.Array:
    """Waves `[T, width]`: sine and cosine take turns, of wavelengths set by the chosen width."""
    mask = width.mask()
    many = width.most if mask is None else jnp.sum(mask)
    pair = np.arange(width.most) // 2
    angle = np.arange(length)[:, None] * jnp.exp(-math.log(BASE) * 2 * pair / many)
    waves = jnp.where(np.arange(width.most) % 2 == 0, jnp.sin(angle), jnp.cos(angle))
    return width.keep(waves / jnp.sqrt(many))


class Sinusoidal(nnx.Module):
    """Adds sinusoids, divided by the root of the width.

    The paper multiplies its embeddings by that root instead; only their sum's scale differs.
    """

    def __init__(self, width: Size):
        self.width = width

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + sinusoids(x.shape[1], self.width).astype(x.dtype)


class Learned(nnx.Module):
    """Adds a learned vector for every position."""

    def __init__(self, length: int, width: Size, *, rngs: nnx.Rngs):
        self.table = Embedding(length, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.table(jnp.arange(x.shape[1]))


def unchanged(x: jax.Array) -> jax.Array:
    return x
