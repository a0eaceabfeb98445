"""Evaluators: they score a batch of proposed architectures."""

from jnas.evaluators.augment import Augment
from jnas.evaluators.bilevel import bilevel
from jnas.evaluators.joint import joint
from jnas.evaluators.mesh import make_mesh
from jnas.evaluators.perturbation import Perturbation
from jnas.evaluators.remember import remembered
from jnas.evaluators.scored import scored
from jnas.evaluators.shared_scores import shared_scores
from jnas.evaluators.tabular import tabular
from jnas.evaluators.tasks import TASKS, Task
from jnas.evaluators.train import train
from jnas.evaluators.training import Examples, Training
from jnas.evaluators.weight_sharing import weight_sharing

__all__ = [
    "TASKS",
    "Augment",
    "Examples",
    "Perturbation",
    "Task",
    "Training",
    "bilevel",
    "joint",
    "make_mesh",
    "remembered",
    "scored",
    "shared_scores",
    "tabular",
    "train",
    "weight_sharing",
]
