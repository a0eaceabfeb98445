"""Search that trains most candidates for a part of the time only."""

from collections.abc import Callable, Sequence

from jnas import links
from jnas.base import Space, Strategy, choice_counts
from jnas.links import per_budget, sample_uniform
from jnas.links.multi_fidelity import rungs


def successive_halving(
    space: Space,
    n: int = 27,
    eta: float = 3,
    min_budget: float = 1 / 27,
    budgets: Sequence[float] | None = None,
    parallel: int = 2,
    patience: int = 5,
) -> Strategy:
    """Random candidates, of which the best `1/eta` go on at every budget.

    Jamieson and Talwalkar 2016, arXiv 1502.07943; see `jnas.links.successive_halving`.

    >>> import jax, jnas
    >>> space = jnas.spaces.nas_bench_201()
    >>> strategy = successive_halving(space, n=9, eta=3, min_budget=1 / 9)
    >>> state = strategy.init(jax.random.key(0), jnas.base.template(space))
    >>> strategy.ask(jax.random.key(1), state, 2).budget.round(3).tolist()
    [0.111..., 0.111...]

    Args:
      space: the space to search.
      n: candidates of the first rung.
      eta: the ratio of the rungs' sizes and of their budgets.
      min_budget: the smallest part of a full evaluation.
      budgets: given, they are the budgets of the rungs, rising to 1.
      parallel: brackets under way at once.
      patience: tells without progress until a place of a rung is given up.

    Returns:
      The strategy.
    """
    return links.successive_halving(
        sample_uniform(space), n, eta, min_budget, budgets=_listed(budgets), parallel=parallel,
        patience=patience,
    )  # fmt: skip


def hyperband(
    space: Space,
    eta: float = 3,
    min_budget: float = 1 / 81,
    budgets: Sequence[float] | None = None,
    parallel: int = 2,
    patience: int = 5,
) -> Strategy:
    """Random candidates in brackets of successive halving that begin at every budget.

    Li et al. 2018, arXiv 1603.06560, with its `eta`; R = 81 is that of its Table 1. See
    `jnas.links.hyperband`.

    Args:
      space: the space to search.
      eta: the ratio of the rungs' sizes and of their budgets.
      min_budget: the smallest part of a full evaluation, the paper's 1 / R.
      budgets: given, they are the budgets of the rungs, rising to 1.
      parallel: brackets under way at once.
      patience: tells without progress until a place of a rung is given up.

    Returns:
      The strategy.
    """
    return links.hyperband(
        sample_uniform(space), eta, min_budget, budgets=_listed(budgets), parallel=parallel,
        patience=patience,
    )  # fmt: skip


def bohb(
    space: Space,
    eta: float = 3,
    min_budget: float = 1 / 81,
    budgets: Sequence[float] | None = None,
    parallel: int = 2,
    patience: int = 5,
    size: int = 100,
    quantile: float = 0.15,
    candidates: int = 64,
    random: float = 1 / 3,
    min_bandwidth: float = 1e-3,
    joint: bool = True,
    source: Strategy | None = None,
) -> Strategy:
    """Hyperband whose candidates come from TPE, of the largest budget that has enough trials.

    Falkner, Klein and Hutter 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at
    Scale", arXiv 1807.01774, with the settings of its section 4.2 and of its code HpBandSter.

    Args:
      space: the space to search.
      eta: the ratio of the rungs' sizes and of their budgets.
      min_budget: the smallest part of a full evaluation.
      budgets: given, they are the budgets of the rungs, rising to 1.
      parallel: brackets under way at once.
      patience: tells without progress until a place of a rung is given up.
      size: the trials remembered of every budget, the youngest.
      quantile: the share of the trials that is good.
      candidates: drawn from the good for every proposal.
      random: the share of the proposals that is drawn from the space.
      min_bandwidth: of the densities.
      joint: densities over whole architectures, as BOHB's, else one for each place.
      source: proposes in the place of TPE, one copy of it for every budget.

    Returns:
      The strategy.
    """
    levels = [float(b) for b in rungs(eta, min_budget, _listed(budgets))]
    fewest = choice_counts(space).size + 1
    model = source or links.tpe(
        space,
        size=max(size, 2 * fewest),
        quantile=quantile,
        candidates=candidates,
        random=random,
        min_bandwidth=min_bandwidth,
        joint=joint,
    )
    return links.hyperband(
        per_budget(model, levels, enough=2 * fewest), eta, min_budget, budgets=_listed(budgets),
        parallel=parallel, patience=patience,
    )  # fmt: skip


def asha(
    space: Space,
    eta: float = 4,
    min_budget: float = 1 / 64,
    budgets: Sequence[float] | None = None,
    capacity: int = 256,
    patience: int = 5,
) -> Strategy:
    """Random candidates that are promoted as soon as they are among the best `1/eta` of a rung.

    Li et al. 2020, arXiv 1810.05934, with its `eta`; see `jnas.links.asha`. In `jnas.run` its
    batches are synchronous; `jnas.run_async` runs it as published.

    Args:
      space: the space to search.
      eta: the ratio of the budgets of the rungs.
      min_budget: the smallest part of a full evaluation.
      budgets: given, they are the budgets of the rungs, rising to 1.
      capacity: the youngest rows of every rung that are remembered.
      patience: tells that pass by a promotion until it is given up.

    Returns:
      The strategy.
    """
    return links.asha(
        sample_uniform(space), eta, min_budget, budgets=_listed(budgets), capacity=capacity,
        patience=patience,
    )  # fmt: skip


def _listed(budgets: Sequence[float] | None) -> Sequence[float] | None:
    """None for none: a config has an empty tuple there."""
    return budgets or None


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "asha": asha,
    "bohb": bohb,
    "hyperband": hyperband,
    "successive_halving": successive_halving,
}
