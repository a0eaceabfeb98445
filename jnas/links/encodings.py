"""Encodings: architectures as vectors of numbers that a predictor can learn from."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, Graph, InputError, Space, choice_counts, to_vector

LARGEST = 100_000  # features


class Encoding(NamedTuple):
    """Architectures as vectors.

    size: the number of features.
    encode: architectures with leaves `[..., *shape]` to `f32[..., size]`.
    """

    size: int
    encode: Callable[[Architecture], jax.Array]


def one_hot_encoding(space: Space) -> Encoding:
    """A 1 for the choice made at every place, zeros for those not made; any space has it.

    >>> import jnas
    >>> cells = jnas.spaces.nas_bench_201()
    >>> one_hot_encoding(cells).size
    30
    """
    place, choice = _columns(choice_counts(space))
    encode = lambda arch: _hot(to_vector(space, arch), place, choice)
    return Encoding(place.size, encode)


def path_encoding(space: Space, longest: int = 0) -> Encoding:
    """A 1 for every sequence of operations that lies on a path from the input to the output.

    White et al. 2021, "BANANAS", arXiv 1910.11858, section 4. With K operations there are K^l
    sequences of length l; two paths with the same sequence share their feature. NAS-Bench-201 has
    paths of 1 to 3 operations, of which `none` is one as in the authors' code, so 5 + 25 + 125
    features. Places that are on no edge, such as hyperparameters, are encoded one-hot behind them.

    Args:
      space: a space with a `graph`.
      longest: truncates the encoding to paths of at most so many operations (the paper's section
        4.2); 0 keeps all.

    Returns:
      The encoding.

    Raises:
      InputError: the space has no graph, no path is short enough, or there are too many features.

    >>> import jnas
    >>> path_encoding(jnas.spaces.nas_bench_201()).size
    155
    >>> path_encoding(jnas.spaces.nas_bench_201(), longest=2).size
    30
    """
    if space.graph is None:
        raise InputError(
            f"space {space.name!r} has no graph whose paths could be encoded: use one_hot_encoding"
        )
    found = list(_paths(space.graph))
    paths = [path for path in found if not longest or len(path) <= longest]
    if not paths:
        shortest = min(map(len, found))
        raise InputError(f"longest={longest}: the shortest path has {shortest} operations")
    counts = choice_counts(space)
    on_edges = [place for _, _, place in space.graph.edges]
    kinds = int(counts[on_edges].max())
    starts, size = {}, 0
    for length in sorted({len(path) for path in paths}):
        starts[length] = size
        size += kinds**length
    if size > LARGEST:
        raise InputError(f"longest={longest}: {size} paths are too many to encode; allow fewer")
    value = np.zeros((counts.size, len(paths)), np.int32)  # of a choice in the number of a path
    for i, path in enumerate(paths):
        value[list(path), i] = kinds ** np.arange(len(path))
    offset = np.asarray([starts[len(path)] for path in paths], np.int32)
    others = np.asarray([p for p in range(counts.size) if p not in on_edges], np.int32)
    place, choice = _columns(counts[others])

    def encode(arch: Architecture) -> jax.Array:
        x = to_vector(space, arch)
        taken = jnp.sum(x[..., None] * value, -2) + offset
        on_path = jnp.any(taken[..., None] == np.arange(size, dtype=np.int32), -2)
        rest = _hot(x[..., others], place, choice)
        return jnp.concatenate([on_path.astype(jnp.float32), rest], -1)

    return Encoding(size + place.size, encode)


def _paths(graph: Graph) -> Iterator[tuple[int, ...]]:
    """The places along every path from the input to the output."""
    last = max(b for _, b, _ in graph.edges)

    def walk(node: int, places: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if node == last:
            yield places
        for a, b, place in graph.edges:
            if a == node:
                yield from walk(b, (*places, place))

    return walk(0, ())


def _columns(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place and the choice that each feature of a one-hot encoding stands for."""
    place = np.repeat(np.arange(counts.size), counts)
    return place, np.arange(place.size) - np.repeat(np.cumsum(counts) - counts, counts)


def _hot(x: jax.Array, place: np.ndarray, choice: np.ndarray) -> jax.Array:
    return (x[..., place] == choice).astype(jnp.float32)
