"""The networks of cells of blocks: NASNet, AmoebaNet, PNAS and the micro space of ENAS."""

import contextlib
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.nets.choices import OneOf, Repeat
from jnas.nets.counting import params_of
from jnas.nets.darts import Edge, Edges, Pick, Reducing
from jnas.nets.darts_ops import changing_options, edge_options
from jnas.nets.functional import Net, functional
from jnas.nets.initial import idle
from jnas.nets.layers import BatchNorm, Conv, ReLUConvBN
from jnas.nets.narrow import ConvNorm, Kept, NarrowConv, NarrowLinear
from jnas.spaces.blocks import Family, cells_of, concatenated, keeping
from jnas.spaces.blocks_counts import Source, Spec, Stack, layout
from jnas.spaces.nasnet import AMOEBANET, ENAS_MICRO, NASNET, PNAS, space_of


def slots(family: Family, name: str, blocks: int) -> int:
    """How many images a cell may concatenate."""
    return blocks + (0 in family.keep.get(name, ()))


def _channels(source: Source, family: Family, blocks: int) -> tuple[int, str]:
    """The channels of a source, those of all slots, and the name of those that are kept."""
    if source.name == "stem":
        return source.channels, ""
    many = slots(family, source.name, blocks) * source.channels
    return many, f"kept_{source.name}_{source.channels}"


