"""Search that trains most candidates for a part of the time only."""

from collections.abc import Callable

from jnas.base import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {}
