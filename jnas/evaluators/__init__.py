"""Evaluators: they score a batch of proposed architectures."""

from jnas.evaluators.mesh import make_mesh
from jnas.evaluators.tabular import tabular
from jnas.evaluators.train import Examples, Training, train

__all__ = ["Examples", "Training", "make_mesh", "tabular", "train"]
