"""Search by a model of the score."""

import dataclasses

from jnas.base import Graph, Space, Strategy, chain
from jnas.links import keep_best, mutate_one, predictor_guided, select_uniform
from jnas.links.graph_predictors import gcn_predictor, gin_predictor
from jnas.links.predictors import gaussian_error
from jnas.links.surrogate import expected_improvement, thompson
from law_tables.entry import Entry, Recipe

CELL = Graph(((0, 1, 2), (1, 2, 3), (0, 2, 5), (2, 3, 1), (1, 3, 8)), absent=0)


def offers(space: Space) -> Strategy:
    return chain(keep_best(4), select_uniform(), mutate_one(space))


def by_gin(space: Space) -> Strategy:
    """Some of the choices are read as a graph, the others one-hot; learns every other tell."""
    space = dataclasses.replace(space, graph=CELL)
    predictor = gin_predictor(space, 4, 1, 4, members=2, steps=4, batch_size=4, loss=gaussian_error)
    return predictor_guided(space, offers(space), predictor, thompson(), 20, 9, 30)


def by_gcn(space: Space) -> Strategy:
    space = dataclasses.replace(space, graph=CELL)
    predictor = gcn_predictor(space, 4, 1, 4, 0.01, steps=4, batch_size=4, members=2)
    return predictor_guided(space, offers(space), predictor, expected_improvement(), 20, 1, 30)


TINY = {"pool": 20, "parents": 4, "width": 6, "memory": 30}
LINKS: dict[str, Entry] = {
    "predictor_guided": Entry(by_gin, rtol=1e-4),
    "predictor_guided by gcn": Entry(by_gcn, rtol=1e-4),
}
RECIPES: dict[str, Recipe] = {
    "bananas": Recipe(
        TINY | {"members": 2, "depth": 2, "steps": 6},
        rtol=1e-4,
        on_table={"depth": 2, "members": 3, "steps": 150, "memory": 300},
        batch=10,
        slow=True,
    ),
    "npenas": Recipe(
        TINY | {"steps": 6},
        rtol=1e-4,
        exact=False,  # squared errors of a single network
        on_table={"width": 16, "steps": 150, "memory": 300},
        batch=10,
        slow=True,
    ),
    "predictor_evolution": Recipe(
        {"pool": 20, "population": 12, "width": 6, "depth": 1, "steps": 6, "memory": 30},
        rtol=1e-4,
        on_table={"memory": 300},
        batch=10,
        slow=True,
    ),
}
