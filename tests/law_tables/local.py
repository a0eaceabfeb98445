"""Local search and annealing."""

from jnas.links import anneal, hill_climb
from law_tables.entry import Entry, Recipe

LINKS: dict[str, Entry] = {
    "anneal": Entry(lambda space: anneal(space, 0.02, walkers=4)),
    "hill_climb": Entry(lambda space: hill_climb(space, steepest=False)),
}
RECIPES: dict[str, Recipe] = {
    "hill_climbing": Recipe(),
    "local_search": Recipe({"starts": 3}),
    "simulated_annealing": Recipe(
        {"initial": 0.05, "evaluations": 200}, on_table={"initial": 3.0, "final": 0.05}
    ),
}
