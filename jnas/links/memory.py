"""Memories: links that keep evaluated trials and propose them again, scores and all."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, Strategy, Trials, settle


class Memory(NamedTuple):
    rows: Trials  # evaluated, leaves [size, ...]; weight 0 where empty
    told: jax.Array  # int32[], rows ever kept


def keep_youngest(size: int, metrics: Sequence[str] = ()) -> Strategy:
    """Keeps the last `size` trials told and forgets the oldest: survival by age.

    The population of regularized evolution (Real et al. 2019, arXiv 1802.01548, Algorithm 1).

    Args:
      size: how many trials are kept.
      metrics: the names of the metrics that are kept with each row.

    Returns:
      A link that proposes all its rows as evaluated trials, `[size]`; empty ones have weight 0.
    """

    def put(state: Memory, new: Trials) -> Trials:
        live = new.weight > 0
        rank = jnp.cumsum(live) - 1  # among the rows that count
        kept = live & (rank >= jnp.sum(live) - size)  # a batch may be larger than the memory
        slot = jnp.where(kept, (state.told + rank) % size, size)  # size: dropped
        scatter = lambda old, x: old.at[slot].set(x, mode="drop")
        return jax.tree.map(scatter, state.rows, new)

    return _memory("keep_youngest", size, metrics, put)


def keep_best(size: int, metrics: Sequence[str] = ()) -> Strategy:
    """Keeps the `size` best trials ever told: elitist survival, (mu + lambda).

    Among equal scores the older trial stays.

    Args:
      size: how many trials are kept.
      metrics: the names of the metrics that are kept with each row.

    Returns:
      A link that proposes all its rows as evaluated trials, `[size]`, best first.
    """

    def put(state: Memory, new: Trials) -> Trials:
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), state.rows, new)
        rank = jnp.argsort(-jnp.where(both.weight > 0, both.score, -jnp.inf), stable=True)
        return jax.tree.map(lambda x: x[rank[:size]], both)

    return _memory("keep_best", size, metrics, put)


def _memory(
    name: str, size: int, metrics: Sequence[str], put: Callable[[Memory, Trials], Trials]
) -> Strategy:
    if size < 1:
        raise InputError(f"{name}({size}): a population has at least 1 trial")

    def init(key: jax.Array, arch: Architecture) -> Memory:
        del key
        empty = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), arch)
        zeros = jnp.zeros(size)
        kept = Trials(empty, zeros, weight=zeros, metrics={m: zeros for m in metrics})
        return Memory(kept, jnp.int32(0))

    def ask(key: jax.Array, state: Memory, n: int, trials: Trials | None = None) -> Trials:
        del key, n
        if trials is not None:
            raise ValueError(f"{name} proposes from its own rows: put it first in the chain.")
        return state.rows

    def tell(key: jax.Array, trials: Trials, state: Memory) -> tuple[Trials, Memory]:
        del key
        trials = settle(trials, name)
        missing = [m for m in metrics if m not in trials.metrics]
        if missing:
            raise ValueError(
                f"{name} was asked to keep the metrics {missing}, but the evaluator gives "
                f"{sorted(trials.metrics)}: name one of those."
            )
        keep = {m: jnp.asarray(trials.metrics[m], jnp.float32) for m in metrics}
        new = Trials(trials.arch, trials.score, weight=trials.weight, metrics=keep)
        told = state.told + jnp.sum(trials.weight > 0, dtype=jnp.int32)
        return trials, Memory(put(state, new), told)

    return Strategy(init, ask, tell)
