"""Relaxations: links that turn logits into weights, and pull gradients back through that map."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, Space, Strategy, Trials
from jnas.links import sparse_maps
from jnas.links.relaxed import (
    Schedule,
    at,
    exists,
    leaves,
    per_row,
    positive,
    present,
    soft,
    told,
    unflatten,
    with_gradient,
)


class Relaxed(NamedTuple):
    """What a relaxation wants to see again of a row."""

    logits: Any  # as they were given, leaves f32[n, ..., K]
    noise: Any  # what was drawn for each leaf
    temperature: jax.Array  # f32[n], of that time


def softmax(space: Space, temperature: Schedule = 1.0) -> Strategy:
    """The continuous relaxation of DARTS: `w = softmax(alpha / temperature)`.

    Liu et al. 2019, arXiv 1806.09055, equation 2. A falling temperature is the annealing of ASAP
    (Noy et al. 2020, arXiv 1904.04123).

    Args:
      space: the space.
      temperature: a number, or a schedule of the tells so far, such as one of optax.

    Returns:
      A link that proposes simplices for logits.

    Raises:
      InputError: the temperature is not positive.
    """
    smooth = lambda x, mask, noise, t: soft(x / t, mask)
    return _relaxation("softmax", space, smooth, temperature=temperature)


def gumbel_softmax(space: Space, temperature: Schedule = 1.0, hard: bool = False) -> Strategy:
    """Samples from the concrete distribution: `softmax((alpha + gumbel) / temperature)`.

    Soft it is SNAS (Xie et al. 2019, arXiv 1812.09926), hard GDAS (Dong and Yang 2019, arXiv
    1910.04465): the weights are the one-hot of the largest entry, exactly, and gradients pass
    straight through it to the soft sample.

    Args:
      space: the space.
      temperature: a number, or a schedule of the tells so far.
      hard: propose one-hot weights.

    Returns:
      A link that proposes simplices for logits.

    Raises:
      InputError: the temperature is not positive.
    """

    def smooth(x: jax.Array, mask: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
        return soft((x + noise) / t, mask)

    def one_path(x: jax.Array, mask: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
        return _one_hot(x + noise, mask)

    draw = lambda key, x, mask: jax.random.gumbel(key, x.shape)
    value = one_path if hard else smooth
    return _relaxation("gumbel_softmax", space, smooth, value, draw, temperature)


def reinmax(space: Space, temperature: Schedule = 1.0) -> Strategy:
    """Straight-through samples whose gradient is right to second order: ReinMax.

    Liu et al. 2023, arXiv 2304.08612, algorithm 2. With `p0 = softmax(alpha)`, a one-hot sample `D`
    of it and `p1 = (D + softmax(alpha / temperature)) / 2`, gradients flow to alpha through
    `2 p1 - p0 / 2`, where `p1` is differentiated as the softmax of its own logarithm shifted by
    alpha. At temperature 1 its expectation is the gradient itself for a quadratic loss.

    Args:
      space: the space.
      temperature: of the gradient alone, not of the sample; at least 1 is advised there.

    Returns:
      A link that proposes one-hot weights for logits.

    Raises:
      InputError: the temperature is not positive.
    """

    def draw(key: jax.Array, x: jax.Array, mask: jax.Array) -> jax.Array:
        return _one_hot(x + jax.random.gumbel(key, x.shape), mask)

    def smooth(x: jax.Array, mask: jax.Array, sample: jax.Array, t: jax.Array) -> jax.Array:
        middle = jax.lax.stop_gradient((sample + soft(x / t, mask)) / 2)
        shift = jax.lax.stop_gradient(jnp.log(jnp.where(mask, middle, 1.0)) - x)
        return 2 * soft(x + shift, mask) - soft(x, mask) / 2

    value = lambda x, mask, sample, t: sample
    return _relaxation("reinmax", space, smooth, value, draw, temperature)


def sparsemax(space: Space, temperature: Schedule = 1.0) -> Strategy:
    """The point of the simplex nearest to `alpha / temperature`; weak choices have weight 0.

    Martins and Astudillo 2016, arXiv 1602.02068.

    Args:
      space: the space.
      temperature: a number, or a schedule of the tells so far.

    Returns:
      A link that proposes simplices for logits.

    Raises:
      InputError: the temperature is not positive.
    """
    smooth = lambda x, mask, noise, t: sparse_maps.sparsemax(x / t, mask)
    return _relaxation("sparsemax", space, smooth, temperature=temperature)


def entmax15(space: Space, temperature: Schedule = 1.0) -> Strategy:
    """Between softmax and sparsemax: 1.5-entmax of `alpha / temperature`.

    Peters et al. 2019, arXiv 1905.05702.

    Args:
      space: the space.
      temperature: a number, or a schedule of the tells so far.

    Returns:
      A link that proposes simplices for logits.

    Raises:
      InputError: the temperature is not positive.
    """
    smooth = lambda x, mask, noise, t: sparse_maps.entmax15(x / t, mask)
    return _relaxation("entmax15", space, smooth, temperature=temperature)


def sigmoid(space: Space) -> Strategy:
    """Weights that do not compete: `w = sigmoid(alpha)`, each in (0, 1) by itself.

    FairDARTS (Chu et al. 2020, arXiv 1911.12126), with `zero_one_loss(space)` to its right. The
    weights of a place do not sum to 1.
    """
    smooth = lambda x, mask, noise, t: jnp.where(mask, jax.nn.sigmoid(x), 0.0)
    return _relaxation("sigmoid", space, smooth)


def dirichlet(space: Space) -> Strategy:
    """Samples from a Dirichlet distribution of concentration `elu(alpha) + 1`: DrNAS.

    Chen et al. 2021, arXiv 2006.10355. Gradients are pathwise: those of the gamma variables that a
    sample is made of, by implicit reparameterisation.

    Args:
      space: the space.

    Returns:
      A link that proposes simplices for logits.
    """

    def draw(key: jax.Array, x: jax.Array, mask: jax.Array) -> jax.Array:
        return jax.random.loggamma(key, jnp.where(mask, concentration(x), 1.0))

    def smooth(x: jax.Array, mask: jax.Array, sample: jax.Array, t: jax.Array) -> jax.Array:
        return soft(_as_drawn(jnp.where(mask, concentration(x), 1.0), sample), mask)

    return _relaxation("dirichlet", space, smooth, draw=draw)


def concentration(logits: jax.Array) -> jax.Array:
    """The concentration of DrNAS' Dirichlet distribution: 1 for a logit of 0."""
    return jax.nn.elu(logits) + 1


