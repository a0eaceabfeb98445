"""Links: the small strategies that `chain` and `mixture` join into methods."""

from jnas.links.feedback import constrain, mnasnet, score_by, tunas_absolute, weighted_sum
from jnas.links.memory import keep_best, keep_youngest
from jnas.links.redraw import reject, without_repeats
from jnas.links.selection import select_tournament, select_uniform
from jnas.links.shaping import centre, clip_scores, rank_scores, standardise
from jnas.links.variation import mutate_one, sample_uniform

__all__ = [
    "centre",
    "clip_scores",
    "constrain",
    "keep_best",
    "keep_youngest",
    "mnasnet",
    "mutate_one",
    "rank_scores",
    "reject",
    "sample_uniform",
    "score_by",
    "select_tournament",
    "select_uniform",
    "standardise",
    "tunas_absolute",
    "weighted_sum",
    "without_repeats",
]
