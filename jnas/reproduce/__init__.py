"""Published experiments run again: the reproduced figures beside the published ones."""

from collections.abc import Callable
from typing import Any

from jnas.reproduce import nas_bench_201
from jnas.reproduce.nas_bench_201 import summary

__all__ = ["REPRODUCTIONS", "nas_bench_201", "summary"]

REPRODUCTIONS: dict[str, Callable[..., Any]] = {"nas_bench_201": nas_bench_201.reproduce}
