"""Recipes: the methods of the field, each with its paper's own setting, made of links."""

from collections.abc import Callable

from jnas.base import Strategy
from jnas.recipes import (
    bayesian,
    evolution,
    local,
    multi_fidelity,
    policy_gradient,
    surrogate,
    value_based,
)
from jnas.recipes.bayesian import gp_bo, tpe
from jnas.recipes.evolution import (
    genetic,
    island_evolution,
    mu_comma_lambda,
    nsga2,
    random_search,
    regularized_evolution,
    self_adaptive_evolution,
)
from jnas.recipes.gradient import (
    GRADIENT,
    asap,
    darts,
    drnas,
    fair_darts,
    gdas,
    p_darts,
    pc_darts,
    reinmax_nas,
    sdarts_rs,
    snas,
)
from jnas.recipes.local import hill_climbing, local_search, simulated_annealing
from jnas.recipes.multi_fidelity import asha, bohb, hyperband, successive_halving
from jnas.recipes.policy_gradient import enas_controller, ppo, reinforce, reinforce_rnn
from jnas.recipes.sharing import (
    SHARING,
    OneShot,
    enas,
    fairnas,
    few_shot,
    once_for_all,
    rs_ws,
    spos,
)
from jnas.recipes.surrogate import bananas, npenas, predictor_evolution
from jnas.recipes.value_based import double_dqn, dqn, edit_dqn, edit_q_learning, q_learning

__all__ = [
    "GRADIENT",
    "SHARING",
    "STRATEGIES",
    "OneShot",
    "asap",
    "asha",
    "bananas",
    "bohb",
    "darts",
    "double_dqn",
    "dqn",
    "drnas",
    "edit_dqn",
    "edit_q_learning",
    "enas",
    "enas_controller",
    "fair_darts",
    "fairnas",
    "few_shot",
    "gdas",
    "genetic",
    "gp_bo",
    "hill_climbing",
    "hyperband",
    "island_evolution",
    "local_search",
    "mu_comma_lambda",
    "npenas",
    "nsga2",
    "once_for_all",
    "p_darts",
    "pc_darts",
    "ppo",
    "predictor_evolution",
    "q_learning",
    "random_search",
    "regularized_evolution",
    "reinforce",
    "reinforce_rnn",
    "reinmax_nas",
    "rs_ws",
    "sdarts_rs",
    "self_adaptive_evolution",
    "simulated_annealing",
    "snas",
    "spos",
    "successive_halving",
    "tpe",
]

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    **bayesian.STRATEGIES,
    **evolution.STRATEGIES,
    **local.STRATEGIES,
    **multi_fidelity.STRATEGIES,
    **policy_gradient.STRATEGIES,
    **surrogate.STRATEGIES,
    **value_based.STRATEGIES,
}
