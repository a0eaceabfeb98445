"""Controllers that learn by policy gradients."""

from collections.abc import Callable

from jnas.base import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {}
