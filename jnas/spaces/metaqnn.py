"""Chains of convolutions, poolings and dense layers, such as MetaQNN's agent writes.

Baker et al. 2017, "Designing Neural Network Architectures using Reinforcement Learning", arXiv
1611.02167, table 1: the state of the agent limits which layer may follow.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space
from jnas.errors import positive

KERNELS = (1, 3, 5)
FILTERS = (64, 128, 256, 512)
POOLS = ((2, 2), (3, 2), (5, 3))  # window, stride
UNITS = (512, 256, 128)
CONV, POOL, DENSE, END = range(4)


class Chain(NamedTuple):
    """What a chain may be made of, and its limits; of `metaqnn`."""

    layers: int
    filters: tuple[int, ...]
    units: tuple[int, ...]
    kernels: tuple[int, ...]
    pools: tuple[tuple[int, int], ...]
    most_dense: int
    dense_size: int
    classes: int
    image: int
    inputs: int

    @property
    def table(self) -> np.ndarray:
        """Of every choice the kind, the window, the stride and the width: int[K, 4]."""
        rows = [(CONV, f, 1, d) for f in self.kernels for d in self.filters]
        rows += [(POOL, f, s, 0) for f, s in self.pools]
        rows += [(DENSE, 0, 1, d) for d in self.units]
        return np.asarray([*rows, (END, 0, 1, 0)], np.int32)


class Walk(NamedTuple):
    """A chain, layer by layer; a layer that may not stand where it does ends it.

    Attributes:
      choice: int32[..., layers], the chain after that.
      fine: bool[..., layers], whether each layer might stand there.
      size: int32[..., layers + 1], height of the images before each layer and after the last.
      width: int32[..., layers + 1], channels or units likewise.
      dense: int32[...], how many dense layers there are.
      features: int32[..., 2], size and channels of the images after the last layer on images.
    """

    choice: jax.Array
    fine: jax.Array
    size: jax.Array
    width: jax.Array
    dense: jax.Array
    features: jax.Array


def metaqnn(
    layers: int = 12,
    filters: Sequence[int] = FILTERS,
    units: Sequence[int] = UNITS,
    kernels: Sequence[int] = KERNELS,
    pools: Sequence[tuple[int, int]] = POOLS,
    most_dense: int = 2,
    dense_size: int = 8,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
) -> Space:
    """Chains of at most so many layers, then a classifier.

    An architecture is int32[layers]: a layer at each place, or the end, after which there is only
    the end. As in the paper, a convolution or a pooling is no larger than the images; no pooling
    follows another; a dense layer needs images of at most 8x8, is followed by dense layers only, at
    most 2 in all, and by none with more units. `repair` ends a chain before its first layer that
    may not stand there. `jnas.links.edit_environment(space, absent=END)`, with END the last
    choice, is its edit view: change a layer, add one at the end, or remove the last one.

    The text is the paper's: `[C(64,3,1), P(2,2), FC(128), SM(10)]`, with filters, kernel and stride
    of a convolution, window and stride of a pooling, and units.

    Args:
      layers: the most before the classifier.
      filters: of convolutions.
      units: of dense layers.
      kernels: of convolutions, odd.
      pools: window and stride of poolings.
      most_dense: dense layers.
      dense_size: the largest images that a dense layer takes.
      classes: the classes of the data set.
      image: height and width of the images.
      inputs: the channels of the images.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of convolutions, dense layers
      and the classifier).

    Raises:
      InputError: a chain that there cannot be.
    """
    pairs = tuple((int(f), int(s)) for f, s in pools)
    chain = Chain(
        *(layers, tuple(filters), tuple(units), tuple(kernels), pairs, most_dense),
        *(dense_size, classes, image, inputs),
    )
    _check(chain)
    many = len(chain.table)

    def repair(arch: Any) -> jax.Array:
        return walk(chain, arch).choice

    return Space(
        name="metaqnn",
        num_choices=np.full(layers, many),
        is_valid=lambda arch: jnp.all(walk(chain, arch).fine, -1),
        repair=repair,
        describe=lambda arch: _describe(chain, arch),
        parse=lambda text: _parse(chain, text),
        labels=tuple(_word(row) for row in chain.table.tolist()),
        counts={
            "params": lambda arch: _count(chain, arch, False),
            "flops": lambda arch: _count(chain, arch, True),
        },
        edges=lambda arch: _drawing(chain, arch),
    )


def _check(chain: Chain) -> None:
    names = ("layers", "dense_size", "classes", "inputs")
    positive(**{name: getattr(chain, name) for name in names})
    if chain.image < 2:
        raise InputError(f"image size {chain.image}: a chain of convolutions needs images")
    for name, values in (("filters", chain.filters), ("units", chain.units)):
        if not values or min(values) < 1 or len(set(values)) < len(values):
            raise InputError(f"{name}={list(values)}: at least one, positive, each once")
    if not chain.kernels or any(k < 1 or k % 2 == 0 for k in chain.kernels):
        raise InputError(f"kernels={list(chain.kernels)}: at least one, all odd")
    if any(f < 2 or not 1 <= s <= f for f, s in chain.pools):
        raise InputError(
            f"pools={list(chain.pools)}: windows of at least 2, strides of at most that"
        )
    if chain.most_dense < 0:
        raise InputError(f"most_dense={chain.most_dense}: it has to be at least 0")


def walk(chain: Chain, arch: Any) -> Walk:
    """Follows a chain through the states of the agent: jittable, batched like `arch`."""
    table = jnp.asarray(chain.table)
    arch = jnp.asarray(arch, jnp.int32)
    start = lambda value: jnp.full(arch.shape[:-1], value, jnp.int32)
    size, width, dense, last = start(chain.image), start(chain.inputs), start(0), start(-1)
    map_size, map_width = size, width
    choices, fine, sizes, widths = [], [], [size], [width]
    end = len(chain.table) - 1
    for i in range(chain.layers):
        kind, window, stride, wide = (table[:, k][arch[..., i]] for k in range(4))
        on_images = (dense == 0) & (last != END)
        convolves = (kind == CONV) & on_images & (window <= size)
        pools = (kind == POOL) & on_images & (window <= size) & (last != POOL)
        first = on_images & (size <= chain.dense_size)
        joins = jnp.where(dense == 0, first, (last == DENSE) & (wide <= width))
        connects = (kind == DENSE) & joins & (dense < chain.most_dense)
        ok = convolves | pools | connects | (kind == END)
        kind = jnp.where(ok, kind, END)
        size = jnp.where(pools, (size - window) // stride + 1, size)
        width = jnp.where(convolves | connects, wide, width)
        map_size, map_width = size, jnp.where(dense + connects == 0, width, map_width)
        dense, last = dense + connects, kind
        choices.append(jnp.where(ok, arch[..., i], end))
        fine.append(ok)
        sizes.append(size)
        widths.append(width)
    stack = lambda parts: jnp.stack(parts, -1)
    features = stack([map_size, map_width])
    return Walk(stack(choices), stack(fine), stack(sizes), stack(widths), dense, features)


def _count(chain: Chain, arch: Any, flops: bool) -> jax.Array:
    """Parameters with biases, or multiply-adds; float32 where int32 would not hold them."""
    found = walk(chain, arch)
    widest = max(*chain.filters, chain.inputs)
    area = chain.image**2 if flops else 1
    most = chain.layers * max(chain.kernels) ** 2 * widest**2 * area
    most += chain.dense_size**2 * widest * max(chain.units) * max(chain.most_dense, 1)
    dtype = jnp.int32 if most < 2**30 else jnp.float32
    kind, window, _, _ = (jnp.asarray(chain.table[:, k])[found.choice] for k in range(4))
    size, width = found.size.astype(dtype), found.width.astype(dtype)
    before, after = width[..., :-1], width[..., 1:]
    bias = 0 if flops else 1
    conv = (window.astype(dtype) ** 2 * before + bias) * after
    conv = conv * (size[..., :-1] ** 2 if flops else 1)
    is_dense = kind == DENSE
    first = is_dense & (jnp.cumsum(is_dense, -1) == 1)
    into = jnp.where(first, size[..., :-1] ** 2 * before, before)
    layers = jnp.where(kind == CONV, conv, jnp.where(is_dense, (into + bias) * after, 0))
    return jnp.sum(layers, -1) + (width[..., -1] + bias) * chain.classes


# ------------------------------------------------------------------------------------- text


def _word(row: Sequence[int]) -> str:
    """A layer without commas, as a label."""
    kind, window, stride, width = row
    words = (f"conv{window}_{width}", f"pool{window}_{stride}", f"dense_{width}", "end")
    return words[kind]


def _describe(chain: Chain, arch: Any) -> str:
    """The chain in the paper's notation, invalid layers and all."""
    parts = []
    choices = np.asarray(arch).tolist()
    end = len(chain.table) - 1
    last = max((i for i, c in enumerate(choices) if c != end), default=-1)
    for choice in choices[: last + 1]:
        kind, window, stride, width = chain.table[choice].tolist()
        words = (f"C({width},{window},1)", f"P({window},{stride})", f"FC({width})", "END")
        parts.append(words[kind])
    return f"[{', '.join([*parts, f'SM({chain.classes})'])}]"


