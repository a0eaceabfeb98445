"""Links: the small strategies that `chain` and `mixture` join into methods."""

from jnas.links.baselines import subtract_ema, subtract_mean
from jnas.links.memory import keep_best, keep_youngest
from jnas.links.reinforce import ppo, reinforce
from jnas.links.selection import select_tournament, select_uniform
from jnas.links.variation import mutate_one, sample_uniform

__all__ = [
    "keep_best",
    "keep_youngest",
    "mutate_one",
    "ppo",
    "reinforce",
    "sample_uniform",
    "select_tournament",
    "select_uniform",
    "subtract_ema",
    "subtract_mean",
]
