"""Gradients of the validation loss with respect to an architecture whose weights respond to it.

All products with second derivatives are reverse over reverse: the networks have backward rules of
their own, through which no forward mode goes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from jnas.base import Architecture, InputError
from jnas.errors import positive

ORDERS = ("first", "second", "finite", "unrolled", "implicit", "single")


class Problem(NamedTuple):
    """One round of a bilevel search, at the present weights.

    inner: `(params, arch, batch) -> loss` that the weights descend.
    outer: `(params, arch, batch) -> (loss, accuracy)` that judges architectures.
    rule: the optimizer of the weights.
    params: the weights.
    optimizer: the state of their optimizer, which knows momentum and the present rate.
    fit: the next training batches, leaves `[batches, B, ...]`.
    held_out: the next validation batch.
    """

    inner: Callable[..., jax.Array]
    outer: Callable[..., tuple[jax.Array, jax.Array]]
    rule: optax.GradientTransformation
    params: Any
    optimizer: Any
    fit: Any
    held_out: Any


class Hypergradient(NamedTuple):
    """A way to differentiate.

    batches: training batches that it looks at; 0 for none.
    grad: `(problem, arch) -> ((loss, accuracy), gradient)` for one relaxed architecture.
    """

    batches: int
    grad: Callable[[Problem, Architecture], tuple[tuple[jax.Array, jax.Array], Any]]


def first() -> Hypergradient:
    """The weights are held fixed: first-order DARTS (Liu et al. 2019, arXiv 1806.09055)."""

    def grad(p: Problem, arch: Architecture) -> Any:
        return _judge(p, lambda arch: p.params, arch)

    return Hypergradient(0, grad)


def single() -> Hypergradient:
    """Single level: the architecture descends the loss of the next training batch itself.

    Loss and accuracy are those of that batch.
    """

    def grad(p: Problem, arch: Architecture) -> Any:
        return first().grad(p._replace(held_out=_batch(p.fit, 0)), arch)

    return Hypergradient(1, grad)


def unrolled(steps: int = 1) -> Hypergradient:
    """Through so many virtual steps of the optimizer itself, on the next training batches.

    One step is second-order DARTS (Liu et al. 2019, arXiv 1806.09055, equation 6), exactly; the
    momentum, the decay and the rate of the step are those that the weights have at this moment.

    Args:
      steps: of the weights.

    Raises:
      InputError: less than one step.
    """
    positive(steps=steps)

    def grad(p: Problem, arch: Architecture) -> Any:
        def respond(arch: Architecture) -> Any:
            def step(carry: tuple, batch: Any) -> tuple[tuple, None]:
                params, memory = carry
                slope = jax.grad(p.inner)(params, arch, batch)
                updates, memory = p.rule.update(slope, memory, params)
                return (optax.apply_updates(params, updates), memory), None

            if steps == 1:  # no loop, in which convolutions would be slow
                return step((p.params, p.optimizer), _batch(p.fit, 0))[0][0]
            return jax.lax.scan(step, (p.params, p.optimizer), p.fit)[0][0]

        return _judge(p, respond, arch)

    return Hypergradient(steps, grad)


def finite(radius: float = 0.01) -> Hypergradient:
    """Second-order DARTS with its finite difference in place of second derivatives.

    Liu et al. 2019, arXiv 1806.09055, equations 7 and 8: the weights move by
    `epsilon = 0.01 / |grad_w' L_val|` to both sides. For an optimizer other than SGD the direction
    is first pulled back through its update.

    Args:
      radius: epsilon times the length of the direction.

    Raises:
      InputError: the radius is not positive.
    """
    if not radius > 0:
        raise InputError(f"finite(radius={radius}): a positive number is needed")

    def grad(p: Problem, arch: Architecture) -> Any:
        batch = _batch(p.fit, 0)
        slope = jax.grad(p.inner)(p.params, arch, batch)
        moved, pull = jax.vjp(lambda g: p.rule.update(g, p.optimizer, p.params)[0], slope)
        outer = jax.value_and_grad(p.outer, (0, 1), has_aux=True)
        found, (by_weights, by_arch) = outer(optax.apply_updates(p.params, moved), arch, p.held_out)
        (direction,) = pull(by_weights)  # -rate * by_weights for SGD
        length = optax.tree.norm(direction)
        epsilon = radius / jnp.where(length > 0, length, 1.0)
        at = lambda s: jax.tree.map(lambda w, d: w + s * epsilon * d, p.params, direction)
        ends = [jax.grad(p.inner, 1)(at(s), arch, batch) for s in (1.0, -1.0)]
        mixed = jax.tree.map(lambda a, b: (a - b) / (2 * epsilon), *ends)
        return found, jax.tree.map(jnp.add, by_arch, mixed)

    return Hypergradient(1, grad)


def implicit(
    terms: int = 3, rate: float = 0.01, damping: float = 0.0, solver: str = "neumann"
) -> Hypergradient:
    """By the implicit function theorem at the present weights: iDARTS.

    Zhang et al. 2021, arXiv 2106.10784: `grad_a L_val - d2 L_train / da dw * H^-1 * grad_w L_val`
    with `H` the Hessian of the training loss in the weights, on the next training batch. The
    inverse is a Neumann series, `rate * sum_j (I - rate * H)^j` for j from 0 to `terms`, or
    conjugate gradients.

    Args:
      terms: of the series after the first, or steps of conjugate gradients.
      rate: of the series; it converges where the rate is below 2 over the largest eigenvalue.
      damping: added to the diagonal of H, such as the L2 decay of the weights. Conjugate gradients
        need H to be positive with it.
      solver: `neumann` or `cg`.

    Raises:
      InputError: an unknown solver, or numbers that cannot be.
    """
    if solver not in ("neumann", "cg"):
        raise InputError(f"implicit: solver={solver!r}: allowed are neumann, cg")
    if terms < 0 or not rate > 0 or not damping >= 0:
        raise InputError(
            f"implicit(terms={terms}, rate={rate}, damping={damping}): terms and damping of at "
            "least 0 and a positive rate are needed"
        )

    def grad(p: Problem, arch: Architecture) -> Any:
        batch = _batch(p.fit, 0)
        outer = jax.value_and_grad(p.outer, (0, 1), has_aux=True)
        found, (by_weights, by_arch) = outer(p.params, arch, p.held_out)
        slope, pull = jax.vjp(lambda w, a: jax.grad(p.inner)(w, a, batch), p.params, arch)
        del slope

        def curved(v: Any) -> Any:
            return jax.tree.map(lambda h, x: h + damping * x, pull(v)[0], v)

        if solver == "cg":
            solved, _ = cg(curved, by_weights, maxiter=terms)
        else:
            solved = _neumann(curved, by_weights, terms, rate)
        return found, jax.tree.map(jnp.subtract, by_arch, pull(solved)[1])

    return Hypergradient(1, grad)


def named(order: str | Hypergradient) -> Hypergradient:
    """The way of a name, with its published settings.

    Raises:
      InputError: the name is unknown.
    """
    if isinstance(order, Hypergradient):
        return order
    ways: dict[str, Callable[[], Hypergradient]] = {
        "first": first,
        "second": unrolled,
        "finite": finite,
        "unrolled": lambda: unrolled(2),
        "implicit": implicit,
        "single": single,
    }
    if order not in ways:
        raise InputError(f"order {order!r}: allowed are {', '.join(ORDERS)}")
    return ways[order]()


def _neumann(curved: Callable[[Any], Any], v: Any, terms: int, rate: float) -> Any:
    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        term, total = carry
        term = jax.tree.map(lambda t, h: t - rate * h, term, curved(term))
        return (term, jax.tree.map(jnp.add, total, term)), None

    (_, total), _ = jax.lax.scan(step, (v, v), length=terms)
    return jax.tree.map(lambda x: rate * x, total)


def _judge(p: Problem, respond: Callable[[Architecture], Any], arch: Architecture) -> Any:
    """The validation loss of the weights that respond, and its total derivative."""
    loss = lambda arch: p.outer(respond(arch), arch, p.held_out)
    return jax.value_and_grad(loss, has_aux=True)(arch)


def _batch(batches: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], batches)
