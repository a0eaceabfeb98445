"""Rank correlation: how well one score orders architectures as another does."""

import jax
import jax.numpy as jnp


def kendall(a: jax.Array, b: jax.Array) -> jax.Array:
    """Kendall's tau-b, which takes ties into account.

    Kendall 1945, "The treatment of ties in ranking problems":
    `(concordant - discordant) / sqrt((pairs - ties in a) (pairs - ties in b))`. It needs memory for
    all pairs.

    Args:
      a: scores of architectures, such as those of a supernet, f32[n].
      b: other scores of the same, such as those of a table or of stand-alone training, f32[n].

    Returns:
      f32[] in [-1, 1]; NaN where one of them is constant.

    >>> import jax.numpy as jnp
    >>> round(float(kendall(jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([1.0, 2.0, 4.0, 3.0]))), 4)
    0.6667
    """
    of_pairs = lambda x: jnp.sign(x[:, None] - x[None, :])
    p, q = of_pairs(jnp.asarray(a)), of_pairs(jnp.asarray(b))
    some = jnp.sum(jnp.abs(p)), jnp.sum(jnp.abs(q))
    return jnp.sum(p * q) / jnp.sqrt(some[0]) / jnp.sqrt(some[1])


def spearman(a: jax.Array, b: jax.Array) -> jax.Array:
    """Spearman's rho: the linear correlation of the ranks, equal scores sharing their mean rank.

    Args:
      a: scores of architectures, f32[n].
      b: other scores of the same, f32[n].

    Returns:
      f32[] in [-1, 1]; NaN where one of them is constant.
    """
    p, q = (x - jnp.mean(x) for x in (ranks(jnp.asarray(a)), ranks(jnp.asarray(b))))
    return jnp.sum(p * q) / jnp.sqrt(jnp.sum(p**2)) / jnp.sqrt(jnp.sum(q**2))


def ranks(x: jax.Array) -> jax.Array:
    """Ranks from 1 for the smallest, equal values sharing their mean rank: f32[n]."""
    ordered = jnp.sort(x)
    first = jnp.searchsorted(ordered, x, side="left")
    last = jnp.searchsorted(ordered, x, side="right")
    return (first + last + 1) / 2


def rank_correlation(a: jax.Array, b: jax.Array) -> dict[str, jax.Array]:
    """`kendall` and `spearman` of scores f32[n], by their names."""
    return {"kendall": kendall(a, b), "spearman": spearman(a, b)}
