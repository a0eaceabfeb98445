"""Evaluators: they score a batch of proposed architectures."""

from jnas.evaluators.tabular import tabular
from jnas.evaluators.train import Examples, Training, train

__all__ = ["Examples", "Training", "tabular", "train"]
