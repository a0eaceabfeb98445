"""Channels, parameters and multiply-adds of NAS-Bench-101's network, as functions of the cell.

Ying et al. 2019, arXiv 1902.09635, section 2.3, and the module builder of its published code.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError
from jnas.errors import positive

KERNELS = (3, 1, 0)  # of the operations; the pooling has no weights


def check(channels: int, stacks: int, modules: int, classes: int, image: int, inputs: int) -> None:
    """Raises `InputError` for a network that cannot be."""
    positive(stacks=stacks, modules=modules, classes=classes, inputs=inputs)
    if channels < 5:
        raise InputError(f"channels={channels}: 5 vertices share them, so at least 5 are needed")
    step = 2 ** (stacks - 1)
    if image < 2 or image % step:
        raise InputError(
            f"image size {image}: NAS-Bench-101's network of {stacks} stacks needs images, of a "
            f"multiple of {step}"
        )


def vertex_channels(matrix: Any, channels: int) -> jax.Array:
    """The channels of the inner vertices of a cell.

    What enters the output is concatenated, so those vertices share its channels, the first ones
    having one more where they do not divide. Any other vertex has as many as the widest vertex
    that it leads to, since what leads on is cut to the channels of where it goes.

    Args:
      matrix: int32[..., n, n], without vertices on no path from input to output.
      channels: of the output.

    Returns:
      int32[..., n - 2], 0 for a vertex without edges.
    """
    last = matrix[..., 1:-1, -1]  # which inner vertices lead to the output
    many = jnp.maximum(jnp.sum(last, -1, keepdims=True), 1)
    rank = jnp.cumsum(last, -1) - 1
    own = last * (channels // many + (rank < channels % many))
    found = [own[..., v] for v in range(own.shape[-1])]
    for v in reversed(range(len(found))):
        onward = [matrix[..., v + 1, w + 1] * found[w] for w in range(v + 1, len(found))]
        widest = jnp.max(jnp.stack([*onward, jnp.zeros_like(found[v])]), 0)
        found[v] = jnp.where(last[..., v] == 1, found[v], widest)
    return jnp.stack(found, -1).astype(jnp.int32)


def modules_of(
    channels: int, stacks: int, modules: int, image: int
) -> list[tuple[int, int, int, int]]:
    """The distinct modules: (input channels, channels, height of the images, how many)."""
    made, before = [], channels
    for i in range(stacks):
        width, side = channels * 2**i, image // 2**i
        made.append((before, width, side, 1))
        if modules > 1:
            made.append((width, width, side, modules - 1))
        before = width
    return made


def counts(
    matrix_of: Callable[[Any], jax.Array],
    channels: int,
    stacks: int,
    modules: int,
    classes: int,
    image: int,
    inputs: int,
) -> dict[str, Callable[[Any], jax.Array]]:
    """`params` and `flops` of an architecture, jittable.

    They are float32 where int32 would not hold them.

    Args:
      matrix_of: the matrix of an architecture, without what lies on no path.
      channels: and the rest: of `jnas.spaces.nas_bench_101`.
    """
    check(channels, stacks, modules, classes, image, inputs)
    widest = channels * 2 ** (stacks - 1)
    stem, head = 9 * inputs * channels, (widest + 1) * classes
    every = modules_of(channels, stacks, modules, image)
    area = np.asarray(KERNELS) ** 2

    def total(arch: Any, flops: bool) -> jax.Array:
        matrix, ops = matrix_of(arch), jnp.asarray(arch["ops"])
        from_input, direct = matrix[..., 0, 1:-1], matrix[..., 0, -1]
        kernel, convolves = jnp.asarray(area)[ops], jnp.asarray(area > 0, jnp.int32)[ops]
        most = stem * image**2 * flops + head
        for before, width, side, many in every:
            most += many * (5 * 10 * width**2 + 6 * before * width) * (side**2 if flops else 1)
        dtype = jnp.int32 if most < 2**31 else jnp.float32
        pixels = lambda side: side**2 if flops else 1
        norm = 0 if flops else 2  # parameters for each normalised channel
        base = stem * pixels(image) + head - (classes if flops else norm * -channels)
        found = jnp.asarray(base, dtype)
        for before, width, side, many in every:
            c = vertex_channels(matrix, width).astype(dtype)
            inner = convolves * c * (kernel * c + norm) + from_input * c * (before + norm)
            whole = jnp.sum(inner, -1) + direct * width * (before + norm)
            found += many * pixels(side) * whole
        return found

    return {
        "params": lambda arch: total(arch, False),
        "flops": lambda arch: total(arch, True),
    }
