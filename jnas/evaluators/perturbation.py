"""Perturbation of an architecture under the weights' step, so that its loss becomes smooth."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError
from jnas.errors import positive

KINDS = ("random", "adversarial")


class Perturbation(NamedTuple):
    """Smooth DARTS: weights that are trained under perturbed architectures.

    Chen and Hsieh 2020, arXiv 2002.05283. `random` is SDARTS-RS, uniform in a box; `adversarial` is
    SDARTS-ADV, the worst of the box that a few steps of projected ascent on the training batch
    find. In its code the radius grows linearly from 0.03 to 0.3, the ascent takes 7 steps of
    `2 * radius / steps` along the sign of the gradient from a random start, weights stay in
    [0, 1], and a perturbation that did not raise the loss is dropped.

    kind: `random` or `adversarial`.
    radius: of the box, a number or a schedule of the steps that the weights have taken.
    steps: of the ascent.
    """

    kind: str = "random"
    radius: float | Callable[[jax.Array], Any] = 0.03
    steps: int = 7


def check(p: Perturbation) -> None:
    """Raises `InputError` for a perturbation that cannot be."""
    if p.kind not in KINDS:
        raise InputError(f"perturbation {p.kind!r}: allowed are {', '.join(KINDS)}")
    if not callable(p.radius) and not p.radius > 0:
        raise InputError(f"perturbation: radius={p.radius}: a positive number is needed")
    positive(steps=p.steps)


def perturbed(
    p: Perturbation,
    key: jax.Array,
    arch: Architecture,
    count: jax.Array,
    loss: Callable[[Architecture], jax.Array],
) -> Architecture:
    """One relaxed architecture, perturbed.

    Args:
      p: how.
      key: of the draw.
      arch: leaves f32[..., K].
      count: int32[], steps that the weights have taken.
      loss: of an architecture on the batch that the weights are about to step on.
    """
    radius = p.radius(count) if callable(p.radius) else p.radius
    leaves, tree = jax.tree.flatten(arch)
    keys = jax.tree.unflatten(tree, list(jax.random.split(key, len(leaves))))

    def inside(x: Any) -> Any:
        near = lambda w, v: jnp.clip(v, w - radius, w + radius)
        return jax.tree.map(lambda w, v: jnp.clip(near(w, v), 0.0, 1.0), arch, x)

    draw = lambda k, w: w + radius * jax.random.uniform(k, w.shape, w.dtype, -1.0, 1.0)
    start = inside(jax.tree.map(draw, keys, arch))
    if p.kind == "random":
        return start

    def step(x: Any, _: None) -> tuple[Any, None]:
        climb = lambda v, g: v + 2 * radius / p.steps * jnp.sign(g)
        return inside(jax.tree.map(climb, x, jax.grad(loss)(x))), None

    worst, _ = jax.lax.scan(step, start, length=p.steps)
    rose = loss(worst) >= loss(arch)
    return jax.tree.map(lambda a, b: jnp.where(rose, a, b), worst, arch)
