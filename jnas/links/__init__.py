"""Links: the small strategies that `chain` and `mixture` join into methods."""

from jnas.links.adaptation import one_fifth_rule, self_adapting
from jnas.links.annealing import anneal
from jnas.links.asha import asha
from jnas.links.baselines import subtract_ema, subtract_mean
from jnas.links.bayesian import gaussian_process
from jnas.links.crossover import (
    crossover_multi_point,
    crossover_one_point,
    crossover_two_point,
    crossover_uniform,
)
from jnas.links.descend import descend, freeze, regularise, zero_one_loss
from jnas.links.edits import edit_environment, edit_q_learning
from jnas.links.feedback import constrain, mnasnet, score_by, tunas_absolute, weighted_sum
from jnas.links.hyperband import hyperband
from jnas.links.islands import islands
from jnas.links.local import hill_climb
from jnas.links.memory import keep_best, keep_elite, keep_generation, keep_youngest
from jnas.links.multi_fidelity import per_budget
from jnas.links.pareto import archive, keep_nondominated, rank_crowded
from jnas.links.perturbation import drop_operations, perturb
from jnas.links.q_functions import linear_q, mlp_q, tabular_q
from jnas.links.q_learning import q_learning
from jnas.links.redraw import reject, without_repeats
from jnas.links.reinforce import ppo, reinforce
from jnas.links.relaxation import (
    dirichlet,
    entmax15,
    gumbel_softmax,
    reinmax,
    sigmoid,
    softmax,
    sparsemax,
)
from jnas.links.sampling import frozen, open_gradually, sample_fairly, sample_sandwich
from jnas.links.selection import (
    select_rank_exponential,
    select_rank_linear,
    select_roulette,
    select_tournament,
    select_truncation,
    select_uniform,
)
from jnas.links.shaping import centre, clip_scores, rank_scores, standardise
from jnas.links.shrinking import prune, shrink
from jnas.links.successive_halving import successive_halving
from jnas.links.surrogate import predictor_guided
from jnas.links.tpe import tpe
from jnas.links.variation import flip_bits, mutate_one, mutate_resample, mutate_step, sample_uniform

__all__ = [
    "anneal",
    "archive",
    "asha",
    "centre",
    "clip_scores",
    "constrain",
    "crossover_multi_point",
    "crossover_one_point",
    "crossover_two_point",
    "crossover_uniform",
    "descend",
    "dirichlet",
    "drop_operations",
    "edit_environment",
    "edit_q_learning",
    "entmax15",
    "flip_bits",
    "freeze",
    "frozen",
    "gaussian_process",
    "gumbel_softmax",
    "hill_climb",
    "hyperband",
    "islands",
    "keep_best",
    "keep_elite",
    "keep_generation",
    "keep_nondominated",
    "keep_youngest",
    "linear_q",
    "mlp_q",
    "mnasnet",
    "mutate_one",
    "mutate_resample",
    "mutate_step",
    "one_fifth_rule",
    "open_gradually",
    "per_budget",
    "perturb",
    "ppo",
    "predictor_guided",
    "prune",
    "q_learning",
    "rank_crowded",
    "rank_scores",
    "regularise",
    "reinforce",
    "reinmax",
    "reject",
    "sample_fairly",
    "sample_sandwich",
    "sample_uniform",
    "score_by",
    "select_rank_exponential",
    "select_rank_linear",
    "select_roulette",
    "select_tournament",
    "select_truncation",
    "select_uniform",
    "self_adapting",
    "shrink",
    "sigmoid",
    "softmax",
    "sparsemax",
    "standardise",
    "subtract_ema",
    "subtract_mean",
    "successive_halving",
    "tabular_q",
    "tpe",
    "tunas_absolute",
    "weighted_sum",
    "without_repeats",
    "zero_one_loss",
]
