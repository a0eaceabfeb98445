"""Augmentation of a batch of images on the device, drawn from a key.

Flip and crop act on the raw examples, so that the border of a crop is raw zero, black, as in the
usual setting for CIFAR; cutout and mixup act on the scaled ones, where zero is the mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, below


class Augment(NamedTuple):
    """What is done to every batch; nothing by default, which draws and computes nothing."""

    flip: bool = False  # left to right, every second image
    crop: int = 0  # pixels of black border out of which a random window is cut
    cutout: int = 0  # side of a square that is set to the mean
    mixup: float = 0.0  # alpha of the Beta distribution of the shares


def check(spec: Augment, shape: tuple[int, ...]) -> None:
    """Raises `InputError` where examples of a shape `[N, ...]` cannot be augmented so."""
    sides = shape[1:3]
    if (spec.flip or spec.crop or spec.cutout) and len(shape) != 4:
        raise InputError(f"flip, crop and cutout need images [N, H, W, C]; these are {shape}")
    for name, value in (("crop", spec.crop), ("cutout", spec.cutout)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{name}={value!r}: a whole number of pixels is needed")
        if value and not 0 <= value <= min(sides):
            raise InputError(f"{name}={value}: allowed are 0 to {min(sides)}, the images' size")
    if not isinstance(spec.flip, bool):
        raise InputError(f"flip={spec.flip!r}: allowed are True and False")
    if not isinstance(spec.mixup, int | float) or not 0 <= spec.mixup < float("inf"):
        raise InputError(f"mixup={spec.mixup!r}: it has to be at least 0")


def augment(
    spec: Augment, key: jax.Array, raw: jax.Array, scale: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array | None]:
    """Augments a batch.

    Args:
      spec: what to do.
      key: of this batch.
      raw: examples as stored, `[B, H, W, C]`.
      scale: from raw examples to the inputs of a network.

    Returns:
      The inputs, and the share f32[] of every example in its mixture, for its label; None without
      mixup.
    """
    places, shares = jax.random.split(key)
    bounds = [2] if spec.flip else []
    bounds += [2 * spec.crop + 1] * 2 if spec.crop else []
    bounds += raw.shape[1:3] if spec.cutout else []
    drawn = list(below(places, (raw.shape[0], len(bounds)), np.asarray(bounds)).T) if bounds else []
    if spec.flip:
        raw = flip(raw, drawn.pop(0) == 1)
    if spec.crop:
        raw = crop(raw, jnp.stack([drawn.pop(0), drawn.pop(0)], -1), spec.crop)
    x = scale(raw)
    if spec.cutout:
        x = cutout(x, jnp.stack(drawn, -1), spec.cutout)
    if not spec.mixup:
        return x, None
    share = jax.random.beta(shares, spec.mixup, spec.mixup)
    return mix(x, share), share


def flip(x: jax.Array, which: jax.Array) -> jax.Array:
    """Mirrors the images of a mask bool[B] left to right."""
    return jnp.where(which[:, None, None, None], x[:, :, ::-1], x)


def crop(x: jax.Array, at: jax.Array, border: int) -> jax.Array:
    """Puts a border of zeros around every image and cuts a window of its size out.

    Args:
      x: `[B, H, W, C]`.
      at: row and column where each window begins, int32[B, 2] in `[0, 2 * border]`.
      border: its pixels on every side.

    Returns:
      `[B, H, W, C]`.
    """
    padded = jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    cut = lambda image, i: jax.lax.dynamic_slice(image, (i[0], i[1], 0), x.shape[1:])
    return jax.vmap(cut)(padded, at)


def cutout(x: jax.Array, at: jax.Array, side: int) -> jax.Array:
    """Sets a square in every image to zero; what lies outside the image is cut off.

    DeVries and Taylor 2017, arXiv 1708.04552.

    Args:
      x: `[B, H, W, C]`.
      at: row and column of each centre, int32[B, 2]; of an even side, the pixel right below it.
      side: of the squares.

    Returns:
      `[B, H, W, C]`.
    """
    start = at - side // 2
    off = lambda axis: jnp.arange(x.shape[axis + 1]) - start[:, axis, None]
    rows, columns = ((off(axis) >= 0) & (off(axis) < side) for axis in (0, 1))
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], 0, x)


def mix(x: jax.Array, share: jax.Array) -> jax.Array:
    """Mixes every row with the row before it, in a shuffled batch any other: mixup.

    Zhang et al. 2018, arXiv 1710.09412, with one share for a batch as in its authors' code.

    Args:
      x: inputs or soft labels, `[B, ...]`.
      share: of a row in its own mixture, f32[].

    Returns:
      `share * x[i] + (1 - share) * x[i - 1]`.
    """
    return share * x + (1 - share) * jnp.roll(x, 1, 0)
