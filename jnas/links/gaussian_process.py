"""A Gaussian process over categorical choices: its likelihood, its posterior and its gradient."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from jax.scipy.stats import norm

LEAST_NOISE = 1e-3  # single precision factors 300 rows of correlation 1 with it


class Hyper(NamedTuple):
    """The hyperparameters of the covariance, all as natural logarithms."""

    amplitude: jax.Array  # f32[], the variance of the function
    decay: jax.Array  # f32[L], what a different choice at each place costs
    noise: jax.Array  # f32[], the variance of an observation around it, relative to the amplitude


class Process(NamedTuple):
    """A process that has seen the live rows of a memory of fixed size."""

    hyper: Hyper
    vectors: jax.Array  # int32[m, L]
    live: jax.Array  # bool[m]
    factor: jax.Array  # f32[m, m], lower Cholesky factor of the covariance; 1 at rows not live
    dual: jax.Array  # f32[m], the inverse covariance times y


def _one_by_one(f: Callable[..., Any]) -> Callable[..., Any]:
    """Under vmap, one matrix after the other on CPU.

    Batched LAPACK calls share XLA's threads with one another and with those of BLAS: several in
    one program wait for each other, at times for ever (jax 0.10, two cores).
    """
    sequential = jax.custom_batching.sequential_vmap(f)
    return lambda *args: (sequential if jax.default_backend() == "cpu" else f)(*args)


_cholesky = _one_by_one(lambda matrix: jnp.linalg.cholesky(matrix, symmetrize_input=False))
_solve = _one_by_one(lambda factor, y: cho_solve((factor, True), y))
_forward = _one_by_one(lambda factor, y: solve_triangular(factor, y, lower=True))


def default_hyper(length: int) -> Hyper:
    """Where fitting starts, and the centre of its prior, for `length` places.

    Two architectures that differ everywhere correlate by `exp(-4)`; noise is 3 %.
    """
    decay = jnp.full(length, math.log(4 / length), jnp.float32)
    return Hyper(jnp.float32(0), decay, jnp.float32(math.log(0.03)))


def correlation(a: jax.Array, b: jax.Array, decay: jax.Array) -> jax.Array:
    """`exp(-sum_p decay_p [a_p != b_p])` of int32[m, L] and int32[n, L] rows: f32[m, n].

    The product of a kernel for each place, and the squared exponential kernel of their one-hot
    codes, with a length scale of `decay_p ** -0.5` at place `p`.
    """
    cost = jnp.exp(decay)
    total = jnp.zeros((a.shape[0], b.shape[0]))
    for p in range(a.shape[-1]):
        total += jnp.where(a[:, p, None] != b[:, p], cost[p], 0.0)
    return jnp.exp(-total)


def condition(vectors: jax.Array, y: jax.Array, live: jax.Array, hyper: Hyper) -> Process:
    """The process of zero mean that has seen `y` at the live rows: O(m^3).

    Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", Algorithm 2.1.
    """
    both = live[:, None] & live
    eye = jnp.eye(live.size)
    prior = jnp.exp(hyper.amplitude) * (
        correlation(vectors, vectors, hyper.decay) + jnp.exp(hyper.noise) * eye
    )
    factor = _cholesky(jnp.where(both, prior, eye))
    dual = _solve(factor, jnp.where(live, y, 0.0))
    return Process(hyper, vectors, live, factor, dual)


def log_likelihood(process: Process, y: jax.Array) -> jax.Array:
    """The logarithm of the marginal likelihood of the live `y` that the process has seen."""
    fit = fold(jnp.where(process.live, y * process.dual, 0.0))
    volume = 2 * fold(jnp.log(jnp.diagonal(process.factor)))
    return -0.5 * (fit + volume + jnp.sum(process.live) * math.log(2 * math.pi))


def gradient(process: Process) -> Hyper:
    """The derivative of the marginal log likelihood: `tr((a a' - K^-1) dK) / 2`, a the dual.

    Rasmussen and Williams 2006, equation 5.9.
    """
    hyper, live, x = process.hyper, process.live, process.vectors
    eye = jnp.eye(live.size)
    a = process.dual
    outer = jax.lax.optimization_barrier(a[:, None] * a)
    slope = 0.5 * (outer - _solve(process.factor, eye))
    slope = jnp.where(live[:, None] & live, slope, 0.0)
    amplitude = jnp.exp(hyper.amplitude)
    smooth = slope * amplitude * correlation(x, x, hyper.decay)
    noise = fold(jnp.diagonal(slope)) * amplitude * jnp.exp(hyper.noise)
    differ = [fold(fold(jnp.where(v[:, None] != v, smooth, 0.0))) for v in x.T]
    return Hyper(fold(fold(smooth)) + noise, -jnp.exp(hyper.decay) * jnp.stack(differ), noise)


def whitened(process: Process, vectors: jax.Array) -> jax.Array:
    """`L^-1 k(x, .)` of int32[n, L] rows, from which their posterior covariance is: f32[m, n]."""
    return _forward(process.factor, _cross(process, vectors))


def fold(x: jax.Array) -> jax.Array:
    """The sum over the first axis, in an order of its own.

    `jnp.sum` adds in the order that suits the program around it, and a product that meets a sum
    may be rounded once or twice, so that one of many searches side by side would differ from the
    same search alone.
    """
    length = 1 << (x.shape[0] - 1).bit_length()
    x = jnp.pad(x, [(0, length - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
    while x.shape[0] > 1:
        x = jax.lax.optimization_barrier(x)
        x = x[: x.shape[0] // 2] + x[x.shape[0] // 2 :]
    return x[0]


def predict(process: Process, vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The posterior mean and variance of the function, without noise, at int32[n, L]."""
    mean = fold(_cross(process, vectors) * process.dual[:, None])
    less = fold(whitened(process, vectors) ** 2)
    return mean, jnp.maximum(jnp.exp(process.hyper.amplitude) - less, 1e-9)


