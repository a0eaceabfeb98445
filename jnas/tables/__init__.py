"""Tables: NAS benchmarks as NumPy columns, one row for every architecture of a space."""

from collections.abc import Callable

import numpy as np

from jnas.tables import nas_bench_201

TABLES: dict[str, Callable[..., dict[str, np.ndarray]]] = {"nas_bench_201": nas_bench_201.load}


def names() -> list[str]:
    """The names of all tables; a table has the name of its space.

    >>> names()
    ['nas_bench_201']
    """
    return sorted(TABLES)


__all__ = ["TABLES", "names"]
