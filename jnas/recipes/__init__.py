"""Recipes: the methods of the field, each with its paper's own setting, made of links."""

from collections.abc import Callable

from jnas.base import Strategy
from jnas.recipes import evolution, local, multi_fidelity, q_learning, reinforce, surrogate
from jnas.recipes.evolution import (
    genetic,
    island_evolution,
    mu_comma_lambda,
    nsga2,
    random_search,
    regularized_evolution,
    self_adaptive_evolution,
)

__all__ = [
    "STRATEGIES",
    "genetic",
    "island_evolution",
    "mu_comma_lambda",
    "nsga2",
    "random_search",
    "regularized_evolution",
    "self_adaptive_evolution",
]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    **evolution.STRATEGIES,
    **local.STRATEGIES,
    **multi_fidelity.STRATEGIES,
    **q_learning.STRATEGIES,
    **reinforce.STRATEGIES,
    **surrogate.STRATEGIES,
}
