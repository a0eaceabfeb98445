"""Links: the small strategies that `chain` and `mixture` join into methods."""

from jnas.links.edits import edit_environment, edit_q_learning
from jnas.links.memory import keep_best, keep_youngest
from jnas.links.q_functions import linear_q, mlp_q, tabular_q
from jnas.links.q_learning import q_learning
from jnas.links.selection import select_tournament, select_uniform
from jnas.links.variation import mutate_one, sample_uniform

__all__ = [
    "edit_environment",
    "edit_q_learning",
    "keep_best",
    "keep_youngest",
    "linear_q",
    "mlp_q",
    "mutate_one",
    "q_learning",
    "sample_uniform",
    "select_tournament",
    "select_uniform",
    "tabular_q",
]
