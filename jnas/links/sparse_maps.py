"""Maps from logits to the simplex that give weak choices weight 0 exactly."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def sparsemax(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """The Euclidean projection onto the simplex (Martins and Astudillo 2016, arXiv 1602.02068).

    Args:
      logits: f32[..., K].
      mask: bool[..., K]; choices outside have weight 0.

    Returns:
      f32[..., K].
    """
    z = _shifted(logits, mask, 2.0)  # what is 1 below the largest has weight 0
    ordered = -jnp.sort(-z, -1)
    rank = jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    tau = (jnp.cumsum(ordered, -1) - 1) / rank
    support = jnp.sum(ordered > tau, -1, keepdims=True)
    return jnp.maximum(z - jnp.take_along_axis(tau, support - 1, -1), 0.0)


def _sparsemax_forward(logits: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    weights = sparsemax(logits, mask)
    return weights, weights


def _sparsemax_backward(weights: jax.Array, grad: jax.Array) -> tuple[jax.Array, None]:
    return _pull((weights > 0).astype(grad.dtype), grad), None


sparsemax.defvjp(_sparsemax_forward, _sparsemax_backward)


@jax.custom_vjp
def entmax15(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """1.5-entmax by its exact algorithm (Peters et al. 2019, arXiv 1905.05702, algorithm 2).

    Args:
      logits: f32[..., K].
      mask: bool[..., K]; choices outside have weight 0.

    Returns:
      f32[..., K].
    """
    z = _shifted(logits, mask, 4.0) / 2  # what is 1 below the largest half has weight 0
    ordered = -jnp.sort(-z, -1)
    rank = jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    mean = jnp.cumsum(ordered, -1) / rank
    spread = jnp.cumsum(ordered**2, -1) - rank * mean**2
    tau = mean - jnp.sqrt(jnp.maximum((1 - spread) / rank, 0.0))
    support = jnp.sum(tau <= ordered, -1, keepdims=True)
    return jnp.maximum(z - jnp.take_along_axis(tau, support - 1, -1), 0.0) ** 2


def _entmax15_forward(logits: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    weights = entmax15(logits, mask)
    return weights, weights


def _entmax15_backward(weights: jax.Array, grad: jax.Array) -> tuple[jax.Array, None]:
    return _pull(jnp.sqrt(weights), grad), None


entmax15.defvjp(_entmax15_forward, _entmax15_backward)


def _shifted(logits: jax.Array, mask: jax.Array, low: float) -> jax.Array:
    """Logits whose largest is 0; those outside of the mask are so low that they weigh nothing."""
    largest = jnp.max(jnp.where(mask, logits, -jnp.inf), -1, keepdims=True)
    return jnp.where(mask, logits - largest, -low)


def _pull(slope: jax.Array, grad: jax.Array) -> jax.Array:
    """The Jacobian `diag(s) - s s' / sum(s)`, times a gradient."""
    mean = jnp.sum(slope * grad, -1, keepdims=True) / jnp.sum(slope, -1, keepdims=True)
    return slope * (grad - mean)
