"""Frames of a series, some of which are padding: reading, normalising and summing them up.

A stream is a dict of `x` f32[B, T, C] and `keep` f32[B, T], 1 for frames and 0 for padding.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jnas.nets.lines import ConvLine
from jnas.nets.sizes import Dense, LayerNorm, Size, fixed

Stream = dict[str, Any]


def read(x: Any, padded: bool) -> Stream:
    """The stream of an input.

    Args:
      x: `[B, T, F]`; with `padded` its last feature is 1 for frames and 0 for padding. Or
        `{"series": [B, T, F], "frames": int32[B]}` with the number of frames of each.
      padded: whether that last feature is there.

    Returns:
      The stream, zeros where there is padding.
    """
    if isinstance(x, Mapping):
        series, frames = x["series"], x["frames"]
        keep = (jnp.arange(series.shape[1]) < frames[:, None]).astype(jnp.float32)
    elif padded:
        series = x[..., :-1]
        keep = (x[..., -1] > 0).astype(jnp.float32)
    else:
        series, keep = x, jnp.ones(x.shape[:2], jnp.float32)
    return {"x": live(series, keep), "keep": keep}


def live(x: jax.Array, keep: jax.Array) -> jax.Array:
    """Sets padding to zero."""
    return x * keep.reshape(*keep.shape, *(1,) * (x.ndim - 2)).astype(x.dtype)


def every(keep: jax.Array, stride: int) -> jax.Array:
    """Which steps are frames after a layer of some stride."""
    return keep[:, ::stride]


class FrameNorm(nnx.Module):
    """Batch normalisation over the frames that are no padding, with running statistics."""

    def __init__(self, width: Size, momentum: float = 0.9, eps: float = 1e-5):
        self.width, self.momentum, self.eps = width, momentum, eps
        self.scale = nnx.Param(jnp.ones(width.most))
        self.bias = nnx.Param(jnp.zeros(width.most))
        self.mean = nnx.BatchStat(jnp.zeros(width.most))
        self.variance = nnx.BatchStat(jnp.ones(width.most))
        self.use_running_average = False

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        kept = (self.width.kept(values),)
        return dict.fromkeys(("scale", "bias", "mean", "variance"), kept)

    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        """`[B, T, C]` or `[B, T, ..., C]`, and `[B, T]`."""
        mean, variance = self.mean[...], self.variance[...]
        if not self.use_running_average:
            mean, variance = self._measured(x, keep)
        slope = jax.lax.rsqrt(variance + self.eps) * self.scale[...]
        y = (x - mean.astype(x.dtype)) * slope.astype(x.dtype) + self.bias[...]
        return self.width.keep(y)

    def _measured(self, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and variance of a batch, which enter the running ones."""
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        share = keep.reshape(*keep.shape, *(1,) * (x.ndim - 2))
        axes, per = tuple(range(x.ndim - 1)), x[0, 0].size // x.shape[-1]
        n = jnp.maximum(jnp.sum(keep) * per, 1)
        mean = jnp.sum(wide * share, axes) / n
        variance = jnp.sum(jnp.square(wide - mean) * share, axes) / n
        old, fair = self.momentum, n / jnp.maximum(n - 1, 1)
        stop = jax.lax.stop_gradient
        self.mean.set_value(old * self.mean[...] + (1 - old) * stop(mean))
        self.variance.set_value(old * self.variance[...] + (1 - old) * stop(variance * fair))
        return mean, variance


class LayerFrameNorm(LayerNorm):
    """Layer normalisation, which does not look at other frames."""

    def __call__(self, x: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        return super().__call__(x)


NORMS: dict[str, Callable[[Size], nnx.Module]] = {"layer": LayerFrameNorm, "batch": FrameNorm}


class ConvNorm(nnx.Module):
    """A convolution along time and batch normalisation; padding counts as zeros."""

    def __init__(self, taps: Size, inputs: Size, outputs: Size, stride: int = 1, *, rngs: nnx.Rngs):
        self.conv = ConvLine(taps, inputs, outputs, stride, rngs=rngs)
        self.norm = FrameNorm(outputs)

    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        return self.norm(self.conv(live(x, keep)), every(keep, self.conv.stride))


class Head(nnx.Module):
    """Logits of a class for the whole series, `[B, K]`, or of a label for each step, `[B, T, K]`.

    The first is of the mean over all frames.
    """

    def __init__(self, width: Size, classes: int, output: str, *, rngs: nnx.Rngs):
        self.dense = Dense(width, fixed(classes), rngs=rngs)
        self.output = output

    def __call__(self, stream: Stream) -> jax.Array:
        x, keep = stream["x"], stream["keep"]
        if self.output == "classes":
            x = jnp.sum(live(x, keep), 1)
            x = x / jnp.maximum(jnp.sum(keep, 1, keepdims=True), 1).astype(x.dtype)
        return self.dense(x)
