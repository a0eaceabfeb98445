"""Recipes: the methods of the field, each with its paper's own setting, made of links."""

from collections.abc import Callable

from jnas.base import Strategy
from jnas.recipes import evolution, local, multi_fidelity, q_learning, reinforce, surrogate
from jnas.recipes.evolution import random_search, regularized_evolution
from jnas.recipes.surrogate import bananas, npenas, predictor_evolution

__all__ = [
    "STRATEGIES",
    "bananas",
    "npenas",
    "predictor_evolution",
    "random_search",
    "regularized_evolution",
]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    **evolution.STRATEGIES,
    **local.STRATEGIES,
    **multi_fidelity.STRATEGIES,
    **q_learning.STRATEGIES,
    **reinforce.STRATEGIES,
    **surrogate.STRATEGIES,
}
