"""The dominant eigenvalue of a Hessian, from products with it alone.

RobustDARTS (Zela et al. 2020, arXiv 1909.09656): the dominant eigenvalue of the validation loss in
the architecture grows where a search is about to end in a cell that does not generalise.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jnas.base import Architecture, InputError
from jnas.errors import positive
from jnas.evaluators.shared import Shared
from jnas.evaluators.training import Examples, Training, loss
from jnas.nets import Net

METHODS = ("lanczos", "power")


def hessian_eigenvalue(
    f: Callable[[Any], jax.Array],
    at: Any,
    key: jax.Array,
    *,
    steps: int = 20,
    method: str = "lanczos",
) -> jax.Array:
    """The eigenvalue of largest magnitude of the Hessian of `f`, with its sign.

    Every step is a product of the Hessian with a vector, reverse over reverse, so that networks
    with backward rules of their own do; all of it is one program under `jax.jit`.

    Args:
      f: a function of a pytree of floats to f32[].
      at: where.
      key: of the vector to start from.
      steps: at most; Lanczos' are enough for all of a Hessian that has no more rows. Power
        iteration converges by the ratio of the two largest magnitudes for each step.
      method: `lanczos`, with full reorthogonalisation, or `power`.

    Returns:
      f32[].

    Raises:
      InputError: an unknown method, or no steps.

    >>> import jax, jax.numpy as jnp
    >>> f = lambda x: x[0] ** 2 - 3 * x[1] ** 2
    >>> value = hessian_eigenvalue(f, jnp.ones(2), jax.random.key(0), steps=2)
    >>> print(f"{value:.3f}")
    -6.000
    """
    if method not in METHODS:
        raise InputError(f"hessian_eigenvalue: method={method!r}: allowed are {', '.join(METHODS)}")
    positive(steps=steps)
    flat, back = ravel_pytree(at)
    slope, pull = jax.vjp(jax.grad(lambda x: f(back(x))), flat)
    del slope
    product = lambda v: pull(v)[0]
    start = jax.random.normal(key, flat.shape, flat.dtype)
    if method == "power":
        return _power(product, start, steps)
    return _lanczos(product, start, min(steps, flat.size))


def architecture_curvature(
    net: Net,
    training: Training,
    shared: Shared,
    data: Examples,
    relax: Callable[[Any], Architecture],
    logits: Any,
    key: jax.Array,
    *,
    steps: int = 20,
    method: str = "lanczos",
) -> jax.Array:
    """The dominant eigenvalue of a supernet's loss in the logits of its architecture.

    Args:
      net: the supernet.
      training: its training.
      shared: its weights, such as `state.shared` of `bilevel`.
      data: the examples of the loss, all in one batch: validation examples, as there.
      relax: from logits to a relaxed architecture, such as
        `lambda logits: jax.tree.map(jax.nn.softmax, logits)`.
      logits: leaves f32[..., K].
      key: of the start.
      steps: see `hessian_eigenvalue`.
      method: see `hessian_eigenvalue`.

    Returns:
      f32[].
    """
    batch = (data.scaled(jnp.asarray(data.x)), jnp.asarray(data.y), None)
    run = loss(net, training._replace(smoothing=0.0))
    f = lambda logits: run(shared.params, shared.state, relax(logits), batch)[0]
    return hessian_eigenvalue(f, logits, key, steps=steps, method=method)


def _power(product: Callable, v: jax.Array, steps: int) -> jax.Array:
    def step(v: jax.Array, _: None) -> tuple[jax.Array, None]:
        v = v / _length(v)
        return product(v), None

    v, _ = jax.lax.scan(step, v, length=steps)
    v = v / _length(v)
    return v @ product(v)


def _lanczos(product: Callable, v: jax.Array, steps: int) -> jax.Array:
    """The dominant Ritz value of the Krylov space of so many products.

    Where the space ends early, the rows that remain are 0, and so are their Ritz values.
    """
    basis = jnp.zeros((steps, v.size), v.dtype)

    def step(carry: tuple, i: jax.Array) -> tuple[tuple, tuple]:
        basis, v, scale = carry
        size = jnp.linalg.norm(v)
        ended = size <= 1e-5 * scale
        v = jnp.where(ended, 0.0, v / jnp.where(ended, 1.0, size))
        basis = basis.at[i].set(v)
        w = product(v)
        scale = jnp.maximum(scale, jnp.linalg.norm(w))
        alpha = v @ w
        for _ in range(2):  # once is not enough in float32
            w = w - basis.T @ (basis @ w)
        return (basis, w, scale), (alpha, jnp.where(ended, 0.0, size))

    carry = (basis, v, jnp.zeros((), v.dtype))
    _, (alphas, betas) = jax.lax.scan(step, carry, jnp.arange(steps))
    off = betas[1:]
    tridiagonal = jnp.diag(alphas) + jnp.diag(off, 1) + jnp.diag(off, -1)
    values = jnp.linalg.eigvalsh(tridiagonal)
    return values[jnp.argmax(jnp.abs(values))]


def _length(v: jax.Array) -> jax.Array:
    size = jnp.linalg.norm(v)
    return jnp.where(size > 0, size, 1.0)
