"""Search by a model of the score."""

from collections.abc import Callable

from jnas.base import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {}
