"""Residual networks: the depth, width and kernel of every stage, and the kind of block.

He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385; with the stride of
a bottleneck block at its middle convolution, as the networks of torchvision have it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space
from jnas.errors import positive

BLOCKS = ("basic", "bottleneck")
EXPANSION = 4  # of the output of a bottleneck block
DEPTHS = (1, 2, 3, 4, 6)
WIDTHS = ((48, 64, 80), (96, 128, 160), (192, 256, 320), (384, 512, 640))
KERNELS = (3, 5, 7)
LARGE = 64  # images from here on have a stem that makes them 4 times smaller
NAMED = {  # block, depths, at widths 64, 128, 256 and 512 and kernel 3
    "RESNET_18": ("basic", (2, 2, 2, 2)),
    "RESNET_34": ("basic", (3, 4, 6, 3)),
    "RESNET_50": ("bottleneck", (3, 4, 6, 3)),
    "RESNET_101": ("bottleneck", (3, 4, 23, 3)),
    "RESNET_152": ("bottleneck", (3, 8, 36, 3)),
}


class Residual(NamedTuple):
    """The settings of `resnet`."""

    depths: tuple[int, ...]
    widths: tuple[tuple[int, ...], ...]
    kernels: tuple[int, ...]
    blocks: tuple[str, ...]
    stem: int
    classes: int
    image: int
    inputs: int

    @property
    def large(self) -> bool:
        return self.image >= LARGE

    @property
    def sides(self) -> list[int]:
        """Height of the images in every stage."""
        first = self.image // (4 if self.large else 1)
        return [first // 2**i for i in range(len(self.widths))]


def resnet(
    depths: Sequence[int] = DEPTHS,
    widths: Sequence[Sequence[int]] = WIDTHS,
    kernels: Sequence[int] = KERNELS,
    blocks: Sequence[str] = BLOCKS,
    stem: int = 64,
    classes: int = 1000,
    image: int = 224,
    inputs: int = 3,
) -> Space:
    """The space of residual networks, one stage for each entry of `widths`.

    An architecture is `{"block": int32, "depth": int32[stages], "kernel": int32[stages], "width":
    int32[stages]}`, written as `block=basic depth=[2,2,2,2] kernel=[3,3,3,3]
    width=[64,128,256,512]`. `RESNET_18` to `RESNET_152` are read too, where the choices have them.

    Args:
      depths: blocks of a stage, to choose from.
      widths: channels inside the blocks of each stage, to choose from; the output of a bottleneck
        block has 4 times as many.
      kernels: to choose from, odd.
      blocks: to choose from, for the whole network: two convolutions, or three with a bottleneck.
      stem: channels of the first convolution: of 7x7 and stride 2, with a pooling after it, for
        images from 64x64, else of 3x3.
      classes: the classes of the data set. For `counts` only, as all the rest.
      image: height and width of the images.
      inputs: the channels of the images.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of convolutions and of the
      classifier).

    Raises:
      InputError: a network that there cannot be.
    """
    made = settings(depths, widths, kernels, blocks, stem, classes, image, inputs)
    stages = len(made.widths)
    space = Space(
        name="resnet",
        num_choices={
            "block": np.asarray(len(made.blocks)),
            "depth": np.full(stages, len(made.depths)),
            "kernel": np.full(stages, len(made.kernels)),
            "width": np.full(stages, len(made.widths[0])),
        },
        labels={
            "block": made.blocks,
            "depth": made.depths,
            "kernel": made.kernels,
            "width": made.widths,
        },
        counts={"params": _count(made, False), "flops": _count(made, True)},
    )

    def parse(given: str) -> Any:
        if given.strip() not in NAMED:
            try:
                return space.parse(given)
            except InputError as e:
                raise InputError(f"{e}; or one of {', '.join(NAMED)}") from None
        block, named = NAMED[given.strip()]
        wide = [64 * 2**i for i in range(4)]
        fill = lambda values: ",".join(map(str, values))
        return space.parse(
            f"block={block} depth=[{fill(named)}] kernel=[3,3,3,3] width=[{fill(wide)}]"
        )

    return dataclasses.replace(space, parse=parse)


def settings(
    depths: Sequence[int],
    widths: Sequence[Sequence[int]],
    kernels: Sequence[int],
    blocks: Sequence[str],
    stem: int,
    classes: int,
    image: int,
    inputs: int,
) -> Residual:
    """The same, checked; `resnet` says what they are.

    Raises:
      InputError: a network that there cannot be.
    """
    stages = tuple(map(tuple, widths))
    made = Residual(
        *(tuple(depths), stages, tuple(kernels), tuple(blocks), stem, classes, image, inputs)
    )
    positive(stem=stem, classes=classes, inputs=inputs)
    rising = lambda values: all(a < b for a, b in zip((0, *values), values, strict=False))
    for name, values in (("depths", made.depths), ("kernels", made.kernels)):
        if not values or not rising(values):
            raise InputError(f"{name}={list(values)}: at least one, positive and in rising order")
    if any(kernel % 2 == 0 for kernel in made.kernels):
        raise InputError(f"kernels={list(made.kernels)}: they have to be odd")
    equal = {len(stage) for stage in stages}
    if len(equal) != 1 or 0 in equal or not all(map(rising, stages)):
        told = "for each stage as many widths, positive and in rising order"
        raise InputError(f"widths={[list(stage) for stage in stages]}: {told}")
    if not made.blocks or set(made.blocks) - set(BLOCKS) or len(set(made.blocks)) < len(blocks):
        raise InputError(f"blocks={list(blocks)}: at least one, each once, of {', '.join(BLOCKS)}")
    step = (4 if made.large else 1) * 2 ** (len(stages) - 1)
    if image < 2 or image % step:
        told = f"a residual network of {len(stages)} stages needs a multiple of {step}"
        raise InputError(f"image size {image}: {told}")
    return made


class Chosen(NamedTuple):
    """An architecture in numbers.

    Attributes:
      bottleneck: int32[...], whether the blocks are.
      depth: int32[..., stages], blocks of each stage.
      kernel: int32[..., stages].
      width: int32[..., stages], channels inside the blocks.
      stream: int32[..., stages], channels of their outputs.
    """

    bottleneck: jax.Array
    depth: jax.Array
    kernel: jax.Array
    width: jax.Array
    stream: jax.Array


def chosen(made: Residual, arch: Any) -> Chosen:
    """The numbers of an architecture, jittable."""
    pick = lambda table, name: jnp.asarray(table, jnp.int32)[jnp.asarray(arch[name])]
    bottleneck = pick([block == "bottleneck" for block in made.blocks], "block")
    stages = np.arange(len(made.widths))
    width = jnp.asarray(made.widths, jnp.int32)[stages, jnp.asarray(arch["width"])]
    stream = width * (1 + (EXPANSION - 1) * bottleneck[..., None])
    return Chosen(
        bottleneck, pick(made.depths, "depth"), pick(made.kernels, "kernel"), width, stream
    )


def _count(made: Residual, flops: bool) -> Callable[[Any], jax.Array]:
    norm = 0 if flops else 2
    kernel = 7 if made.large else 3
    first = made.image // (2 if made.large else 1)
    sides = np.asarray(made.sides)
    area = sides**2 if flops else np.ones_like(sides)
    before = np.append(sides[:1], sides[:-1]) ** 2 if flops else np.ones_like(sides)

    def total(arch: Any) -> jax.Array:
        x = chosen(made, arch)
        wide, deep = [max(stage) for stage in made.widths], max(made.depths)
        most = sum(
            (max(made.kernels) ** 2 * 2 + 8) * w * w * deep * int(a)
            for w, a in zip(wide, before, strict=True)
        )
        dtype = jnp.int32 if 2 * most < 2**31 else jnp.float32
        k, w, out = (v.astype(dtype) for v in (x.kernel**2, x.width, x.stream))
        stem = jnp.full_like(out[..., :1], made.stem)
        into = jnp.concatenate([stem, out[..., :-1]], -1)
        here, there = jnp.asarray(area, dtype), jnp.asarray(before, dtype)

        def block(into: jax.Array, there: jax.Array) -> jax.Array:
            """Of one block, whose first convolution sees images of so many pixels."""
            basic = (k * (into * w + w * w) + 2 * norm * w) * here
            enter = (into * w + norm * w) * there
            rest = (k * w * w + norm * w + w * out + norm * out) * here
            return jnp.where(x.bottleneck[..., None] == 1, enter + rest, basic)

        strided = np.arange(len(made.widths)) > 0
        projects = strided | (into != out)
        shortcut = jnp.where(projects, (into * out + norm * out) * here, 0)
        every = block(into, there) + shortcut + (x.depth - 1).astype(dtype) * block(out, here)
        entry = (kernel**2 * made.inputs + norm) * made.stem * (first**2 if flops else 1)
        head = (out[..., -1] + (0 if flops else 1)) * made.classes
        return jnp.sum(every, -1) + entry + head

    return total