def _parse(chain: Chain, text: str) -> np.ndarray:
    shown = text.strip() if len(text) < 60 else f"{text.strip()[:57]}..."
    who = f"chain {shown!r}"
    form = f"[C(filters,kernel,1), P(window,stride), FC(units), ..., SM({chain.classes})]"
    wrong = InputError(f"{who}: the form is {form}")
    body = text.strip()
    if not (body.startswith("[") and body.endswith("]")) or len(text) > 4000:
        raise wrong
    words = re.findall(r"[A-Z]+(?:\([\d,\s]*\))?", body)
    if re.sub(r"[\s,]", "", "".join(words)) != re.sub(r"[\s,]", "", body[1:-1]) or not words:
        raise wrong
    names = [re.sub(r"\s", "", word) for word in words]
    if names.pop() != f"SM({chain.classes})":
        raise wrong
    known = {}
    for i, (kind, window, stride, width) in enumerate(chain.table.tolist()):
        word = (f"C({width},{window},1)", f"P({window},{stride})", f"FC({width})", "END")[kind]
        known[word] = i
    if len(names) > chain.layers:
        raise InputError(f"{who}: {len(names)} layers; there can be {chain.layers}")
    for name in names:
        if name not in known:
            raise InputError(f"{who}: unknown layer {name!r}; allowed: {', '.join(known)}")
    codes = [known[name] for name in names]
    return np.asarray(codes + [known["END"]] * (chain.layers - len(codes)), np.int32)


def _drawing(chain: Chain, arch: Any) -> list[tuple[str, str, str]]:
    words = _describe(chain, arch)[1:-1].split(", ")
    names = ["input", *(f"{i + 1} {word}" for i, word in enumerate(words))]
    return [(a, b, "") for a, b in itertools.pairwise(names)]
