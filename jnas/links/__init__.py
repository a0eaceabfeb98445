"""Links: the small strategies that `chain` and `mixture` join into methods."""

from jnas.links.memory import keep_best, keep_youngest
from jnas.links.selection import select_tournament, select_uniform
from jnas.links.surrogate import predictor_guided
from jnas.links.variation import mutate_one, sample_uniform

__all__ = [
    "keep_best",
    "keep_youngest",
    "mutate_one",
    "predictor_guided",
    "sample_uniform",
    "select_tournament",
    "select_uniform",
]
