"""NAS-Bench-101: a cell is a graph of up to 7 vertices, whose 5 inner ones carry an operation.

Ying et al. 2019, "NAS-Bench-101: Towards Reproducible Neural Architecture Search", arXiv
1902.09635. There are at most 9 edges; the benchmark has the 423,624 cells that differ.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space
from jnas.spaces.literals import call_of, literal_of
from jnas.spaces.nas_bench_101_counts import counts

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")  # in the official order
INPUT, OUTPUT = "input", "output"
VERTICES = 7
INNER = VERTICES - 2
MOST_EDGES = 9
PAIRS = tuple(itertools.combinations(range(VERTICES), 2))  # the 21 places for edges, row by row
FROM, TO = np.asarray(PAIRS).T
BITS = 2 ** np.arange(len(PAIRS), dtype=np.int32)[::-1]  # of the number of a cell
DIGITS = len(OPERATIONS) ** np.arange(INNER, dtype=np.int32)[::-1]
LONGEST = 4000  # characters of a text that is read
FORM = f"ModelSpec(matrix=[[0, 1, ...], ...], ops=['{INPUT}', ..., '{OUTPUT}'])"


def nas_bench_101(
    channels: int = 128,
    stacks: int = 3,
    modules: int = 3,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
) -> Space:
    """The space of NAS-Bench-101: 2^21 * 3^5 pairs of edges and operations, 423,624 cells.

    An architecture is `{"edges": int32[21], "ops": int32[5]}`: whether there is an edge between
    two of the 7 vertices, row by row of the upper triangle, and the operations of the inner ones.
    The text is the official `ModelSpec(matrix=[...], ops=[...])`; a smaller matrix is read too.

    A cell is valid where a path leads from the input to the output and at most 9 edges lie on such
    paths. `canonical` drops all others and takes, of all orders of the inner vertices, the one
    whose bits come first; two valid cells have one canonical form exactly where the benchmark has
    one hash for them (`module_hash`). `repair` adds the edge from input to output where there is
    no path, and drops the last edges that a vertex can spare where there are too many.

    Args:
      channels: of the first stack; each later one has twice as many. For `counts` only, as all the
        rest.
      stacks: of modules, the images halved between them.
      modules: of a stack, each with the cell.
      classes: the classes of the data set.
      image: height and width of the images, a multiple of `2 ** (stacks - 1)`.
      inputs: the channels of the images.

    Returns:
      The space. Its counts are `params`, those of the official records, and `flops` (multiply-adds
      of convolutions and of the classifier).

    Raises:
      InputError: a network that there cannot be.
    """
    return Space(
        name="nas_bench_101",
        num_choices={"edges": np.full(len(PAIRS), 2), "ops": np.full(INNER, len(OPERATIONS))},
        is_valid=is_valid,
        canonical=canonical,
        repair=repair,
        distinct=423_624,
        describe=describe,
        parse=parse,
        labels={"edges": None, "ops": OPERATIONS},
        counts=counts(matrix_of, channels, stacks, modules, classes, image, inputs),
        edges=_drawing,
    )


# -------------------------------------------------------------------------------- the graph


def matrix_of(arch: Any) -> jax.Array:
    """The adjacency matrix of what lies on a path from input to output: int32[..., 7, 7]."""
    bits = jnp.asarray(arch["edges"], jnp.int32)
    full = jnp.zeros((*bits.shape[:-1], VERTICES, VERTICES), jnp.int32)
    return _pruned(full.at[..., FROM, TO].set(bits))


def _pruned(matrix: jax.Array) -> jax.Array:
    """The matrix without the edges of vertices that no path from input to output visits."""
    ahead, back = [jnp.ones_like(matrix[..., 0, 0])], [jnp.ones_like(matrix[..., 0, 0])]
    for v in range(1, VERTICES):  # from the input forward, from the output backward
        reached = jnp.stack(ahead, -1) * matrix[..., :v, v]
        ahead.append(jnp.max(reached, -1))
        reaching = jnp.stack(back[::-1], -1) * matrix[..., VERTICES - 1 - v, VERTICES - v :]
        back.append(jnp.max(reaching, -1))
    used = jnp.stack(ahead, -1) * jnp.stack(back[::-1], -1)
    return matrix * used[..., :, None] * used[..., None, :]


def is_valid(arch: Any) -> jax.Array:
    """Whether a path leads from input to output, and at most 9 edges lie on such paths."""
    edges = jnp.sum(matrix_of(arch), (-2, -1))
    return (edges > 0) & (edges <= MOST_EDGES)


@functools.cache
def _orders() -> tuple[np.ndarray, np.ndarray]:
    """What makes the numbers of a cell in all orders of its inner vertices, as products.

    Returns:
      f32[49, 2, 120] for the flat matrix: the number that its 21 bits make, and how many edges
      still go up. And f32[5, 120] for the operations: the number that they make.
    """
    inner = list(itertools.permutations(range(1, VERTICES - 1)))
    orders = np.asarray([(0, *order, VERTICES - 1) for order in inner])  # new vertex i is old [i]
    places = orders[:, FROM] * VERTICES + orders[:, TO]  # of the new pairs in the old flat matrix
    edges = np.zeros((VERTICES**2, 2, len(orders)), np.float32)
    words = np.zeros((INNER, len(orders)), np.float32)
    for k, order in enumerate(orders):
        edges[places[k], 0, k] = BITS
        edges[places[k], 1, k] = 1
        words[order[1:-1] - 1, k] = DIGITS
    return edges, words


def canonical(arch: Any) -> Any:
    """The architecture that stands for all that the benchmark counts as the same cell, jittable.

    What lies on no path from input to output is without edges and has operation 0. Of the orders
    of the inner vertices in which every edge goes up, it is the one of the smallest number, the
    bits of the edges first.
    """
    matrix = matrix_of(arch)
    lead = matrix.shape[:-2]
    present = jnp.max(matrix[..., 1:-1, :], -1)
    ops = jnp.asarray(arch["ops"], jnp.int32) * present
    edges, words = _orders()
    # Products of float32 are exact here: all sums are below 2^21.
    product = functools.partial(jnp.tensordot, axes=1, precision=jax.lax.Precision.HIGHEST)
    found = product(matrix.reshape(*lead, -1).astype(jnp.float32), edges).astype(jnp.int32)
    labels = product(ops.astype(jnp.float32), words).astype(jnp.int32)
    upward = found[..., 1, :] == jnp.sum(matrix, (-2, -1))[..., None]
    number = found[..., 0, :] * len(OPERATIONS) ** INNER + labels  # < 2^21 * 3^5 < 2^31
    least = jnp.min(jnp.where(upward, number, np.iinfo(np.int32).max), -1, keepdims=True)
    return {
        "edges": least // len(OPERATIONS) ** INNER // BITS % 2,
        "ops": least % len(OPERATIONS) ** INNER // DIGITS % len(OPERATIONS),
    }


def repair(arch: Any) -> Any:
    """A valid architecture near another one, jittable; a valid one stays as it is.

    Without a path from input to output it gets the edge between them. Of more than 9 edges on such
    paths, the last ones go whose vertices have another edge to leave by: a path stays.
    """
    bits = jnp.asarray(arch["edges"], jnp.int32)
    cut = jnp.max(matrix_of({"edges": bits}), (-2, -1)) == 0
    direct = np.asarray([pair == (0, VERTICES - 1) for pair in PAIRS])
    bits = jnp.where(direct & cut[..., None], 1, bits)

    def drop(_: Any, bits: jax.Array) -> jax.Array:
        matrix = matrix_of({"edges": bits})
        on_path = matrix[..., FROM, TO]
        spare = on_path * (jnp.sum(matrix, -1)[..., FROM] > 1)
        last = len(PAIRS) - 1 - jnp.argmax(spare[..., ::-1], -1)
        over = jnp.sum(on_path, -1) > MOST_EDGES
        return jnp.where((np.arange(len(PAIRS)) == last[..., None]) & over[..., None], 0, bits)

    bits = jax.lax.fori_loop(0, len(PAIRS) - MOST_EDGES, drop, bits)
    return {"edges": bits, "ops": jnp.asarray(arch["ops"], jnp.int32)}


# ------------------------------------------------------------------------------------- text


def describe(arch: Any) -> str:
    """A cell as the benchmark's own code would make it, with all 7 vertices."""
    full = np.zeros((VERTICES, VERTICES), int)
    full[FROM, TO] = np.asarray(arch["edges"])
    ops = [INPUT, *(OPERATIONS[int(op)] for op in np.asarray(arch["ops"])), OUTPUT]
    return f"ModelSpec(matrix={full.tolist()}, ops={ops})"


