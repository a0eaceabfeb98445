"""A table of scores as an evaluator: the whole search runs inside one compiled program."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Evaluator, InputError, Space, Trials, index, size


def tabular(space: Space, columns: Mapping[str, np.ndarray], score: str) -> Evaluator:
    """Looks the score of every architecture up.

    Args:
      space: the space that numbers the rows of the table.
      columns: arrays `[size of the space]`, in the order of `index`; kept on the device. Columns
        of more axes, such as one for each run, are left out.
      score: the column to maximise. The others arrive in `metrics` under their own names. A NaN
        marks an architecture that was never evaluated: it fails.

    Returns:
      The evaluator, stateless and jittable.

    Raises:
      InputError: there is no such column, or a column has another length than the space.
    """
    columns = {k: v for k, v in columns.items() if np.ndim(v) == 1}
    if score not in columns:
        raise InputError(f"score {score!r}: the table has {', '.join(sorted(columns))}")
    for name, column in columns.items():
        if np.shape(column) != (size(space),):
            raise InputError(
                f"column {name!r} has shape {np.shape(column)}; space {space.name!r} needs "
                f"({size(space)},)"
            )
    table = {k: jnp.asarray(np.asarray(v), jnp.float32) for k, v in columns.items()}

    def evaluate(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        del key
        row = index(space, trials.arch)
        found = {name: column[row] for name, column in table.items()}
        value = found.pop(score)
        return trials._replace(score=value, metrics=found), state

    return Evaluator(lambda key: (), evaluate)
