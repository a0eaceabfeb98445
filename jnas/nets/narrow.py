"""Layers whose numbers of channels, in and out, depend on the architecture.

A `Width` holds which of a layer's channels an architecture keeps. Where it is known at compile
time, layers cut their weights, and images have the kept channels only. Else all channels are
computed and those that are not kept set to zero, forward and backward, which is the same network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.nets import ops
from jnas.nets.choices import Searchable, relaxed
from jnas.nets.initial import lecun_uniform
from jnas.nets.layers import BatchNorm, Conv


class Width(Searchable):
    """Which channels are kept.

    Its value is an int32, which keeps the first so many, or f32[most]: 1 for the kept ones, or of
    a relaxed architecture the share of each.

    Args:
      most: the channels that there are.
      name: of the value; widths of one name are the same. Without a name all are kept.
    """

    def __init__(self, most: int, name: str = ""):
        super().__init__([str(i) for i in range(most)] if name else ["all"], name)
        self.most = most

    def known(self) -> np.ndarray | None:
        """The places of the kept channels, where they are known at compile time and not all."""
        value: Any = self.chosen() if self.name else None
        if isinstance(value, int):
            return np.arange(value)
        if value is None or isinstance(value, jax.core.Tracer) or not value.ndim:
            return None
        fixed = np.asarray(value)
        return np.flatnonzero(fixed) if np.isin(fixed, (0, 1)).all() else None

    def cut(self, x: jax.Array, axis: int = -1) -> jax.Array:
        """The kept channels of an array that has all of them, where they are known."""
        kept = self.known()
        if kept is None or len(kept) == x.shape[axis]:
            return x
        if (kept == np.arange(len(kept))).all():
            return jax.lax.slice_in_dim(x, 0, len(kept), axis=axis % x.ndim)
        return jnp.take(x, jnp.asarray(kept), axis)

    def mask(self, x: jax.Array) -> jax.Array:
        """Images with zeros in the channels that are not kept; as they are where that is known."""
        if not self.name or self.known() is not None:
            return x
        return x * jnp.asarray(_shares(self.chosen(), self.most), x.dtype)

    def kept(self, values: Mapping[str, Any]) -> Any:
        """Which channels an architecture keeps, for counting: `[..., most]`, or None for all."""
        return _shares(values[self.name], self.most) if self.name else None


def _shares(value: Any, most: int) -> Any:
    """A value of a width as one number or bool for each channel: `[..., most]`."""
    value = jnp.asarray(value)
    return value if relaxed(value) else np.arange(most) < value[..., None]


class Kept(Width):
    """Concatenates the slots that are kept; of an architecture that is data, the rest as zeros."""

    def __init__(self, many: int, channels: int, name: str):
        super().__init__(many * channels, name)
        self.channels = channels

    def __call__(self, parts: Sequence[jax.Array]) -> jax.Array:
        kept = self.known()
        if kept is None:
            return self.mask(jnp.concatenate(parts, -1))
        return jnp.concatenate([parts[i] for i in np.unique(kept // self.channels)], -1)


class NarrowConv(Conv):
    """`Conv` whose inputs and outputs have a width each, given by its name."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        into: str = "",
        out: str = "",
        rngs: nnx.Rngs,
    ):
        super().__init__(inputs, outputs, kernel, stride, rngs=rngs)
        self.into, self.out = Width(inputs, into), Width(outputs, out)

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.out.cut(self.into.cut(self.kernel[...], -2))
        return ops.conv(x, kernel, self.stride)

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        """For counting: which of the last axes of a parameter an architecture uses."""
        return {"kernel": (self.into.kept(values), self.out.kept(values))}


class NarrowNorm(BatchNorm):
    """`BatchNorm` of the channels of a width; the others become zero."""

    def __init__(self, channels: int, out: str = "", momentum: float = 0.9, eps: float = 1e-5):
        super().__init__(channels, momentum, eps)
        self.out = Width(channels, out)

    def __call__(self, x: jax.Array) -> jax.Array:
        kept = self.out.known()
        if kept is None:
            return self.out.mask(super().__call__(x))
        scale, bias = self.out.cut(self.scale[...]), self.out.cut(self.bias[...])
        mean, variance = self.mean[...], self.variance[...]
        if self.use_running_average:
            slope = jax.lax.rsqrt(self.out.cut(variance) + self.eps) * scale
            return (x - self.out.cut(mean)) * slope + bias
        y, *found = ops.batch_norm(x, scale, bias, self.eps)
        put = lambda old, new: jnp.asarray(old).at[kept].set(new)
        return self.remember(y, put(mean, found[0]), put(variance, found[1]))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        """For counting: which of the last axes of a parameter an architecture uses."""
        kept = (self.out.kept(values),)
        return {"scale": kept, "bias": kept}


class NarrowLinear(nnx.Linear):
    """A linear layer with bias whose inputs and outputs have a width each, given by its name."""

    def __init__(self, inputs: int, outputs: int, *, into: str = "", out: str = "", rngs: nnx.Rngs):
        super().__init__(inputs, outputs, kernel_init=lecun_uniform, rngs=rngs)
        self.into, self.out = Width(inputs, into), Width(outputs, out)

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        del out_sharding
        kernel, bias = self.kernel[...], self.bias[...]  # type: ignore
        kernel = self.out.cut(self.into.cut(kernel, -2))
        return self.out.mask(inputs @ kernel + self.out.cut(bias))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        """For counting: which of the last axes of a parameter an architecture uses."""
        out = self.out.kept(values)
        return {"kernel": (self.into.kept(values), out), "bias": (out,)}


class ConvNorm(nnx.Module):
    """Convolution and batch normalisation, with widths; a ReLU `before`, `after` or not."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        relu: str = "after",
        into: str = "",
        out: str = "",
        momentum: float = 0.9,
        rngs: nnx.Rngs,
    ):
        self.conv = NarrowConv(inputs, outputs, kernel, stride, into=into, out=out, rngs=rngs)
        self.norm = NarrowNorm(outputs, out, momentum)
        self.relu = relu

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(self.conv(jax.nn.relu(x) if self.relu == "before" else x))
        return jax.nn.relu(y) if self.relu == "after" else y