def parse(text: str) -> Any:
    """The architecture of `ModelSpec(matrix=[[...], ...], ops=[...])`, the names being optional.

    A cell of fewer than 7 vertices gets inner vertices without edges, of operation 0.

    Raises:
      InputError: another form, an unknown operation, or a matrix that is no such graph.
    """
    shown = text.strip() if len(text) < 60 else f"{text.strip()[:57]}..."
    who = f"cell {' '.join(shown.split())!r}"
    wrong = InputError(f"{who}: the form is {FORM}")
    call = call_of(text, "ModelSpec", LONGEST, wrong)
    given = {str(k.arg): literal_of(k.value, wrong) for k in call.keywords}
    placed = zip(("matrix", "ops"), call.args, strict=False)
    given |= {name: literal_of(value, wrong) for name, value in placed}
    if set(given) != {"matrix", "ops"} or not all(isinstance(v, list) for v in given.values()):
        raise wrong
    return from_graph(given["matrix"], given["ops"], who)


def from_graph(matrix: Sequence[Sequence[int]], ops: Sequence[str], who: str = "cell") -> Any:
    """The architecture of an upper triangular matrix of 0 and 1 and the names of its vertices.

    Args:
      matrix: `[n, n]`, 2 <= n <= 7.
      ops: n names, the first `input` and the last `output`.
      who: is at fault in errors.

    Returns:
      The architecture, whose inner vertices of number n - 1 and above have no edge.

    Raises:
      InputError: another form than that.
    """
    n = len(ops)
    if not 2 <= n <= VERTICES:
        raise InputError(f"{who}: {n} vertices; there can be 2 to {VERTICES}")
    square = len(matrix) == n and all(isinstance(r, list | tuple) and len(r) == n for r in matrix)
    if not square or any(x not in (0, 1) for row in matrix for x in row):
        raise InputError(f"{who}: {n} operations need a matrix of {n} x {n} numbers 0 or 1")
    if any(matrix[i][j] for i in range(n) for j in range(i + 1)):
        raise InputError(f"{who}: an edge has to go up, so the matrix is 0 up to its diagonal")
    if ops[0] != INPUT or ops[-1] != OUTPUT:
        raise InputError(f"{who}: the first vertex is {INPUT!r} and the last one {OUTPUT!r}")
    for op in ops[1:-1]:
        if op not in OPERATIONS:
            allowed = ", ".join(OPERATIONS)
            raise InputError(f"{who}: unknown operation {op!r}; allowed: {allowed}")
    place = [*range(n - 1), VERTICES - 1]
    full = np.zeros((VERTICES, VERTICES), np.int32)
    full[np.ix_(place, place)] = np.asarray(matrix)
    codes = np.zeros(INNER, np.int32)
    codes[: n - 2] = [OPERATIONS.index(op) for op in ops[1:-1]]
    return {"edges": full[FROM, TO], "ops": codes}


def _drawing(arch: Any) -> list[tuple[str, str, str]]:
    """The edges on paths from input to output; a vertex is named by its number and operation."""
    matrix = np.asarray(matrix_of(arch))
    inner = [f"{v + 1} {OPERATIONS[int(op)]}" for v, op in enumerate(np.asarray(arch["ops"]))]
    names = [INPUT, *inner, OUTPUT]
    return [(names[a], names[b], "") for a, b in PAIRS if matrix[a, b]]
