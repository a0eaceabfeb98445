"""Weights that many architectures share, in training: the state of one-shot evaluators."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.base import Architecture, template
from jnas.evaluators.training import Batches, Examples, Training, loss, optimizer_of
from jnas.nets import Net


class Shared(NamedTuple):
    """A supernet in training, a pytree that can be saved at any step."""

    params: Any
    state: Any  # batch statistics and the like
    optimizer: Any
    fit: jax.Array  # int32[N], the order of the examples that train the weights
    score: jax.Array  # int32[M], the order of those that judge architectures
    step: jax.Array  # int32[], steps taken by the weights
    judged: jax.Array  # int32[], batches taken of the examples that judge


def start(
    net: Net, training: Training, fit_on: Examples, score_on: Examples, key: jax.Array
) -> Shared:
    """A supernet before its first step, initialised from `key`."""
    params, state = net.init(key)
    rule = optimizer_of(net, training, template(net.space))
    return Shared(
        params=params,
        state=state,
        optimizer=rule.init(params),
        fit=jnp.arange(fit_on.number, dtype=jnp.int32),
        score=jnp.arange(score_on.number, dtype=jnp.int32),
        step=jnp.int32(0),
        judged=jnp.int32(0),
    )


def draw_fit(
    training: Training, fit_on: Examples, key: jax.Array, shared: Shared
) -> tuple[Shared, tuple]:
    """The next batch `(x, y, share)` for the weights, augmented."""
    batches = Batches(fit_on, training.batch_size, training.augment)
    order, batch = batches.draw(key, shared.fit, shared.step)
    return shared._replace(fit=order), batch


def draw_score(
    training: Training, score_on: Examples, key: jax.Array, shared: Shared
) -> tuple[Shared, tuple]:
    """The next batch `(x, y, None)` that judges architectures, as it is."""
    batches = Batches(score_on, training.batch_size)
    order, batch = batches.draw(key, shared.score, shared.judged)
    return shared._replace(score=order, judged=shared.judged + 1), batch


def descend_weights(
    net: Net,
    training: Training,
    shared: Shared,
    arch: Architecture,
    batch: tuple,
    sparse: bool = False,
) -> tuple[Shared, jax.Array]:
    """One step of the weights on a batch under one architecture, int or relaxed; and the loss.

    A loss that is not finite changes nothing.
    """
    grad = jax.value_and_grad(loss(net, training), has_aux=True)
    (found, state), grads = grad(shared.params, shared.state, arch, batch, sparse)
    return take_step(net, training, shared, arch, grads, state, found), found


def take_step(
    net: Net,
    training: Training,
    shared: Shared,
    arch: Architecture,
    grads: Any,
    state: Any,
    found: jax.Array,
) -> Shared:
    """The optimizer's step down a gradient; a loss that is not finite leaves all but the count."""
    rule = optimizer_of(net, training, arch)
    updates, optimizer = rule.update(grads, shared.optimizer, shared.params)
    params = optax.apply_updates(shared.params, updates)
    keep = lambda new, old: jnp.where(jnp.isfinite(found), new, old)
    old = (shared.params, shared.state, shared.optimizer)
    params, state, optimizer = jax.tree.map(keep, (params, state, optimizer), old)
    return shared._replace(params=params, state=state, optimizer=optimizer, step=shared.step + 1)
