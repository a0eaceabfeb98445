"""Convolutions along time, of `[B, T, C]`, in the forms that a population of them runs fast in."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jnas.nets import forms, initial
from jnas.nets.sizes import Size


def shifted(x: jax.Array, kernel: int, stride: int = 1, causal: bool = False) -> list[jax.Array]:
    """The input as every tap of a kernel sees it: `kernel` arrays `[B, ceil(T / stride), C]`.

    Outside there are zeros: `kernel // 2` steps on both sides, or `kernel - 1` before for a causal
    kernel, whose last tap is the present.
    """
    before = kernel - 1 if causal else kernel // 2
    padded = jnp.pad(x, ((0, 0), (before, kernel - 1 - before), (0, 0)))
    return [padded[:, i : i + x.shape[1] : stride] for i in range(kernel)]


def depthwise(x: jax.Array, weight: jax.Array, causal: bool = False) -> jax.Array:
    """A convolution of every channel by itself: `[B, T, C]` by `[kernel, C]`."""
    kernel = weight.shape[0]
    if forms.form("depthwise") == "lax":
        before = kernel - 1 if causal else kernel // 2
        return jax.lax.conv_general_dilated(
            x,
            weight[:, None],
            (1,),
            ((before, kernel - 1 - before),),
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=x.shape[-1],
        )
    taps = shifted(x, kernel, 1, causal)
    return functools.reduce(jnp.add, [tap * w for tap, w in zip(taps, weight, strict=True)])


class DepthwiseLine(nnx.Module):
    """A depthwise convolution along time, with a bias, of a kernel to choose."""

    def __init__(self, taps: Size, width: Size, causal: bool = False, *, rngs: nnx.Rngs):
        self.taps, self.width, self.causal = taps, width, causal
        bound = (3 / taps.most) ** 0.5
        shape = (taps.most, width.most)
        self.kernel = nnx.Param(initial.uniform(rngs.params(), shape, bound))
        self.bias = nnx.Param(jnp.zeros(width.most))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        return {
            "kernel": (self.taps.kept(values), self.width.kept(values)),
            "bias": (self.width.kept(values),),
        }

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, mask = self.kernel[...], self.taps.mask()
        if mask is not None:
            kernel = kernel * mask[:, None].astype(kernel.dtype)
        return self.width.keep(depthwise(x, kernel, self.causal) + self.bias[...])


class ConvLine(nnx.Module):
    """A convolution along time without bias, `[B, T, C]` to `[B, ceil(T / stride), D]`."""

    def __init__(self, taps: Size, inputs: Size, outputs: Size, stride: int = 1, *, rngs: nnx.Rngs):
        self.taps, self.inputs, self.outputs, self.stride = taps, inputs, outputs, stride
        bound = (6 / (taps.most * inputs.most)) ** 0.5
        shape = (taps.most, inputs.most, outputs.most)
        self.kernel = nnx.Param(initial.uniform(rngs.params(), shape, bound))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        return {
            "kernel": (self.taps.kept(values), self.inputs.kept(values), self.outputs.kept(values))
        }

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, mask = self.kernel[...], self.taps.mask()
        if mask is not None:
            kernel = kernel * mask[:, None, None].astype(kernel.dtype)
        taps = jnp.concatenate(shifted(x, self.taps.most, self.stride), -1)
        return self.outputs.keep(taps @ kernel.reshape(-1, kernel.shape[-1]))
