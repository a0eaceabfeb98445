"""The macro space of ENAS: the operation of every layer, and which layers before it reads too.

Pham et al. 2018, "Efficient Neural Architecture Search via Parameter Sharing", arXiv 1802.03268,
section 2.3. With 12 layers there are 6^12 * 2^66 = 1.6e29 networks.
"""

import itertools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space

OPERATIONS = (
    *("conv_3x3", "sep_conv_3x3", "conv_5x5", "sep_conv_5x5"),  # in the order of the scripts
    *("avg_pool_3x3", "max_pool_3x3"),
)


def pairs(layers: int) -> list[tuple[int, int]]:
    """The skip connections that there may be: (from, to), layer by layer."""
    return [(a, b) for b in range(layers) for a in range(b)]


def reductions(layers: int) -> tuple[int, ...]:
    """The layers after which the images are halved: at a third and at two thirds."""
    third = layers // 3
    return (third - 1, 2 * third - 1)


def enas_macro(
    channels: int = 36, layers: int = 12, classes: int = 10, image: int = 32, inputs: int = 3
) -> Space:
    """The macro space of ENAS.

    An architecture is `{"ops": int32[layers], "skips": int32[layers (layers - 1) / 2]}`: of each
    layer its operation and, for each layer before, whether its output is read as well. The text is
    that of the published scripts: for each layer the number of its operation, and its bits, such
    as `0 3 0 0 1 0` for three layers.

    Args:
      channels: of every layer. For `counts` only, as all the rest but `layers`.
      layers: at least 3.
      classes: the classes of the data set.
      image: height and width of the images, a multiple of 4.
      inputs: the channels of the images.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of convolutions and of the
      classifier).

    Raises:
      InputError: a network that there cannot be.
    """
    for name, value, least in (
        *(("channels", channels, 1), ("layers", layers, 3)),
        *(("classes", classes, 1), ("inputs", inputs, 1)),
    ):
        if value < least:
            raise InputError(f"{name}={value}: ENAS' macro network needs at least {least}")
    if image < 4 or image % 4:
        raise InputError(f"image size {image}: ENAS' macro network needs a multiple of 4")
    places = pairs(layers)
    numbers = list(itertools.accumulate(range(layers), initial=0))

    def describe(arch: Any) -> str:
        ops, skips = np.asarray(arch["ops"]).tolist(), np.asarray(arch["skips"]).tolist()
        rows = [[ops[b], *skips[numbers[b] : numbers[b + 1]]] for b in range(layers)]
        return " ".join(str(x) for row in rows for x in row)

    def parse(text: str) -> Any:
        words = text.split()
        shown = text.strip() if len(text) < 60 else f"{text.strip()[:57]}..."
        who = f"architecture {shown!r}"
        if len(words) != layers + len(places) or not all(re.fullmatch("[0-9]", w) for w in words):
            told = f"of each of {layers} layers its operation, then a bit for every layer before"
            raise InputError(f"{who}: the form is {layers + len(places)} digits: {told}")
        ops, skips, at = [], [], 0
        for b in range(layers):
            op, *bits = map(int, words[at : at + b + 1])
            at += b + 1
            if op >= len(OPERATIONS) or any(bit > 1 for bit in bits):
                told = f"operations are 0 to {len(OPERATIONS) - 1}, and bits 0 or 1"
                raise InputError(f"{who}: layer {b + 1}: {op} {bits}: {told}")
            ops.append(op)
            skips += bits
        return {"ops": np.asarray(ops, np.int32), "skips": np.asarray(skips, np.int32)}

    return Space(
        name="enas_macro",
        num_choices={"ops": np.full(layers, len(OPERATIONS)), "skips": np.full(len(places), 2)},
        describe=describe,
        parse=parse,
        labels={"ops": OPERATIONS, "skips": None},
        counts=_counts(channels, layers, classes, image, inputs),
        edges=lambda arch: _drawing(layers, arch),
    )


def _counts(
    channels: int, layers: int, classes: int, image: int, inputs: int
) -> dict[str, Callable[[Any], jax.Array]]:
    product, norm = channels**2, 2 * channels
    convs = [9 * product, 9 * channels + product, 25 * product, 25 * channels + product, 0, 0]
    norms = [norm] * 4 + [0, 0]
    halved = reductions(layers)
    side = image
    area = []
    for i in range(layers):
        area.append(side**2)
        side //= 1 + (i in halved)
    base = np.zeros(2, np.int64)
    base += 9 * inputs * channels * np.asarray([1, image**2]) + np.asarray([norm, 0])
    base += (channels + 1) * classes, channels * classes
    # A 1x1 convolution in front of each operation, and one of all that the layer concatenates.
    base += 2 * layers * (product + norm), 2 * product * sum(area)
    own = np.stack([np.add(convs, norms)[:, None].repeat(layers, 1), np.outer(convs, area)])
    skip = product * np.stack([np.ones(layers), np.asarray(area)])
    reduce = np.asarray([(i + 1) * (product + norm) for i in halved])  # of all that is kept so far
    base[0] += np.sum(reduce)
    base[1] += sum((i + 1) * product * area[i + 1] for i in halved)
    most = base + np.sum(own.max(1) + skip * np.arange(layers), -1)
    dtype = jnp.int32 if most.max() < 2**31 else jnp.float32
    to = np.asarray([b for _, b in pairs(layers)])

    def count(which: int) -> Callable[[Any], jax.Array]:
        def total(arch: Any) -> jax.Array:
            ops, skips = jnp.asarray(arch["ops"]), jnp.asarray(arch["skips"])
            table = jnp.asarray(own[which], dtype)
            convolutions = jnp.sum(table[ops, np.arange(layers)], -1)
            extra = jnp.sum(skips * jnp.asarray(skip[which][to], dtype), -1)
            return jnp.asarray(base[which], dtype) + convolutions + extra

        return total

    return {"params": count(0), "flops": count(1)}


def _drawing(layers: int, arch: Any) -> list[tuple[str, str, str]]:
    ops = [OPERATIONS[int(op)] for op in np.asarray(arch["ops"])]
    names = [f"{i + 1} {op}" for i, op in enumerate(ops)]
    chain = [(a, b, "") for a, b in zip(["input", *names], [*names, "output"], strict=True)]
    bits = zip(pairs(layers), np.asarray(arch["skips"]), strict=True)
    return chain + [(names[a], names[b], "skip") for (a, b), bit in bits if bit]
