"""Recipes: the methods of the field, each with its paper's own setting, made of links."""

from collections.abc import Callable

from jnas.base import Strategy
from jnas.recipes import (
    bayesian,
    evolution,
    local,
    multi_fidelity,
    reinforce,
    surrogate,
    value_based,
)
from jnas.recipes.evolution import (
    genetic,
    island_evolution,
    mu_comma_lambda,
    nsga2,
    random_search,
    regularized_evolution,
    self_adaptive_evolution,
)
from jnas.recipes.value_based import double_dqn, dqn, edit_dqn, edit_q_learning, q_learning

__all__ = [
    "STRATEGIES",
    "double_dqn",
    "dqn",
    "edit_dqn",
    "edit_q_learning",
    "genetic",
    "island_evolution",
    "mu_comma_lambda",
    "nsga2",
    "q_learning",
    "random_search",
    "regularized_evolution",
    "self_adaptive_evolution",
]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    **bayesian.STRATEGIES,
    **evolution.STRATEGIES,
    **local.STRATEGIES,
    **multi_fidelity.STRATEGIES,
    **reinforce.STRATEGIES,
    **surrogate.STRATEGIES,
    **value_based.STRATEGIES,
}
