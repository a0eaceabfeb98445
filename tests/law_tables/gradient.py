"""Descent on relaxed architectures."""

from typing import Any

import optax

from jnas import links
from jnas.base import Space, Strategy, chain
from law_tables.entry import Entry

# Adam divides by the size of a gradient, so the order of a sum shows where a gradient is near 0.
RTOL = 1e-3

# XLA fuses Adam with the gradients, and under vmap rounds the last bit of a step in another way,
# which steps of Adam enlarge where a gradient is near 0.
VMAP_RTOL = 0.1


def _entry(*made: Any, rate: float = 0.3, **settings: Any) -> Entry:
    """Descent by Adam, with links that are made from the space to its right."""

    def make(space: Space) -> Strategy:
        learner = links.descend(space, optax.adam(rate, b1=0.5))
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
        lambda space: links.regularise(lambda arch: 0.01 * optax.tree.norm(arch, squared=True)),
        links.softmax,
    ),
    "freeze": _entry(lambda space: links.freeze(4), links.softmax),
    "shrink": _entry(lambda space: links.shrink(space, (3, 2), (8, 20)), links.softmax),
    "prune": _entry(
        lambda space: links.prune(space, 0.4, _warming, grace=5),
        lambda space: links.softmax(space, _warming),
    ),
    "perturb": _entry(links.softmax, lambda space: links.perturb(space, 0.1)),
    "drop_operations": _entry(
        links.softmax, lambda space: links.drop_operations(space, {"1": 0.3})
    ),
}
RECIPES: dict[str, Any] = {}
