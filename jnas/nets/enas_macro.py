"""The network of ENAS' macro space: layers that concatenate what they read of those before."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.nets import ops
from jnas.nets.choices import OneOf
from jnas.nets.darts_ops import Depthwise, FactorizedReduce
from jnas.nets.functional import Net, functional
from jnas.nets.initial import idle, lecun_uniform
from jnas.nets.layers import BatchNorm, Conv
from jnas.nets.narrow import ConvNorm, Kept
from jnas.spaces.enas_macro import OPERATIONS, reductions


class Separable(nnx.Module):
    """Depthwise and 1x1 convolution, batch normalisation, ReLU."""

    def __init__(self, channels: int, kernel: int, *, rngs: nnx.Rngs):
        self.depthwise = Depthwise(channels, kernel, rngs=rngs)
        self.pointwise = Conv(channels, channels, 1, rngs=rngs)
        self.norm = BatchNorm(channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.norm(self.pointwise(self.depthwise(x))))


class MacroLayer(nnx.Module):
    """A 1x1 convolution, the operation, and a 1x1 convolution of it and the skip connections."""

    def __init__(self, number: int, channels: int, *, rngs: nnx.Rngs):
        conv = functools.partial(ConvNorm, channels, channels, rngs=rngs)
        made = (
            *(conv(3), Separable(channels, 3, rngs=rngs)),
            *(conv(5), Separable(channels, 5, rngs=rngs)),
            *(ops.avg_pool_3x3, ops.max_pool_3x3),
        )
        self.enter = conv(1)
        self.op = OneOf(dict(zip(OPERATIONS, made, strict=True)), f"op_{number}")
        reads = f"reads_{number}" if number else ""
        self.reads = Kept(1 + number, channels, reads)
        self.join = ConvNorm(
            (1 + number) * channels, channels, 1, relu="before", into=reads, rngs=rngs
        )

    def __call__(self, x: jax.Array, before: list[jax.Array]) -> jax.Array:
        return self.join(self.reads([self.op(self.enter(x)), *before]))


class MacroNetwork(nnx.Module):
    """Stem, layers, after a third and two thirds of which all that they made is halved."""

    def __init__(self, channels: int, layers: int, classes: int, inputs: int, *, rngs: nnx.Rngs):
        idly = idle(rngs)
        self.stem, self.stem_norm = Conv(inputs, channels, 3, rngs=idly), BatchNorm(channels)
        self.layers = nnx.List([MacroLayer(i, channels, rngs=idly) for i in range(layers)])
        self.halved = reductions(layers)
        halve = lambda: FactorizedReduce(channels, channels, rngs=idly)
        self.reductions = nnx.List([nnx.List([halve() for _ in range(i + 1)]) for i in self.halved])
        self.classifier = nnx.Linear(channels, classes, kernel_init=lecun_uniform, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem_norm(self.stem(x))
        made: list[jax.Array] = []
        for i, layer in enumerate(self.layers):
            x = layer(x, made)
            made.append(x)
            if i in self.halved:
                halves = self.reductions[self.halved.index(i)]
                made = [halve(y) for halve, y in zip(halves, made, strict=True)]
                x = made[-1]
        return self.classifier(jnp.mean(x, (1, 2)))


def enas_macro(
    channels: int = 36, layers: int = 12, classes: int = 10, image: int = 32, inputs: int = 3
) -> Net:
    """The network of ENAS' macro space.

    A layer takes the output of the last one through a 1x1 convolution and its operation; that and
    the outputs of the layers that it reads as well are concatenated for another 1x1 convolution.
    After a third and after two thirds of the layers, every output so far is halved.

    Args:
      channels: of every layer.
      layers: at least 3.
      classes: the outputs.
      image: height and width of the images, a multiple of 4.
      inputs: the channels of the images.

    Returns:
      The net over `jnas.spaces.enas_macro`: `[B, image, image, inputs]` to `[B, classes]`. Of a
      relaxed architecture a skip connection counts by the share of its bit.
    """
    numbers = np.cumsum([0, *range(layers)])

    def bind(arch: Any) -> dict[str, Any]:
        bits: Any = arch["skips"]
        soft = jnp.ndim(bits) == 2
        bits = bits[:, 1] if soft else bits
        xp: Any = np if isinstance(bits, np.ndarray) else jnp
        values: dict[str, Any] = {}
        for i in range(layers):
            values[f"op_{i}"] = arch["ops"][i]
            own = xp.concatenate([xp.ones(1), bits[numbers[i] : numbers[i + 1]]])
            values[f"reads_{i}"] = own.astype(np.float32).repeat(channels)
        return values

    return functional(
        lambda rngs: MacroNetwork(channels, layers, classes, inputs, rngs=rngs),
        space=spaces.enas_macro(channels, layers, classes, image, inputs),
        bind=bind,
    )
