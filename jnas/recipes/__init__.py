"""Recipes: the methods of the field, each with its paper's own setting, made of links."""

from collections.abc import Callable

from jnas.base import Strategy
from jnas.recipes import evolution, local, multi_fidelity, policy_gradient, q_learning, surrogate
from jnas.recipes.evolution import (
    genetic,
    island_evolution,
    mu_comma_lambda,
    nsga2,
    random_search,
    regularized_evolution,
    self_adaptive_evolution,
)
from jnas.recipes.policy_gradient import enas_controller, ppo, reinforce, reinforce_rnn

__all__ = [
    "STRATEGIES",
    "enas_controller",
    "genetic",
    "island_evolution",
    "mu_comma_lambda",
    "nsga2",
    "ppo",
    "random_search",
    "regularized_evolution",
    "reinforce",
    "reinforce_rnn",
    "self_adaptive_evolution",
]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    **evolution.STRATEGIES,
    **local.STRATEGIES,
    **multi_fidelity.STRATEGIES,
    **policy_gradient.STRATEGIES,
    **q_learning.STRATEGIES,
    **surrogate.STRATEGIES,
}
