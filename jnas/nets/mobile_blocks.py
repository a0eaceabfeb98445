"""The blocks of mobile networks: MBConv and its relatives, with channels that may be chosen."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jnas.nets import initial, ops
from jnas.nets.choices import Function, OneOf, Slim
from jnas.nets.darts_ops import Depthwise
from jnas.nets.initial import lecun_uniform
from jnas.nets.layers import BatchNorm, Conv

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "swish": jax.nn.swish,
    "hard_swish": jax.nn.hard_swish,
    "linear": lambda x: x,
}
GATES = {"sigmoid": jax.nn.sigmoid, "hard_sigmoid": jax.nn.hard_sigmoid}


class Channels(NamedTuple):
    """A number of channels, or several to choose from.

    sizes: for every choice; a single one where there is none.
    name: of the choice.
    """

    sizes: tuple[int, ...]
    name: str = ""

    @property
    def most(self) -> int:
        return max(self.sizes)

    @property
    def fixed(self) -> bool:
        return len(set(self.sizes)) == 1


def slim(layer: nnx.Module, channels: Channels) -> nnx.Module:
    """A layer with as many channels out as are chosen."""
    return layer if channels.fixed else Slim(layer, channels.sizes, channels.name)


class PointwiseGroups(nnx.Module):
    """A 1x1 convolution whose channels fall into groups, `[groups, C / groups, D / groups]`.

    With `shuffle`, the channels of the result are put in an order in which the groups of the next
    one mix them (Zhang et al. 2018, "ShuffleNet", arXiv 1707.01083).
    """

    def __init__(self, inputs: int, outputs: int, groups: int, shuffle: bool, *, rngs: nnx.Rngs):
        shape = (groups, inputs // groups, outputs // groups)
        self.kernel = nnx.Param(initial.uniform(rngs.params(), shape, (6 / shape[1]) ** 0.5))
        self.shuffle = shuffle

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...]
        parts = x.reshape(*x.shape[:-1], kernel.shape[0], -1)
        y = jnp.einsum("bhwgc,gcd->bhwgd", parts, kernel)
        y = y.swapaxes(-1, -2) if self.shuffle else y
        return y.reshape(*x.shape[:-1], -1)


class ConvNorm(nnx.Module):
    """A convolution, batch normalisation and an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        activation: str = "linear",
        eps: float = 1e-5,
        groups: int = 1,
        shuffle: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        if groups > 1:
            self.conv: Any = PointwiseGroups(inputs, outputs, groups, shuffle, rngs=rngs)
        else:
            self.conv = Conv(inputs, outputs, kernel, stride, rngs=rngs)
        self.norm = BatchNorm(outputs, eps=eps)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.activation](self.norm(self.conv(x)))


class DepthwiseNorm(nnx.Module):
    """A depthwise convolution, batch normalisation and an activation."""

    def __init__(self, conv: nnx.Module, channels: int, activation: str, eps: float):
        self.conv: Any = conv
        self.norm = BatchNorm(channels, eps=eps)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.activation](self.norm(self.conv(x)))


def depthwise(
    channels: int, kernel: int, stride: int, activation: str, eps: float, *, rngs: nnx.Rngs
) -> DepthwiseNorm:
    """A depthwise convolution of a fixed kernel."""
    conv = Depthwise(channels, kernel, stride, rngs=rngs)
    return DepthwiseNorm(conv, channels, activation, eps)


class Dense(nnx.Module):
    """A dense layer and an activation."""

    def __init__(
        self, inputs: int, outputs: int, activation: str, bias: bool = True, *, rngs: nnx.Rngs
    ):
        self.linear = nnx.Linear(
            inputs, outputs, use_bias=bias, kernel_init=lecun_uniform, rngs=rngs
        )
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.activation](self.linear(x))


class SqueezeExcite(nnx.Module):
    """Weighs the channels by a small network of their means (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(
        self, channels: int, squeezed: Channels, activation: str, gate: str, *, rngs: nnx.Rngs
    ):
        self.reduce: Any = slim(Dense(channels, squeezed.most, activation, rngs=rngs), squeezed)
        self.expand = nnx.Linear(squeezed.most, channels, kernel_init=lecun_uniform, rngs=rngs)
        self.gate = gate

    def __call__(self, x: jax.Array) -> jax.Array:
        weights = self.expand(self.reduce(jnp.mean(x, (1, 2))))
        return x * GATES[self.gate](weights)[:, None, None]


def one_of(options: dict[str, Any], name: str) -> nnx.Module:
    """A choice among modules, or the only one."""
    if len(options) > 1:
        return OneOf(options, name)
    (only,) = options.values()
    return only if isinstance(only, nnx.Module) else Function(only)


SKIPS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "noskip": jnp.zeros_like,
    "id": lambda x: x,
    "pool": ops.avg_pool_3x3,
}


class Block(nnx.Module):
    """A row of parts, and what is added to their result.

    Args:
      parts: modules that run one after another.
      skips: words of `SKIPS` to choose from; `("noskip",)` adds nothing.
      name: of that choice.
    """

    def __init__(self, parts: Sequence[nnx.Module], skips: Sequence[str], name: str = ""):
        self.parts = nnx.List(parts)
        self.skip: Any = None if tuple(skips) == ("noskip",) else one_of(
            {word: SKIPS[word] for word in skips}, name
        )  # fmt: skip

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for part in self.parts:
            y = part(y)
        return y if self.skip is None else y + self.skip(x)
