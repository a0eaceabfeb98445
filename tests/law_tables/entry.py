"""What the laws need to know of a strategy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jnas
from jnas.base import Space, Strategy, chain, first, mixture
from jnas.links import mutate_one, sample_uniform


class Entry(NamedTuple):
    """A strategy for the laws.

    make: from the space to a strategy that proposes; its scores are in [0, 1], and the evaluator
      gives a metric `cost`.
    learns: it solves one-max better than random search.
    passes_rows_on: what comes out of its `tell` are the rows that went in, scores included.
    rtol: to which a tell of the live rows alone equals one with masked rows among them.
    vmap_rtol: to which a vmapped row equals the single run, its architectures bit for bit; 0 is bit
      for bit in all.
    exact: a vmapped search equals the single one bit for bit; else its first rounds propose the
      same, before rounding in the training of a network has had a choice to tip.
    relaxed: its proposals are relaxed, and the evaluator gives the gradient of a loss.
    scan_rtol: to which a scan equals the Python loop; 0 is bit for bit.
    """

    make: Callable[[Space], Strategy]
    learns: bool = True
    passes_rows_on: bool = True
    rtol: float = 1e-6
    vmap_rtol: float = 0.0
    exact: bool = True
    relaxed: bool = False
    scan_rtol: float = 0.0


class Recipe(NamedTuple):
    """A recipe for the laws, and on the NAS-Bench-201 table.

    settings: of the recipe under the laws, where networks and populations are small.
    learns: see `Entry`.
    rtol: see `Entry`.
    vmap_rtol: see `Entry`.
    exact: see `Entry`.
    scan_rtol: see `Entry`.
    on_table: the settings for 300 evaluations of the table.
    batch: proposals in a round there.
    beats_random: it finds better cells there than random search does.
    slow: the search of the table takes more than a few seconds.
    rounds: of a recipe that asks for parts of evaluations, so many that they cost more than the
      300 full ones; it is compared at the moment when they cost the same.
    """

    settings: dict[str, Any] = {}  # noqa: RUF012
    learns: bool = True
    rtol: float = 1e-6
    vmap_rtol: float = 0.0
    exact: bool = True
    scan_rtol: float = 0.0
    on_table: dict[str, Any] = {}  # noqa: RUF012
    batch: int = 1
    beats_random: bool = True
    slow: bool = False
    rounds: int = 0

    def entry(self, name: str) -> Entry:
        """The recipe as an entry."""
        relaxed = name in jnas.recipes.GRADIENT
        recipes = jnas.recipes.GRADIENT if relaxed else jnas.recipes.STRATEGIES
        make = lambda space: recipes[name](space, **self.settings)
        return Entry(
            make,
            learns=self.learns,
            rtol=self.rtol,
            vmap_rtol=self.vmap_rtol,
            exact=self.exact,
            relaxed=relaxed,
            scan_rtol=self.scan_rtol,
        )


def warm(links: Strategy) -> Callable[[Space], Strategy]:
    """Links that give parents, as a strategy: 10 random trials, then mutated parents."""
    return lambda space: mixture(sample_uniform(space), chain(links, mutate_one(space)), first(10))
