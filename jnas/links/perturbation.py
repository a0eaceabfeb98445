"""Noise on the weights of a relaxed architecture: perturbation and drop-out of operations."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space, Strategy, Trials, places
from jnas.links.relaxed import (
    Schedule,
    at,
    exists,
    leaves,
    positive,
    told,
    unflatten,
    with_gradient,
)


class Noisy(NamedTuple):
    weights: Any  # as they were given, leaves f32[n, ..., K]
    noise: Any  # for each leaf, f32[n, ..., K]


def perturb(space: Space, epsilon: Schedule, kind: str = "random") -> Strategy:
    """Moves every weight by a uniform number in `[-epsilon, epsilon]`, within [0, 1].

    The random smoothing of SDARTS-RS (Chen and Hsieh 2020, arXiv 2002.05283). As a link it changes
    what the weights of the supernet train on and what the gradient of the architecture is taken at;
    in the paper the former alone, which is `perturbation=` of `jnas.evaluators.bilevel`. There it
    grows linearly from 0.03 to 0.3.

    Args:
      space: the space.
      epsilon: a number, or a schedule of the tells so far.
      kind: `random`. The worst perturbation, SDARTS-ADV, needs the network: the evaluator has it.

    Returns:
      A link to the right of a relaxation.

    Raises:
      InputError: another kind, or an epsilon that is not positive.
    """
    if kind != "random":
        raise InputError(
            f"perturb: kind={kind!r}: allowed is random; adversarial is a perturbation of "
            "jnas.evaluators.bilevel"
        )
    positive("perturb", "epsilon", epsilon)

    def draw(key: jax.Array, number: int, shape: tuple, count: jax.Array) -> jax.Array:
        del number
        return at(epsilon, count) * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)

    moved = lambda weights, noise: jnp.clip(weights + noise, 0.0, 1.0)
    return _noise("perturb", space, draw, moved)


def drop_operations(space: Space, rates: Mapping[str, Schedule]) -> Strategy:
    """Drops operations at random, each place by itself, and scales up what remains.

    An operation of rate p has its weight times 0 with probability p, else times `1 / (1 - p)`, so
    that its mean stays. P-DARTS (Chen et al. 2019, arXiv 1904.12760, section 3.2.2) drops elements
    of the output of skip-connections so, at a rate that decays from stage to stage; here the whole
    operation drops, as the paths of Bender et al. 2018 (one-shot models).

    Args:
      space: the space; its labels name the operations.
      rates: the probability for a label, a number in [0, 1) or a schedule of the tells so far.

    Returns:
      A link to the right of a relaxation.

    Raises:
      InputError: a label that the space has not, or a rate outside of [0, 1).
    """
    names = _labels(space)
    known = sorted({word for words in names for word in words})
    for label, rate in rates.items():
        if label not in known:
            raise InputError(f"drop_operations: {label!r}: the space has {', '.join(known)}")
        if not callable(rate) and not 0 <= rate < 1:
            raise InputError(f"drop_operations: {label}={rate}: a rate in [0, 1) is needed")

    def draw(key: jax.Array, number: int, shape: tuple, count: jax.Array) -> jax.Array:
        words = names[number]
        rate = jnp.stack([at(rates.get(word, 0.0), count) for word in words[: shape[-1]]])
        stays = jax.random.uniform(key, shape) >= rate
        return jnp.where(stays, 1 / (1 - rate), 0.0)

    return _noise("drop_operations", space, draw, jnp.multiply)


def _labels(space: Space) -> list[tuple[str, ...]]:
    """The words for the choices of every leaf; numbers where its places have not the same."""
    return [place.common or tuple(map(str, range(place.counts.max()))) for place in places(space)]


def _noise(name: str, space: Space, draw: Callable, apply: Callable) -> Strategy:
    """A link that puts noise on weights and pulls gradients back through it."""
    real = [np.asarray(r) for r in exists(space)]
    apply_to = lambda weights, noise: [
        jnp.where(r, apply(w, z), 0.0) for w, z, r in zip(weights, noise, real, strict=True)
    ]

    def ask(key: jax.Array, state: jax.Array, n: int, trials: Trials | None = None) -> Trials:
        del n
        weights = leaves(trials, space, name, "a relaxation such as softmax(space)")
        assert trials is not None
        keys = jax.random.split(key, len(weights))
        noise = [
            draw(k, i, w.shape, state) for i, (k, w) in enumerate(zip(keys, weights, strict=True))
        ]
        out = unflatten(space, apply_to(weights, noise))
        return trials._replace(arch=out, trace=Noisy(trials.arch, tuple(noise)))

    def tell(key: jax.Array, trials: Trials, state: jax.Array) -> tuple[Trials, jax.Array]:
        del key
        trials = with_gradient(trials, name)
        given: Noisy = trials.trace
        _, pull = jax.vjp(lambda w: apply_to(w, given.noise), jax.tree.leaves(given.weights))
        (grads,) = pull(jax.tree.leaves(trials.grad))
        told_back = trials._replace(arch=given.weights, grad=unflatten(space, grads))
        return told_back, state + told(trials)

    return Strategy(lambda key, arch: jnp.int32(0), ask, tell)
