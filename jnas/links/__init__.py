"""Links: the small strategies that `chain` and `mixture` join into methods."""

from jnas.links.annealing import anneal
from jnas.links.bayesian import gaussian_process
from jnas.links.local import hill_climb
from jnas.links.memory import keep_best, keep_youngest
from jnas.links.selection import select_tournament, select_uniform
from jnas.links.tpe import tpe
from jnas.links.variation import mutate_one, sample_uniform

__all__ = [
    "anneal",
    "gaussian_process",
    "hill_climb",
    "keep_best",
    "keep_youngest",
    "mutate_one",
    "sample_uniform",
    "select_tournament",
    "select_uniform",
    "tpe",
]
