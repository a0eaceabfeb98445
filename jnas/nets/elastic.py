"""Pieces whose choices share their weights: elastic kernels and elastic resolution.

Cai et al. 2020, "Once-for-All", arXiv 1908.09791, section 3.3.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.nets import dispatch, ops
from jnas.nets.choices import Searchable, changing, largest, relaxed, split
from jnas.nets.darts_ops import Depthwise


def kernels(
    largest: jax.Array, transforms: Sequence[jax.Array], sizes: Sequence[int]
) -> list[jax.Array]:
    """The kernels of all sizes, each the middle of the next larger one.

    Args:
      largest: `[k, k, C]`.
      transforms: a matrix `[size^2, size^2]` for every smaller size, rising, or none at all.
      sizes: the smaller sizes, rising.

    Returns:
      From the smallest on, `[size, size, C]`.
    """
    found = [largest]
    for i in reversed(range(len(sizes))):
        middle = _middle(found[0], sizes[i])
        if len(transforms):
            flat = middle.reshape(-1, middle.shape[-1])
            middle = (transforms[i] @ flat).reshape(middle.shape)
        found.insert(0, middle)
    return found


class ElasticDepthwise(Searchable):
    """A depthwise convolution whose smaller kernels are the middle of the next larger one.

    With `transforms`, the middle goes through a matrix first, `[k^2, k^2]`, the same for all
    channels, which starts as the identity: kernel transformation. The kernel is chosen before the
    images are seen, so that one convolution runs, whatever the choice.

    Args:
      channels: C.
      kernels: odd sizes to choose from, rising.
      stride: 1 or 2.
      transforms: whether there are matrices.
      rngs: the source of the parameters.
      name: of the choice; equal names share it.
    """

    def __init__(
        self,
        channels: int,
        kernels: Sequence[int],
        stride: int = 1,
        transforms: bool = False,
        *,
        rngs: nnx.Rngs,
        name: str = "",
    ):
        super().__init__([f"k{k}" for k in kernels], name)
        self.kernels, self.stride = tuple(kernels), stride
        self.kernel = Depthwise(channels, kernels[-1], stride, rngs=rngs).kernel
        sizes = self.kernels[:-1] if transforms else ()
        self.transforms = nnx.List([nnx.Param(jnp.eye(k * k)) for k in sizes])

    def weights(self) -> list[jax.Array]:
        """The kernels `[k, k, C]` of all choices."""
        transforms = [matrix[...] for matrix in self.transforms]
        return kernels(self.kernel[...], transforms, self.kernels[:-1])

    def __call__(self, x: jax.Array) -> jax.Array:
        choice, weights = self.chosen(), self.weights()
        if isinstance(choice, int):
            return ops.depthwise(x, weights[choice], self.stride)
        largest_kernel = self.kernels[-1]
        every = jnp.stack([_framed(w, largest_kernel) for w in weights])
        if not relaxed(choice):
            return ops.depthwise(x, every[choice], self.stride)
        if self.sparse:
            k, weight = largest(choice)
            return ops.depthwise(x, weight * every[k], self.stride)
        # A convolution is linear in its kernel: the sum of all is the convolution by their sum.
        return ops.depthwise(x, jnp.einsum("k,khwc->hwc", choice, every), self.stride)


def _middle(weight: jax.Array, size: int) -> jax.Array:
    start = (weight.shape[0] - size) // 2
    return weight[start : start + size, start : start + size]


def _framed(weight: jax.Array, size: int) -> jax.Array:
    pad = (size - weight.shape[0]) // 2
    return jnp.pad(weight, ((pad, pad), (pad, pad), (0, 0)))


def resize(x: jax.Array, size: int) -> jax.Array:
    """Images at another height and width, bilinear between the centres of pixels.

    Args:
      x: `[B, H, W, C]`.
      size: of the result.

    Returns:
      `[B, size, size, C]`.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        if n == size:
            continue
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), n - 1)
        high = np.minimum(low + 1, n - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = size
        part = jnp.asarray((at - low).reshape(shape), x.dtype)
        x = jnp.take(x, low, axis) * (1 - part) + jnp.take(x, high, axis) * part
    return x


class Resized(Searchable):
    """Runs a network on the images at one of several sizes, with the same weights.

    Every size is a branch of the program, as the shapes differ.

    Args:
      body: a network that takes images of any size.
      sizes: heights and widths to choose from.
      name: of the choice.
    """

    def __init__(self, body: nnx.Module, sizes: Sequence[int], name: str = ""):
        super().__init__([f"{size}px" for size in sizes], name)
        self.body, self.sizes = body, tuple(sizes)

    def __call__(self, x: jax.Array) -> Any:
        choice = self.chosen()
        body: Any = self.body
        if isinstance(choice, int):
            return body(resize(x, self.sizes[choice]))
        if relaxed(choice) and not self.sparse:
            parts = [body(resize(x, size)) for size in self.sizes]
            mix = lambda *leaves: sum(p * leaf for p, leaf in zip(choice, leaves, strict=True))
            return jax.tree.map(mix, *parts)
        weight: Any = None
        if relaxed(choice):
            choice, weight = largest(choice)
        graph, state = split(body)

        def branch(size: int) -> Callable:
            def run(state: Any, x: jax.Array) -> tuple:
                module = nnx.merge(graph, state)
                y = module(resize(x, size))
                return y, changing(module)

            return run

        y, buffers = dispatch.switch(choice, [branch(s) for s in self.sizes], state, x)
        nnx.update(body, buffers)
        return y if weight is None else jax.tree.map(lambda leaf: weight * leaf, y)
