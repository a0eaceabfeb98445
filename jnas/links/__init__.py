"""Links: the small strategies that `chain` and `mixture` join into methods."""

from jnas.links.annealing import anneal
from jnas.links.asha import asha
from jnas.links.hyperband import hyperband
from jnas.links.local import hill_climb
from jnas.links.memory import keep_best, keep_youngest
from jnas.links.multi_fidelity import per_budget
from jnas.links.selection import select_tournament, select_uniform
from jnas.links.successive_halving import successive_halving
from jnas.links.tpe import tpe
from jnas.links.variation import mutate_one, sample_uniform

__all__ = [
    "anneal",
    "asha",
    "hill_climb",
    "hyperband",
    "keep_best",
    "keep_youngest",
    "mutate_one",
    "per_budget",
    "sample_uniform",
    "select_tournament",
    "select_uniform",
    "successive_halving",
    "tpe",
]
