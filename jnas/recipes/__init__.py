"""Recipes: the methods of the field, each with its paper's own setting, made of links."""

from collections.abc import Callable

from jnas.base import Strategy
from jnas.recipes import (
    bayesian,
    evolution,
    local,
    multi_fidelity,
    q_learning,
    reinforce,
    surrogate,
)
from jnas.recipes.evolution import random_search, regularized_evolution

__all__ = ["STRATEGIES", "random_search", "regularized_evolution"]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    **bayesian.STRATEGIES,
    **evolution.STRATEGIES,
    **local.STRATEGIES,
    **multi_fidelity.STRATEGIES,
    **q_learning.STRATEGIES,
    **reinforce.STRATEGIES,
    **surrogate.STRATEGIES,
}
