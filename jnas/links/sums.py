"""Sums whose rounding does not depend on what else is computed beside them.

XLA adds up a row in another order on a CPU where `vmap` makes more rows of it. These do not, so
that each of many seeds side by side learns what it learns alone, bit for bit.
"""

import functools

import jax
import jax.numpy as jnp


def total(x: jax.Array) -> jax.Array:
    """The sum along the last axis, f32[..., K] to f32[...], as a tree of additions of pairs."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        pairs = x[..., :half] + x[..., half : 2 * half]
        x = pairs if x.shape[-1] % 2 == 0 else jnp.concatenate([pairs, x[..., -1:]], -1)
    return x[..., 0]


def mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """The mean along the last axis by weight, 0 where all weights are: f32[n] to f32[]."""
    mass = total(weight)
    return total(weight * values) / jnp.where(mass > 0, mass, 1.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def spread(x: jax.Array, n: int) -> jax.Array:
    """`n` copies of an array, `[n, ...]`, whose gradients are added by `total`."""
    return jnp.broadcast_to(x, (n, *x.shape))


spread.defvjp(
    lambda x, n: (spread(x, n), None),
    lambda n, _, gradient: (total(jnp.moveaxis(gradient, 0, -1)),),
)


@jax.custom_vjp
def log_softmax(logits: jax.Array) -> jax.Array:
    """The logarithms of the probabilities that logits f32[..., K] stand for."""
    logits = logits - jnp.max(logits, -1, keepdims=True)
    return logits - jnp.log(total(jnp.exp(logits)))[..., None]


def _log_softmax_forward(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_chance = log_softmax(logits)
    return log_chance, log_chance


def _log_softmax_backward(log_chance: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (gradient - jnp.exp(log_chance) * total(gradient)[..., None],)


log_softmax.defvjp(_log_softmax_forward, _log_softmax_backward)


@jax.custom_vjp
def entropy(log_chance: jax.Array) -> jax.Array:
    """The entropy of probabilities, given their logarithms: f32[..., K] to f32[...]."""
    return -total(jnp.exp(log_chance) * log_chance)


def _entropy_backward(log_chance: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (-jnp.exp(log_chance) * (log_chance + 1) * gradient[..., None],)


entropy.defvjp(lambda log_chance: (entropy(log_chance), log_chance), _entropy_backward)
