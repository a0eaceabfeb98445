"""A table of scores as an evaluator: the whole search runs inside one compiled program."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Evaluator, InputError, Space, Trials, index, size
from jnas.errors import positive

CLOCK = ("cost", "clock")


class Clock(NamedTuple):
    """What a search on a table would have taken."""

    seconds: jax.Array  # f32[], so far
    paid: jax.Array  # f32[size of the space], the part of an evaluation that was paid for, or [0]


def tabular(
    space: Space,
    columns: Mapping[str, np.ndarray],
    score: str,
    *,
    fidelities: Mapping[float, str] | None = None,
    cost: str | None = None,
    resume: bool = True,
    workers: int = 1,
) -> Evaluator:
    """Looks the score of every architecture up.

    Args:
      space: the space that numbers the rows of the table.
      columns: arrays `[size of the space]`, in the order of `index`; kept on the device. Columns
        of more axes, such as one for each run, are left out.
      score: the column to maximise. The others arrive in `metrics` under their own names. A NaN
        marks an architecture that was never evaluated: it fails.
      fidelities: the columns of scores after a part of a full evaluation, such as
        `{0.06: "val_acc_12"}`; `score` is what a full one gives. A row with a budget gets the
        largest fidelity that is not above it, one below all of them the smallest.
      cost: the column with the seconds of a full evaluation. Then a clock is simulated: the
        metric `cost` is what a row takes, its fidelity's part of the seconds; `clock` is when it
        is done.
      resume: training goes on: what was paid before for the same architecture is taken off, and
        asking again costs nothing. The state then holds a number for every architecture.
      workers: that share the rows of a batch, each row to the one that is free first. The next
        batch starts when all are done.

    Returns:
      The evaluator, jittable; stateless without `cost`.

    Raises:
      InputError: there is no such column, or a column has another length than the space.
    """
    columns = {k: v for k, v in columns.items() if np.ndim(v) == 1}
    levels = _levels(fidelities, score)
    for what, name in [("score", score), *((f"fidelities[{f}]", c) for f, c in levels.items())]:
        if name not in columns:
            raise InputError(f"{what} {name!r}: the table has {', '.join(sorted(columns))}")
    for name, column in columns.items():
        if np.shape(column) != (size(space),):
            raise InputError(
                f"column {name!r} has shape {np.shape(column)}; space {space.name!r} needs "
                f"({size(space)},)"
            )
    table = {k: jnp.asarray(np.asarray(v), jnp.float32) for k, v in columns.items()}
    full = None if cost is None else _seconds(cost, table, workers)
    parts = np.asarray(list(levels), np.float32)

    def init(key: jax.Array) -> Any:
        del key
        return () if full is None else Clock(jnp.float32(0), jnp.zeros(size(space) * resume))

    def evaluate(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        del key
        row = index(space, trials.arch)
        found = {name: column[row] for name, column in table.items() if name != score}
        asked = jnp.ones(row.shape) if trials.budget is None else trials.budget
        level = jnp.maximum(jnp.sum(parts <= asked[:, None] * (1 + 1e-5), -1) - 1, 0)
        value = table[score][row]
        for i, name in enumerate(list(levels.values())[:-1]):
            value = jnp.where(level == i, found[name], value)
        if full is None:
            return trials._replace(score=value, metrics=found), state
        part = jnp.asarray(parts)[level]
        before = _paid(state.paid, row, part) if resume else 0.0
        found["cost"] = jnp.maximum(part - before, 0.0) * full[row]
        ends = _ends(found["cost"], workers)
        found["clock"] = state.seconds + ends
        paid = state.paid.at[row].max(part) if resume else state.paid
        now = Clock(state.seconds + jnp.max(ends), paid)
        return trials._replace(score=value, metrics=found), now

    return Evaluator(init, evaluate)


def _levels(fidelities: Mapping[float, str] | None, score: str) -> dict[float, str]:
    """Rising parts of a full evaluation with the columns of their scores; the last is 1."""
    given = dict(fidelities or {})
    for part in given:
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
            raise InputError(f"fidelities: {part!r} has to be a number in (0, 1]")
    if given.get(1.0, score) != score:
        raise InputError(f"fidelities[1.0]={given[1.0]!r}: a full evaluation is score={score!r}")
    return {float(part): given[part] for part in sorted(given) if part < 1} | {1.0: score}


def _seconds(cost: str, table: Mapping[str, jax.Array], workers: int) -> jax.Array:
    if cost not in table:
        raise InputError(f"cost {cost!r}: the table has {', '.join(sorted(table))}")
    for name in CLOCK:
        if name in table:
            raise InputError(f"column {name!r}: with a clock, this name is that of a metric")
    positive(workers=workers)
    return table[cost]


def _paid(paid: jax.Array, row: jax.Array, part: jax.Array) -> jax.Array:
    """The part that was paid before each row of a batch, whose rows come one after another."""
    twin = (row[:, None] == row) & np.tri(row.size, k=-1, dtype=bool)
    return jnp.maximum(jnp.max(jnp.where(twin, part, 0.0), -1), paid[row])


def _ends(seconds: jax.Array, workers: int) -> jax.Array:
    """When each of some jobs ends, that start in their order on the worker that is free first."""
    if workers == 1:
        return jnp.cumsum(seconds)

    def start(free: jax.Array, job: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = jnp.argmin(free)
        end = free[first] + job
        return jnp.where(jnp.arange(workers) == first, end, free), end

    return jax.lax.scan(start, jnp.zeros(workers), seconds)[1]
