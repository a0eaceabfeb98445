"""The operations of the DARTS family of cells, in the papers' order: ReLU, convolution, norm.

Liu, Simonyan and Yang 2019, arXiv 1806.09055, section 3.1 and its published code.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jnas.nets import convolutions, initial, ops
from jnas.nets.choices import Function
from jnas.nets.layers import BatchNorm, Conv, ReLUConvBN
from jnas.spaces.darts import OPERATIONS


class Depthwise(nnx.Module):
    """A convolution of every channel by itself, without bias; He-uniform weights `[k, k, C]`."""

    def __init__(
        self, channels: int, kernel: int, stride: int = 1, dilation: int = 1, *, rngs: nnx.Rngs
    ):
        bound = math.sqrt(6 / (kernel * kernel))
        shape = (kernel, kernel, channels)
        self.kernel = nnx.Param(initial.uniform(rngs.params(), shape, bound))
        self.stride, self.dilation = stride, dilation

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.depthwise(x, self.kernel[...], self.stride, self.dilation)


class DilConv(nnx.Module):
    """ReLU, depthwise convolution, 1x1 convolution, batch normalisation; dilated by 2."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 2,
        outputs: int = 0,
        *,
        rngs: nnx.Rngs,
    ):
        outputs = outputs or channels
        self.depthwise = Depthwise(channels, kernel, stride, dilation, rngs=rngs)
        self.pointwise = Conv(channels, outputs, 1, rngs=rngs)
        self.norm = BatchNorm(outputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.pointwise(self.depthwise(jax.nn.relu(x))))


