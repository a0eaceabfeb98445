"""The network of a chain of convolutions, poolings and dense layers, of any sizes and widths."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.base import InputError
from jnas.nets import initial
from jnas.nets.choices import OneOf, Searchable
from jnas.nets.functional import Net, functional
from jnas.nets.initial import idle
from jnas.nets.narrow import NarrowConv, NarrowLinear, Width
from jnas.spaces.metaqnn import CONV, DENSE, FILTERS, KERNELS, POOL, POOLS, UNITS, Chain, walk


class Side(Searchable):
    """Height and width of the images. Where it is data, images are as large as they can be.

    The pixels past it are zero.
    """

    def __init__(self, most: int, name: str):
        super().__init__([str(i) for i in range(most + 1)], name)

    def mask(self, x: jax.Array) -> jax.Array:
        side: Any = self.chosen()
        if isinstance(side, int):
            return x
        inside = np.arange(x.shape[1]) < side
        return x * jnp.asarray(inside[:, None] & inside, x.dtype)[..., None]


class ChainConv(nnx.Module):
    """Convolution, bias, ReLU."""

    def __init__(self, most: int, kernel: int, into: str, out: str, *, rngs: nnx.Rngs):
        self.conv = NarrowConv(most, most, kernel, into=into, out=out, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(most))

    def __call__(self, x: jax.Array) -> jax.Array:
        out = self.conv.out
        return out.mask(jax.nn.relu(self.conv(x) + out.cut(self.bias[...])))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        """For counting: which of the last axes of a parameter an architecture uses."""
        return {"bias": (self.conv.out.kept(values),)}


class ChainPool(nnx.Module):
    """The largest of every window that lies inside the images."""

    def __init__(self, window: int, stride: int, side: str, image: int):
        self.window, self.stride = window, stride
        self.side = Side(image, side)

    def __call__(self, x: jax.Array) -> jax.Array:
        known = isinstance(self.side.chosen(), int)
        for axis in (1, 2):
            full = x.shape[axis]
            if not known:  # windows past the edge are masked afterwards
                pads = [(0, 0)] * 4
                pads[axis] = (0, self.window - 1)
                x = jnp.pad(x, pads)
            many = x.shape[axis] - self.window + 1
            cut = lambda i, x=x, axis=axis, many=many: jax.lax.slice_in_dim(
                x, i, i + many, self.stride, axis
            )
            y = cut(0)
            for i in range(1, self.window):
                y = jnp.maximum(y, cut(i))
            if not known:
                pads[axis] = (0, full - y.shape[axis])
                y = jnp.pad(y, pads)
            x = y
        return x


class ChainLayer(nnx.Module):
    """A layer on images, or none."""

    def __init__(self, chain: Chain, i: int, most: int, *, rngs: nnx.Rngs):
        into, out = f"channels_{i}", f"channels_{i + 1}"
        options: dict[str, Any] = {"none": lambda x: x}
        for kernel in chain.kernels:
            options[f"conv_{kernel}"] = ChainConv(most, kernel, into, out, rngs=rngs)
        for window, stride in chain.pools:
            options[f"pool_{window}_{stride}"] = ChainPool(window, stride, f"side_{i}", chain.image)
        self.op = OneOf(options, f"op_{i}")
        self.side = Side(chain.image, f"side_{i + 1}")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.side.mask(self.op(x))


class ChainDense(nnx.Module):
    """A dense layer on images, and ReLU."""

    def __init__(self, image: int, channels: int, units: int, last: str, *, rngs: nnx.Rngs):
        shape = (image, image, channels, units)
        bound = math.sqrt(6 / (image * image * channels))
        self.kernel = nnx.Param(initial.uniform(rngs.params(), shape, bound))
        self.bias = nnx.Param(jnp.zeros(units))
        self.rows = Width(image, f"{last}_side")
        self.columns = Width(image, f"{last}_side")
        self.channels, self.out = Width(channels, f"{last}_channels"), Width(units, "units_0")

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.rows.cut(self.kernel[...], 0)
        kernel = self.out.cut(self.channels.cut(self.columns.cut(kernel, 1), 2), 3)
        x = x[:, : kernel.shape[0], : kernel.shape[1]]
        flat = x.reshape(x.shape[0], -1) @ kernel.reshape(-1, kernel.shape[-1])
        return self.out.mask(jax.nn.relu(flat + self.out.cut(self.bias[...])))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        """For counting: which of the last axes of a parameter an architecture uses."""
        parts = (self.rows, self.columns, self.channels, self.out)
        axes = tuple(part.kept(values) for part in parts)
        return {"kernel": axes, "bias": axes[-1:]}


class Tail(nnx.Module):
    """Dense layers, and the classifier; without a dense layer, on the mean of the images."""

    def __init__(self, chain: Chain, most: int, dense: int, *, rngs: nnx.Rngs):
        units = max(chain.units)
        side = min(chain.dense_size, chain.image)
        self.first = ChainDense(side, most, units, "last", rngs=rngs) if dense else None
        self.others = nnx.List(
            [
                NarrowLinear(units, units, into=f"units_{k - 1}", out=f"units_{k}", rngs=rngs)
                for k in range(1, dense)
            ]
        )
        self.side = Width(chain.image, "last_side")
        width, name = (units, f"units_{dense - 1}") if dense else (most, "last_channels")
        self.classifier = NarrowLinear(width, chain.classes, into=name, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.first is None:
            side: Any = self.side.chosen()
            return self.classifier(jnp.sum(x, (1, 2)) / jnp.asarray(side * side, x.dtype))
        x = self.first(x)
        for layer in self.others:
            x = jax.nn.relu(layer(x))
        return self.classifier(x)


class ChainNetwork(nnx.Module):
    """Layers on images, then dense ones, then a classifier."""

    def __init__(self, chain: Chain, *, rngs: nnx.Rngs):
        most = max(*chain.filters, chain.inputs)
        layer = lambda i: ChainLayer(chain, i, most, rngs=idle(rngs))
        self.layers = nnx.List([layer(i) for i in range(chain.layers)])
        many = range(chain.most_dense + 1)
        tails = {f"dense_{k}": Tail(chain, most, k, rngs=rngs) for k in many}
        self.tail = OneOf(tails, "tail")
        self.first = Width(most, "channels_0")

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.first.known() is None:
            x = jnp.pad(x, [(0, 0)] * 3 + [(0, self.first.most - x.shape[-1])])
        for layer in self.layers:
            x = layer(x)
        return self.tail(x)


def metaqnn(
    layers: int = 12,
    filters: Sequence[int] = FILTERS,
    units: Sequence[int] = UNITS,
    kernels: Sequence[int] = KERNELS,
    pools: Sequence[tuple[int, int]] = POOLS,
    most_dense: int = 2,
    dense_size: int = 8,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
) -> Net:
    """The network of a chain: convolutions with bias and ReLU, max poolings, dense layers.

    Convolutions are zero-padded, poolings are not. Where the chain is data, every layer is computed
    on images of full size and of most channels, and masked: small chains cost as large ones do,
    but for the layers that they do not have, which `map` and `grouped` leave out.

    Args:
      layers: and all others: of `jnas.spaces.metaqnn`.

    Returns:
      The net over `jnas.spaces.metaqnn`: `[B, image, image, inputs]` to `[B, classes]`. It takes no
      relaxed architectures.
    """
    pairs = tuple((int(f), int(s)) for f, s in pools)
    chain = Chain(
        *(layers, tuple(filters), tuple(units), tuple(kernels), pairs, most_dense),
        *(dense_size, classes, image, inputs),
    )
    space = spaces.metaqnn(
        *(layers, filters, units, kernels, pools, most_dense, dense_size, classes, image, inputs)
    )

    def bind(arch: Any) -> dict[str, Any]:
        if jnp.issubdtype(jnp.result_type(arch), jnp.floating):
            raise InputError("metaqnn: a relaxed chain has no sizes: they follow from its layers")
        known = isinstance(arch, np.ndarray)
        with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
            values = _values(chain, arch)
            return jax.tree.map(np.asarray, values) if known else values

    return functional(lambda rngs: ChainNetwork(chain, rngs=rngs), space=space, bind=bind)


def _values(chain: Chain, arch: Any) -> dict[str, Any]:
    """The choices of the modules: of every place its operation, sizes and widths; the tail."""
    found = walk(chain, arch)
    numbers = np.zeros(len(chain.table), np.int32)
    for i, (kind, window, stride, _) in enumerate(chain.table.tolist()):
        if kind == CONV:
            numbers[i] = 1 + chain.kernels.index(window)
        elif kind == POOL:
            numbers[i] = 1 + len(chain.kernels) + chain.pools.index((window, stride))
    op = jnp.asarray(numbers)[found.choice]
    dense = found.choice[..., :, None] == np.flatnonzero(chain.table[:, 0] == DENSE)
    before = jnp.cumsum(jnp.any(dense, -1))  # dense layers up to each place
    values: dict[str, Any] = {"tail": found.dense}
    values |= {"last_side": found.features[0], "last_channels": found.features[1]}
    values |= {"channels_0": jnp.int32(chain.inputs), "side_0": jnp.int32(chain.image)}
    for i in range(chain.layers):
        values[f"op_{i}"], values[f"side_{i + 1}"] = op[i], found.size[i + 1]
        images = before[i] == 0
        values[f"channels_{i + 1}"] = jnp.where(images, found.width[i + 1], found.features[1])
    for k in range(chain.most_dense):
        here = jnp.any(dense, -1) & (before == k + 1)
        values[f"units_{k}"] = jnp.sum(jnp.where(here, found.width[1:], 0))
    return values