def dirichlet_mean(space: Space, logits: Architecture) -> Architecture:
    """The mean of the Dirichlet distributions of logits f32[..., K]: simplices."""
    parts = zip(jax.tree.leaves(logits), exists(space), strict=True)
    found = [jnp.where(present(r, x), concentration(x), 0.0) for x, r in parts]
    return unflatten(space, [c / jnp.sum(c, -1, keepdims=True) for c in found])


def dirichlet_mode(space: Space, logits: Architecture) -> Architecture:
    """The mode of the Dirichlet distributions of logits f32[..., K]: simplices.

    It is inside the simplex where all concentrations are above 1. Else the choices at or below 1
    have no weight, and where no choice is above 1 all of it is on the largest.
    """

    def mode(x: jax.Array, real: Any) -> jax.Array:
        mask = present(real, x)
        above = jnp.where(mask, jnp.maximum(concentration(x) - 1, 0.0), 0.0)
        mass = jnp.sum(above, -1, keepdims=True)
        return jnp.where(mass > 0, above / jnp.where(mass > 0, mass, 1.0), _one_hot(x, mask))

    parts = zip(jax.tree.leaves(logits), exists(space), strict=True)
    return unflatten(space, [mode(x, r) for x, r in parts])


@jax.custom_vjp
def _as_drawn(alpha: jax.Array, sample: jax.Array) -> jax.Array:
    """The logarithm of a gamma variable that was drawn with the shape parameter alpha."""
    del alpha
    return sample


def _as_drawn_backward(saved: tuple, grad: jax.Array) -> tuple[jax.Array, None]:
    alpha, sample = saved
    value = jnp.maximum(jnp.exp(sample), jnp.finfo(sample.dtype).tiny)
    return grad * jax.lax.random_gamma_grad(alpha, value) / value, None


_as_drawn.defvjp(lambda alpha, sample: (sample, (alpha, sample)), _as_drawn_backward)


def _one_hot(x: jax.Array, mask: jax.Array) -> jax.Array:
    k = jnp.argmax(jnp.where(mask, x, -jnp.inf), -1)
    return jax.nn.one_hot(k, x.shape[-1], dtype=x.dtype)


def _no_noise(key: jax.Array, x: jax.Array, mask: jax.Array) -> tuple[()]:
    del key, x, mask
    return ()


def _relaxation(
    name: str,
    space: Space,
    smooth: Callable[..., jax.Array],
    value: Callable[..., jax.Array] | None = None,
    draw: Callable[..., Any] = _no_noise,
    temperature: Schedule = 1.0,
) -> Strategy:
    """A link from logits to weights.

    Args:
      name: in errors.
      space: the space.
      smooth: `(logits, mask, noise, temperature) -> weights` of a leaf, through which gradients
        are pulled back.
      value: the same for the weights that are proposed, where they differ.
      draw: `(key, logits, mask) -> noise`.
      temperature: a number or a schedule.
    """
    positive(name, "temperature", temperature)
    real = exists(space)
    shown = value or smooth

    def each(f: Callable, logits: list, noise: list, t: jax.Array) -> list:
        parts = zip(logits, real, noise, strict=True)
        return [f(x, present(r, x), z, per_row(t, x)) for x, r, z in parts]

    def ask(key: jax.Array, state: jax.Array, n: int, trials: Trials | None = None) -> Trials:
        del n
        logits = leaves(trials, space, name, "descend(space, ...)")
        assert trials is not None
        t = jnp.full(logits[0].shape[0], at(temperature, state))
        keys = jax.random.split(key, len(logits))
        parts = zip(keys, logits, real, strict=True)
        noise = [draw(k, x, present(r, x)) for k, x, r in parts]
        weights = unflatten(space, each(shown, logits, noise, t))
        return trials._replace(arch=weights, trace=Relaxed(trials.arch, tuple(noise), t))

    def tell(key: jax.Array, trials: Trials, state: jax.Array) -> tuple[Trials, jax.Array]:
        del key
        trials = with_gradient(trials, name)
        given: Relaxed = trials.trace
        again = lambda logits: each(smooth, logits, list(given.noise), given.temperature)
        _, pull = jax.vjp(again, jax.tree.leaves(given.logits))
        (grads,) = pull(jax.tree.leaves(trials.grad))
        told_back = trials._replace(arch=given.logits, grad=unflatten(space, grads))
        return told_back, state + told(trials)

    return Strategy(lambda key, arch: jnp.int32(0), ask, tell)
