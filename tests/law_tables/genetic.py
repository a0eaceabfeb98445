"""Genetic algorithms."""

import functools

from jnas.base import Space, Strategy, chain, first, mixture
from jnas.links import (
    archive,
    crossover_multi_point,
    crossover_one_point,
    crossover_two_point,
    crossover_uniform,
    flip_bits,
    islands,
    keep_best,
    keep_elite,
    keep_generation,
    keep_nondominated,
    mutate_one,
    mutate_resample,
    mutate_step,
    one_fifth_rule,
    rank_crowded,
    sample_uniform,
    select_rank_exponential,
    select_rank_linear,
    select_roulette,
    select_tournament,
    select_truncation,
    select_uniform,
    self_adapting,
)
from law_tables.entry import Entry, Recipe, warm

OBJECTIVES = {"score": "max", "cost": "min"}


def crossed(crossover: Strategy) -> Entry:
    """Two of the best, crossed."""
    return Entry(warm(chain(keep_best(8), select_uniform(arity=2), crossover)))


def bred(space: Space, *mutations: Strategy) -> Strategy:
    """The best few, mutated after random trials."""
    best = chain(keep_best(4), select_uniform(), *mutations)
    return mixture(sample_uniform(space), best, first(10))


def adaptive(space: Space) -> Strategy:
    mutate = functools.partial(mutate_resample, space)
    memory = keep_best(4, metrics=["mutation_rate"])
    return chain(memory, select_uniform(), self_adapting(mutate, 0.2))


LINKS: dict[str, Entry] = {
    "select_roulette": Entry(warm(chain(keep_best(8), select_roulette()))),
    "select_rank_linear": Entry(warm(chain(keep_best(8), select_rank_linear(2.0)))),
    "select_rank_exponential": Entry(warm(chain(keep_best(8), select_rank_exponential(0.7)))),
    "select_truncation": Entry(warm(chain(keep_best(8), select_truncation(0.3)))),
    "crossover_one_point": crossed(crossover_one_point(0.8)),
    "crossover_two_point": crossed(crossover_two_point()),
    "crossover_multi_point": crossed(crossover_multi_point(4)),
    "crossover_uniform": crossed(crossover_uniform(0.8)),
    "mutate_resample": Entry(lambda space: bred(space, mutate_resample(space, 0.1))),
    "mutate_step": Entry(lambda space: bred(space, mutate_step(space, 0.15))),
    "flip_bits": Entry(lambda space: bred(space, flip_bits(space, 0.2), mutate_one(space))),
    "keep_generation": Entry(warm(chain(keep_generation(2, 8), select_uniform()))),
    "keep_elite": Entry(warm(chain(keep_elite(keep_generation(4, 8), 2), select_tournament(2)))),
    "keep_nondominated": Entry(warm(chain(keep_nondominated(6, OBJECTIVES), select_tournament(2)))),
    "rank_crowded": Entry(
        warm(
            chain(keep_nondominated(6, OBJECTIVES), rank_crowded(OBJECTIVES), select_tournament(2))
        )
    ),
    "archive": Entry(
        lambda space: chain(sample_uniform(space), archive(5, OBJECTIVES)), learns=False
    ),
    "islands": Entry(
        lambda space: islands(
            chain(keep_best(2), select_uniform(), mutate_one(space)),
            3,
            every=4,
            migrants=2,
            topology="random",
        )
    ),
    "self_adapting": Entry(adaptive),
    "one_fifth_rule": Entry(
        lambda space: bred(space, one_fifth_rule(functools.partial(mutate_resample, space), 0.2))
    ),
}
RECIPES: dict[str, Recipe] = {
    "genetic": Recipe({"population": 12}, on_table={"population": 20}),
    "mu_comma_lambda": Recipe({"mu": 3, "lambda_": 12}, on_table={"mu": 5, "lambda_": 20}),
    "island_evolution": Recipe(
        {"count": 2, "population": 6, "sample": 3, "every": 6},
        on_table={"count": 3, "population": 10, "sample": 3, "every": 10},
    ),
    "self_adaptive_evolution": Recipe({"mu": 3, "lambda_": 12}, on_table={"mu": 5, "lambda_": 20}),
    "nsga2": Recipe(
        {"population": 10, "objectives": OBJECTIVES}, on_table={"population": 20}, batch=20
    ),
}
