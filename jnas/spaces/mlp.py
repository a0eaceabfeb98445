"""Multilayer perceptrons: every hidden layer chooses its width and its activation."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space

WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)
ACTIVATIONS = ("relu", "tanh", "sigmoid")


def mlp(
    depth: int = 2,
    widths: Sequence[int] = WIDTHS,
    activations: Sequence[str] = ACTIVATIONS,
    classes: int = 10,
    image: int = 8,
    inputs: int = 1,
) -> Space:
    """The space of networks with `depth` hidden layers, 24 choices for each as it stands.

    An architecture is `{"activation": int32[depth], "width": int32[depth]}`, written as
    `activation=[relu,tanh] width=[16,64]`. No two are isomorphic.

    Args:
      depth: the hidden layers.
      widths: the units that a hidden layer may have, in rising order.
      activations: the activations that it may have, of relu, tanh and sigmoid.
      classes: the outputs. For `counts` only, as all the rest.
      image: height and width of the images, 1 for vectors.
      inputs: the channels of the images, or the length of the vectors.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of the products, without biases
      and activations).

    Raises:
      InputError: no layers, or widths or activations that there cannot be.
    """
    widths, activations = tuple(widths), tuple(activations)
    if depth < 1:
        raise InputError(f"depth={depth}: it has to be at least 1")
    rising = all(a < b for a, b in zip((0, *widths), widths, strict=False))
    if not widths or not rising:
        raise InputError(f"widths={list(widths)}: at least one, positive and in rising order")
    unknown = [a for a in activations if a not in ACTIVATIONS]
    if unknown or not activations or len(set(activations)) < len(activations):
        allowed = ", ".join(ACTIVATIONS)
        raise InputError(f"activations={list(activations)}: at least one, each once, of {allowed}")
    return Space(
        name="mlp",
        num_choices={
            "activation": np.full(depth, len(activations)),
            "width": np.full(depth, len(widths)),
        },
        labels={"activation": activations, "width": widths},
        counts=_counts(widths, image * image * inputs, classes),
    )


def _counts(widths: Sequence[int], inputs: int, classes: int) -> dict[str, Any]:
    def units(arch: Any) -> tuple[Any, Any]:
        """The inputs and the outputs of all layers: `[..., depth + 1]` each."""
        hidden = jnp.asarray(widths, jnp.int32)[jnp.asarray(arch["width"])]
        edge = lambda n: jnp.full((*hidden.shape[:-1], 1), n, jnp.int32)
        every = jnp.concatenate([edge(inputs), hidden, edge(classes)], -1)
        return every[..., :-1], every[..., 1:]

    def flops(arch: Any) -> Any:
        into, out = units(arch)
        return jnp.sum(into * out, -1)

    def params(arch: Any) -> Any:
        into, out = units(arch)
        return jnp.sum((into + 1) * out, -1)

    return {"params": params, "flops": flops}
