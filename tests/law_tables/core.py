"""The combinators, the plain memories and selections, and regularized evolution."""

from recorder import remember_sum

from jnas.base import chain, mixture, on_tell, replay
from jnas.links import (
    keep_best,
    keep_youngest,
    mutate_one,
    sample_uniform,
    select_tournament,
    select_uniform,
)
from law_tables.entry import Entry, Recipe, warm

LINKS: dict[str, Entry] = {
    "sample_uniform": Entry(sample_uniform, learns=False),
    "keep_youngest": Entry(warm(chain(keep_youngest(8), select_uniform())), learns=False),
    "keep_best": Entry(warm(chain(keep_best(4), select_uniform()))),
    "select_tournament": Entry(warm(chain(keep_youngest(8), select_tournament(3)))),
    "select_uniform": Entry(warm(chain(keep_best(6, metrics=["cost"]), select_uniform()))),
    "mutate_one": Entry(lambda space: chain(keep_best(2), select_tournament(2), mutate_one(space))),
    "on_tell": Entry(
        lambda space: chain(
            sample_uniform(space),
            remember_sum(),
            on_tell(lambda t: t._replace(score=t.score - t.metrics["cost"])),
        ),
        learns=False,
    ),
    "mixture": Entry(
        lambda space: mixture(
            sample_uniform(space),
            chain(keep_best(4), select_uniform(), mutate_one(space)),
            0.3,
            learn_from_all=False,
        )
    ),
    "replay": Entry(
        lambda space: chain(
            sample_uniform(space),
            remember_sum(),
            replay(chain(keep_youngest(7), select_uniform()), 5),
        ),
        learns=False,
        passes_rows_on=False,
    ),
}
RECIPES: dict[str, Recipe] = {
    "random_search": Recipe(learns=False, beats_random=False),
    "regularized_evolution": Recipe(),
}
