"""Where the nodes and edges of a cell go when it is drawn: whole numbers only, no drawing.

The nodes stand in a row. An edge between neighbours is straight; any other leaves its row of nodes,
runs level above or below it, and comes back. This is an arc diagram with square arcs.
"""

from collections.abc import Sequence
from typing import NamedTuple

Span = tuple[int, int]  # the places of the two nodes of an edge, left to right


class Layout(NamedTuple):
    """The drawing plan of a cell with `E` edges."""

    nodes: list[str]  # left to right
    spans: list[Span]  # [E]
    level: list[int]  # [E]; 0 straight, 1, 2, ... rows above the nodes, -1, -2, ... below
    ports: list[Span]  # [E]; at either end, how far right of a node's middle the edge meets it


def lay_out(edges: Sequence[tuple[str, str]]) -> Layout:
    """Plans a drawing in which no two edges lie on each other and few cross.

    Args:
      edges: `(from_node, to_node)` of a directed acyclic graph; a pair may come more than once.

    Raises:
      ValueError: the edges form a cycle.

    >>> lay_out([("in", "1"), ("in", "out"), ("1", "out")]).level
    [0, 1, 0]
    """
    nodes = _topological(edges)
    place = {node: k for k, node in enumerate(nodes)}
    spans = [(place[a], place[b]) for a, b in edges]
    bent = [k for k, (a, b) in enumerate(spans) if b - a > 1 or (a, b) in spans[:k]]
    sides = _sides([spans[k] for k in bent])

    level, ports = [0] * len(spans), [(0, 0)] * len(spans)
    for way in (1, -1):
        own = [k for k, side in zip(bent, sides, strict=True) if side == way]
        rows = dict(zip(own, _levels([spans[k] for k in own]), strict=True))
        # At a node, arrivals meet its left half and departures its right, the highest nearest to
        # the middle, so that edges of one node nest.
        for k in own:
            start, end = spans[k]
            leave = sum(spans[j][0] == start and rows[j] >= rows[k] for j in own)
            arrive = sum(spans[j][1] == end and rows[j] >= rows[k] for j in own)
            level[k], ports[k] = way * rows[k], (leave, -arrive)
    return Layout(nodes, spans, level, ports)


def parts(edges: Sequence[tuple[str, str]]) -> list[list[int]]:
    """The edges of every cell among them: numbers of edges that are connected, in their order.

    >>> parts([("in", "out"), ("in of another", "out of another"), ("in", "out")])
    [[0, 2], [1]]
    """
    cell = {node: node for edge in edges for node in edge}
    for _ in cell:  # at most so many steps lie between two nodes
        for a, b in edges:
            cell[a] = cell[b] = min(cell[a], cell[b])
    return [
        [k for k, (a, _) in enumerate(edges) if cell[a] == name]
        for name in dict.fromkeys(cell[a] for a, _ in edges)
    ]


def _topological(edges: Sequence[tuple[str, str]]) -> list[str]:
    """The nodes, each after all that feed it: the first named goes first, but dead ends last."""
    order: list[str] = []
    waiting = list(dict.fromkeys(node for edge in edges for node in edge))
    depth = dict.fromkeys(waiting, 0)
    sources = {a for a, _ in edges}
    while waiting:
        ready = [n for n in waiting if not any(b == n and a in waiting for a, b in edges)]
        if not ready:
            raise ValueError(f"the edges between {waiting} form a cycle: a cell is a DAG")
        node = min(ready, key=lambda n: (n not in sources, n not in sources and depth[n]))
        for a, b in edges:
            if a == node:
                depth[b] = max(depth[b], depth[node] + 1)
        order.append(node)
        waiting.remove(node)
    return order


def _levels(spans: Sequence[Span]) -> list[int]:
    """A row for each interval: those that overlap differ, and shorter ones lie lower."""
    levels = [0] * len(spans)
    for k in sorted(range(len(spans)), key=lambda k: (spans[k][1] - spans[k][0], spans[k])):
        start, end = spans[k]
        under = [levels[j] for j, (a, b) in enumerate(spans) if a < end and start < b]
        levels[k] = 1 + max(under)
    return levels


def _sides(spans: Sequence[Span]) -> list[int]:
    """Above (1) or below (-1) for each edge: few crossings first, then few rows.

    Edges change sides one by one for as long as that helps; all above is the start.
    """

    def cost(sides: Sequence[int]) -> tuple[int, int]:
        crossings = rows = 0
        for way in (1, -1):
            own = [span for span, side in zip(spans, sides, strict=True) if side == way]
            crossings += sum(a < c < b < d for a, b in own for c, d in own)
            rows += max(_levels(own), default=0)
        return crossings, rows

    sides = [1] * len(spans)
    best, tried = cost(sides), 0
    while tried < len(spans):
        for k in range(len(spans)):
            tried += 1
            flipped = [*sides[:k], -sides[k], *sides[k + 1 :]]
            if cost(flipped) < best:
                sides, best, tried = flipped, cost(flipped), 0
    return sides
