"""The network of NATS-Bench's size search space, of widths that the architecture chooses."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.nets import ops
from jnas.nets.choices import OneOf, relaxed
from jnas.nets.functional import Net, functional
from jnas.nets.narrow import ConvNorm, NarrowConv, NarrowLinear, NarrowNorm
from jnas.spaces.nats_size import LAYERS, WIDTHS


class SizeCell(nnx.Module):
    """The fixed cell: five 3x3 convolutions and a skip connection, which matches the widths."""

    def __init__(self, most: int, into: str, out: str, same: str, *, rngs: nnx.Rngs):
        def conv(before: str) -> ConvNorm:
            return ConvNorm(most, most, 3, relu="before", into=before, out=out, rngs=rngs)

        self.to_1, self.to_2, self.from_1_to_2 = conv(into), conv(into), conv(out)
        self.from_1, self.from_2 = conv(out), conv(out)
        match = ConvNorm(most, most, 1, relu="", into=into, out=out, rngs=rngs)
        self.skip = OneOf({"match": match, "identity": lambda x: x}, same) if same else None

    def __call__(self, x: jax.Array) -> jax.Array:
        first = self.to_1(x)
        second = self.to_2(x) + self.from_1_to_2(first)
        past = x if self.skip is None else self.skip(x)
        return past + self.from_1(first) + self.from_2(second)


class SizeReduction(nnx.Module):
    """Halves height and width: two 3x3 convolutions beside a pooled 1x1 shortcut."""

    def __init__(self, most: int, into: str, out: str, *, rngs: nnx.Rngs):
        conv = functools.partial(ConvNorm, most, most, 3, relu="before", out=out, rngs=rngs)
        self.first, self.second = conv(stride=2, into=into), conv(into=out)
        self.shortcut = NarrowConv(most, most, 1, into=into, out=out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        short = self.shortcut.out.mask(self.shortcut(ops.avg_pool_2x2(x)))
        return short + self.second(self.first(x))


class SizeNetwork(nnx.Module):
    """Stem, three cells with a residual reduction between them, pooling, classifier."""

    def __init__(self, most: int, classes: int, inputs: int, *, rngs: nnx.Rngs):
        width = [f"width_{i}" for i in range(LAYERS)]
        self.stem = ConvNorm(inputs, most, 3, relu="", out=width[0], rngs=rngs)
        layers: list[nnx.Module] = [SizeCell(most, width[0], width[0], "", rngs=rngs)]
        for i in range(1, LAYERS):
            if i % 2:
                layers.append(SizeReduction(most, width[i - 1], width[i], rngs=rngs))
            else:
                layers.append(SizeCell(most, width[i - 1], width[i], f"same_{i}", rngs=rngs))
        self.layers = nnx.List(layers)
        self.norm = NarrowNorm(most, width[-1])
        self.classifier = NarrowLinear(most, classes, into=width[-1], rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.classifier(jnp.mean(jax.nn.relu(self.norm(x)), (1, 2)))


def nats_size(
    widths: Sequence[int] = WIDTHS, classes: int = 10, image: int = 32, inputs: int = 3
) -> Net:
    """The network of the size search space.

    Args:
      widths: to choose from, in rising order.
      classes: the outputs.
      image: height and width of the images, a multiple of 4.
      inputs: the channels of the images.

    Returns:
      The net over `jnas.spaces.nats_size`: `[B, image, image, inputs]` to `[B, classes]`. Of a
      relaxed architecture every channel counts by the share of the widths that keep it.
    """
    space, widths = spaces.nats_size(widths, classes, image, inputs), tuple(widths)
    masks = (np.arange(max(widths)) < np.asarray(widths)[:, None]).astype(np.float32)

    def bind(arch: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        soft = relaxed(arch)
        known = isinstance(arch, np.ndarray)
        for i in range(LAYERS):
            table = np.asarray(widths, np.int32)
            own = arch[i] @ masks if soft else (table if known else jnp.asarray(table))[arch[i]]
            values[f"width_{i}"] = own
            if soft:
                equal = jnp.sum(arch[i - 1] * arch[i])
                values[f"same_{i}"] = jnp.stack([1 - equal, equal])
            else:
                values[f"same_{i}"] = (arch[i] == arch[i - 1]) * np.int32(1)
        return values

    return functional(
        lambda rngs: SizeNetwork(max(widths), classes, inputs, rngs=rngs),
        space=space,
        bind=bind,
    )
