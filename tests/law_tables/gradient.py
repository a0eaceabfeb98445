"""Descent on relaxed architectures."""

from typing import Any

import optax

from jnas import links
from jnas.base import Space, Strategy, chain
from law_tables.entry import Entry, Recipe

# Adam divides by the size of a gradient, so the order of a sum shows where a gradient is near 0.
RTOL = 1e-3

# XLA fuses Adam with the gradients, and under vmap rounds the last bit of a step in another way,
# which steps of Adam enlarge where a gradient is near 0.
VMAP_RTOL = 0.1


ADAM, SGD = optax.adam(0.3, b1=0.5), optax.sgd(20.0)


def _entry(*made: Any, rule: optax.GradientTransformation = ADAM, **settings: Any) -> Entry:
    """Descent, with links that are made from the space to its right."""

    def make(space: Space) -> Strategy:
        learner = links.descend(space, rule)
        return chain(learner, *(one(space) for one in made))

    return Entry(make, relaxed=True, rtol=RTOL, vmap_rtol=VMAP_RTOL, **settings)


_warming = optax.linear_schedule(2.0, 0.5, 30)

LINKS: dict[str, Entry] = {
    "descend": _entry(links.softmax),
    "softmax": _entry(lambda space: links.softmax(space, _warming)),
    "gumbel_softmax": _entry(lambda space: links.gumbel_softmax(space, _warming)),
    "gumbel_softmax hard": _entry(lambda space: links.gumbel_softmax(space, 1.0, hard=True)),
    "reinmax": _entry(links.reinmax),
    "sparsemax": _entry(links.sparsemax),
    "entmax15": _entry(links.entmax15),
    "dirichlet": _entry(links.dirichlet),
    "sigmoid": _entry(links.sigmoid),
    "zero_one_loss": _entry(links.sigmoid, links.zero_one_loss),
    "regularise": _entry(
        lambda space: links.regularise(lambda arch: 1e-4 * optax.tree.norm(arch, squared=True)),
        links.softmax,
        rule=SGD,
    ),
    "freeze": _entry(lambda space: links.freeze(4), links.softmax),
    "shrink": _entry(lambda space: links.shrink(space, (3, 2), (8, 20)), links.softmax),
    "prune": _entry(
        lambda space: links.prune(space, 0.4, _warming, grace=5),
        lambda space: links.softmax(space, _warming),
    ),
    "perturb": _entry(
        links.softmax, lambda space: links.perturb(space, 0.1), rule=SGD, scan_rtol=1e-4
    ),
    "drop_operations": _entry(
        links.softmax, lambda space: links.drop_operations(space, {"1": 0.3})
    ),
}


def _recipe(scan_rtol: float = 0.0, **settings: Any) -> Recipe:
    """At a rate for tens of tells; the table gives no gradients."""
    return Recipe(
        {"learning_rate": 0.3, **settings},
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
        scan_rtol=scan_rtol,
        beats_random=False,
    )


RECIPES: dict[str, Recipe] = {
    "darts": _recipe(),
    "gdas": _recipe(rounds=30),
    "snas": _recipe(rounds=50),
    "drnas": _recipe(frozen=5, keep=(2,), after=(25,)),
    "fair_darts": _recipe(zero_one=0.01),
    "pc_darts": _recipe(frozen=5),
    "sdarts_rs": _recipe(rounds=50, scan_rtol=1e-2),
    "p_darts": _recipe(epoch=1, keep=(3, 2)),
    "asap": _recipe(epoch=2),
    "reinmax_nas": _recipe(),
}
