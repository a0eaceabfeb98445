"""Memories: links that keep evaluated trials and propose them again, scores and all."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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

    return _memory("keep_youngest", size, metrics, put, packed=True)


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
        both = _joined(state.rows, new)
        rank = jnp.argsort(-jnp.where(both.weight > 0, both.score, -jnp.inf), stable=True)
        return jax.tree.map(lambda x: x[rank[:size]], both)

    return _memory("keep_best", size, metrics, put, packed=True)


class Generations(NamedTuple):
    parents: Trials  # evaluated, leaves [mu, ...]; weight 0 before the first generation is whole
    children: Trials  # of the generation that is being told, leaves [lambda_, ...]
    filled: jax.Array  # int32[], how many there are


def keep_generation(mu: int, lambda_: int, metrics: Sequence[str] = ()) -> Strategy:
    """Keeps the `mu` best of the last whole generation and no older ones: (mu, lambda).

    A generation is `lambda_` trials, in the order in which they are told; batches may be of any
    size. Bäck and Schwefel 1993, "An overview of evolutionary algorithms for parameter
    optimization". With `mu=lambda_` it is the generational survival of genetic algorithms.

    Args:
      mu: how many parents there are.
      lambda_: how many children a generation has.
      metrics: the names of the metrics that are kept with each row.

    Returns:
      A link that proposes the parents as evaluated trials, `[mu]`, best first.

    Raises:
      InputError: mu is less than 1 or more than `lambda_`.
    """
    if not 1 <= mu <= lambda_:
        raise InputError(f"keep_generation({mu}, {lambda_}): 1 <= mu <= lambda_ has to hold")

    def init(key: jax.Array, arch: Architecture) -> Generations:
        del key
        return Generations(_empty(mu, arch, metrics), _empty(lambda_, arch, metrics), jnp.int32(0))

    def ask(key: jax.Array, state: Generations, n: int, trials: Trials | None = None) -> Trials:
        del key, n
        if trials is not None:
            raise ValueError("keep_generation proposes its own rows: put it first in the chain.")
        return state.parents

    def tell(key: jax.Array, trials: Trials, state: Generations) -> tuple[Trials, Generations]:
        del key
        trials, new = _to_keep("keep_generation", trials, metrics)
        both = _joined(state.children, new)
        live = both.weight > 0
        nth = state.filled + jnp.cumsum(new.weight > 0) - 1
        generation, slot = jnp.divmod(jnp.concatenate([jnp.arange(lambda_), nth]), lambda_)
        total = state.filled + jnp.sum(new.weight > 0)
        whole = total // lambda_  # generations that are whole now
        score = jnp.where(live & (generation == whole - 1), both.score, -jnp.inf)
        best = jnp.argsort(-score, stable=True)[:mu]
        parents = jax.tree.map(
            lambda x, old: jnp.where(whole > 0, x[best], old), both, state.parents
        )
        slot = jnp.where(live & (generation == whole), slot, lambda_)  # lambda_: dropped
        put = lambda x: jnp.zeros_like(x[:lambda_]).at[slot].set(x, mode="drop")
        filled = jnp.asarray(total % lambda_, jnp.int32)
        return trials, Generations(parents, jax.tree.map(put, both), filled)

    return Strategy(init, ask, tell)


class Elite(NamedTuple):
    best: Memory  # the elite
    memory: Any  # the state of the memory beside it


def keep_elite(memory: Strategy, size: int = 1) -> Strategy:
    """Elitism: the `size` best trials ever told stay beside whatever another memory keeps.

    De Jong 1975. A trial of the elite that the memory still holds is not proposed twice.

    Args:
      memory: a memory, such as `keep_generation(20, 20)`.
      size: how many trials are the elite.

    Returns:
      A link that proposes the rows of the memory and then the elite, as evaluated trials.

    Raises:
      InputError: the size is less than 1.
    """
    if size < 1:
        raise InputError(f"keep_elite(size={size}): an elite has at least 1 trial")

    def init(key: jax.Array, arch: Architecture) -> Elite:
        inner = memory.init(key, arch)
        names = list(_rows_of(memory, key, inner).metrics)
        return Elite(keep_best(size, names).init(key, arch), inner)

    def ask(key: jax.Array, state: Elite, n: int, trials: Trials | None = None) -> Trials:
        del n
        if trials is not None:
            raise ValueError("keep_elite proposes its own rows: put it first in the chain.")
        found, best = _rows_of(memory, key, state.memory), state.best.rows
        equal = lambda a, b: jnp.all((a[:, None] == b).reshape(len(a), len(b), -1), -1)
        twice = equal(best.score, found.score) & (found.weight > 0)
        for a, b in zip(jax.tree.leaves(best.arch), jax.tree.leaves(found.arch), strict=True):
            twice &= equal(a, b)
        return _joined(found, best._replace(weight=best.weight * ~jnp.any(twice, -1)))

    def tell(key: jax.Array, trials: Trials, state: Elite) -> tuple[Trials, Elite]:
        k_best, k_memory = jax.random.split(key)
        trials = settle(trials, "keep_elite")
        _, best = keep_best(size, list(state.best.rows.metrics)).tell(k_best, trials, state.best)
        passed, inner = memory.tell(k_memory, trials, state.memory)
        return passed, Elite(best, inner)

    return Strategy(init, ask, tell)


def _rows_of(memory: Strategy, key: jax.Array, state: Any) -> Trials:
    """The rows of a memory, without what is not kept of a row."""
    found = memory.ask(key, state, 1)
    if found.score is None:
        raise ValueError("keep_elite stands around a memory such as keep_generation(20, 20).")
    return Trials(found.arch, found.score, weight=found.weight, metrics=found.metrics)


def _memory(
    name: str,
    size: int,
    metrics: Sequence[str],
    put: Callable[[Memory, Trials], Trials],
    packed: bool = False,
) -> Strategy:
    """A memory; `packed` where its first rows are live, as many as it was told or has room for."""
    if size < 1:
        raise InputError(f"{name}({size}): a population has at least 1 trial")

    def init(key: jax.Array, arch: Architecture) -> Memory:
        del key
        return Memory(_empty(size, arch, metrics), jnp.int32(0))

    def ask(key: jax.Array, state: Memory, n: int, trials: Trials | None = None) -> Trials:
        del key, n
        if trials is not None:
            raise ValueError(f"{name} proposes from its own rows: put it first in the chain.")
        return state.rows._replace(live=jnp.minimum(state.told, size) if packed else None)

    def tell(key: jax.Array, trials: Trials, state: Memory) -> tuple[Trials, Memory]:
        del key
        trials, new = _to_keep(name, trials, metrics)
        told = state.told + jnp.sum(trials.weight > 0, dtype=jnp.int32)
        return trials, Memory(put(state, new), told)

    return Strategy(init, ask, tell)


def _empty(size: int, arch: Architecture, metrics: Sequence[str]) -> Trials:
    """Rows of weight 0 for architectures like `arch`."""
    empty = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), arch)
    zeros = jnp.zeros(size)
    return Trials(empty, zeros, weight=zeros, metrics={m: zeros for m in metrics})


def _to_keep(name: str, trials: Trials, metrics: Sequence[str]) -> tuple[Trials, Trials]:
    """The trials, settled, and what a memory keeps of them."""
    trials = settle(trials, name)
    missing = [m for m in metrics if m not in trials.metrics]
    if missing:
        raise ValueError(
            f"{name} was asked to keep the metrics {missing}, but the evaluator gives "
            f"{sorted(trials.metrics)}: name one of those."
        )
    keep = {m: jnp.asarray(trials.metrics[m], jnp.float32) for m in metrics}
    return trials, Trials(trials.arch, trials.score, weight=trials.weight, metrics=keep)


def _joined(a: Any, b: Any) -> Any:
    """The rows of one pytree and then those of another."""
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a, b)