class SepConv(nnx.Module):
    """A separable convolution, done twice: the stride is that of the first."""

    def __init__(
        self, channels: int, kernel: int, stride: int = 1, outputs: int = 0, *, rngs: nnx.Rngs
    ):
        outputs = outputs or channels
        self.first = DilConv(channels, kernel, stride, 1, outputs, rngs=rngs)
        self.second = DilConv(outputs, kernel, dilation=1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(self.first(x))


class FactorizedReduce(nnx.Module):
    """Halves height and width: two 1x1 convolutions of pixels a step apart, side by side."""

    def __init__(self, inputs: int, outputs: int, *, relu: bool = True, rngs: nnx.Rngs):
        self.first = Conv(inputs, outputs // 2, 1, stride=2, rngs=rngs)
        self.second = Conv(inputs, outputs - outputs // 2, 1, stride=2, rngs=rngs)
        self.norm, self.relu = BatchNorm(outputs), relu

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(x) if self.relu else x
        return self.norm(jnp.concatenate([self.first(x), self.second(x[:, 1:, 1:])], -1))


class ConvLines(nnx.Module):
    """`conv_7x1_1x7`: ReLU, a convolution along rows, one along columns, batch normalisation."""

    def __init__(
        self, channels: int, kernel: int = 7, stride: int = 1, outputs: int = 0, *, rngs: nnx.Rngs
    ):
        outputs = outputs or channels
        line = lambda into: nnx.Param(
            initial.uniform(rngs.params(), (kernel, into, outputs), math.sqrt(6 / (kernel * into)))
        )
        self.along, self.down = line(channels), line(outputs)
        self.norm = BatchNorm(outputs)
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        x = convolutions.conv_line(jax.nn.relu(x), self.along[...], 2, self.stride)
        return self.norm(convolutions.conv_line(x, self.down[...], 1, self.stride))


class LineConvBN(nnx.Module):
    """ReLU, a convolution along one axis, batch normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, axis: int, stride: int, *, rngs: nnx.Rngs
    ):
        bound = math.sqrt(6 / (kernel * inputs))
        self.kernel = nnx.Param(initial.uniform(rngs.params(), (kernel, inputs, outputs), bound))
        self.norm = BatchNorm(outputs)
        self.axis, self.stride = axis, stride

    def __call__(self, x: jax.Array) -> jax.Array:
        line = convolutions.conv_line(jax.nn.relu(x), self.kernel[...], self.axis, self.stride)
        return self.norm(line)


class BottleLines(nnx.Module):
    """`conv_7x1_1x7` on a quarter of the channels between 1x1 convolutions; below 4, without."""

    def __init__(
        self, channels: int, kernel: int = 7, stride: int = 1, outputs: int = 0, *, rngs: nnx.Rngs
    ):
        outputs = outputs or channels
        inner = outputs // 4
        wide = inner or outputs
        self.before = ReLUConvBN(channels, inner, 1, rngs=rngs) if inner else Function(_same)
        self.along = LineConvBN(inner or channels, wide, kernel, 2, stride, rngs=rngs)
        self.down = LineConvBN(wide, wide, kernel, 1, stride, rngs=rngs)
        self.after = ReLUConvBN(inner, outputs, 1, rngs=rngs) if inner else Function(_same)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.after(self.down(self.along(self.before(x))))


def skip_connect(channels: int, stride: int, *, rngs: nnx.Rngs) -> nnx.Module:
    """The identity, which at a stride is a factorised reduction."""
    return Function(_same) if stride == 1 else FactorizedReduce(channels, channels, rngs=rngs)


def preprocess(inputs: int, outputs: int, halves: bool, *, rngs: nnx.Rngs) -> nnx.Module:
    """Gives an input of a cell the cell's channels and, where it `halves`, its size."""
    if halves:
        return FactorizedReduce(inputs, outputs, rngs=rngs)
    return ReLUConvBN(inputs, outputs, 1, rngs=rngs)


def _same(x: jax.Array) -> jax.Array:
    return x


def _pool(pool: Callable) -> Callable[..., nnx.Module]:
    return lambda channels, stride, rngs: Function(functools.partial(pool, stride=stride))


def _zeros(x: jax.Array, stride: int) -> jax.Array:
    return jnp.zeros_like(x[:, ::stride, ::stride])


OPS: dict[str, Callable[..., nnx.Module]] = {  # (channels, stride, rngs=...) -> module
    "none": _pool(_zeros),
    "max_pool_3x3": _pool(ops.max_pool_3x3),
    "avg_pool_3x3": _pool(ops.avg_pool_3x3),
    "skip_connect": skip_connect,
    "sep_conv_3x3": lambda channels, stride, rngs: SepConv(channels, 3, stride, rngs=rngs),
    "sep_conv_5x5": lambda channels, stride, rngs: SepConv(channels, 5, stride, rngs=rngs),
    "dil_conv_3x3": lambda channels, stride, rngs: DilConv(channels, 3, stride, rngs=rngs),
    "dil_conv_5x5": lambda channels, stride, rngs: DilConv(channels, 5, stride, rngs=rngs),
    "max_pool_5x5": _pool(functools.partial(ops.max_pool, size=5)),
    "max_pool_7x7": _pool(functools.partial(ops.max_pool, size=7)),
    "conv_1x1": lambda channels, stride, rngs: ReLUConvBN(channels, channels, 1, stride, rngs=rngs),
    "conv_3x3": lambda channels, stride, rngs: ReLUConvBN(channels, channels, 3, stride, rngs=rngs),
    "sep_conv_7x7": lambda channels, stride, rngs: SepConv(channels, 7, stride, rngs=rngs),
    "conv_3x1_1x3": lambda channels, stride, rngs: ConvLines(channels, 3, stride, rngs=rngs),
    "conv_7x1_1x7": lambda channels, stride, rngs: ConvLines(channels, 7, stride, rngs=rngs),
    "bottle_conv_7x1_1x7": lambda channels, stride, rngs: BottleLines(
        channels, 7, stride, rngs=rngs
    ),
}


def edge_options(
    channels: int, stride: int, operations: Sequence[str] = OPERATIONS, *, rngs: nnx.Rngs
) -> dict[str, nnx.Module]:
    """The operations of an edge by name: by default the 7 of `jnas.spaces.darts`."""
    return {name: OPS[name](channels, stride, rngs=rngs) for name in operations}


class Pooled(nnx.Module):
    """A pooling, then a 1x1 convolution and batch normalisation."""

    def __init__(self, pool: nnx.Module, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.pool: Any = pool
        self.conv, self.norm = Conv(inputs, outputs, 1, rngs=rngs), BatchNorm(outputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(self.pool(x)))


def changing_options(
    inputs: int, outputs: int, stride: int, operations: Sequence[str], *, rngs: nnx.Rngs
) -> dict[str, nnx.Module]:
    """The operations of an edge whose inputs have other channels than its outputs, by name."""

    def make(name: str) -> nnx.Module:
        kind, _, kernel = name.partition("conv_")
        k = max(int(n) for n in kernel[:3].split("x")) if kernel else 1
        if "_pool_" in name:
            return Pooled(OPS[name](inputs, stride, rngs=rngs), inputs, outputs, rngs=rngs)
        if kind == "sep_":
            return SepConv(inputs, k, stride, outputs, rngs=rngs)
        if kind == "dil_":
            return DilConv(inputs, k, stride, outputs=outputs, rngs=rngs)
        if "_" in kernel:
            lines = BottleLines if kind == "bottle_" else ConvLines
            return lines(inputs, k, stride, outputs, rngs=rngs)
        return ReLUConvBN(inputs, outputs, k, stride, rngs=rngs)

    return {name: make(name) for name in operations}
