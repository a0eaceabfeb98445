"""The supernet of DARTS: stacked cells whose edges run all operations by weight, or one of them.

Liu, Simonyan and Yang 2019, "DARTS: Differentiable Architecture Search", arXiv 1806.09055, sections
2.2 and 3.1.1. The normal cells between two reductions are one loop over cells of one shape, so
compile time does not grow with depth: what a cell makes of the outputs of the two cells before it
depends on where they come from, so the loop carries what was made of them.
"""

import functools
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError
from jnas.nets import rows
from jnas.nets.darts_cell import Choices, cell
from jnas.nets.darts_weights import Sizes, draw, statistics
from jnas.nets.functional import Net
from jnas.nets.mixed import Statistics, halve, moved, normalise
from jnas.spaces.darts import CELLS, EDGES, NODES
from jnas.spaces.darts import darts_supernet as space_of


def darts_supernet(
    channels: int = 16,
    layers: int = 8,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    partial: int = 1,
) -> Net:
    """The supernet of DARTS (arXiv 1806.09055), and of PC-DARTS with partial channels.

    Given simplices, every edge adds its 8 operations by weight; with `sparse`, it runs the one of
    the largest weight, times that weight; given ints, the one of that number. Weights are stacked
    over the cells of a stage and over the edges of a cell. Normalisation in cells has no scale and
    no bias.

    Args:
      channels: C, of the first cells; the stem has 3 C, and every reduction doubles them.
      layers: the cells, at least 3; those at a third and at two thirds of them reduce.
      classes: the outputs.
      image: height and width of the images, a multiple of 4.
      inputs: the channels of the images.
      partial: K of PC-DARTS (Xu et al. 2020, arXiv 1907.05737): edges run on 1 / K of the channels
        and pass the others on, and architectures hold weights of edges. 1 is DARTS.

    Returns:
      The net over `jnas.spaces.darts_supernet`: `[B, image, image, inputs]` to `[B, classes]`.

    Raises:
      InputError: a network that there cannot be.
    """
    if layers < 3:
        raise InputError(f"layers={layers}: a DARTS supernet needs at least 3 cells")
    if image < 4 or image % 4:
        raise InputError(f"image size {image}: a DARTS supernet needs a multiple of 4")
    unit = 2 * max(partial, 1)
    if partial < 1 or channels < 1 or channels % unit:
        allowed = f"a multiple of {unit}" if partial > 0 else "partial is at least 1"
        raise InputError(f"channels={channels} with partial={partial}: {allowed}")
    sizes = Sizes(channels, layers, classes, image, inputs, partial)

    def init(key: jax.Array) -> tuple[Any, Any]:
        return draw(sizes, key), statistics(sizes)

    def module() -> NoReturn:
        raise InputError("a DARTS supernet is counted by its space: it is no module of choices")

    run = functools.partial(_apply, sizes)
    return Net(init, run, space_of(partial > 1), module, lambda arch: arch)


def _apply(
    sizes: Sizes,
    params: Any,
    state: Any,
    arch: Architecture,
    x: jax.Array,
    train: bool = False,
    sparse: bool = False,
) -> tuple[jax.Array, Any]:
    normal, reduction = (_choices(arch, name, sparse) for name in CELLS)
    run = functools.partial(cell, train=train, partial=sizes.partial)
    image = sizes.image
    x, stem = normalise(
        rows.conv_3x3(rows.from_images(x), params["stem"]["kernel"], image), state["stem"], train
    )
    x = x * params["stem"]["scale"][:, None] + params["stem"]["bias"][:, None]
    older = newer = x
    found: dict[str, Any] = {"stem": stem, "stages": [], "reductions": []}
    for i, n in enumerate(sizes.stages):
        part, past = params["stages"][i], state["stages"][i]
        batch: Any = {}
        if n:
            pair, batch["entry"] = _entry(older, newer, part, past, image, train)
            normals = functools.partial(run, choices=normal, image=image, reduce=False)
            older, newer, after = _stage(n, pair, newer, part, past, normals, train)
            batch |= after
        found["stages"].append(batch)
        if i < 2:
            part, past = params["reductions"][i], state["reductions"][i]
            pair, entry = _entry(older, newer, part, past, image, train)
            older = newer
            newer, edges = run(
                pair, part["cells"], past["cells"], reduction, image=image, reduce=True
            )
            found["reductions"].append({"entry": entry, "cells": edges})
            image //= 2
    pooled = jnp.mean(newer.reshape(len(newer), image**2, -1), 1)
    logits = pooled.T @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    if not train:
        return logits, state
    is_statistics = lambda node: isinstance(node, Statistics)
    return logits, jax.tree.map(moved, state, found, is_leaf=is_statistics)


def _relu_conv_norm(
    x: jax.Array, kernel: jax.Array, running: Statistics, train: bool
) -> tuple[jax.Array, Statistics]:
    return normalise(rows.pointwise(jax.nn.relu(x), kernel), running, train)


