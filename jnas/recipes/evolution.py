"""Evolution, and the random search that it has to beat."""

from collections.abc import Callable

from jnas.base import Space, Strategy, chain, first, mixture
from jnas.links import keep_youngest, mutate_one, sample_uniform, select_tournament


def random_search(space: Space) -> Strategy:
    """Draws every architecture uniformly and independently.

    The baseline that any method has to beat (Li and Talwalkar 2019, arXiv 1902.07638).

    >>> import jax, jnas
    >>> space = jnas.spaces.nas_bench_201()
    >>> strategy = random_search(space)
    >>> strategy.ask(jax.random.key(0), (), 4).arch.shape
    (4, 6)
    """
    return sample_uniform(space)


def regularized_evolution(space: Space, population: int = 100, sample: int = 25) -> Strategy:
    """Evolution in which the oldest dies, whatever its score.

    The first `population` trials are random; each later one is the best of `sample` drawn from
    the last `population` trials, with one choice mutated. Real et al. 2019, "Regularized
    Evolution for Image Classifier Architecture Search", arXiv 1802.01548, Algorithm 1; P = 100
    and S = 25 are its setting for the large search (section 4).

    Args:
      space: the space to search.
      population: P, how many of the youngest trials are alive.
      sample: S, the size of a tournament.

    Returns:
      The strategy.
    """
    evolve = chain(keep_youngest(population), select_tournament(sample), mutate_one(space))
    return mixture(sample_uniform(space), evolve, first(population))


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "random_search": random_search,
    "regularized_evolution": regularized_evolution,
}
