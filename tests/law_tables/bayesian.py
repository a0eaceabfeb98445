"""Bayesian optimisation: by two densities, and by a Gaussian process."""

from jnas.links import tpe
from law_tables.entry import Entry, Recipe

LINKS: dict[str, Entry] = {
    "tpe": Entry(lambda space: tpe(space, size=40, candidates=8, random=0.1, budgets=(0.25, 1.0))),
}
RECIPES: dict[str, Recipe] = {
    "tpe": Recipe(
        {"size": 30, "candidates": 8, "random": 0.1, "joint": False},
        on_table={"joint": False},
        batch=5,
    ),
}
