"""What the supernet of DARTS holds: its weights, and the statistics of its normalisations."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.nets.darts_cell import FROM_INPUTS
from jnas.nets.mixed import CONVOLUTIONS, NORMS, Statistics

STEM = 3  # times the channels of the first cells
STRIDED = int(FROM_INPUTS.sum())  # edges of a reduction cell that start at its inputs
PLAIN = len(FROM_INPUTS) - STRIDED


class Sizes(NamedTuple):
    """What a supernet is made of."""

    channels: int
    layers: int
    classes: int
    image: int
    inputs: int
    partial: int

    @property
    def stages(self) -> list[int]:
        """The normal cells before, between and after the two reduction cells."""
        first, second = self.layers // 3, 2 * self.layers // 3
        return [first, second - first - 1, self.layers - second - 1]


class _Weight(NamedTuple):
    """A weight uniform within `bound` of `centre`."""

    shape: tuple[int, ...]
    bound: float
    centre: float = 0.0


def _kernel(*shape: int, fan_in: int = 0) -> _Weight:
    """A kernel `[..., inputs, outputs]` drawn as PyTorch does: within `1 / sqrt(fan-in)`."""
    return _Weight(shape, 1 / math.sqrt(fan_in or shape[-2]))


def _edges(lead: tuple[int, ...], c: int) -> dict[str, Any]:
    """The weights of stacked edges, each with c channels."""
    made = {}
    for name, (kernel, _, layers) in CONVOLUTIONS.items():
        depthwise = (*lead, layers, kernel, kernel, c)
        made[name] = {
            "depthwise": _kernel(*depthwise, fan_in=kernel**2),
            "pointwise": _kernel(*lead, layers, c, c),
        }
    return made


def _entry(older: int, newer: int, c: int, reduced: bool) -> tuple[_Weight, _Weight]:
    """What makes the inputs of a cell from the outputs of the two before it."""
    return _kernel(2, older, c // 2) if reduced else _kernel(older, c), _kernel(newer, c)


def weights(sizes: Sizes) -> dict[str, Any]:
    """The weights of a supernet.

    A stage of n normal cells holds `entry`, the kernels for the two inputs of its first cell;
    `second`, for the older input of its second; `older` `[n - 2, ...]` and `newer` `[n - 1, ...]`,
    for all further inputs; and the edges of its `cells`, `[n, 14, ...]`.
    """
    c = sizes.channels
    older = newer = STEM * c  # channels of the outputs of the two cells before
    reduced = False  # whether the later of them has half the height of the earlier
    stages, reductions = [], []
    for i, n in enumerate(sizes.stages):
        made: dict[str, Any] = {}
        if n:
            made["entry"] = _entry(older, newer, c, reduced)
            made["cells"] = {"plain": _edges((n, STRIDED + PLAIN), c // sizes.partial)}
            reduced = False
        if n > 1:
            made["second"] = _kernel(newer, c)
            made["newer"] = _kernel(n - 1, 4 * c, c)
        if n > 2:
            made["older"] = _kernel(n - 2, 4 * c, c)
        if n:
            older, newer = 4 * c if n > 1 else newer, 4 * c
        stages.append(made)
        if i < 2:
            c *= 2
            part = c // sizes.partial
            strided = _edges((STRIDED,), part) | {
                "skip_connect": _kernel(STRIDED, 2, part, part // 2)
            }
            cells = {"strided": strided, "plain": _edges((PLAIN,), part)}
            reductions.append({"entry": _entry(older, newer, c, reduced), "cells": cells})
            older, newer, reduced = newer, 4 * c, True
    width = STEM * sizes.channels
    return {
        "stem": {
            "kernel": _kernel(3, 3, sizes.inputs, width, fan_in=9 * sizes.inputs),
            "scale": _Weight((width,), 0, 1.0),
            "bias": _Weight((width,), 0),
        },
        "stages": stages,
        "reductions": reductions,
        "classifier": {
            "kernel": _kernel(newer, sizes.classes),
            "bias": _Weight((sizes.classes,), 1 / math.sqrt(newer)),
        },
    }


def draw(sizes: Sizes, key: jax.Array) -> Any:
    """The initial weights, from one draw: one for each would take longer to compile."""
    leaves, tree = jax.tree.flatten(weights(sizes), is_leaf=lambda w: isinstance(w, _Weight))
    ends = [0]
    for leaf in leaves:
        ends.append(ends[-1] + math.prod(leaf.shape))
    numbers = jax.random.uniform(key, (ends[-1],), minval=-1.0)
    made = [
        leaf.centre + leaf.bound * numbers[start:end].reshape(leaf.shape)
        for leaf, start, end in zip(leaves, ends[:-1], ends[1:], strict=True)
    ]
    return jax.tree.unflatten(tree, made)


def statistics(sizes: Sizes) -> Any:
    """The running statistics before the first batch, arranged as the weights are."""

    def fresh(*shape: int) -> Statistics:
        return Statistics(jnp.zeros(shape), jnp.ones(shape))

    def edges(*lead: int, c: int) -> Statistics:
        return fresh(*lead, len(NORMS), c // sizes.partial)

    c = sizes.channels
    stages, reductions = [], []
    for i, n in enumerate(sizes.stages):
        made: dict[str, Any] = {}
        if n:
            made["entry"] = fresh(c), fresh(c)
            made["cells"] = {"plain": edges(n, STRIDED + PLAIN, c=c)}
        if n > 1:
            made["second"], made["newer"] = fresh(c), fresh(n - 1, c)
        if n > 2:
            made["older"] = fresh(n - 2, c)
        stages.append(made)
        if i < 2:
            c *= 2
            cells = {"strided": edges(STRIDED, c=c), "plain": edges(PLAIN, c=c)}
            reductions.append({"entry": (fresh(c), fresh(c)), "cells": cells})
    stem = fresh(STEM * sizes.channels)
    return {"stem": stem, "stages": stages, "reductions": reductions}
