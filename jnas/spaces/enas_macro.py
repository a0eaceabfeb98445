"""The macro space of ENAS: the operation of every layer, and which layers before it reads too.

Pham et al. 2018, "Efficient Neural Architecture Search via Parameter Sharing", arXiv 1802.03268,
section 2.3. With 12 layers there are 6^12 * 2^66 = 1.6e29 networks. What the paper leaves open is
as in its published code: what a bit reads, that the stem is read too, and both kinds of network.
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
ENAS_MACRO = " ".join(  # the digits of the published script
    "03001020012000031101020000012011011110111010100000000002000001000001001100001120"
    "10000010110100100011101010110101000001002001000000010101201000100111100102000010"
    "10100101001301101000001010100030110000000001100001010010110001000001100301011001"
    "011011010010001010100000000101001000011000111010001010011000"
)


def pairs(layers: int) -> list[tuple[int, int]]:
    """The skip connections that there may be, (from, to), layer by layer; from 0 is the stem.

    A layer has the last output for its input anyway: it chooses among those before.
    """
    return [(a, b) for b in range(layers) for a in range(b)]


def reductions(layers: int) -> tuple[int, ...]:
    """The layers after which the images are halved: at a third and at two thirds."""
    third = layers // 3
    return (third - 1, 2 * third - 1)


def widths(channels: int, layers: int, doubling: bool) -> list[int]:
    """The channels of every layer."""
    halved = reductions(layers)
    return [channels * 2 ** (doubling * sum(i > at for at in halved)) for i in range(layers)]


def enas_macro(
    channels: int = 36,
    layers: int = 12,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    doubling: bool = False,
    separable: bool = True,
) -> Space:
    """The macro space of ENAS.

    An architecture is `{"ops": int32[layers], "skips": int32[layers (layers - 1) / 2]}`: of each
    layer its operation and whether it reads, besides the output of the last layer, that of the stem
    and of each layer before the last one. The text is that of the published scripts: for each layer
    the number of its operation, and its bits, such as `0 3 0 0 1 0` for three layers. Of 24 layers
    `ENAS` names the published network; its code trains that with `channels=96, doubling=True,
    separable=False`.

    Args:
      channels: of the layers. For `counts` only, as all the rest but `layers`.
      layers: at least 3.
      classes: the classes of the data set.
      image: height and width of the images, a multiple of 4.
      inputs: the channels of the images.
      doubling: whether layers have twice the channels each time that images have been halved.
      separable: whether separable convolutions are such; the published code searches with them and
        then trains full ones of the same size in their place.

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
        if layers == 24 and text.strip() == "ENAS":
            text = ENAS_MACRO
        words = text.split()
        shown = text.strip() if len(text) < 60 else f"{text.strip()[:57]}..."
        who = f"architecture {shown!r}"
        if len(words) != layers + len(places) or not all(re.fullmatch("[0-9]", w) for w in words):
            told = (
                f"of each of {layers} layers its operation, then as many bits as layers before it"
            )
            told += ", or ENAS" if layers == 24 else ""
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
        counts=_counts(widths(channels, layers, doubling), classes, image, inputs, separable),
        edges=lambda arch: _drawing(layers, arch),
    )


def _counts(
    channels: list[int], classes: int, image: int, inputs: int, separable: bool
) -> dict[str, Callable[[Any], jax.Array]]:
    layers = len(channels)
    halved = reductions(layers)
    base, side = np.zeros(2, np.int64), image
    own = np.zeros((2, len(OPERATIONS), layers), np.int64)
    skip = np.zeros((2, layers), np.int64)
    stem = 9 * inputs * channels[0]
    base += stem + 2 * channels[0], stem * image**2
    for i, width in enumerate(channels):
        product, norm, area = width**2, 2 * width, side**2
        full = [9 * product, 25 * product]
        small = [9 * width + product, 25 * width + product] if separable else full
        convs = [full[0], small[0], full[1], small[1]]
        own[:, :4, i] = np.add(convs, norm), np.multiply(convs, area)
        # A 1x1 convolution in front of the operation, and one of all that is concatenated with it.
        products = 1 + (i > 0)
        base += products * (product + norm), products * product * area
        skip[:, i] = product, product * area
        if i in halved:  # the outputs of the stem and of all layers so far
            side //= 2
            product = (i + 2) * width * channels[i + 1]
            base += product + (i + 2) * 2 * channels[i + 1], product * side**2
    base += (channels[-1] + 1) * classes, channels[-1] * classes
    most = base + np.sum(own.max(1) + skip * np.arange(layers), -1)
    to = np.asarray([b for _, b in pairs(layers)])

    def count(which: int) -> Callable[[Any], jax.Array]:
        dtype = jnp.int32 if most[which] < 2**31 else jnp.float32

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
    sources = ["input", *names]
    chain = [(a, b, "") for a, b in zip(sources, [*names, "output"], strict=True)]
    bits = zip(pairs(layers), np.asarray(arch["skips"]), strict=True)
    return chain + [(sources[a], names[b], "skip") for (a, b), bit in bits if bit]
