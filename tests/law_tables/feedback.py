"""Links on the way of feedback, links that draw again, and the strategy of the documentation."""

from collections.abc import Callable

from documented import examples, run
from recorder import remember_sum

from jnas.base import Space, Strategy, chain, mixture
from jnas.links import (
    centre,
    clip_scores,
    constrain,
    keep_best,
    mnasnet,
    mutate_one,
    rank_scores,
    reject,
    sample_uniform,
    score_by,
    select_tournament,
    standardise,
    tunas_absolute,
    weighted_sum,
    without_repeats,
)
from law_tables.entry import Entry, Recipe


def recorded(link: Strategy) -> Entry:
    """A feedback link whose work is added up by a learner to its left."""
    made: Callable[[Space], Strategy] = lambda space: chain(
        sample_uniform(space), remember_sum(), link
    )
    return Entry(made, learns=False)


def bred(space: Space, size: int = 3) -> Strategy:
    return chain(keep_best(size), select_tournament(2), mutate_one(space))


LINKS: dict[str, Entry] = {
    "score_by": recorded(score_by(lambda t: t.score - t.metrics["cost"])),
    "weighted_sum": recorded(weighted_sum(score=1.0, cost=-0.1, per={"cost": 3.0})),
    "mnasnet": recorded(mnasnet("cost", 10.0, alpha=-0.02, beta=-1.0)),
    "tunas_absolute": recorded(tunas_absolute("cost", 12.0, -0.07)),
    "constrain": recorded(constrain("cost", at_most=13.0, at_least=8.0)),
    "constrain with a penalty": recorded(constrain("cost", 11.0, 9.0, penalty=0.3)),
    "rank_scores": recorded(rank_scores()),
    "centre": recorded(centre()),
    "standardise": recorded(standardise()),
    "clip_scores": recorded(clip_scores(0.2, 0.4)),
    "reject": Entry(
        lambda space: mixture(
            sample_uniform(space),
            reject(bred(space), space, lambda arch: arch["depth"], at_least=1, tries=4),
            0.2,
        )
    ),
    "without_repeats": Entry(
        lambda space: without_repeats(
            mixture(sample_uniform(space), bred(space), 0.2), space, 40, 3
        )
    ),
}
PAGE = "new_strategy.md"
documented = run(examples(PAGE)[0], PAGE)["cross_entropy"]
LINKS["the strategy of the docs"] = Entry(lambda space: documented(space, elite=2))
RECIPES: dict[str, Recipe] = {}
