"""Hyperband: brackets of successive halving from many short trainings to few full ones."""

from collections.abc import Sequence

import numpy as np

from jnas.base import Strategy
from jnas.links.multi_fidelity import rungs
from jnas.links.successive_halving import Bracket, brackets, halved


def hyperband(
    source: Strategy,
    eta: float = 3,
    min_budget: float = 1 / 81,
    *,
    budgets: Sequence[float] | None = None,
    parallel: int = 2,
    patience: int = 5,
) -> Strategy:
    """Cycles through brackets that begin at every budget, the smallest first.

    So it needs no guess of how early scores can be trusted. Li et al. 2018, "Hyperband: A Novel
    Bandit-Based Approach to Hyperparameter Optimization", JMLR 18, arXiv 1603.06560, Algorithm 1;
    `eta = 3` is its default.

    Args:
      source: proposes the candidates, and is told all results.
      eta: the best `1 / eta` of a rung reach the next.
      min_budget: the paper's `1 / R`.
      budgets: given, they are the budgets of the rungs, rising to 1.
      parallel: see `successive_halving`.
      patience: see `successive_halving`.

    Returns:
      A strategy whose proposals have a budget.

    Raises:
      InputError: an impossible setting.
    """
    plan = schedule(eta, rungs(eta, min_budget, budgets))
    return brackets("hyperband", source, plan, parallel, patience)


def schedule(eta: float, budgets: np.ndarray) -> list[Bracket]:
    """The brackets of a cycle: the paper's Table 1.

    Bracket `s` begins with `ceil((s_max + 1) / (s + 1) * eta^s)` candidates.

    >>> for bracket in schedule(3, rungs(3, 1 / 9)): print(bracket.sizes, bracket.budgets)
    (9, 3, 1) (0.111..., 0.333..., 1.0)
    (5, 1) (0.333..., 1.0)
    (3,) (1.0,)

    Args:
      eta: see `hyperband`.
      budgets: of the rungs, rising to 1.
    """
    most = len(budgets)
    plan = []
    for s in reversed(range(most)):
        n = int(np.ceil(most / (s + 1) * float(eta) ** s - 1e-6))
        plan.append(Bracket(halved(n, eta, s + 1), tuple(map(float, budgets[most - s - 1 :]))))
    return plan
