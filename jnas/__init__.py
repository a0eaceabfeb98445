"""jnas: neural architecture search in JAX, whole populations in one compiled program."""

from jnas import data, evaluators, links, nets, recipes, spaces, tables
from jnas._version import __version__
from jnas.base import (
    Evaluator,
    InputError,
    Space,
    Strategy,
    Trials,
    chain,
    first,
    mixture,
    replay,
)
from jnas.final import train_final
from jnas.search import Result, run, search

__all__ = [
    "Evaluator",
    "InputError",
    "Result",
    "Space",
    "Strategy",
    "Trials",
    "__version__",
    "chain",
    "data",
    "evaluators",
    "first",
    "links",
    "mixture",
    "nets",
    "recipes",
    "replay",
    "run",
    "search",
    "spaces",
    "tables",
    "train_final",
]
