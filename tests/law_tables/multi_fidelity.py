"""Search at several budgets."""

from jnas.base import Space, Strategy, chain, first, mixture
from jnas.links import (
    asha,
    hyperband,
    keep_best,
    mutate_one,
    per_budget,
    sample_uniform,
    select_tournament,
    successive_halving,
)
from law_tables.entry import Entry, Recipe


def _evolution(space: Space) -> Strategy:
    evolve = chain(keep_best(4), select_tournament(2), mutate_one(space))
    return mixture(sample_uniform(space), evolve, first(10))


LINKS: dict[str, Entry] = {
    "successive_halving": Entry(
        lambda space: successive_halving(_evolution(space), 7, 2, 0.25, parallel=3)
    ),
    "hyperband": Entry(lambda space: hyperband(sample_uniform(space), 3, 1 / 9), learns=False),
    "asha": Entry(lambda space: asha(_evolution(space), 2, 0.25, capacity=11)),
    "per_budget": Entry(
        lambda space: hyperband(per_budget(_evolution(space), (1 / 3, 1), enough=4), 3, 1 / 3)
    ),
}
_TABLE = {"eta": 16.6, "min_budget": 0.06}
RECIPES: dict[str, Recipe] = {
    "asha": Recipe({"eta": 2, "min_budget": 0.25, "capacity": 12}, learns=False,
                   on_table=_TABLE, rounds=3000, slow=True),
    "bohb": Recipe(
        {"eta": 2, "min_budget": 0.5, "size": 20, "candidates": 8, "random": 0.1},
        on_table={**_TABLE, "joint": False, "size": 60}, batch=5, rounds=200, slow=True,
    ),
    "hyperband": Recipe({"eta": 3, "min_budget": 1 / 9}, learns=False,
                        on_table=_TABLE, rounds=1700),
    "successive_halving": Recipe({"n": 6, "eta": 2, "min_budget": 0.5}, learns=False,
                                 on_table={**_TABLE, "n": 17}, rounds=2800, slow=True),
}  # fmt: skip
