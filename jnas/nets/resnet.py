"""Residual networks whose depth, width, kernel and kind of block the architecture chooses."""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.base import InputError
from jnas.nets import ops
from jnas.nets.choices import OneOf, Repeat
from jnas.nets.counting import params_of
from jnas.nets.functional import Net, functional
from jnas.nets.initial import idle
from jnas.nets.narrow import ConvNorm, NarrowLinear, Width
from jnas.spaces.resnet import (
    BLOCKS,
    DEPTHS,
    EXPANSION,
    KERNELS,
    WIDTHS,
    Residual,
    chosen,
    settings,
)


def _fitted(x: jax.Array, channels: int) -> jax.Array:
    """Images with so many channels: cut, or filled with zeros."""
    if x.shape[-1] >= channels:
        return x[..., :channels]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, channels - x.shape[-1])])


class Stream(Width):
    """The channels that pass from block to block, of as many as any kind of block has."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images as the next block takes them."""
        return x if self.known() is not None else _fitted(x, self.most)


class Basic(nnx.Module):
    """Two convolutions."""

    def __init__(
        self, inputs: int, width: int, kernel: int, stride: int, names: Sequence[str], rngs: Any
    ):
        into, own, _ = names
        self.into = Stream(inputs, into)
        self.first = ConvNorm(inputs, width, kernel, stride, into=into, out=own, rngs=rngs)
        self.second = ConvNorm(width, width, kernel, relu="", into=own, out=own, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(self.first(self.into(x)))


class Bottleneck(nnx.Module):
    """A convolution between two of 1x1, the last one to 4 times the channels."""

    def __init__(
        self, inputs: int, width: int, kernel: int, stride: int, names: Sequence[str], rngs: Any
    ):
        into, own, out = names
        most = EXPANSION * width
        self.first = ConvNorm(inputs, width, 1, into=into, out=own, rngs=rngs)
        self.second = ConvNorm(width, width, kernel, stride, into=own, out=own, rngs=rngs)
        self.third = ConvNorm(width, most, 1, relu="", into=own, out=out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.third(self.second(self.first(x)))


class Block(nnx.Module):
    """A residual block of the kind and kernel that the architecture chooses."""

    def __init__(self, made: Residual, stage: int, first: bool, *, rngs: nnx.Rngs):
        wide = [max(widths) for widths in made.widths]
        many = EXPANSION if "bottleneck" in made.blocks else 1
        out = f"stream_{stage}"
        at = stage - first
        into = out if not first else f"stream_{stage - 1}" if stage else ""
        stride = 1 + (first and stage > 0)
        inputs = wide[at] if at >= 0 else made.stem
        names = (into, f"width_{stage}", out)
        options: dict[str, Any] = {}
        for block in made.blocks:
            for kernel in made.kernels:
                kind = Bottleneck if block == "bottleneck" else Basic
                times = EXPANSION if block == "bottleneck" and at >= 0 else 1
                options[f"{block}_{kernel}"] = kind(
                    times * inputs, wide[stage], kernel, stride, names, rngs
                )
        self.op = OneOf(
            {name: Fitting(option, many * wide[stage], out) for name, option in options.items()},
            f"op_{stage}",
        )
        short: Any = None
        if first:
            most = many * inputs if at >= 0 else inputs
            sizes = (most, many * wide[stage], 1, stride)
            short = ConvNorm(*sizes, relu="", into=into, out=out, rngs=rngs)
            if not stage:
                same = Stream(many * wide[stage], out)
                short = OneOf({"identity": same, "project": short}, "short_0")
        self.short = short

    def __call__(self, x: jax.Array) -> jax.Array:
        short = x if self.short is None else self.short(x)
        return jax.nn.relu(short + self.op(x))


class Fitting(nnx.Module):
    """A block whose output has the channels of the stream."""

    def __init__(self, block: nnx.Module, most: int, name: str):
        self.block: Any = block
        self.stream = Stream(most, name)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.stream(self.block(x))


class ResidualNetwork(nnx.Module):
    """Stem, stages of blocks, pooling, classifier."""

    def __init__(self, made: Residual, *, rngs: nnx.Rngs):
        kernel, stride = (7, 2) if made.large else (3, 1)
        self.stem = ConvNorm(made.inputs, made.stem, kernel, stride, rngs=rngs)
        self.large = made.large
        starts, rests = [], []
        most = max(made.depths) - 1
        for i in range(len(made.widths)):
            starts.append(Block(made, i, True, rngs=idle(rngs)))
            make = lambda rngs, i=i: Block(made, i, False, rngs=idle(rngs))
            if most:
                rests.append(Repeat(make, most, 0, shared=True, rngs=rngs, name=f"more_{i}"))
        self.starts, self.rests = nnx.List(starts), nnx.List(rests)
        many = EXPANSION if "bottleneck" in made.blocks else 1
        last = len(made.widths) - 1
        self.classifier = NarrowLinear(
            many * max(made.widths[-1]), made.classes, into=f"stream_{last}", rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        if self.large:
            x = ops.max_pool_3x3(x, 2)
        for i, start in enumerate(self.starts):
            x = start(x)
            if self.rests:
                x = self.rests[i](x)
        return self.classifier(jnp.mean(x, (1, 2)))


def resnet(
    depths: Sequence[int] = DEPTHS,
    widths: Sequence[Sequence[int]] = WIDTHS,
    kernels: Sequence[int] = KERNELS,
    blocks: Sequence[str] = BLOCKS,
    stem: int = 64,
    classes: int = 1000,
    image: int = 224,
    inputs: int = 3,
) -> Net:
    """Residual networks of the chosen depths, widths, kernels and blocks.

    Args:
      depths: and all others: of `jnas.spaces.resnet`.

    Returns:
      The net over `jnas.spaces.resnet`: `[B, image, image, inputs]` to `[B, classes]`. It takes no
      relaxed architectures.
    """
    made = settings(depths, widths, kernels, blocks, stem, classes, image, inputs)

    def bind(arch: Any) -> dict[str, Any]:
        if jnp.issubdtype(jnp.result_type(arch["width"]), jnp.floating):
            raise InputError("resnet: relaxed architectures are not taken: blocks differ in shape")
        known = all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(arch))
        with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
            values = _values(made, arch)
            return jax.tree.map(np.asarray, values) if known else values

    return functional(
        lambda rngs: ResidualNetwork(made, rngs=rngs),
        space=spaces.resnet(depths, widths, kernels, blocks, stem, classes, image, inputs),
        bind=bind,
    )


def _values(made: Residual, arch: Any) -> dict[str, Any]:
    """The choices of the modules: of every stage its block and kernel, depth and widths."""
    found = chosen(made, arch)
    kernel, block = jnp.asarray(arch["kernel"]), jnp.asarray(arch["block"])
    values: dict[str, Any] = {"short_0": (found.stream[0] != made.stem).astype(jnp.int32)}
    for i in range(len(made.widths)):
        values |= {f"stream_{i}": found.stream[i], f"width_{i}": found.width[i]}
        values |= {f"op_{i}": block * len(made.kernels) + kernel[i]}
        values[f"more_{i}"] = found.depth[i] - 1
    return values


_of_paper = functools.partial(
    resnet, depths=(1, 2, 3, 4, 6), widths=((64,), (128,), (256,), (512,)), kernels=(3,)
)
PUBLISHED = tuple(
    (name, params_of(_of_paper, name), params, "torchvision, arXiv 1512.03385")
    for name, params in (("RESNET_18", 11_689_512), ("RESNET_50", 25_557_032))
)
