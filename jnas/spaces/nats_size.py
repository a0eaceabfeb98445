"""NATS-Bench size: the widths of five layers of one fixed topology, 8^5 architectures.

Dong et al. 2021, "NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and Size",
arXiv 2009.00437, where it is the size search space. The cell is fixed: 3x3
convolutions on all edges, but a skip connection from the input to the output.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space
from jnas.errors import positive

WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)
LAYERS = 5  # cells of full, half and quarter size, with a residual block before the last two
SIDES = (1, 2, 2, 4, 4)  # what the images of a layer are divided by


def nats_size(
    widths: Sequence[int] = WIDTHS, classes: int = 10, image: int = 32, inputs: int = 3
) -> Space:
    """The size search space: an architecture is int32[5], the width of each layer.

    The text is the official one, `8:16:24:32:40`, and so is the index.

    Args:
      widths: to choose from, in rising order.
      classes: the classes of the data set. For `counts` only, as all the rest.
      image: height and width of the images, a multiple of 4.
      inputs: the channels of the images.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of convolutions and of the
      classifier with its bias, the benchmark's rule).

    Raises:
      InputError: widths or images that there cannot be.
    """
    widths = tuple(widths)
    rising = all(a < b for a, b in zip((0, *widths), widths, strict=False))
    if not widths or not rising:
        raise InputError(f"widths={list(widths)}: at least one, positive and in rising order")
    if image < 4 or image % 4:
        raise InputError(f"image size {image}: NATS-Bench's network needs a multiple of 4")
    positive(classes=classes, inputs=inputs)

    def describe(arch: Any) -> str:
        return ":".join(str(widths[int(i)]) for i in np.asarray(arch))

    def parse(text: str) -> np.ndarray:
        words = text.strip().split(":")
        if len(words) != LAYERS:
            raise InputError(f"architecture {text!r}: the form is 8:16:24:32:40, {LAYERS} widths")
        for word in words:
            if word not in map(str, widths):
                allowed = ", ".join(map(str, widths))
                raise InputError(f"architecture {text!r}: width {word!r}; allowed: {allowed}")
        return np.asarray([widths.index(int(word)) for word in words], np.int32)

    return Space(
        name="nats_size",
        num_choices=np.full(LAYERS, len(widths)),
        describe=describe,
        parse=parse,
        labels=widths,
        counts=_counts(widths, classes, image, inputs),
    )


def _counts(
    widths: Sequence[int], classes: int, image: int, inputs: int
) -> dict[str, Callable[[Any], jax.Array]]:
    area = [(image // side) ** 2 for side in SIDES]

    def total(arch: Any, norm: int, area: Sequence[int], bias: int) -> jax.Array:
        every = jnp.asarray(widths, jnp.int32)[jnp.asarray(arch)]
        c = [every[..., i] for i in range(LAYERS)]
        found = (9 * inputs * c[0] + norm * c[0]) * area[0]
        for i, before in enumerate([c[0], *c[:-1]]):
            if i % 2:  # a residual block
                own = 9 * before * c[i] + 9 * c[i] ** 2 + before * c[i] + 2 * norm * c[i]
            else:
                own = 18 * before * c[i] + 27 * c[i] ** 2 + 5 * norm * c[i]
                own += jnp.where(before == c[i], 0, before * c[i] + norm * c[i])
            found += own * area[i]
        return found + norm * c[-1] + (c[-1] + bias) * classes

    return {
        "params": lambda arch: total(arch, 2, [1] * LAYERS, 1),
        "flops": lambda arch: total(arch, 0, area, 1),
    }
