"""Samplers of shared weights."""

from recorder import remember_sum

from jnas.base import Space, Strategy, chain
from jnas.links import frozen, open_gradually, sample_fairly, sample_sandwich, sample_uniform
from law_tables.entry import Entry, Recipe


def _opened(space: Space) -> Strategy:
    """A ladder of three stages, between a sampler and a memory."""
    stages = [
        (0, {"ops": 1, "depth": 1}),
        (20, {"ops": 2, "depth": 1}),
        (50, {"ops": space.num_choices["ops"], "depth": 3}),
    ]
    return chain(sample_uniform(space), open_gradually(space, stages), remember_sum())


LINKS: dict[str, Entry] = {
    "sample_fairly": Entry(sample_fairly, learns=False),
    "sample_sandwich": Entry(sample_sandwich, learns=False),
    "open_gradually": Entry(_opened, learns=False),
    "frozen": Entry(lambda space: frozen(sample_uniform(space), ()), learns=False),
}
RECIPES: dict[str, Recipe] = {}
