"""Networks from images to images: encoder and decoder whose blocks choose what they are."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.nets import ops
from jnas.nets.choices import OneOf, Repeat, relaxed
from jnas.nets.darts_ops import Depthwise
from jnas.nets.functional import Net, functional
from jnas.nets.initial import lecun_uniform
from jnas.nets.layers import BatchNorm
from jnas.nets.narrow import ConvNorm, NarrowConv, NarrowNorm
from jnas.spaces.dense import BRIDGES, OPERATIONS, level_of


class Separable(nnx.Module):
    """A depthwise convolution, then a 1x1 one to a width."""

    def __init__(self, channels: int, widest: int, kernel: int, out: str, *, rngs: nnx.Rngs):
        self.depthwise = Depthwise(channels, kernel, rngs=rngs)
        self.pointwise = NarrowConv(channels, widest, 1, out=out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.pointwise(self.depthwise(x))


class Block(nnx.Module):
    """A residual block: ReLU, an operation to a width, norm; ReLU, 1x1 back, norm; sum."""

    def __init__(
        self, channels: int, widest: int, operations: Sequence[str], stage: int, *, rngs: nnx.Rngs
    ):
        width = f"width_{stage}"

        def operation(name: str) -> nnx.Module:
            kernel = int(name[-1])
            if name.startswith("sep"):
                return Separable(channels, widest, kernel, width, rngs=rngs)
            return NarrowConv(channels, widest, kernel, out=width, rngs=rngs)

        self.operation = OneOf({n: operation(n) for n in operations}, name=f"operation_{stage}")
        self.norm = NarrowNorm(widest, width)
        self.back = ConvNorm(widest, channels, 1, relu="before", into=width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.back(self.norm(self.operation(jax.nn.relu(x))))


class EncoderDecoder(nnx.Module):
    """Stem, stages down, stages up with bridges, and a classifier of every pixel."""

    def __init__(
        self,
        channels: int,
        levels: int,
        widths: Sequence[int],
        least: int,
        most: int,
        operations: Sequence[str],
        classes: int,
        inputs: int,
        *,
        rngs: nnx.Rngs,
    ):
        def stage(i: int) -> Repeat:
            make = lambda rngs: Block(channels, max(widths), operations, i, rngs=rngs)
            return Repeat(make, most, least, shared=True, rngs=rngs, name=f"depth_{i}")

        bridge = lambda i: OneOf(
            dict(zip(BRIDGES, (jnp.zeros_like, lambda x: x), strict=True)), name=f"bridge_{i}"
        )
        self.levels = levels
        self.stem = ConvNorm(inputs, channels, 3, rngs=rngs)
        self.stages = nnx.List([stage(i) for i in range(2 * levels - 1)])
        self.bridges = nnx.List([bridge(i) for i in range(levels - 1)])
        self.norm = BatchNorm(channels)
        self.classifier = nnx.Linear(channels, classes, kernel_init=lecun_uniform, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        kept: list[jax.Array] = []
        x = self.stem(x)
        for level, stage in zip(level_of(self.levels), self.stages, strict=True):
            down = len(kept) < self.levels
            if kept and down:
                x = ops.avg_pool_2x2(x)
            if not down:
                x = x.repeat(2, 1).repeat(2, 2) + self.bridges[level](kept[level])
            x = stage(x)
            if down:
                kept.append(x)
        return self.classifier(jax.nn.relu(self.norm(x)))


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
) -> Net:
    """The encoder-decoder of `jnas.spaces.dense`, for segmentation and super-resolution.

    Going down, images are averaged over 2x2 pixels; going up, every pixel is doubled, and the
    images that the encoder had at the level are added where the bridge is there.

    Args:
      channels: as in `jnas.spaces.dense`, and so all others.
      levels: see there.
      widths: see there.
      least: see there.
      most: see there.
      operations: see there.
      classes: see there.
      image: see there.
      inputs: see there.

    Returns:
      The net: `[B, image, image, inputs]` to `[B, image, image, classes]`.
    """
    space = spaces.dense(channels, levels, widths, least, most, operations, classes, image, inputs)
    inside = np.arange(max(widths)) < np.asarray(widths)[:, None]

    def bind(arch: Any) -> dict[str, Any]:
        values = {}
        for leaf, choices in arch.items():
            count = len(space.num_choices[leaf])
            for i in range(count):
                choice = choices[i]
                if leaf == "width":
                    if relaxed(choice):
                        choice = choice @ inside.astype(np.float32)
                    elif isinstance(choice, np.integer):
                        choice = np.int32(widths[int(choice)])
                    else:
                        choice = jnp.asarray(widths, jnp.int32)[choice]
                values[f"{leaf}_{i}"] = choice
        return values

    settings = channels, levels, widths, least, most, operations, classes, inputs
    return functional(lambda rngs: EncoderDecoder(*settings, rngs=rngs), space=space, bind=bind)
