"""Local search and annealing."""

from collections.abc import Callable

from jnas.base import Space, Strategy
from jnas.links import anneal, hill_climb
from jnas.links.annealing import geometric


def hill_climbing(space: Space, steepest: bool = True, starts: int = 1) -> Strategy:
    """Evaluates all neighbours, moves to the best one, and starts again from a local optimum.

    White et al. 2020, "Local Search is State of the Art for Neural Architecture Search
    Benchmarks", arXiv 2005.02960, Algorithm 1: its plain local search, from one random start.

    Args:
      space: the space to search.
      steepest: evaluate the whole neighbourhood before a move.
      starts: the random architectures that a climb starts from the best of.

    Returns:
      The strategy.
    """
    return hill_climb(space, steepest, starts)


def local_search(space: Space, steepest: bool = False, starts: int = 10) -> Strategy:
    """Moves to the first better neighbour; a climb starts from the best of ten random ones.

    The variant `query_until_lower` of White et al. 2020, arXiv 2005.02960, and the settings of
    their code, naszilla, where it is the default (`num_init=10`, `query_full_nbhd=False`).

    Args:
      space: the space to search.
      steepest: evaluate the whole neighbourhood before a move.
      starts: the random architectures that a climb starts from the best of.

    Returns:
      The strategy.
    """
    return hill_climb(space, steepest, starts)


def simulated_annealing(
    space: Space,
    initial: float = 0.1,
    final: float = 0.001,
    evaluations: int = 300,
    walkers: int = 1,
) -> Strategy:
    """A walk that accepts worse neighbours ever less often, as its temperature falls.

    Kirkpatrick et al. 1983, "Optimization by Simulated Annealing", with a geometric schedule. The
    temperatures are in units of the score: the defaults are for accuracies in [0, 1].

    Args:
      space: the space to search.
      initial: the temperature at first.
      final: the temperature after `evaluations` trials, and from then on.
      evaluations: the trials over which the temperature falls.
      walkers: how many walk independently.

    Returns:
      The strategy.
    """
    return anneal(space, geometric(initial, final, evaluations), walkers)


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "hill_climbing": hill_climbing,
    "local_search": local_search,
    "simulated_annealing": simulated_annealing,
}
