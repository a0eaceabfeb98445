"""jnas: neural architecture search in JAX, whole populations in one compiled program."""

from jnas import data, evaluators, links, nets, recipes, spaces, tables
from jnas._version import __version__
from jnas.asynchronous import run_async
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
from jnas.history import Result
from jnas.one_shot import one_shot
from jnas.search import run, search

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
    "one_shot",
    "recipes",
    "replay",
    "run",
    "run_async",
    "search",
    "spaces",
    "tables",
    "train_final",
]
