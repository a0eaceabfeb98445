"""Networks from images to images: an encoder that halves, a decoder that doubles, bridges between.

The form is that of U-Net (Ronneberger, Fischer and Brox 2015, arXiv 1505.04597); at every level the
blocks choose their operation, their width and how many they are, and every bridge whether it is
there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space
from jnas.spaces.exact import Numbers, at_least, exact_counts, rising, some_of

OPERATIONS = ("conv_1x1", "conv_3x3", "sep_3x3", "sep_5x5")
BRIDGES = ("none", "add")
KERNELS = {"conv_1x1": 1, "conv_3x3": 9, "sep_3x3": 9, "sep_5x5": 25}


def dense(
    channels: int = 16,
    levels: int = 3,
    widths: Sequence[int] = (8, 16, 32),
    least: int = 0,
    most: int = 2,
    operations: Sequence[str] = OPERATIONS,
    classes: int = 4,
    image: int = 32,
    inputs: int = 3,
) -> Space:
    """The space of encoder-decoders over `levels` resolutions.

    There are `2 levels - 1` stages: those of the encoder from the finest to the coarsest, then
    those of the decoder back to the finest. An architecture is a dict of `operation`, `width` and
    `depth`, int32[2 levels - 1] each, and `bridge`, int32[levels - 1], from the finest level.
    Stages without blocks are alike whatever their blocks would be: `canonical` sets these to 0.

    Args:
      channels: of the images between blocks, at all levels.
      levels: resolutions.
      widths: channels inside a block, in rising order.
      least: the fewest blocks of a stage.
      most: the most.
      operations: of a block: a convolution, or a depthwise one and a 1x1 one (`sep`).
      classes: the outputs of a pixel.
      image: height and width, a multiple of `2 ** (levels - 1)`.
      inputs: the channels of the images.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of convolutions).

    Raises:
      InputError: a setting that cannot be.
    """
    at_least(1, channels=channels, most=most, classes=classes, image=image, inputs=inputs)
    at_least(2, levels=levels)
    at_least(0, least=least)
    widths = rising("widths", widths)
    operations = some_of("operations", operations, OPERATIONS)
    if least > most:
        raise InputError(f"least={least}, most={most}: the first has to be at most the other")
    if image % 2 ** (levels - 1):
        raise InputError(f"image={image}: it has to be a multiple of {2 ** (levels - 1)}")
    stages = 2 * levels - 1
    depths = tuple(range(least, most + 1))

    def canonical(arch: Architecture) -> Architecture:
        there = jnp.asarray(depths)[arch["depth"]] > 0
        own = {k: jnp.where(there, arch[k], 0) for k in ("operation", "width")}
        return {**arch, **own}

    space = Space(
        name="dense",
        num_choices={
            "operation": np.full(stages, len(operations)),
            "width": np.full(stages, len(widths)),
            "depth": np.full(stages, len(depths)),
            "bridge": np.full(levels - 1, len(BRIDGES)),
        },
        labels={"operation": operations, "width": widths, "depth": depths, "bridge": BRIDGES},
        canonical=canonical,
    )
    sides = [image // 2**level for level in level_of(levels)]
    formulas = _formulas(channels, widths, depths, operations, classes, inputs, sides)
    space.counts.update(exact_counts(space, formulas))
    return space


def level_of(levels: int) -> list[int]:
    """The level of every stage: down, then up again.

    >>> level_of(3)
    [0, 1, 2, 1, 0]
    """
    return [*range(levels), *reversed(range(levels - 1))]


def _formulas(
    channels: int,
    widths: Sequence[int],
    depths: Sequence[int],
    operations: Sequence[str],
    classes: int,
    inputs: int,
    sides: Sequence[int],
) -> dict[str, Callable[[Numbers, Architecture], Any]]:
    separable = [name.startswith("sep") for name in operations]
    taps = [KERNELS[name] for name in operations]
    of_width = [channels * (1 if sep else k) for k, sep in zip(taps, separable, strict=True)]
    own = [channels * k if sep else 0 for k, sep in zip(taps, separable, strict=True)]
    area = [side * side for side in sides]

    def products(n: Numbers, arch: Architecture) -> tuple[Any, Any, Any]:
        """Weights of the convolutions of a block, its width, and the blocks: `[..., stages]`."""
        width = n.take(widths, arch["width"])
        inside = n.take(of_width, arch["operation"]) * width + n.take(own, arch["operation"])
        return inside + width * channels, width, n.take(depths, arch["depth"])

    def params(n: Numbers, arch: Architecture) -> Any:
        weights, width, blocks = products(n, arch)
        norms = 2 * width + 2 * channels
        stem, head = channels * (9 * inputs + 2), channels * (2 + classes) + classes
        return n.sum(blocks * (weights + norms)) + stem + head

    def flops(n: Numbers, arch: Architecture) -> Any:
        weights, _, blocks = products(n, arch)
        every = n.library.asarray(area, n.dtype)
        return n.sum(blocks * weights * every) + area[0] * channels * (9 * inputs + classes)

    return {"params": params, "flops": flops}
