"""Cells of blocks: NASNet, AmoebaNet, PNAS and the micro space of ENAS.

A cell has two inputs, the outputs of the last two cells. Each of its blocks adds two operations,
each on an input of the cell or on a block before it.
"""

import functools
import itertools
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space
from jnas.errors import positive
from jnas.spaces.literals import call_of, items_of

LONGEST = 8000  # characters of a text that is read
MOST = 8  # blocks, of which there are 40,320 orders


class Family(NamedTuple):
    """What the spaces of blocks differ in.

    Attributes:
      name: of the space.
      operations: of a block, in the order of the paper.
      cells: the cells that are searched: a normal and a reduction cell, or one for both.
      loose: whether the output concatenates the blocks that no other block reads; else all.
      keep: states that a cell concatenates though others may read them, by the name of the cell: 0
        is the output of the cell before the last, which only a normal cell can keep, 2 the first
        block.
      named: published architectures as texts, by name.
      code: whether texts in the numbers of ENAS' scripts are read.
      bottled: operations that are done on a quarter of the channels, between two 1x1 convolutions.
      twice: whether a second 1x1 convolution follows the one of the output of the last cell.
    """

    name: str
    operations: tuple[str, ...]
    cells: tuple[str, ...] = ("normal", "reduce")
    loose: bool = True
    keep: Mapping[str, tuple[int, ...]] = types.MappingProxyType({})
    named: Mapping[str, str] = types.MappingProxyType({})
    code: bool = False
    bottled: tuple[str, ...] = ()
    twice: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        """The operations as the network names them."""
        return tuple("bottle_" * (op in self.bottled) + op for op in self.operations)


def block_space(family: Family, blocks: int, counts: dict[str, Callable]) -> Space:
    """A space of cells of blocks.

    An architecture is `{"normal": cell, "reduce": cell}`, or one cell in a space that searches
    one, of cells `{"inputs": int32[2 blocks], "ops": int32[2 blocks]}`: the sources of the two
    operations of each block, 0 the output of the cell before the last, 1 that of the last cell, 2
    the first block, and the operations.

    Args:
      family: the space.
      blocks: of a cell.
      counts: of its network, of `jnas.spaces.blocks_counts`.

    Returns:
      The space. `canonical` orders the operations of a block and the blocks of a cell.

    Raises:
      InputError: no blocks.
    """
    positive(blocks=blocks)
    if blocks > MOST:
        raise InputError(f"blocks={blocks}: from 1 to {MOST}: cells are alike in any order of them")
    sources = 2 + np.repeat(np.arange(blocks), 2)
    cell = {"inputs": sources, "ops": np.full(2 * blocks, len(family.operations))}
    per_cell = lambda make: (
        {name: make(name) for name in family.cells} if len(family.cells) > 1 else make("")
    )
    orders = _orders(blocks)

    def canonical(arch: Any) -> Any:
        one = lambda cell: _canonical(cell, orders, len(family.operations))
        return per_cell(lambda name: one(arch[name] if name else arch))

    return Space(
        name=family.name,
        num_choices=per_cell(lambda _: dict(cell)),
        canonical=canonical,
        describe=lambda arch: describe(family, arch),
        parse=lambda text: parse(family, blocks, text),
        labels=per_cell(lambda _: {"inputs": None, "ops": family.operations}),
        counts=counts,
        edges=lambda arch: _drawing(family, arch),
    )


def cells_of(family: Family, arch: Any) -> dict[str, Any]:
    """The cells of an architecture by name: `normal` and, where it is another, `reduce`."""
    return dict(arch) if len(family.cells) > 1 else {"normal": arch}


def concatenated(family: Family, name: str, inputs: Any) -> jax.Array:
    """What a cell concatenates: of its blocks, and of its first input where a cell may keep it.

    Args:
      family: the space.
      name: `normal` or `reduce`.
      inputs: int32[..., 2 blocks], or the simplices f32[..., 2 blocks, sources] of a relaxed cell,
        of which the share follows that no operation reads the block.

    Returns:
      int32 or f32 `[..., blocks]`, and one more in front where the cell keeps its first input.
    """
    inputs = jnp.asarray(inputs)
    soft = jnp.issubdtype(inputs.dtype, jnp.floating)
    blocks = inputs.shape[-2 if soft else -1] // 2
    if not family.loose:
        lead = inputs.shape[: -2 if soft else -1]
        kept = jnp.ones((*lead, blocks), inputs.dtype)
    elif soft:
        wide = jnp.pad(inputs, [(0, 0)] * (inputs.ndim - 1) + [(0, 2 + blocks - inputs.shape[-1])])
        kept = jnp.prod(1 - wide[..., 2:], -2)
    else:
        reads = inputs[..., None] == 2 + np.arange(blocks)
        kept = 1 - jnp.max(reads, -2).astype(jnp.int32)
    keep = family.keep.get(name, ())
    always = np.isin(2 + np.arange(blocks), keep)
    kept = jnp.where(always, jnp.ones_like(kept), kept)
    if 0 in keep:
        kept = jnp.concatenate([jnp.ones_like(kept[..., :1]), kept], -1)
    return kept


