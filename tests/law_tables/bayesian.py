"""Bayesian optimisation: by two densities, and by a Gaussian process."""

from jnas.links import gaussian_process, tpe
from law_tables.entry import Entry, Recipe

SMALL = {"size": 24, "start": 4, "candidates": 8, "mutations": 16, "parents": 3}

LINKS: dict[str, Entry] = {
    "gaussian_process": Entry(lambda space: gaussian_process(space, **SMALL)),
    "tpe": Entry(lambda space: tpe(space, size=40, candidates=8, random=0.1, budgets=(0.25, 1.0))),
}
RECIPES: dict[str, Recipe] = {
    "gp_bo": Recipe(
        {**SMALL, "acquisition": "thompson"}, on_table={"size": 200}, batch=10, slow=True
    ),
    "tpe": Recipe(
        {"size": 30, "candidates": 8, "random": 0.1, "joint": False},
        on_table={"joint": False},
        batch=5,
        slow=True,
    ),
}
