"""Q-learning, over partial architectures and over edits."""

from collections.abc import Callable

from jnas.base import Strategy

STRATEGIES: dict[str, Callable[..., Strategy]] = {}
