"""The networks of cells of blocks: their layout, and parameters and multiply-adds of a cell."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError
from jnas.errors import positive
from jnas.spaces.blocks import Family, cells_of, concatenated


class Stack(NamedTuple):
    """How cells become a network.

    Attributes:
      channels: F, of the cells of the first stage; each later one has twice as many.
      repeats: N, the normal cells of a stage.
      classes: the classes of the data set.
      image: height and width of the images.
      inputs: the channels of the images.
      stem: channels of the first convolution; 0 for 3 F.
      imagenet: the convolution has stride 2, and two reduction cells of F / 4 and F / 2 channels
        follow it.
      within: the reduction between stages is the first of the N cells, as in PNAS; else one more.
      raw: the first cell takes the stem as it is for its first input, and its operations on that
        change the channels; else both inputs are projected.
    """

    channels: int
    repeats: int
    classes: int
    image: int
    inputs: int
    stem: int = 0
    imagenet: bool = False
    within: bool = False
    raw: bool = True

    @property
    def stem_channels(self) -> int:
        return self.stem or 3 * self.channels

    @property
    def stem_stride(self) -> int:
        return 1 + self.imagenet


class Source(NamedTuple):
    """Where images come from: the stem, or a cell of a name, of so many channels for each slot."""

    name: str  # "stem", "normal" or "reduce"
    channels: int
    side: int


class Spec(NamedTuple):
    """A cell of the network.

    Attributes:
      before: the output of the cell before the last.
      last: the output of the last cell.
      width: the channels of its blocks.
      reduces: whether it halves the images.
      halves: whether the output before the last is twice as large.
      raw: whether its first input is not projected.
    """

    before: Source
    last: Source
    width: int
    reduces: bool
    halves: bool
    raw: bool = False

    @property
    def name(self) -> str:
        return "reduce" if self.reduces else "normal"

    @property
    def side(self) -> int:
        """Height of the output."""
        return self.last.side // (1 + self.reduces)


def layout(stack: Stack) -> list[Spec]:
    """The cells of a network."""
    side = -(-stack.image // stack.stem_stride)
    outputs = [Source("stem", stack.stem_channels, side)] * 2
    kinds = [(True, stack.channels // 4), (True, stack.channels // 2)] if stack.imagenet else []
    for stage in range(3):
        width = stack.channels * 2**stage
        kinds += [(True, width)] if stage else []
        kinds += [(False, width)] * (stack.repeats - (stack.within and stage > 0))
    made: list[Spec] = []
    for reduces, width in kinds:
        before, last = outputs[-2:]
        raw = stack.raw and not made and before.channels != width
        spec = Spec(before, last, width, reduces, before.side != last.side, raw)
        made.append(spec)
        outputs.append(Source(spec.name, width, spec.side))
    return made


def check(stack: Stack, who: str) -> None:
    """Raises `InputError` for a network that cannot be."""
    positive(**{n: getattr(stack, n) for n in ("channels", "repeats", "classes", "inputs")})
    if stack.stem < 0:
        raise InputError(
            f"stem={stack.stem}: channels of the stem, or 0 for the paper's, are needed"
        )
    if stack.imagenet and stack.channels < 4:
        raise InputError(f"channels={stack.channels}: with two reduction cells first, at least 4")
    step = stack.stem_stride * 2 ** sum(spec.reduces for spec in layout(stack))
    if stack.image < step or stack.image % step:
        raise InputError(f"image size {stack.image}: {who}'s network needs a multiple of {step}")


def costs(operation: str, width: int, strided: bool, into: int = 0) -> tuple[int, int, int]:
    """Of an operation at a width: weights, weights of norms, multiply-adds for an output pixel.

    `into` are the channels of its inputs where they are others: then the identity and the poolings
    have a 1x1 convolution.
    """
    if operation.startswith("bottle_"):
        return _bottled(operation, into or width, width, strided)
    if into:
        return _changing(operation, into, width, strided)
    product, norm = width * width, 2 * width
    kind, _, kernel = operation.partition("conv_")
    if not kernel:  # poolings, and the identity, which is a 1x1 convolution at a stride
        copies = operation == "skip_connect" and strided
        return copies * product, copies * norm, copies * product
    k = max(int(n) for n in kernel[:3].split("x"))
    if kind == "sep_":
        weights = 2 * (k * k * width + product)
        return weights, 2 * norm, weights
    if kind == "dil_":
        return k * k * width + product, norm, k * k * width + product
    if "_" in kernel:  # along rows and then along columns, whose rows are not yet halved
        return 2 * k * product, norm, (3 if strided else 2) * k * product
    return k * k * product, norm, k * k * product


def _bottled(operation: str, into: int, width: int, strided: bool) -> tuple[int, int, int]:
    """Along rows and columns on a quarter of the channels, if that leaves any; norms after each."""
    k, inner = int(operation.partition("conv_")[2][0]), width // 4
    wide = inner or width
    along, down = k * (inner or into) * wide, k * wide * wide
    before, after = into * inner, inner * width
    weights, flops = before + along + down + after, (1 + strided) * along + down + after
    norms = 2 * (2 * wide + (inner + width if inner else 0))
    return weights, norms, flops + (4 if strided else 1) * before


def _changing(operation: str, into: int, width: int, strided: bool) -> tuple[int, int, int]:
    product, norm = into * width, 2 * width
    kind, _, kernel = operation.partition("conv_")
    if not kernel:
        return product, norm, product
    k = max(int(n) for n in kernel[:3].split("x"))
    if kind == "sep_":
        weights = k * k * (into + width) + product + width * width
        return weights, 2 * norm, weights
    if kind == "dil_":
        return k * k * into + product, norm, k * k * into + product
    if "_" in kernel:
        second = k * width * width
        return k * product + second, norm, (1 + strided) * k * product + second
    return k * k * product, norm, k * k * product


def counts(family: Family, blocks: int, stack: Stack) -> dict[str, Callable[[Any], jax.Array]]:
    """`params` and `flops` of an architecture of `jnas.spaces.blocks`, jittable.

    Multiply-adds are those of convolutions and of the classifier. They are float32 where int32
    would not hold them.
    """
    check(stack, family.name)
    every = layout(stack)
    names = ("normal", "reduce")
    # By parameters or multiply-adds; of a source as it is, of the last cell, of a block.
    tables = {name: np.zeros((2, 3, len(family.operations)), np.int64) for name in names}
    loose = {name: np.zeros(2, np.int64) for name in names}  # for each slot that is concatenated
    base = np.zeros(2, np.int64)  # parameters, multiply-adds
    stem = 9 * stack.inputs * stack.stem_channels
    base += (stem + 2 * stack.stem_channels, stem * every[0].last.side ** 2)
    for spec in every:
        projected = [spec.last] if spec.raw else [spec.before, spec.last]
        if spec.raw and 0 in family.keep.get(spec.name, ()):
            projected.append(spec.before)  # to be concatenated
        for source in projected:
            weights = source.channels * spec.width
            cost = np.asarray([weights, weights * spec.last.side**2])
            if source.name == "stem":
                base += cost
            else:
                loose[source.name] += cost
            base[0] += 2 * spec.width
        if family.twice:
            product = spec.width**2
            base += (product + 2 * spec.width, product * spec.last.side**2)
        for place in range(3):
            strided = spec.reduces and place < 2
            into = spec.before.channels if spec.raw and place == 0 else 0
            for i, op in enumerate(family.modules):
                weights, norms, flops = costs(op, spec.width, strided, into)
                tables[spec.name][:, place, i] += (weights + norms, flops * spec.side**2)
    last = every[-1]
    loose[last.name] += last.width * stack.classes
    base[0] += stack.classes
    slots = blocks + 1
    most = base + slots * sum(loose.values())
    most = most + sum(2 * blocks * table.max((1, 2)) for table in tables.values())

    def count(arch: Any, which: int) -> jax.Array:
        dtype = jnp.int32 if most[which] < 2**31 else jnp.float32
        cells = cells_of(family, arch)
        total = jnp.asarray(base[which], dtype)
        for name in names:
            cell = cells.get(name, cells["normal"])
            inputs, ops = jnp.asarray(cell["inputs"]), jnp.asarray(cell["ops"])
            table = jnp.asarray(tables[name][which], dtype)
            total += jnp.sum(table[jnp.minimum(inputs, 2), ops], -1)
            kept = jnp.sum(concatenated(family, name, inputs), -1)
            total += jnp.asarray(loose[name][which], dtype) * kept
        return total

    return {"params": lambda arch: count(arch, 0), "flops": lambda arch: count(arch, 1)}
