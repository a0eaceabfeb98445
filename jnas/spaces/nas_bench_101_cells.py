"""The cells of NAS-Bench-101 on the host: the official hash, and all cells that differ."""

import functools
import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jnas.spaces.nas_bench_101 import FROM, INNER, MOST_EDGES, OPERATIONS, TO, VERTICES


def module_hash(arch: Any) -> str:
    """The key of a cell in the benchmark: 32 hexadecimal digits, equal for isomorphic cells.

    The published rule: a vertex starts from its degrees and its operation, and is hashed n times
    with the sorted hashes of its neighbours, so that each learns of the whole graph.

    Args:
      arch: a valid architecture of `jnas.spaces.nas_bench_101`.
    """
    matrix = np.zeros((VERTICES, VERTICES), int)
    matrix[FROM, TO] = np.asarray(arch["edges"])
    reach = np.linalg.matrix_power(matrix + np.eye(VERTICES, dtype=int), VERTICES) > 0
    used = np.flatnonzero(reach[0] & reach[:, -1])  # on a path from input to output
    ops = np.asarray(arch["ops"]).tolist()
    labels = [-1, *(ops[v - 1] for v in used[1:-1]), -2]
    return graph_hash(matrix[np.ix_(used, used)], labels)


def graph_hash(matrix: np.ndarray, labels: Sequence[int]) -> str:
    """The same for an adjacency matrix `[n, n]` and n labels: -1, operations, -2."""
    md5 = lambda text: hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    n = len(labels)
    before = [np.flatnonzero(matrix[:, v]).tolist() for v in range(n)]
    after = [np.flatnonzero(matrix[v]).tolist() for v in range(n)]
    degrees = zip(map(len, after), map(len, before), labels, strict=True)
    known = [md5(str(start)) for start in degrees]
    for _ in range(n):
        parts = [[sorted(known[w] for w in side[v]) for side in (before, after)] for v in range(n)]
        joined = [f"{''.join(a)}|{''.join(b)}" for a, b in parts]
        known = [md5(f"{joined[v]}|{known[v]}") for v in range(n)]
    return md5(str(sorted(known)))


class Wirings:
    """All graphs of exactly n vertices without operations, one for each isomorphism class.

    Attributes:
      matrices: bool[m, n, n], every vertex on a path from the first to the last, at most 9 edges.
      symmetries: for each of them the orders of its inner vertices that leave it as it is,
        int[s, n - 2].
    """

    def __init__(self, n: int):
        pairs = np.asarray(list(itertools.combinations(range(n), 2)))
        full = _graphs(n, pairs)
        orders = np.asarray([(0, *p, n - 1) for p in itertools.permutations(range(1, n - 1))])
        code = lambda m: m[:, pairs[:, 0], pairs[:, 1]] @ (1 << np.arange(len(pairs)))
        own = code(full)
        first = own.copy()
        fixed = np.zeros((len(full), len(orders)), bool)
        for k, order in enumerate(orders):
            moved = full[:, order][:, :, order]
            upward = ~np.tril(moved).any((1, 2))
            number = code(moved)
            first = np.where(upward, np.minimum(first, number), first)
            fixed[:, k] = upward & (number == own)
        keep = own == first
        self.matrices = full[keep]
        self.symmetries = [orders[row, 1:-1] - 1 for row in fixed[keep]]

    def count(self) -> int:
        """How many cells there are with operations at the inner vertices.

        Burnside's lemma: the mean, over the symmetries, of the labellings that each leaves alone,
        one choice for each of its cycles.
        """
        total = 0
        for group in self.symmetries:
            fixed = sum(len(OPERATIONS) ** _cycles(order) for order in group.tolist())
            total += fixed // len(group)
        return total

    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """All of them: matrices bool[m, n, n] and operations int[m, n - 2]."""
        inner = self.matrices.shape[1] - 2
        words = np.asarray(list(itertools.product(range(len(OPERATIONS)), repeat=inner)))
        words = words.reshape(len(OPERATIONS) ** inner, inner)
        digits = len(OPERATIONS) ** np.arange(inner)[::-1]
        graphs, labels = [], []
        for matrix, group in zip(self.matrices, self.symmetries, strict=True):
            numbers = words[:, group] @ digits  # [words, symmetries]
            mine = words[numbers.min(1) == words @ digits]
            graphs.append(np.broadcast_to(matrix, (len(mine), *matrix.shape)))
            labels.append(mine)
        return np.concatenate(graphs), np.concatenate(labels)


def _graphs(n: int, pairs: np.ndarray) -> np.ndarray:
    """All graphs of n vertices that are pruned already and have at most 9 edges: bool[m, n, n]."""
    every = math.comb(n, 2)
    found = []
    for start in range(0, 2**every, 2**16):
        numbers = np.arange(start, min(start + 2**16, 2**every))
        bits = (numbers[:, None] >> np.arange(every)) & 1 == 1
        bits = bits[bits.sum(1) <= MOST_EDGES]
        full = np.zeros((len(bits), n, n), bool)
        full[:, pairs[:, 0], pairs[:, 1]] = bits
        # Edges go up: a vertex is on such a path where every one has an edge in and an edge out.
        leaves, enters = full[:, :-1].any(axis=2), full[:, :, 1:].any(axis=1)
        good = np.all(leaves, axis=1) & np.all(enters, axis=1)
        found.append(full[good])
    return np.concatenate(found)


def _cycles(order: Sequence[int]) -> int:
    seen: set[int] = set()
    cycles = 0
    for start in range(len(order)):
        cycles += start not in seen
        while start not in seen:
            seen.add(start)
            start = order[start]
    return cycles


@functools.cache
def wirings(vertices: int) -> Wirings:
    """The graphs of so many vertices, 2 to 7; those of 7 take about a minute."""
    return Wirings(vertices)


def as_architectures(matrices: np.ndarray, ops: np.ndarray) -> Any:
    """Graphs of n vertices as a batch of architectures of `jnas.spaces.nas_bench_101`."""
    m, n = matrices.shape[:2]
    place = [*range(n - 1), VERTICES - 1]
    full = np.zeros((m, VERTICES, VERTICES), np.int32)
    full[:, np.asarray(place)[:, None], place] = matrices
    codes = np.zeros((m, INNER), np.int32)
    codes[:, : n - 2] = ops
    upper = np.triu_indices(VERTICES, 1)
    return {"edges": full[:, upper[0], upper[1]], "ops": codes}
