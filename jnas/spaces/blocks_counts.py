"""The networks of cells of blocks: their layout, and parameters and multiply-adds of a cell."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError
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
    """

    channels: int
    repeats: int
    classes: int
    image: int
    inputs: int
    stem: int = 0
    imagenet: bool = False
    within: bool = False

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
    """

    before: Source
    last: Source
    width: int
    reduces: bool
    halves: bool

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
    made = []
    for reduces, width in kinds:
        before, last = outputs[-2:]
        spec = Spec(before, last, width, reduces, before.side != last.side)
        made.append(spec)
        outputs.append(Source(spec.name, width, spec.side))
    return made


def check(stack: Stack, who: str) -> None:
    """Raises `InputError` for a network that cannot be."""
    for name in ("channels", "repeats", "classes", "inputs"):
        if getattr(stack, name) < 1:
            raise InputError(f"{name}={getattr(stack, name)}: {who}'s network needs at least 1")
    if stack.imagenet and stack.channels < 4:
        raise InputError(f"channels={stack.channels}: with two reduction cells first, at least 4")
    step = stack.stem_stride * 2 ** sum(spec.reduces for spec in layout(stack))
    if stack.image < step or stack.image % step:
        raise InputError(f"image size {stack.image}: {who}'s network needs a multiple of {step}")


def costs(operation: str, width: int, strided: bool) -> tuple[int, int, int]:
    """Of an operation at a width: weights, weights of norms, multiply-adds for an output pixel."""
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


def counts(family: Family, blocks: int, stack: Stack) -> dict[str, Callable[[Any], jax.Array]]:
    """`params` and `flops` of an architecture of `jnas.spaces.blocks`, jittable.

    Multiply-adds are those of convolutions and of the classifier. They are float32 where int32
    would not hold them.
    """
    check(stack, family.name)
    every = layout(stack)
    names = ("normal", "reduce")
    tables = {name: np.zeros((2, 2, len(family.operations)), np.int64) for name in names}
    loose = {name: np.zeros(2, np.int64) for name in names}  # for each slot that is concatenated
    base = np.zeros(2, np.int64)  # parameters, multiply-adds
    stem = 9 * stack.inputs * stack.stem_channels
    base += (stem + 2 * stack.stem_channels, stem * every[0].last.side ** 2)
    for spec in every:
        for source, side in ((spec.before, spec.last.side), (spec.last, spec.last.side)):
            weights = source.channels * spec.width
            cost = np.asarray([weights, weights * side**2])
            if source.name == "stem":
                base += cost
            else:
                loose[source.name] += cost
            base[0] += 2 * spec.width
        for strided in (0, 1) if spec.reduces else (0,):
            for i, op in enumerate(family.operations):
                weights, norms, flops = costs(op, spec.width, bool(strided))
                tables[spec.name][:, strided, i] += (weights + norms, flops * spec.side**2)
    last = every[-1]
    loose[last.name] += last.width * stack.classes
    base[0] += stack.classes
    slots = blocks + 1
    most = base + sum(2 * blocks * t.max((1, 2)) for t in tables.values())
    most = most + slots * sum(loose.values())
    dtype = jnp.int32 if most.max() < 2**31 else jnp.float32

    def count(arch: Any, which: int) -> jax.Array:
        cells = cells_of(family, arch)
        total = jnp.asarray(base[which], dtype)
        for name in names:
            cell = cells.get(name, cells["normal"])
            inputs, ops = jnp.asarray(cell["inputs"]), jnp.asarray(cell["ops"])
            strided = (inputs < 2).astype(jnp.int32) * (name == "reduce")
            total += jnp.sum(jnp.asarray(tables[name][which], dtype)[strided, ops], -1)
            kept = jnp.sum(concatenated(family, name, inputs), -1)
            total += jnp.asarray(loose[name][which], dtype) * kept
        return total

    return {"params": lambda arch: count(arch, 0), "flops": lambda arch: count(arch, 1)}