class Halve(nnx.Module):
    """`FactorizedReduce` of inputs that have a width."""

    def __init__(self, inputs: int, outputs: int, into: str, *, rngs: nnx.Rngs):
        half = outputs // 2
        self.first = NarrowConv(inputs, half, 1, 2, into=into, rngs=rngs) if half else None
        self.second = NarrowConv(inputs, outputs - half, 1, 2, into=into, rngs=rngs)
        self.norm = BatchNorm(outputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(x)
        parts = [] if self.first is None else [self.first(x)]
        return self.norm(jnp.concatenate([*parts, self.second(x[:, 1:, 1:])], -1))


class FirstEdge(nnx.Module):
    """An edge of the first cell, whose first input has other channels than its blocks.

    It chooses among the operations on that input, those on the other one and, in a reduction cell,
    those on blocks, which have no stride.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        reduces: bool,
        operations: Sequence[str],
        nodes: int,
        *,
        rngs: nnx.Rngs,
    ):
        stride = 1 + reduces
        raw = changing_options(inputs, width, stride, operations, rngs=rngs)
        options = {f"{op}_raw": Reducing(x, 0) for op, x in raw.items()}
        own = edge_options(width, stride, operations, rngs=rngs)
        options |= {op: Reducing(x, 1) for op, x in own.items()}
        if reduces:
            still = edge_options(width, 1, operations, rngs=rngs)
            options |= {f"{op}_inside": Reducing(x, 2) for op, x in still.items()}
        self.pick = Pick(nodes + (not reduces), "first_input")
        self.op, self.reduces = OneOf(options, "first_op"), reduces

    def __call__(self, inputs: Sequence[jax.Array], nodes: Sequence[Any], mask: Any) -> jax.Array:
        del mask
        raw, last = inputs
        if not self.reduces:
            return self.op(raw, self.pick([last, *nodes]))
        inside = last  # in place of a block, where there is none yet
        if any(node is not None for node in nodes):
            inside = self.pick(nodes)
        return self.op(raw, last, inside)


class BlockCell(nnx.Module):
    """Blocks, each the sum of two operations; what no other block reads is concatenated.

    Of an architecture that is data, the other blocks are concatenated as zeros.
    """

    def __init__(self, family: Family, blocks: int, spec: Spec, *, rngs: nnx.Rngs):
        idly = idle(rngs)
        before, of_before = _channels(spec.before, family, blocks)
        last, of_last = _channels(spec.last, family, blocks)
        self.past = 0 in family.keep.get(spec.name, ())
        self.raw = spec.raw
        if spec.halves:
            self.before: nnx.Module = Halve(before, spec.width, of_before, rngs=idly)
        elif self.past or not spec.raw:
            relu = "" if spec.raw else "before"
            self.before = ConvNorm(before, spec.width, 1, relu=relu, into=of_before, rngs=idly)
        self.last = ConvNorm(last, spec.width, 1, relu="before", into=of_last, rngs=idly)
        one = lambda: ReLUConvBN(spec.width, spec.width, 1, rngs=idly)
        self.twice = one() if family.twice else None
        edge: Any = functools.partial(FirstEdge, before) if spec.raw else Edge
        sizes = (spec.width, spec.reduces, family.modules, blocks)
        self.edges = Edges(*sizes, edge=edge, rngs=rngs)
        own = Source(spec.name, spec.width, 0)
        many, name = _channels(own, family, blocks)
        self.kept = Kept(many // spec.width, spec.width, name)

    def __call__(self, carry: tuple) -> tuple:
        before, last = carry
        first = self.before(before) if self.past or not self.raw else before
        second = self.last(last)
        if self.twice is not None:
            second = self.twice(second)
        nodes = self.edges([before if self.raw else first, second])
        return last, self.kept([first, *nodes] if self.past else nodes)


class BlockNetwork(nnx.Module):
    """Stem, cells, pooling, classifier; equal cells that follow each other are scanned."""

    def __init__(self, family: Family, blocks: int, stack: Stack, *, rngs: nnx.Rngs):
        every = layout(stack)
        groups = [(spec, len(list(same))) for spec, same in itertools.groupby(every)]

        def group(spec: Spec, many: int) -> Repeat:
            make = lambda rngs: BlockCell(family, blocks, spec, rngs=rngs)
            return Repeat(make, many, many, shared=True, rngs=rngs)

        self.stem = Conv(stack.inputs, stack.stem_channels, 3, stack.stem_stride, rngs=rngs)
        self.stem_norm = BatchNorm(stack.stem_channels)
        self.groups = nnx.List([group(*each) for each in groups])
        channels, name = _channels(Source(every[-1].name, every[-1].width, 0), family, blocks)
        self.classifier = NarrowLinear(channels, stack.classes, into=name, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem_norm(self.stem(x))
        carry = (x, x)
        for group in self.groups:
            carry = group(carry)
        return self.classifier(jnp.mean(jax.nn.relu(carry[1]), (1, 2)))


def _net(family: Family, blocks: int, stack: Stack) -> Net:
    """The network of a space of blocks."""
    space = space_of(family, blocks, stack)
    widths: dict[str, set[int]] = {"normal": set(), "reduce": set()}
    for spec in layout(stack):
        widths[spec.name].add(spec.width)
    return functional(
        lambda rngs: BlockNetwork(family, blocks, stack, rngs=rngs),
        space=space,
        bind=lambda arch: _values(family, widths, layout(stack)[0], arch),
    )


def _first(spec: Spec, source: Any, ops: Any, many: int, soft: bool) -> dict[str, Any]:
    """The choices of the first cell's edges where its first input is the stem as it is."""
    blocks = source.shape[0] // 2
    from_block = 1 + spec.reduces  # the first source that its pick chooses among
    if not soft:
        kind = (source > 0) + (source > 1) * np.int32(spec.reduces)
        pick = (source - from_block).clip(0)
        return {"first_op": ops + many * kind, "first_input": pick}
    parts = [source[:, :1], source[:, 1:2], source[:, 2:]]
    if not spec.reduces:
        parts = [source[:, :1], source[:, 1:]]
    share = [jnp.sum(part, -1, keepdims=True) for part in parts]
    inside = parts[-1] / jnp.maximum(share[-1], 1e-12)
    wide = blocks + (not spec.reduces)
    inside = jnp.pad(inside, ((0, 0), (0, wide - inside.shape[1])))
    return {"first_op": jnp.concatenate([ops * s for s in share], -1), "first_input": inside}


def _values(family: Family, widths: dict[str, set[int]], first: Spec, arch: Any) -> dict[str, Any]:
    """The choices of the modules: of each edge operation and input, and what cells concatenate."""
    values: dict[str, Any] = {}
    cells = cells_of(family, arch)
    many = len(family.operations)
    for name in widths:
        cell = cells.get(name, cells["normal"])
        source, ops = cell["inputs"], cell["ops"]
        known = isinstance(source, np.ndarray)
        soft = jnp.issubdtype(jnp.result_type(source), jnp.floating)
        with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
            kept: Any = jnp.asarray(concatenated(family, name, source), jnp.float32)
            kept = np.asarray(kept) if known else kept
        if first.raw and first.name == name:
            values |= _first(first, source, ops, many, soft)
        for width in widths[name]:
            values[f"kept_{name}_{width}"] = kept.repeat(width)
        if name == "normal":
            values |= {"normal_op": ops, "normal_input": source}
        elif soft:
            outside, inside = source[:, :2], source[:, 2:]
            strided = jnp.sum(outside, -1, keepdims=True)
            over = lambda x: x / jnp.maximum(jnp.sum(x, -1, keepdims=True), 1e-12)
            blocks = source.shape[0] // 2
            inside = jnp.pad(inside, ((0, 0), (0, blocks - inside.shape[1])))
            values["reduce_op"] = jnp.concatenate([ops * strided, ops * (1 - strided)], -1)
            values |= {"reduce_input": over(outside), "reduce_inside": over(inside)}
        else:
            values["reduce_op"] = ops + many * (source > 1)
            values["reduce_input"] = source.clip(None, 1)
            values["reduce_inside"] = (source - 2).clip(0)
    if "normal_input" in values and jnp.ndim(values["normal_input"]) == 2:
        source = values["normal_input"]
        blocks = source.shape[0] // 2
        values["normal_input"] = jnp.pad(source, ((0, 0), (0, 2 + blocks - source.shape[1])))
    return values


def nasnet(
    channels: int = 32,
    repeats: int = 6,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    blocks: int = 5,
    imagenet: bool = False,
    stem: int = 0,
    keep: Mapping[str, Sequence[int]] | None = None,
) -> Net:
    """The network of NASNet's cells.

    As in the published code, the first input of the first cell is the stem as it is: operations on
    it change the channels, and poolings and the identity get a 1x1 convolution.

    Args:
      channels: and all others: of `jnas.spaces.nasnet`.

    Returns:
      The net over `jnas.spaces.nasnet`: `[B, image, image, inputs]` to `[B, classes]`.
    """
    stack = Stack(channels, repeats, classes, image, inputs, stem, imagenet)
    return _net(keeping(NASNET, keep, blocks), blocks, stack)


def amoebanet(
    channels: int = 36,
    repeats: int = 6,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    blocks: int = 5,
    imagenet: bool = False,
    stem: int = 0,
    keep: Mapping[str, Sequence[int]] | None = None,
) -> Net:
    """The network of AmoebaNet's cells, else as `nasnet`."""
    stack = Stack(channels, repeats, classes, image, inputs, stem, imagenet)
    return _net(keeping(AMOEBANET, keep, blocks), blocks, stack)


def pnas(
    channels: int = 48,
    repeats: int = 3,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    blocks: int = 5,
    imagenet: bool = False,
    stem: int = 0,
) -> Net:
    """The network of PNAS' cell, else as `nasnet`."""
    stack = Stack(channels, repeats, classes, image, inputs, stem, imagenet, within=True)
    return _net(PNAS, blocks, stack)


def enas_micro(
    channels: int = 36,
    repeats: int = 5,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    blocks: int = 5,
) -> Net:
    """The network of ENAS' cells of its micro space, else as `nasnet`."""
    stack = Stack(channels, repeats, classes, image, inputs, raw=False)
    return _net(ENAS_MICRO, blocks, stack)


_FOR_IMAGENET: dict[str, Any] = {"classes": 1000, "imagenet": True}
_NASNET_A: dict[str, Any] = {**_FOR_IMAGENET, "image": 224, "keep": {"normal": [0], "reduce": [3]}}
PUBLISHED = (
    (
        "NASNet-A (4 @ 1056)",
        params_of(lambda: nasnet(44, 4, stem=32, **_NASNET_A), "NASNET_A"),
        5_289_978,
        "the trainable parameters of Keras' NASNetMobile",
    ),
    (
        "NASNet-A (6 @ 4032)",
        params_of(lambda: nasnet(168, 6, stem=96, **_NASNET_A), "NASNET_A"),
        88_753_150,
        "the trainable parameters of Keras' NASNetLarge",
    ),
    (
        "PNASNet-5 (4 @ 216)",
        params_of(lambda: pnas(216, 4, image=352, stem=96, **_FOR_IMAGENET), "PNASNET_5"),
        86_057_668,
        "timm's pnasnet5large",
    ),
)