def keeping(family: Family, keep: Mapping[str, Sequence[int]] | None, blocks: int) -> Family:
    """A family whose cells keep other states.

    Raises:
      InputError: no such cell or state.
    """
    if keep is None:
        return family
    for name, states in keep.items():
        allowed = [0, *range(2, 2 + blocks)][name == "reduce" :]
        if name not in ("normal", "reduce") or any(state not in allowed for state in states):
            told = (
                f"a normal cell can keep 0 and 2 to {1 + blocks}, a reduce cell 2 to {1 + blocks}"
            )
            raise InputError(f"keep={dict(keep)}: {told}")
    return family._replace(keep={name: tuple(states) for name, states in keep.items()})


# -------------------------------------------------------------------------------- isomorphism


@functools.cache
def _orders(blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """All orders of the blocks, int[k, blocks], and the new number of each source in them."""
    orders = np.asarray(list(itertools.permutations(range(blocks)))).reshape(-1, blocks)
    inputs = np.tile([0, 1], (len(orders), 1))
    return orders, np.concatenate([inputs, 2 + np.argsort(orders, -1)], 1)


def _canonical(cell: Any, orders: tuple[np.ndarray, np.ndarray], operations: int) -> Any:
    """The cell with its blocks in the order, of all possible ones, whose numbers come first.

    What is concatenated may change its order: the layers that follow undo it by their weights.
    """
    places, renumber = orders
    blocks = places.shape[1]
    shape = (*jnp.shape(cell["inputs"])[:-1], blocks, 2)
    sources, ops = (jnp.asarray(cell[k], jnp.int32).reshape(shape) for k in ("inputs", "ops"))
    hot = jax.nn.one_hot(sources, 2 + blocks, dtype=jnp.float32)
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    moved = product("...bis,ks->...kbi", hot, renumber.astype(np.float32)).astype(jnp.int32)
    code = jnp.sort(moved * operations + ops[..., None, :, :], -1)  # [..., k, blocks, 2]
    index = jnp.broadcast_to(places[..., None], code.shape[-3:])
    index = jnp.broadcast_to(index, code.shape)
    code = jnp.take_along_axis(code, index, -2)
    possible = jnp.all(code // operations < 2 + np.arange(blocks)[:, None], (-2, -1))
    for b in range(blocks):  # keeps the orders that are first so far, block by block
        number = code[..., b, 0] * ((2 + blocks) * operations) + code[..., b, 1]
        number = jnp.where(possible, number, np.iinfo(np.int32).max)
        possible &= number == jnp.min(number, -1, keepdims=True)
    best = jnp.argmax(possible, -1)[..., None, None, None]
    found = jnp.take_along_axis(code, best, -3)[..., 0, :, :].reshape(*shape[:-2], -1)
    return {"inputs": found // operations, "ops": found % operations}


# ------------------------------------------------------------------------------------- text


def describe(family: Family, arch: Any) -> str:
    """A genotype as DARTS' code writes it, in one line, with what each cell concatenates."""
    parts = []
    for name, cell in cells_of(family, arch).items():
        sources, ops = (np.asarray(cell[k]).tolist() for k in ("inputs", "ops"))
        edges = [(family.operations[op], i) for op, i in zip(ops, sources, strict=True)]
        parts.append(f"{name}={edges}, {name}_concat={_concat(family, name, cell['inputs'])}")
    return f"Genotype({', '.join(parts)})"


def _concat(family: Family, name: str, inputs: Any) -> list[int]:
    kept = np.asarray(concatenated(family, name, np.asarray(inputs))).tolist()
    past = len(kept) - len(np.asarray(inputs)) // 2
    return [*([0] * past), *(2 + i for i, yes in enumerate(kept[past:]) if yes)]


def parse(family: Family, blocks: int, text: str) -> Any:
    """The architecture of a published name or of a genotype, the inverse of `describe`.

    `..._concat` may be left out, as it follows from the rest.

    Raises:
      InputError: an unknown name or operation, or a cell of another form.
    """
    if text.strip() in family.named:
        return parse(family, blocks, family.named[text.strip()])
    shown = text.strip() if len(text) < 60 else f"{text.strip()[:57]}..."
    who = f"genotype {' '.join(shown.split())!r}"
    names = list(family.cells) if len(family.cells) > 1 else ["normal"]
    words = text.split() if family.code and len(text) < LONGEST else []
    if words and all(re.fullmatch("[0-9]{1,9}", w) for w in words):
        cells = _from_code(family, [int(w) for w in words], blocks, who)
        return dict(zip(names, cells, strict=True))
    fields = _fields(text, names, blocks, who, family.named)
    made = {}
    for name in names:
        made[name] = _cell(family, blocks, fields[name], f"{who}: {name}")
        concat, own = fields.get(f"{name}_concat"), _concat(family, name, made[name]["inputs"])
        if concat is not None and sorted(concat, key=str) != sorted(own, key=str):
            raise InputError(f"{who}: {name}_concat={concat!r}: this cell concatenates {own}")
    return made if len(family.cells) > 1 else made["normal"]


def _fields(text: str, names: list[str], blocks: int, who: str, named: Any) -> dict[str, Any]:
    """The fields of a genotype as literals; no code is run."""
    cells = ", ".join(f"{name}=[('OP', NODE), ... {2 * blocks}]" for name in names)
    form = f"Genotype({cells})"
    known = f", or {', '.join(named)}" if named else ""
    wrong = InputError(f"{who}: the form is {form}{known}")
    call = call_of(text, "Genotype", LONGEST, wrong)
    given = {str(k.arg): items_of(k.value, wrong) for k in call.keywords}
    allowed = {*names, *(f"{name}_concat" for name in names)}
    if call.args or not set(names) <= set(given) <= allowed:
        raise wrong
    return given


def _cell(family: Family, blocks: int, edges: list, who: str) -> dict[str, np.ndarray]:
    form = f"{2 * blocks} edges ('OPERATION', NODE) are needed, two for each of {blocks} blocks"
    if len(edges) != 2 * blocks:
        raise InputError(f"{who}: {form}; there are {len(edges)}")
    inputs, ops = [], []
    for i, edge in enumerate(edges):
        if not isinstance(edge, tuple) or len(edge) != 2:
            raise InputError(f"{who}: {edge!r}: {form}")
        op, source = edge
        if op not in family.operations:
            allowed = ", ".join(family.operations)
            raise InputError(f"{who}: unknown operation {op!r}; allowed: {allowed}")
        if type(source) is not int or not 0 <= source < 2 + i // 2:
            most = 1 + i // 2
            raise InputError(f"{who}: block {2 + i // 2}: input {source!r}: allowed: 0 to {most}")
        inputs.append(source)
        ops.append(family.operations.index(op))
    return {"inputs": np.asarray(inputs, np.int32), "ops": np.asarray(ops, np.int32)}


def _from_code(family: Family, numbers: list[int], blocks: int, who: str) -> list[dict]:
    """Two cells of ENAS' scripts: of each block a source, its operation, another and its own.

    There 0 is the output of the last cell and 1 that of the cell before it.
    """
    if len(numbers) != 8 * blocks:
        told = f"{8 * blocks} numbers are needed, 4 for each of {blocks} blocks of two cells"
        raise InputError(f"{who}: {told}; there are {len(numbers)}")
    cells = []
    for half in (numbers[: 4 * blocks], numbers[4 * blocks :]):
        edges = []
        for source, op in zip(half[::2], half[1::2], strict=True):
            if op >= len(family.operations):
                raise InputError(f"{who}: operation {op}: 0 to {len(family.operations) - 1}")
            edges.append((family.operations[op], 1 - source if source < 2 else source))
        cells.append(_cell(family, blocks, edges, who))
    return cells


def _drawing(family: Family, arch: Any) -> list[tuple[str, str, str]]:
    """The edges of all cells, each with nodes of its own."""
    edges = []
    for name, cell in cells_of(family, arch).items():
        node = lambda i, name=name: f"{name} {('k-2', 'k-1')[i] if i < 2 else i - 1}"
        sources, ops = (np.asarray(cell[k]).tolist() for k in ("inputs", "ops"))
        for i, (source, op) in enumerate(zip(sources, ops, strict=True)):
            edges.append((node(source), node(2 + i // 2), family.operations[op]))
        edges += [(node(i), f"{name} out", "") for i in _concat(family, name, cell["inputs"])]
    return edges
