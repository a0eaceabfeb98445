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
from jnas.nets.small import takes
from jnas.spaces.enas_macro import OPERATIONS, reductions, widths


class Separable(nnx.Module):
    """Depthwise and 1x1 convolution, batch normalisation, ReLU."""

    def __init__(self, channels: int, kernel: int, *, rngs: nnx.Rngs):
        self.depthwise = Depthwise(channels, kernel, rngs=rngs)
        self.pointwise = Conv(channels, channels, 1, rngs=rngs)
        self.norm = BatchNorm(channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.norm(self.pointwise(self.depthwise(x))))


class MacroLayer(nnx.Module):
    """A 1x1 convolution, the operation, and a 1x1 convolution of it and the skip connections.

    The first layer has none, and no second 1x1 convolution.
    """

    def __init__(self, number: int, channels: int, separable: bool, *, rngs: nnx.Rngs):
        conv = functools.partial(ConvNorm, channels, channels, rngs=rngs)
        small = functools.partial(Separable, channels, rngs=rngs) if separable else conv
        made = (
            *(conv(3), small(3)),
            *(conv(5), small(5)),
            *(ops.avg_pool_3x3, ops.max_pool_3x3),
        )
        self.enter = conv(1)
        self.op = OneOf(dict(zip(OPERATIONS, made, strict=True)), f"op_{number}")
        reads, many = f"reads_{number}", 1 + number
        self.reads = Kept(many, channels, reads) if number else None
        join = functools.partial(ConvNorm, many * channels, channels, 1, relu="before", into=reads)
        self.join = join(rngs=rngs) if number else None

    def __call__(self, x: jax.Array, before: list[jax.Array]) -> jax.Array:
        y = self.op(self.enter(x))
        if self.reads is None or self.join is None:
            return y
        return self.join(self.reads([y, *before]))


class MacroNetwork(nnx.Module):
    """Stem and layers; after a third and two thirds of them all that was made is halved."""

    def __init__(
        self, channels: list[int], classes: int, inputs: int, separable: bool, *, rngs: nnx.Rngs
    ):
        idly = idle(rngs)
        self.stem, self.stem_norm = Conv(inputs, channels[0], 3, rngs=idly), BatchNorm(channels[0])
        self.layers = nnx.List(
            [MacroLayer(i, width, separable, rngs=idly) for i, width in enumerate(channels)]
        )
        self.halved = reductions(len(channels))
        halve = lambda i: FactorizedReduce(*channels[i : i + 2], relu=False, rngs=idly)
        self.reductions = nnx.List(
            [nnx.List([halve(i) for _ in range(i + 2)]) for i in self.halved]
        )
        self.classifier = nnx.Linear(channels[-1], classes, kernel_init=lecun_uniform, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem_norm(self.stem(x))
        made: list[jax.Array] = [x]
        for i, layer in enumerate(self.layers):
            x = layer(x, made[:i])
            made.append(x)
            if i in self.halved:
                halves = self.reductions[self.halved.index(i)]
                made = [halve(y) for halve, y in zip(halves, made, strict=True)]
                x = made[-1]
        return self.classifier(jnp.mean(x, (1, 2)))


@takes(spaces.enas_macro)
def enas_macro(**settings: Any) -> Net:
    """The network of ENAS' macro space, with every setting of `jnas.spaces.enas_macro`.

    A layer takes the output of the last one through a 1x1 convolution and its operation; that and
    the earlier outputs that it reads as well are concatenated for another 1x1 convolution. After a
    third and after two thirds of the layers, every output so far, that of the stem too, is halved.

    Args:
      **settings: see `jnas.spaces.enas_macro`.

    Returns:
      The net over `jnas.spaces.enas_macro`: `[B, image, image, inputs]` to `[B, classes]`. Of a
      relaxed architecture a skip connection counts by the share of its bit.
    """
    layers = settings["layers"]
    space = spaces.enas_macro(**settings)
    numbers = np.cumsum([0, *range(layers)])
    wide = widths(settings["channels"], layers, settings["doubling"])

    def bind(arch: Any) -> dict[str, Any]:
        bits: Any = arch["skips"]
        soft = jnp.ndim(bits) == 2
        bits = bits[:, 1] if soft else bits
        xp: Any = np if isinstance(bits, np.ndarray) else jnp
        values: dict[str, Any] = {}
        for i in range(layers):
            values[f"op_{i}"] = arch["ops"][i]
            own = xp.concatenate([xp.ones(1), bits[numbers[i] : numbers[i + 1]]])
            values[f"reads_{i}"] = own.astype(np.float32).repeat(wide[i])
        return values

    kinds = settings["classes"], settings["inputs"], settings["separable"]
    return functional(
        lambda rngs: MacroNetwork(wide, *kinds, rngs=rngs),
        space=space,
        bind=bind,
    )
