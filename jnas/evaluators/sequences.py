"""What is counted on sequences of tokens, as arrays: edit distances and greedy CTC decoding."""

import jax
import jax.numpy as jnp
import numpy as np


def edit_distance(a: jax.Array, b: jax.Array, m: jax.Array, n: jax.Array) -> jax.Array:
    """Levenshtein distance: the fewest insertions, deletions and substitutions from a to b.

    A row of the table at a time; the chain of insertions within a row is a running minimum:

      `d[i, j] = min_{k <= j} (t[k] - k) + j`
      `t[k] = min(d[i-1, k] + 1, d[i-1, k-1] + [a_i != b_k])`

    Args:
      a: int32[A], of which the first m count.
      b: int32[B], of which the first n count.
      m: int32[].
      n: int32[].

    Returns:
      int32[].
    """
    places = jnp.arange(b.shape[0] + 1)

    def row(before: jax.Array, item: tuple) -> tuple[jax.Array, None]:
        i, token = item
        moved = before[:-1] + (b != token)
        t = jnp.concatenate([before[:1] + 1, jnp.minimum(before[1:] + 1, moved)])
        new = jax.lax.cummin(t - places) + places
        return jnp.where(i < m, new, before), None

    last, _ = jax.lax.scan(row, places, (jnp.arange(a.shape[0]), a))
    return last[n]


def until(tokens: jax.Array, stop: int) -> jax.Array:
    """How many tokens of each sequence come before the first `stop`: int32[..., T] to [...]."""
    return jnp.sum(jnp.cumsum(tokens == stop, -1) == 0, -1)


def collapse(frames: jax.Array, live: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Greedy CTC decoding: repeats are merged, then blanks (0) dropped.

    Graves et al. 2006, Connectionist Temporal Classification, section 3.2, best path decoding.

    Args:
      frames: the likeliest label of every frame, int32[B, T].
      live: whether a frame is one of the sequence, bool[B, T].

    Returns:
      `(labels, lengths)`: int32[B, T], padded with 0, and int32[B].
    """
    before = jnp.pad(frames, ((0, 0), (1, 0)))[:, :-1]
    keep = (frames != 0) & (frames != before) & live
    place = jnp.where(keep, jnp.cumsum(keep, -1) - 1, frames.shape[1])
    put = lambda row, at: jnp.zeros_like(row).at[at].set(row, mode="drop")
    return jax.vmap(put)(frames, place), jnp.sum(keep, -1)


def frames_kept(frames: jax.Array, inputs: int, outputs: int) -> jax.Array:
    """How many of `outputs` steps a net gives for the first `frames` of its inputs, rounded up.

    Args:
      frames: int32[B].
      inputs: the frames of the padded input.
      outputs: the steps of the padded output.
    """
    return jnp.asarray(np.ceil(np.arange(inputs + 1) * outputs / inputs), jnp.int32)[frames]