def _cross(process: Process, vectors: jax.Array) -> jax.Array:
    alike = correlation(process.vectors, vectors, process.hyper.decay)
    return jnp.where(process.live[:, None], jnp.exp(process.hyper.amplitude) * alike, 0.0)


def expected_improvement(mean: jax.Array, deviation: jax.Array, best: jax.Array) -> jax.Array:
    """`E[max(f - best, 0)]` of normal `f` (Jones et al. 1998, equation 15)."""
    z = (mean - best) / deviation
    return deviation * (z * norm.cdf(z) + norm.pdf(z))


def normal_scores(scores: jax.Array, live: jax.Array) -> jax.Array:
    """Replaces the live scores by the normal quantiles of their ranks, ties by their mean rank.

    Accuracies have a long tail of failures; on ranks the differences among the best count.
    """
    less = jnp.sum(live[:, None] & (scores[:, None] < scores), 0)
    equal = jnp.sum(live[:, None] & (scores[:, None] == scores), 0)
    part = (less + 0.5 * equal) / jnp.maximum(jnp.sum(live), 1)
    return jnp.where(live, norm.ppf(jnp.where(live, part, 0.5)), 0.0)


def standard_scores(scores: jax.Array, live: jax.Array) -> jax.Array:
    """Shifts and scales the live scores to mean 0 and variance 1."""
    many = jnp.maximum(jnp.sum(live), 1)
    centred = jnp.where(live, scores - jnp.sum(jnp.where(live, scores, 0.0)) / many, 0.0)
    return centred / jnp.sqrt(jnp.maximum(jnp.sum(centred**2) / many, 1e-12))


def log_prior(hyper: Hyper) -> jax.Array:
    """Standard normal around `default_hyper`, so that few trials cannot lead fitting astray."""
    centre = default_hyper(hyper.decay.size)
    square = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), hyper, centre)
    return -0.5 * sum(square)


def bounded(hyper: Hyper) -> Hyper:
    """Hyperparameters within what single precision can factor."""
    wide = np.float32(math.log(1e3))
    return Hyper(
        jnp.clip(hyper.amplitude, -wide, wide),
        jnp.clip(hyper.decay, -wide, wide),
        jnp.clip(hyper.noise, math.log(LEAST_NOISE), 0.0),
    )