def _entry(
    older: jax.Array, newer: jax.Array, params: Any, state: Any, image: int, train: bool
) -> tuple[tuple[jax.Array, jax.Array], tuple[Statistics, Statistics]]:
    """The inputs of a cell from the outputs of the two before it, the older maybe twice as high."""
    (k_older, k_newer), (s_older, s_newer) = params["entry"], state["entry"]
    if k_older.ndim == 3:
        first, found = normalise(halve(older, k_older, 2 * image), s_older, train)
    else:
        first, found = _relu_conv_norm(older, k_older, s_older, train)
    second, found_newer = _relu_conv_norm(newer, k_newer, s_newer, train)
    return (first, second), (found, found_newer)


def _stage(
    n: int,
    pair: tuple[jax.Array, jax.Array],
    newer: jax.Array,
    params: Any,
    state: Any,
    run: Any,
    train: bool,
) -> tuple[jax.Array, jax.Array, Any]:
    """n normal cells.

    Args:
      n: at least 1.
      pair: the inputs of the first cell.
      newer: the output of the cell before it.
      params: of the stage.
      state: of the stage.
      run: a cell.
      train: whether to normalise by the batch.

    Returns:
      The outputs of the last two cells, and the statistics of the batch.
    """
    if n == 1:
        one = lambda leaf: leaf[0]
        y, found = run(pair, *jax.tree.map(one, (params["cells"], state["cells"])))
        return newer, y, {"cells": jax.tree.map(lambda leaf: leaf[None], found)}
    wide = params["newer"].shape[1]
    widen = lambda x: jnp.pad(x, ((0, wide - len(x)), (0, 0)))  # the stem has 3 C channels, not 4
    # The last cell makes inputs for none: with weights of zero, which learn nothing.
    last = jnp.zeros_like(params["newer"][:1])
    kernels = jnp.concatenate(
        (
            jnp.concatenate((widen(params["second"])[None], *_some(params, "older"), last)),
            jnp.concatenate((params["newer"], last)),
        )
    ).reshape(2, n, wide, -1)
    none = jax.tree.map(lambda s: jnp.zeros_like(s[:1]), state["newer"])
    second = jax.tree.map(lambda s: s[None], state["second"])
    join = lambda *leaves: jnp.concatenate(leaves)
    pasts = (
        jax.tree.map(join, second, *_some(state, "older"), none),
        jax.tree.map(join, state["newer"], none),
    )

    def step(carry: tuple, xs: Any) -> tuple[tuple, Any]:
        pair, newer, _ = carry
        cells, past, (k_older, k_newer), (s_older, s_newer) = xs
        y, edges = run(pair, cells, past)
        first, older_found = _relu_conv_norm(newer, k_older, s_older, train)
        second, newer_found = _relu_conv_norm(y, k_newer, s_newer, train)
        return ((first, second), y, newer), (edges, older_found, newer_found)

    start = widen(newer)
    xs = (params["cells"], state["cells"], tuple(kernels), pasts)
    (_, newer, older), every = jax.lax.scan(step, (pair, start, jnp.zeros_like(start)), xs)
    edges, older_found, newer_found = every
    cut = lambda found, a, b: jax.tree.map(lambda s: s[a:b], found)
    found = {"cells": edges, "newer": cut(newer_found, 0, n - 1)}
    found["second"] = jax.tree.map(lambda s: s[0], older_found)
    if n > 2:
        found["older"] = cut(older_found, 1, n - 1)
    return older, newer, found


def _some(parts: dict[str, Any], name: str) -> tuple:
    return (parts[name],) if name in parts else ()


def _choices(arch: Architecture, name: str, sparse: bool) -> Choices:
    """What the edges of a kind of cell do."""
    ops, nodes = arch[name], arch.get(f"{name}_edges")
    strength = None if nodes is None else _strength(nodes, sparse)
    if isinstance(ops, np.ndarray) and np.issubdtype(ops.dtype, np.integer):
        return Choices(ops, None, strength)
    ops = jnp.asarray(ops)
    if jnp.issubdtype(ops.dtype, jnp.integer):
        return Choices(ops, jnp.ones(len(EDGES)), strength)
    if not sparse:
        return Choices(ops, None, strength)
    most = jnp.argmax(ops, -1).astype(jnp.int32)
    return Choices(most, jnp.take_along_axis(ops, most[:, None], 1)[:, 0], strength)


def _strength(nodes: Any, sparse: bool) -> jax.Array:
    """The weights of the edges, f32[14], from the simplices or choices of the nodes."""
    nodes = jnp.asarray(nodes)
    if jnp.issubdtype(nodes.dtype, jnp.integer):
        nodes = jax.nn.one_hot(nodes, NODES + 1)
    elif sparse:
        nodes = nodes * jax.nn.one_hot(jnp.argmax(nodes, -1), nodes.shape[-1], dtype=nodes.dtype)
    return jnp.concatenate([nodes[k, : k + 2] for k in range(NODES)])
