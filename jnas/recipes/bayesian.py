"""Bayesian optimisation: by two densities, and by a Gaussian process."""

from collections.abc import Callable

from jnas import links
from jnas.base import Space, Strategy


def tpe(
    space: Space,
    size: int = 300,
    quantile: float = 0.15,
    candidates: int = 64,
    random: float = 1 / 3,
    minimum: int | None = None,
    bandwidth: float | None = None,
    joint: bool = True,
    repeats: bool = False,
) -> Strategy:
    """The tree-structured Parzen estimator: prefers choices that good trials have and bad have not.

    Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4, with the
    settings of BOHB's model (Falkner et al. 2018, arXiv 1807.01774). It proposes an architecture
    again only where it has no other candidate, which the papers do not see to.

    Args:
      space: the space to search.
      size: the trials remembered, the youngest.
      quantile: the share of the trials that counts as good.
      candidates: drawn for each proposal.
      random: the share of the proposals that is drawn from the space.
      minimum: the fewest trials of a density; by default one more than there are places.
      bandwidth: of the kernels, by default from the data: see `jnas.links.tpe`.
      joint: densities over whole architectures, as BOHB's, else one for each place.
      repeats: propose architectures that are remembered already.

    Returns:
      The strategy.
    """
    return links.tpe(
        space,
        size,
        quantile,
        candidates,
        random,
        minimum,
        bandwidth,
        joint=joint,
        repeats=repeats,
    )


def gp_bo(
    space: Space,
    size: int = 300,
    start: int = 10,
    acquisition: str = "expected_improvement",
    candidates: int = 100,
    mutations: int = 100,
    parents: int = 10,
    explore: float = 2.0,
    step: float = 0.1,
    warp: str = "ranks",
) -> Strategy:
    """Bayesian optimisation with a Gaussian process over one-hot codes.

    Snoek et al. 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", arXiv
    1206.2944, with a kernel of categories. Each round costs a factor of `[size, size]`.

    Args:
      space: the space to search.
      size: the trials remembered, the youngest.
      start: random architectures before the model is used.
      acquisition: `expected_improvement`, `upper_confidence` or `thompson`.
      candidates: random architectures that are ranked in each round.
      mutations: mutations of the best that are ranked in each round.
      parents: how many of the best are mutated.
      explore: the standard deviations of `upper_confidence`.
      step: of the logarithms of the hyperparameters, at each round.
      warp: what the process models, the `ranks` of the scores or the `standard` scores.

    Returns:
      The strategy.
    """
    return links.gaussian_process(
        space,
        size,
        start,
        acquisition,
        candidates,
        mutations,
        parents,
        explore,
        step,
        warp,
    )


STRATEGIES: dict[str, Callable[..., Strategy]] = {"gp_bo": gp_bo, "tpe": tpe}
