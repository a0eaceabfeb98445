"""Evolution, and the random search that it has to beat."""

import functools
from collections.abc import Callable, Mapping

from jnas.base import Space, Strategy, chain, choice_counts, first, mixture
from jnas.links import (
    crossover_two_point,
    crossover_uniform,
    islands,
    keep_best,
    keep_elite,
    keep_generation,
    keep_nondominated,
    keep_youngest,
    mutate_one,
    mutate_resample,
    rank_crowded,
    sample_uniform,
    select_roulette,
    select_tournament,
    select_uniform,
    self_adapting,
)


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


def genetic(
    space: Space,
    population: int = 50,
    crossover: float = 0.9,
    mutation: float | None = None,
    elite: int = 1,
) -> Strategy:
    """The genetic algorithm of the textbook: roulette, two-point crossover, mutation, elitism.

    Each generation replaces the one before it, but for the best `elite` trials ever told. Two
    parents are drawn in proportion to their scores above the worst, crossed, and every choice of
    the child is mutated at a rate. Goldberg 1989, "Genetic Algorithms in Search, Optimization and
    Machine Learning", chapters 1 to 4; De Jong 1975 for elitism and two-point crossover.

    Args:
      space: the space to search.
      population: trials in a generation; the first one is random.
      crossover: the chance that two parents are crossed.
      mutation: the rate of each choice; None for one by the number of choices (Bäck 1993).
      elite: how many of the best trials ever told are parents besides.

    Returns:
      The strategy.
    """
    rate = 1 / choice_counts(space).size if mutation is None else mutation
    evolve = chain(
        keep_elite(keep_generation(population, population), elite),
        select_roulette(arity=2),
        crossover_two_point(crossover),
        mutate_resample(space, rate),
    )
    return mixture(sample_uniform(space), evolve, first(population))


def mu_comma_lambda(space: Space, mu: int = 15, lambda_: int = 100, plus: bool = False) -> Strategy:
    """The evolution strategies (mu, lambda) and (mu + lambda), on choices.

    The `mu` best of the last generation's `lambda_` children, or with `plus` of all trials ever
    told, are parents; each child is any of them with one choice mutated. Schwefel 1981; Bäck and
    Schwefel 1993, "An overview of evolutionary algorithms for parameter optimization", whose
    usual ratio of about 7 children to a parent is the default.

    Args:
      space: the space to search.
      mu: parents.
      lambda_: children in a generation; the first generation is random.
      plus: parents survive until they are beaten.

    Returns:
      The strategy.
    """
    memory = keep_best(mu) if plus else keep_generation(mu, lambda_)
    evolve = chain(memory, select_uniform(), mutate_one(space))
    return mixture(sample_uniform(space), evolve, first(lambda_))


def island_evolution(
    space: Space,
    count: int = 4,
    population: int = 25,
    sample: int = 5,
    every: int = 25,
    migrants: int = 1,
    topology: str = "ring",
) -> Strategy:
    """Regularized evolution on several islands that now and then send each other their best.

    Real et al. 2019, arXiv 1802.01548, on each island; Tanese 1989 and Whitley et al. 1999 for
    the islands. See `jnas.links.islands`.

    Args:
      space: the space to search.
      count: how many islands.
      population: P of each island.
      sample: S, the size of a tournament.
      every: trials of an island between two migrations.
      migrants: trials that emigrate from an island.
      topology: "ring" or "random".

    Returns:
      The strategy.
    """
    strategy = regularized_evolution(space, population, sample)
    return islands(strategy, count, every, migrants, topology)


def self_adaptive_evolution(
    space: Space, mu: int = 15, lambda_: int = 100, start: float | None = None
) -> Strategy:
    """(mu, lambda) evolution in which every individual carries its own mutation rate.

    Bäck 1992, "The interaction of mutation rate, selection, and self-adaptation within a genetic
    algorithm": extinctive (mu, lambda) selection is what lets good rates prevail. The rates lie
    between one by the number of choices, the least that Bäck and Schütz 1996 allow, and a half.

    Args:
      space: the space to search.
      mu: parents.
      lambda_: children in a generation; the first generation is random.
      start: the rate of the first generation; None for twice the least.

    Returns:
      The strategy.
    """
    low = min(1 / choice_counts(space).size, 0.5)
    rate = min(2 * low, 0.5) if start is None else start
    evolve = chain(
        keep_generation(mu, lambda_, metrics=["mutation_rate"]),
        select_uniform(),
        self_adapting(functools.partial(mutate_resample, space), rate, low=low),
    )
    return mixture(sample_uniform(space), evolve, first(lambda_))


def nsga2(
    space: Space,
    population: int = 100,
    objectives: Mapping[str, str] | None = None,
    crossover: float = 0.9,
    mutation: float | None = None,
) -> Strategy:
    """NSGA-II: evolution towards the whole Pareto front of several objectives.

    Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
    Transactions on Evolutionary Computation 6(2); its setting for binary strings (section V) is a
    population of 100, a crossover probability of 0.9 and a mutation rate of one by their length.
    Its one-point crossover is a uniform one here: choices next to each other in a vector need not
    be neighbours in a network. Ask for `population` proposals at once for the paper's generations.

    Args:
      space: the space to search.
      population: N; the first generation is random.
      objectives: names, `score` or metrics, and directions; by default the largest score and the
        fewest `params`.
      crossover: the chance that two parents are crossed.
      mutation: the rate of each choice; None for one by the number of choices.

    Returns:
      The strategy.
    """
    objectives = {"score": "max", "params": "min"} if objectives is None else objectives
    rate = 1 / choice_counts(space).size if mutation is None else mutation
    evolve = chain(
        keep_nondominated(population, objectives),
        rank_crowded(objectives),
        select_tournament(2, arity=2),
        crossover_uniform(crossover),
        mutate_resample(space, rate),
    )
    return mixture(sample_uniform(space), evolve, first(population))


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "random_search": random_search,
    "regularized_evolution": regularized_evolution,
    "genetic": genetic,
    "mu_comma_lambda": mu_comma_lambda,
    "island_evolution": island_evolution,
    "self_adaptive_evolution": self_adaptive_evolution,
    "nsga2": nsga2,
}
