"""Multilayer perceptrons: depth, and each hidden layer's width, activation, norm and skip."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space
from jnas.errors import positive

WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)
ACTIVATIONS = ("relu", "tanh", "sigmoid")
EVERY_ACTIVATION = (*ACTIVATIONS, "gelu", "silu", "elu", "leaky_relu")
NORMS = ("none", "batch", "layer")
MOST = 1000  # hidden layers


def mlp(
    depth: int = 2,
    widths: Sequence[int] = WIDTHS,
    activations: Sequence[str] = ACTIVATIONS,
    classes: int = 10,
    image: int = 8,
    inputs: int = 1,
    least: int | None = None,
    norms: Sequence[str] = ("none",),
    skips: bool = False,
) -> Space:
    """The space of networks with `depth` hidden layers, 24 choices for each as it stands.

    An architecture is `{"activation": int32[depth], "width": int32[depth]}`, written as
    `activation=[relu,tanh] width=[16,64]`. With more to choose it has more parts: `depth`, int32,
    `norm`, int32[depth], and `skip`, int32[depth - 1]. `canonical` sets all choices of layers that
    are not there to 0.

    Args:
      depth: the hidden layers, or the most of them.
      widths: the units that a hidden layer may have, in rising order.
      activations: the activations that it may have, of relu, tanh, sigmoid, gelu, silu, elu and
        leaky_relu.
      classes: the outputs. For `counts` only, as all the rest.
      image: height and width of the images, 1 for vectors.
      inputs: the channels of the images, or the length of the vectors.
      least: the fewest hidden layers; by default as many as `depth`.
      norms: of the units before the activation, to choose from: none, batch, layer.
      skips: a hidden layer but the first may add its inputs, cut or filled with zeros to its width.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of the products, without biases
      and activations).

    Raises:
      InputError: no layers, or widths or activations that there cannot be.
    """
    widths, activations = tuple(widths), tuple(activations)
    positive(depth=depth, classes=classes, image=image, inputs=inputs)
    if depth > MOST:
        raise InputError(f"depth={depth}: from 1 to {MOST} hidden layers")
    least, norms = depth if least is None else least, tuple(norms)
    if not 1 <= least <= depth:
        raise InputError(f"least={least}: it has to be at least 1 and at most depth={depth}")
    if not norms or set(norms) - set(NORMS) or len(set(norms)) < len(norms):
        raise InputError(f"norms={list(norms)}: at least one, each once, of {', '.join(NORMS)}")
    rising = all(a < b for a, b in zip((0, *widths), widths, strict=False))
    if not widths or not rising:
        raise InputError(f"widths={list(widths)}: at least one, positive and in rising order")
    unknown = [a for a in activations if a not in EVERY_ACTIVATION]
    if unknown or not activations or len(set(activations)) < len(activations):
        allowed = ", ".join(EVERY_ACTIVATION)
        raise InputError(f"activations={list(activations)}: at least one, each once, of {allowed}")
    choices: dict[str, Any] = {
        "activation": np.full(depth, len(activations)),
        "width": np.full(depth, len(widths)),
    }
    labels: dict[str, Any] = {"activation": activations, "width": widths}
    if least < depth:
        choices["depth"], labels["depth"] = np.asarray(depth - least + 1), range(least, depth + 1)
        labels["depth"] = tuple(labels["depth"])
    if len(norms) > 1:
        choices["norm"], labels["norm"] = np.full(depth, len(norms)), norms
    if skips and depth > 1:
        choices["skip"], labels["skip"] = np.full(depth - 1, 2), None
    space = Space(
        name="mlp",
        num_choices=choices,
        labels=labels,
        counts=_counts(widths, image * image * inputs, classes, norms, least),
    )
    if least == depth:
        return space
    return dataclasses.replace(space, canonical=lambda arch: _canonical(arch, depth, least))


def _canonical(arch: Any, depth: int, least: int) -> Any:
    """The architecture with 0 for every choice of a layer that is not there."""
    many = least + jnp.asarray(arch["depth"])[..., None]
    made = dict(arch)
    for name, first in (("activation", 0), ("width", 0), ("norm", 0), ("skip", 1)):
        if name in arch:
            made[name] = jnp.where(np.arange(first, depth) < many, arch[name], 0)
    return made


def _counts(
    widths: Sequence[int], inputs: int, classes: int, norms: Sequence[str], least: int
) -> dict[str, Any]:
    def layers(arch: Any) -> tuple[Any, Any, Any, Any]:
        """Inputs and outputs of the hidden layers, which of them there are, and the last width."""
        hidden = jnp.asarray(widths, jnp.int32)[jnp.asarray(arch["width"])]
        depth = hidden.shape[-1]
        many = least + jnp.asarray(arch.get("depth", 0))[..., None]
        first = jnp.full((*hidden.shape[:-1], 1), inputs, jnp.int32)
        into = jnp.concatenate([first, hidden[..., :-1]], -1)
        last = jnp.sum(jnp.where(np.arange(depth) == many - 1, hidden, 0), -1)
        return into, hidden, np.arange(depth) < many, last

    def flops(arch: Any) -> Any:
        into, out, there, last = layers(arch)
        return jnp.sum(there * into * out, -1) + last * classes

    def params(arch: Any) -> Any:
        into, out, there, last = layers(arch)
        scales = jnp.asarray([2 * (norm != "none") for norm in norms], jnp.int32)
        norm = scales[jnp.asarray(arch["norm"])] if "norm" in arch else scales[0]
        return jnp.sum(there * (into + 1 + norm) * out, -1) + (last + 1) * classes

    return {"params": params, "flops": flops}
