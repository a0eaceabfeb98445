"""NAS-Bench-201: a cell of 4 nodes and 6 edges with one of 5 operations each, 15,625 cells.

Dong and Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", arXiv 2001.00326. NATS-Bench (arXiv 2009.00437) calls it the topology search space.
"""

import functools
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Graph, InputError, Space
from jnas.errors import positive

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # in the order of the official string
NODES = ("in", "1", "2", "out")
NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL = range(5)
SIZE = len(OPERATIONS) ** len(EDGES)


def nas_bench_201(
    channels: int = 16,
    cells: int = 5,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    stages: int = 3,
) -> Space:
    """The space of NAS-Bench-201 cells: an architecture is int32[6], one operation for an edge.

    The text form is the official one, `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`, the index
    is the official one, and `canonical` is the cell of lowest index in the isomorphism class (of
    which there are 6,466; `none` and `skip_connect` are resolved, as NATS-Bench's
    `to_unique_str(consider_zero=True)` does).

    Args:
      channels: C, the width of the first stage; each later one is twice as wide. For `counts`
        only, as all the rest.
      cells: N, the cells of a stage.
      classes: the classes of the data set.
      image: height and width of the images, a multiple of 4 (of `2 ** (stages - 1)`).
      inputs: the channels of the images.
      stages: of cells, with a reduction between one and the next; the paper has 3.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of convolutions and of the
      classifier with its bias, the paper's rule; edges that lead nowhere count too).
    """
    positive(channels=channels, cells=cells, classes=classes, inputs=inputs, stages=stages)
    if image < 2:
        raise InputError(f"image size {image}: NAS-Bench-201's network needs images, not vectors")
    step = 2 ** (stages - 1)
    if image % step:
        raise InputError(f"image size {image}: NAS-Bench-201's network needs a multiple of {step}")
    return Space(
        name="nas_bench_201",
        num_choices=np.full(len(EDGES), len(OPERATIONS)),
        canonical=_canonical,
        describe=describe,
        parse=parse,
        labels=OPERATIONS,
        order=_official_order(),
        counts=_counts(channels, cells, classes, image, inputs, stages),
        distinct=6466,
        edges=_drawing,
        graph=Graph(tuple((a, b, i) for i, (a, b) in enumerate(EDGES)), absent=NONE),
    )


def describe(arch: Any) -> str:
    """The official string of a cell given as 6 ints."""
    words = [
        f"{OPERATIONS[int(op)]}~{a}" for op, (a, _) in zip(np.asarray(arch), EDGES, strict=True)
    ]
    return "+".join(f"|{'|'.join(words[i:j])}|" for i, j in ((0, 1), (1, 3), (3, 6)))


def parse(text: str) -> np.ndarray:
    """The cell of an official string: int32[6].

    Raises:
      InputError: an unknown operation, or another form than the official one.
    """
    words = [w for group in text.strip().split("+") for w in group.strip("|").split("|")]
    form = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
    arch = []
    for word, (source, _) in zip(words, EDGES, strict=False):
        op, _, node = word.partition("~")
        if op not in OPERATIONS:
            allowed = ", ".join(OPERATIONS)
            raise InputError(f"architecture {text!r}: unknown operation {op!r}; allowed: {allowed}")
        if node != str(source):
            raise InputError(f"architecture {text!r}: {word!r} should end in ~{source}: {form}")
        arch.append(OPERATIONS.index(op))
    if len(words) != len(EDGES) or describe(arch) != text.strip():
        raise InputError(f"architecture {text!r}: the form is {form}")
    return np.asarray(arch, np.int32)


@functools.cache
def _official_order() -> np.ndarray:
    """The benchmark shuffled all cells with Python's generator seeded with 88 before numbering."""
    order = list(range(SIZE))
    random.Random(88).shuffle(order)
    return np.asarray(order, np.int32)


def all_cells() -> np.ndarray:
    """All cells in the official order: int32[15625, 6]."""
    digits = np.unravel_index(_official_order(), (len(OPERATIONS),) * len(EDGES))
    return np.stack(digits, -1).astype(np.int32)


@functools.cache
def representatives() -> np.ndarray:
    """The official index of the representative of every cell's isomorphism class: int32[15625]."""
    first: dict[str, int] = {}
    return np.asarray(
        [first.setdefault(_formula(cell), i) for i, cell in enumerate(all_cells().tolist())],
        np.int32,
    )


def _formula(cell: list[int]) -> str:
    """What a cell computes, written as a sum of operations on sums, with its terms in order.

    A skip connection is its source, and `none`, or any edge from a node that is a bare zero, is
    `#`. Terms are sorted as text before they are joined, which is the benchmark's own rule: it
    decides what counts as isomorphic.
    """
    nodes = ["0"]
    for target in (1, 2, 3):
        terms = []
        for (a, b), op in zip(EDGES, cell, strict=True):
            if b == target:
                dead = op == NONE or nodes[a] == "#"
                term = nodes[a] if op == SKIP else f"({nodes[a]})@{OPERATIONS[op]}"
                terms.append("#" if dead else term)
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def _canonical(arch: jax.Array) -> jax.Array:
    cells = all_cells()
    number = np.argsort(_official_order())  # mixed radix -> official index
    radix = len(OPERATIONS) ** np.arange(len(EDGES))[::-1]
    table = jnp.asarray(cells[representatives()[number]], jnp.int32)
    return table[jnp.sum(arch * radix, -1)]


def _counts(
    channels: int, cells: int, classes: int, image: int, inputs: int, stages: int
) -> dict[str, Any]:
    scale = 2 ** np.arange(stages)
    width, area = channels * scale, (image // scale) ** 2
    into, out = width[:-1], width[1:]  # of the reductions
    stem = 9 * inputs * channels
    reduction = 9 * into * out + 9 * out * out + into * out
    head = (width[-1] + 1) * classes
    params_base = stem + 2 * channels + np.sum(reduction + 4 * out) + 2 * width[-1] + head
    params_1x1 = cells * np.sum(width**2 + 2 * width)
    params_3x3 = cells * np.sum(9 * width**2 + 2 * width)
    flops_base = stem * area[0] + np.sum(reduction * area[1:]) + head
    flops_1x1 = cells * np.sum(width**2 * area)

    def linear(base: int, one: int, three: int) -> Any:
        cost = jnp.asarray([0, 0, one, three, 0], jnp.int32)
        return lambda arch: int(base) + jnp.sum(cost[jnp.asarray(arch)], -1)

    return {
        "params": linear(params_base, params_1x1, params_3x3),
        "flops": linear(flops_base, flops_1x1, 9 * flops_1x1),
    }


def _drawing(arch: Any) -> list[tuple[str, str, str]]:
    ops = [OPERATIONS[int(op)] for op in np.asarray(arch)]
    return [(NODES[a], NODES[b], op) for (a, b), op in zip(EDGES, ops, strict=True)]
