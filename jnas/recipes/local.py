"""Local search and annealing."""

from collections.abc import Callable

from jnas.base import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {}
