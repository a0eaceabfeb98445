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


STRATEGIES: dict[str, Callable[..., Strategy]] = {"tpe": tpe}
