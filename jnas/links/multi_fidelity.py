"""What the searches at several budgets share: the budgets, and the source of new candidates.

A budget is the part of a full evaluation, in (0, 1]. It travels with a proposal as `Trials.budget`;
an evaluator that knows none evaluates in full.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Strategy, Trials, settle
from jnas.errors import positive

AHEAD = 0.125  # chance that the last row of a batch leaves a rung's queue alone


def rungs(eta: float, min_budget: float, budgets: Sequence[float] | None = None) -> np.ndarray:
    """The budgets of the rungs, from the smallest to 1, each `eta` times the one before.

    >>> rungs(3, 1 / 27).round(3)
    array([0.037, 0.111, 0.333, 1.   ])

    Args:
      eta: the ratio, more than 1.
      min_budget: no budget is smaller.
      budgets: given, they are the rungs.

    Returns:
      float64[K].

    Raises:
      InputError: a number that cannot be.
    """
    if not isinstance(eta, int | float) or not 1 < eta < float("inf"):
        raise InputError(f"eta={eta!r}: it has to be a number greater than 1")
    if budgets is None:
        if not isinstance(min_budget, int | float) or not 0 < min_budget <= 1:
            raise InputError(f"min_budget={min_budget!r}: it has to be in (0, 1]")
        most = math.floor(math.log(1 / min_budget) / math.log(eta) + 1e-6)
        return float(eta) ** -np.arange(most, -1, -1.0)
    found = np.asarray(budgets, float)
    rising = found.ndim == 1 and found.size and found[0] > 0 and (np.diff(found) > 0).all()
    if not rising or found[-1] != 1:
        raise InputError(f"budgets={budgets!r}: they have to rise from more than 0 to 1")
    return found


def ask_source(
    who: str, source: Strategy, key: jax.Array, state: Any, n: int, trials: Trials | None
) -> Trials:
    """New candidates of the source.

    Raises:
      ValueError: the link or the source is misplaced.
    """
    if trials is not None:
        raise ValueError(f"{who} proposes from a source of its own: put it first in the chain.")
    asked = source.ask(key, state, n)
    if asked.score is not None or jax.tree.leaves(asked.arch)[0].shape[0] != n:
        raise ValueError(
            f"{who} was given evaluated trials by its source: put a selection and a variation "
            "behind the memory."
        )
    return asked


def empty_trace(source: Strategy, state: Any) -> Any:
    """Shape and dtype of one row of the source's trace, as zeros without the leading axis."""
    asked = jax.eval_shape(lambda s: source.ask(jax.random.key(0), s, 1), state)
    return jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), asked.trace)


def earlier(same: jax.Array) -> jax.Array:
    """How many earlier rows of a batch a row is the same as: bool[n, n] to int32[n]."""
    n = same.shape[0]
    return jnp.sum(same & np.tri(n, k=-1, dtype=bool), -1, dtype=jnp.int32)


def top(score: jax.Array, there: jax.Array, k: jax.Array) -> jax.Array:
    """The `k` best of some rows; of equal scores the earlier ones: bool[..., m].

    The `k`-th largest is found bit by bit: 32 counts, where a sort on a CPU under `vmap` is slow.

    Args:
      score: f32[..., m].
      there: which rows are there, bool[..., m].
      k: int32[...].
    """
    key, k = jnp.where(there, ordered(score), 0), k[..., None]

    def narrow(i: jax.Array, found: jax.Array) -> jax.Array:
        larger = found | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        return jnp.where(jnp.sum(key >= larger, -1, keepdims=True) >= k, larger, found)

    kth = jax.lax.fori_loop(0, 32, narrow, jnp.zeros((*key.shape[:-1], 1), jnp.uint32))
    more, same = there & (key > kth), there & (key == kth)
    left = k - jnp.sum(more, -1, keepdims=True)
    return more | (same & (jnp.cumsum(same, -1) <= left))


def ordered(score: jax.Array) -> jax.Array:
    """Finite scores as numbers uint32 of the same order, all greater than 0."""
    bits = jax.lax.bitcast_convert_type(jnp.where(score == 0, 0.0, score), jnp.uint32)  # no -0
    return jnp.where(bits >> 31 > 0, ~bits, bits | jnp.uint32(1 << 31))


def put(old: Any, place: jax.Array, new: Any) -> Any:
    """Writes rows `[n, ...]` to places of the flattened first two axes; those outside are dropped.

    Args:
      old: leaves `[a, b, ...]`.
      place: int32[n].
      new: leaves `[n, ...]`.
    """

    def scatter(x: jax.Array, row: jax.Array) -> jax.Array:
        flat = x.reshape(-1, *x.shape[2:])
        return flat.at[place].set(row, mode="drop").reshape(x.shape)

    return jax.tree.map(scatter, old, new)


class PerBudget(NamedTuple):
    sources: tuple[Any, ...]  # the state of the source for every budget
    told: jax.Array  # int32[K], rows of weight > 0 of every budget


def per_budget(source: Strategy, budgets: Sequence[float], enough: int) -> Strategy:
    """One copy of a source for every budget; the one of the largest budget with `enough` proposes.

    Scores of different budgets cannot be compared, so each copy learns from one budget only. This
    is how BOHB uses its model (Falkner, Klein and Hutter 2018, arXiv 1807.01774, section 4.1).

    Args:
      source: a strategy.
      budgets: rising to 1. A row counts to the nearest; one without a budget to 1.
      enough: rows told of a budget until its copy proposes. Before any has as many, that of the
        smallest budget does.

    Returns:
      A strategy, to be a source again.
    """
    positive(enough=enough)
    levels = rungs(2, 1, budgets)

    def init(key: jax.Array, arch: Architecture) -> PerBudget:
        keys = jax.random.split(key, len(levels))
        return PerBudget(
            tuple(source.init(k, arch) for k in keys), jnp.zeros(len(levels), jnp.int32)
        )

    def ask(key: jax.Array, state: PerBudget, n: int, trials: Trials | None = None) -> Trials:
        chosen = state.sources[0]
        for i, of_level in enumerate(state.sources[1:], 1):
            known = state.told[i] >= enough
            chosen = jax.tree.map(lambda a, b, k=known: jnp.where(k, a, b), of_level, chosen)
        # Apart from the choice above, the source compiles as it would alone, under vmap too.
        return source.ask(key, jax.lax.optimization_barrier(chosen), n, trials)

    def tell(key: jax.Array, trials: Trials, state: PerBudget) -> tuple[Trials, PerBudget]:
        trials = settle(trials, "per_budget")
        asked = jnp.ones_like(trials.score) if trials.budget is None else trials.budget
        level = jnp.argmin(jnp.abs(asked[:, None] - levels.astype(np.float32)), -1)
        new, keys = [], jax.random.split(key, len(levels))
        for i, (k, old) in enumerate(zip(keys, state.sources, strict=True)):
            mine = trials._replace(weight=jnp.where(level == i, trials.weight, 0.0))
            new.append(source.tell(k, mine, old)[1])
        live = (trials.weight > 0)[:, None] & (level[:, None] == np.arange(len(levels)))
        return trials, PerBudget(tuple(new), state.told + jnp.sum(live, 0, dtype=jnp.int32))

    return Strategy(init, ask, tell)
