"""The strategies that the laws are checked on: one file for each family of links."""

from law_tables import (
    bayesian,
    core,
    feedback,
    genetic,
    gradient,
    local,
    multi_fidelity,
    q_learning,
    reinforce,
    sampling,
    surrogate,
)
from law_tables.entry import Entry, Recipe

FAMILIES = (
    bayesian,
    core,
    feedback,
    genetic,
    gradient,
    local,
    multi_fidelity,
    q_learning,
    reinforce,
    sampling,
    surrogate,
)
RECIPES: dict[str, Recipe] = {k: r for family in FAMILIES for k, r in family.RECIPES.items()}
ENTRIES: dict[str, Entry] = {k: e for family in FAMILIES for k, e in family.LINKS.items()}
ENTRIES |= {f"recipe {name}": recipe.entry(name) for name, recipe in RECIPES.items()}
