"""Parameters and multiply-adds of DARTS' networks, as functions of the architecture."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError
from jnas.errors import positive

STEM = 3  # times C are the channels of the stem
OUTPUTS = 4  # times its width are the channels of a cell's output


class Cell(NamedTuple):
    """A cell of the network."""

    before: int  # channels of the output of the cell before the last
    last: int  # channels of the output of the last cell
    width: int
    reduces: bool
    halves: bool  # the last cell reduced, so that the output before it is twice as large


def cells(channels: int, layers: int) -> list[Cell]:
    """The cells of a network: those at a third and two thirds reduce and double the width."""
    made: list[Cell] = []
    before = last = STEM * channels
    width = channels
    for i in range(layers):
        reduces = i in (layers // 3, 2 * layers // 3)
        width *= 1 + reduces
        made.append(Cell(before, last, width, reduces, bool(made) and made[-1].reduces))
        before, last = last, OUTPUTS * width
    return made


def check(channels: int, layers: int, image: int) -> None:
    """Raises `InputError` for images that the network cannot take."""
    step = 2 ** sum(cell.reduces for cell in cells(channels, layers))
    if image < step or image % step:
        raise InputError(
            f"image size {image}: DARTS' network of {layers} layers needs a multiple of {step}"
        )


def costs(width: int) -> tuple[np.ndarray, np.ndarray]:
    """What the 7 operations cost at a width: parameters, and multiply-adds for a pixel of output.

    Returns:
      Two arrays int[2, 7], without and with a stride.
    """
    product, norm = width * width, 2 * width
    separable = lambda kernel: kernel * kernel * width + product
    convolutions = [2 * separable(3), 2 * separable(5), separable(3), separable(5)]
    norms = [2 * norm, 2 * norm, norm, norm]
    still = [0, 0, 0, *convolutions]  # two poolings and the skip connection
    halving = [0, 0, product, *convolutions]  # which at a stride is a factorised reduction
    flops = np.asarray([still, halving])
    return flops + np.asarray([[0, 0, 0, *norms], [0, 0, norm, *norms]]), flops


def counts(
    channels: int, layers: int, classes: int, image: int, inputs: int
) -> dict[str, Callable[[Any], jax.Array]]:
    """`params` and `flops` of an architecture of `jnas.spaces.darts`, jittable.

    Without the auxiliary head, which classifies nothing. Multiply-adds are those of convolutions
    and of the classifier. They are float32 where int32 would not hold them.
    """
    positive(channels=channels, layers=layers, classes=classes, inputs=inputs)
    check(channels, layers, image)
    every = cells(channels, layers)
    stem = 9 * inputs * STEM * channels
    head = (OUTPUTS * every[-1].width + 1) * classes
    params, flops = stem + 2 * STEM * channels + head, stem * image**2 + head - classes
    tables = {name: np.zeros((2, 2, 7), np.int64) for name in ("normal", "reduce")}
    side = image
    for cell in every:
        preprocess = (cell.before + cell.last) * cell.width
        params += preprocess + 4 * cell.width
        flops += preprocess * side**2
        side //= 1 + cell.reduces
        own = costs(cell.width)
        tables["reduce" if cell.reduces else "normal"] += np.stack([own[0], own[1] * side**2])
    most = max(params, flops) + 8 * sum(int(table.max()) for table in tables.values())
    dtype = jnp.int32 if most < 2**31 else jnp.float32

    def linear(base: int, which: int) -> Callable[[Any], jax.Array]:
        def count(arch: Any) -> jax.Array:
            total = jnp.asarray(base, dtype)
            for name, table in tables.items():
                total += _of_cell(jnp.asarray(table[which], dtype), arch[name], name == "reduce")
            return total

        return count

    return {"params": linear(params, 0), "flops": linear(flops, 1)}


def _of_cell(table: jax.Array, cell: Any, reduces: bool) -> jax.Array:
    """The sum over a cell's edges of `table[strided, operation]`."""
    ops = jnp.asarray(cell["ops"])
    if not reduces:
        return jnp.sum(table[0][ops], -1)
    # Pair number b (b - 1) / 2 + a: the lower input is a cell's own where a < 2.
    pairs = jnp.asarray(cell["inputs"])
    low = jnp.asarray([a < 2 for b in range(1, 5) for a in range(b)])[pairs]
    high = pairs == 0
    strided = jnp.stack([low, high], -1).reshape(ops.shape)
    return jnp.sum(table[strided.astype(jnp.int32), ops], -1)
