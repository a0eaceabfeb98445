"""DARTS: a normal and a reduction cell, whose nodes add two operations on two earlier nodes.

Liu, Simonyan and Yang 2019, "DARTS: Differentiable Architecture Search", arXiv 1806.09055. Nodes 0
and 1 of a cell are the outputs of the two cells before it; nodes 2 to 5 are concatenated.
"""

import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space
from jnas.spaces.darts_counts import counts
from jnas.spaces.genotypes import GENOTYPES
from jnas.spaces.literals import call_of, items_of

NODES = 4  # that a cell computes
CANDIDATES = (  # of an edge of the supernet, in the order of the published code
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
OPERATIONS = CANDIDATES[1:]  # of an architecture
CELLS = ("normal", "reduce")
# Every edge of the supernet, node by node: (from, to).
EDGES = tuple((a, b) for b in range(2, 2 + NODES) for a in range(b))
# Pair number `b (b - 1) / 2 + a` is (a, b), so that a node chooses among the first few of them.
PAIRS = tuple((a, b) for b in range(1, 1 + NODES) for a in range(b))
PAIR_COUNTS = tuple((k + 2) * (k + 1) // 2 for k in range(NODES))  # 1, 3, 6, 10
CONCATENATED = tuple(range(2, 2 + NODES))
LONGEST = 4000  # characters of a text that is read
FORM = "Genotype(normal=[('OP', NODE), ... 8], normal_concat=[2, 3, 4, 5], reduce=..., ...)"


def darts(
    channels: int = 36, layers: int = 20, classes: int = 10, image: int = 32, inputs: int = 3
) -> Space:
    """The space of DARTS: two operations of 7 on two different inputs for each of 4 nodes.

    An architecture is `{"normal": cell, "reduce": cell}` of cells `{"inputs": int32[4], "ops":
    int32[8]}`: node k chooses pair number `inputs[k]` of `PAIRS`, and does operation `ops[2 k]` on
    the lower and `ops[2 k + 1]` on the higher input. The text is a `Genotype(...)` as in the
    published code, and `canonical` puts the nodes of isomorphic cells in one order.

    Args:
      channels: C, of the first cells; the stem has 3 C. For `counts` only, as all the rest.
      layers: the cells; those at a third and at two thirds of them reduce.
      classes: the classes of the data set.
      image: height and width of the images, a multiple of 4.
      inputs: the channels of the images.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of convolutions and of the
      classifier), both without an auxiliary head, as they are published.

    Raises:
      InputError: a network that there cannot be.
    """
    cell = {"inputs": np.asarray(PAIR_COUNTS), "ops": np.full(2 * NODES, len(OPERATIONS))}
    return Space(
        name="darts",
        num_choices={name: dict(cell) for name in CELLS},
        canonical=lambda arch: {name: _canonical(arch[name]) for name in CELLS},
        describe=describe,
        parse=parse,
        labels={name: {"inputs": None, "ops": OPERATIONS} for name in CELLS},
        counts=counts(channels, layers, classes, image, inputs),
        edges=_drawing,
    )


def darts_supernet(partial: bool = False) -> Space:
    """The space of DARTS' relaxed cells: one operation of 8 for each of the 14 edges of a cell.

    An architecture is `{"normal": int32[14], "reduce": int32[14]}` in the order of `EDGES`. Its
    relaxed architectures become one of `darts` by `top_two`.

    Args:
      partial: for PC-DARTS (Xu et al. 2020, arXiv 1907.05737): each node also weighs its inputs,
        `"normal_edges"` and `"reduce_edges"`, int32[4] with 2, 3, 4 and 5 choices.

    Returns:
      The space.
    """
    places: dict[str, Any] = {name: np.full(len(EDGES), len(CANDIDATES)) for name in CELLS}
    labels: dict[str, Any] = dict.fromkeys(CELLS, CANDIDATES)
    if partial:
        for name in CELLS:
            places[f"{name}_edges"], labels[f"{name}_edges"] = np.arange(2, 2 + NODES), None
    return Space("darts_supernet", places, labels=labels)


def top_two(relaxed: Any) -> Any:
    """The architecture that DARTS derives: of every node, the two strongest edges.

    An edge is as strong as the largest weight of its operations other than `none`, times the
    weight of the edge where there is one (PC-DARTS); it keeps that operation. Of equal edges the
    earlier counts (section 2.4 of the paper; arXiv 1907.05737, section 3.3).

    Args:
      relaxed: of `darts_supernet`: simplices f32[..., 14, 8] for `normal` and `reduce`, and with
        partial channels f32[..., 4, 5] for `normal_edges` and `reduce_edges`.

    Returns:
      An architecture of `darts`, jittable.
    """

    def cell(name: str) -> dict[str, jax.Array]:
        weights, edges = relaxed[name][..., 1:], relaxed.get(f"{name}_edges")
        strength = jnp.max(weights, -1)
        if edges is not None:
            own = [edges[..., k, : k + 2] for k in range(NODES)]
            strength = strength * jnp.concatenate(own, -1)
        return _kept(jnp.argmax(weights, -1), strength)

    return {name: cell(name) for name in CELLS}


def from_supernet(arch: Any, strength: Any) -> Any:
    """The architecture of `darts` that keeps the two strongest edges of every node.

    Args:
      arch: of `darts_supernet`, int32[..., 14] for each cell: the operation of every edge.
      strength: f32[..., 14] for each cell. An edge whose operation is `none` is kept only where
        its node has no two others, and then as a max pooling.

    Returns:
      An architecture of `darts`, jittable.
    """

    def cell(ops: jax.Array, strength: jax.Array) -> dict[str, jax.Array]:
        strength = jnp.where(ops == 0, -jnp.inf, strength)
        return _kept(jnp.maximum(ops - 1, 0), strength)

    return {name: cell(jnp.asarray(arch[name]), strength[name]) for name in CELLS}


def _kept(ops: jax.Array, strength: jax.Array) -> dict[str, jax.Array]:
    """The cell of the strongest two of every node's edges: `[..., 14]` each."""
    inputs, chosen = [], []
    for k in range(NODES):
        first = EDGES.index((0, k + 2))
        best = jax.lax.top_k(strength[..., first : first + k + 2], 2)[1]
        best = jnp.sort(best, -1)
        low, high = best[..., 0], best[..., 1]
        inputs.append(high * (high - 1) // 2 + low)
        chosen.append(jnp.take_along_axis(ops, first + best, -1))
    int32 = lambda parts: parts.astype(jnp.int32)
    return {"inputs": int32(jnp.stack(inputs, -1)), "ops": int32(jnp.concatenate(chosen, -1))}


# ------------------------------------------------------------------------------------- text


def describe(arch: Any) -> str:
    """A genotype in the notation of the published code, in one line."""

    def cell(name: str) -> str:
        pairs = [PAIRS[int(i)] for i in np.asarray(arch[name]["inputs"])]
        sources = [node for pair in pairs for node in pair]
        words = [OPERATIONS[int(op)] for op in np.asarray(arch[name]["ops"])]
        edges = ", ".join(f"({w!r}, {s})" for w, s in zip(words, sources, strict=True))
        return f"{name}=[{edges}], {name}_concat={list(CONCATENATED)}"

    return f"Genotype({', '.join(cell(name) for name in CELLS)})"


def parse(text: str) -> Any:
    """The architecture of a published name, or of a genotype in the notation of the code.

    Args:
      text: a name of `jnas.spaces.genotypes.GENOTYPES`, such as `DARTS_V2`, or
        `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)`.

    Returns:
      The architecture, int32[4] and int32[8] for each cell.

    Raises:
      InputError: an unknown name or operation, or a cell of another form.
    """
    known = GENOTYPES.get(text.strip())
    if known is not None:
        return parse(known)
    shown = text.strip() if len(text) < 60 else f"{text.strip()[:57]}..."
    who = f"genotype {' '.join(shown.split())!r}"
    if re.fullmatch(r"\s*\w*\s*", text):
        raise InputError(f"{who}: no such name; allowed: {', '.join(GENOTYPES)}, or {FORM}")
    fields = _fields(text, who)
    for name in CELLS:
        concat = fields[f"{name}_concat"]
        if concat != list(CONCATENATED):
            told = f"nodes {list(CONCATENATED)} are concatenated in this space"
            raise InputError(f"{who}: {name}_concat={concat!r}: {told}")
    return {name: _cell(fields[name], f"{who}: {name}") for name in CELLS}


def _fields(text: str, who: str) -> dict[str, Any]:
    """The fields of a genotype as literals; no code is run."""
    names = ["normal", "normal_concat", "reduce", "reduce_concat"]
    wrong = InputError(f"{who}: the form is {FORM}")
    text = re.sub(r"^\s*\w+\s*=(?=\s*Genotype\b)", "", text)  # as a line of the published file
    call = call_of(text, "Genotype", LONGEST, wrong)
    given = [*zip(names, call.args, strict=False), *((k.arg, k.value) for k in call.keywords)]
    if sorted(str(name) for name, _ in given) != names or len(call.args) > len(names):
        raise wrong
    return {str(name): items_of(value, wrong) for name, value in given}


def _cell(edges: list, who: str) -> dict[str, np.ndarray]:
    form = f"{2 * NODES} edges ('OPERATION', NODE) are needed, two for each of {NODES} nodes"
    if len(edges) != 2 * NODES:
        raise InputError(f"{who}: {form}; there are {len(edges)}")
    inputs, ops = [], []
    for k in range(NODES):
        found = []
        for edge in edges[2 * k : 2 * k + 2]:
            if not isinstance(edge, tuple) or len(edge) != 2:
                raise InputError(f"{who}: {edge!r}: {form}")
            op, source = edge
            if op not in OPERATIONS:
                allowed = ", ".join(OPERATIONS)
                raise InputError(f"{who}: unknown operation {op!r}; allowed: {allowed}")
            if type(source) is not int or not 0 <= source < k + 2:
                raise InputError(f"{who}: node {k + 2}: input {source!r}: allowed are 0 to {k + 1}")
            found.append((source, OPERATIONS.index(op)))
        (a, first), (b, second) = sorted(found)
        if a == b:
            raise InputError(f"{who}: node {k + 2}: both inputs are {a}; they have to differ")
        inputs.append(b * (b - 1) // 2 + a)
        ops += [first, second]
    return {"inputs": np.asarray(inputs, np.int32), "ops": np.asarray(ops, np.int32)}


# -------------------------------------------------------------------- isomorphism, drawings


def _canonical(cell: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The cell with its nodes in the order, of all possible ones, whose numbers come first.

    To renumber the nodes permutes what is concatenated, which the layers that follow undo by
    their weights: such cells are isomorphic.
    """
    sources = jnp.asarray(PAIRS, jnp.int32)[jnp.asarray(cell["inputs"])]  # [..., 4, 2]
    ops = jnp.asarray(cell["ops"]).reshape(*sources.shape)
    orders = np.asarray(list(itertools.permutations(range(NODES))))  # [24, 4], old node at place
    places = np.argsort(orders, -1)  # [24, 4], place of old node
    number = jnp.asarray(np.concatenate([np.tile([0, 1], (len(orders), 1)), 2 + places], 1))
    found, high, low = [], [], []
    for order, new in zip(orders, number, strict=True):
        moved, words = new[sources[..., order, :]], ops[..., order, :]
        swap = moved[..., :1] > moved[..., 1:]
        moved, words = (jnp.where(swap, x[..., ::-1], x) for x in (moved, words))
        a, b = moved[..., 0], moved[..., 1]
        possible = jnp.all(b < 2 + np.arange(NODES), -1)
        pair = b * (b - 1) // 2 + a
        code = (pair * len(OPERATIONS) + words[..., 0]) * len(OPERATIONS) + words[..., 1]
        scale = len(PAIRS) * len(OPERATIONS) ** 2
        high.append(jnp.where(possible, code[..., 0] * scale + code[..., 1], scale**2))
        low.append(code[..., 2] * scale + code[..., 3])
        found.append(jnp.concatenate([pair, words.reshape(*pair.shape[:-1], -1)], -1))
    tops, lows = jnp.stack(high, -1), jnp.stack(low, -1)
    first = tops == jnp.min(tops, -1, keepdims=True)
    best = jnp.argmin(jnp.where(first, lows, scale**2), -1)
    chosen = jnp.take_along_axis(jnp.stack(found, -2), best[..., None, None], -2)[..., 0, :]
    chosen = chosen.astype(jnp.int32)
    return {"inputs": chosen[..., :NODES], "ops": chosen[..., NODES:]}


def _drawing(arch: Any) -> list[tuple[str, str, str]]:
    """The edges of both cells, each with nodes of its own."""
    edges = []
    for name in CELLS:
        node = lambda i, name=name: f"{name} {('k-2', 'k-1', '1', '2', '3', '4')[i]}"
        pairs = [PAIRS[int(i)] for i in np.asarray(arch[name]["inputs"])]
        ops = [OPERATIONS[int(op)] for op in np.asarray(arch[name]["ops"])]
        for i, op in enumerate(ops):
            edges.append((node(pairs[i // 2][i % 2]), node(2 + i // 2), op))
        edges += [(node(i), f"{name} out", "") for i in CONCATENATED]
    return edges
