"""Descent on the logits of a relaxed architecture, and what changes the gradient on its way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.base import Architecture, InputError, Space, Strategy, Trials, no_init, pass_on, propose
from jnas.links.relaxed import exists, told, unflatten, with_gradient
from jnas.links.sums import mean


class Descent(NamedTuple):
    logits: Any  # f32[..., K] for every leaf of the space
    optimizer: Any


def descend(
    space: Space, optimizer: optax.GradientTransformation, init_scale: float = 1e-3
) -> Strategy:
    """Holds the logits of a relaxed architecture and follows the gradient of the loss downhill.

    The architecture parameters alpha of DARTS (Liu et al. 2019, arXiv 1806.09055). A tell of rows
    with weights `w` and gradients `g`, which the links to the right have pulled back to the
    logits, is one step of the optimizer down `sum_k w_k g_k / sum_k w_k`.

    Args:
      space: the space; every choice has a logit.
      optimizer: of the logits. Adam with L2 decay, as published, is
        `optax.chain(optax.add_decayed_weights(1e-3), optax.adam(3e-4, b1=0.5))`.
      init_scale: the standard deviation of the initial logits.

    Returns:
      A link that proposes logits: the first of a chain, with a relaxation such as `softmax(space)`
      to its right.

    Raises:
      InputError: the scale is negative.
    """
    if not init_scale >= 0:
        raise InputError(f"descend: init_scale={init_scale}: a number of at least 0 is needed")
    real = exists(space)

    def init(key: jax.Array, arch: Architecture) -> Descent:
        del arch
        keys = jax.random.split(key, len(real))
        draw = lambda k, r: jnp.where(r, init_scale * jax.random.normal(k, r.shape), 0.0)
        logits = unflatten(space, [draw(k, r) for k, r in zip(keys, real, strict=True)])
        return Descent(logits, optimizer.init(logits))

    def ask(key: jax.Array, state: Descent, n: int, trials: Trials | None = None) -> Trials:
        del key
        if trials is not None:
            raise ValueError("descend proposes its own logits: put it first in the chain.")
        return propose(jax.tree.map(lambda x: jnp.tile(x, (n,) + (1,) * x.ndim), state.logits))

    def tell(key: jax.Array, trials: Trials, state: Descent) -> tuple[Trials, Descent]:
        del key
        trials = with_gradient(trials, "descend")

        def average(g: jax.Array) -> jax.Array:
            live = (trials.weight > 0).reshape(trials.weight.shape + (1,) * (g.ndim - 1))
            return mean(jnp.moveaxis(jnp.where(live, g, 0.0), 0, -1), trials.weight)

        gradient = jax.tree.map(average, trials.grad)
        updates, memory = optimizer.update(gradient, state.optimizer, state.logits)
        new = Descent(optax.apply_updates(state.logits, updates), memory)
        keep = lambda a, b: jnp.where(jnp.any(trials.weight > 0), a, b)  # 0 would still move Adam
        return trials, jax.tree.map(keep, new, state)

    return Strategy(init, ask, tell)


def freeze(tells: int | Callable[[jax.Array], jax.Array]) -> Strategy:
    """Keeps the links to its left from learning for a while, in which the weights train alone.

    The warm-up of PC-DARTS (Xu et al. 2020, arXiv 1907.05737), P-DARTS and DrNAS.

    Args:
      tells: how many at first, counted where a row counts; or a function from the tells so far to
        whether they rest now.

    Returns:
      A link for the feedback path.

    Raises:
      InputError: the number is negative.
    """
    if not callable(tells) and tells < 0:
        raise InputError(f"freeze({tells}): a number of tells of at least 0 is needed")

    def tell(key: jax.Array, trials: Trials, state: jax.Array) -> tuple[Trials, jax.Array]:
        del key
        trials = with_gradient(trials, "freeze")
        rests = tells(state) if callable(tells) else state < tells
        passed = trials._replace(weight=jnp.where(rests, 0.0, trials.weight))
        return passed, state + told(trials)

    return Strategy(lambda key, arch: jnp.int32(0), pass_on, tell)


def regularise(loss: Callable[[Architecture], jax.Array], name: str = "regularise") -> Strategy:
    """Adds a loss of the architecture itself to the loss that is descended.

    Only the gradient changes; scores stay those of the evaluator. To the right of a relaxation the
    loss sees its weights, to the left the logits.

    Args:
      loss: from one relaxed architecture, leaves f32[..., K], to f32[].
      name: in errors.

    Returns:
      A link for the feedback path.
    """

    def tell(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        del key
        trials = with_gradient(trials, name)
        own = jax.vmap(jax.grad(loss))(trials.arch)
        return trials._replace(grad=jax.tree.map(jnp.add, trials.grad, own)), state

    return Strategy(no_init, pass_on, tell)


def zero_one_loss(space: Space, weight: float = 10.0) -> Strategy:
    """FairDARTS' loss that draws every sigmoid to 0 or to 1.

    Chu et al. 2020, arXiv 1911.12126, equation 4: `-weight * mean_i (w_i - 0.5)^2` over all
    weights `w_i = sigmoid(alpha_i)`; its code has weight 10 (`aux_loss_weight`).

    Args:
      space: the space.
      weight: of the loss.

    Returns:
      A link for the feedback path, to the right of `sigmoid(space)`.
    """
    real = exists(space)
    many = sum(int(r.sum()) for r in real)

    def loss(arch: Architecture) -> jax.Array:
        found = jnp.float32(0)
        for w, r in zip(jax.tree.leaves(arch), real, strict=True):
            found += jnp.sum(jnp.where(r, (w - 0.5) ** 2, 0.0))
        return -weight * found / many

    return regularise(loss, "zero_one_loss")
