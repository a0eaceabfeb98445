"""The island model: several populations that evolve apart and now and then exchange their best."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, Strategy, Trials, below, settle


class Islands(NamedTuple):
    inner: Any  # the states of the strategy, leaves [count, ...]
    best: Trials  # of each island since the last migration, leaves [count, migrants, ...]
    told: jax.Array  # int32[], rows of weight > 0 so far


def islands(
    strategy: Strategy,
    count: int,
    every: int,
    migrants: int = 1,
    topology: str = "ring",
    metrics: Sequence[str] = (),
) -> Strategy:
    """`count` copies of a strategy, each with its own state, and migration between them.

    Tanese 1989, "Distributed genetic algorithms"; Whitley et al. 1999, "The island model genetic
    algorithm: on separability, population size and convergence". Proposals are dealt to the
    islands in turn, and each island learns from its own trials. At a migration every island is
    told, beside them, the best trials of another island since the last migration. So any strategy
    can live on an island: a memory takes the migrants in, a learner learns from them.

    The islands run side by side as one vmapped axis.

    Args:
      strategy: what lives on each island.
      count: how many islands.
      every: how many trials an island is told between two migrations.
      migrants: how many trials emigrate from an island.
      topology: where they go: to the next island ("ring"), or each island receives those of
        another one drawn at random ("random").
      metrics: the names of the metrics that the strategy learns from; the others do not travel.

    Returns:
      The strategy.

    Raises:
      InputError: there are fewer than 2 islands, a number is less than 1, more migrants than
        trials between two migrations, or an unknown topology.
    """
    if count < 2:
        raise InputError(f"islands(count={count}): there are at least 2")
    if not 1 <= migrants <= every:
        raise InputError(
            f"islands(every={every}, migrants={migrants}): 1 <= migrants <= every has to hold"
        )
    if topology not in ("ring", "random"):
        raise InputError(f"islands(topology={topology!r}): allowed are 'ring' and 'random'")
    period = count * every

    def init(key: jax.Array, arch: Architecture) -> Islands:
        inner = jax.vmap(strategy.init, (0, None))(jax.random.split(key, count), arch)
        one = jax.tree.map(lambda x: x[0], inner)
        asked = jax.eval_shape(lambda s: strategy.ask(jax.random.key(0), s, migrants), one)
        empty = lambda x: jnp.zeros((count, *x.shape), x.dtype)
        zeros = jnp.zeros((count, migrants))
        best = Trials(
            jax.tree.map(empty, asked.arch),
            zeros,
            weight=zeros,
            metrics={m: zeros for m in metrics},
            trace=jax.tree.map(empty, asked.trace),
            budget=jax.tree.map(empty, asked.budget),
        )
        return Islands(inner, best, jnp.int32(0))

    def ask(key: jax.Array, state: Islands, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError("islands propose from nothing: put them first in the chain.")
        asked = min(n, count)  # islands that are asked, the next in turn
        at = (state.told + jnp.arange(asked)) % count
        some = jax.tree.map(lambda x: x[at], state.inner)
        each = -(-n // asked)
        found = jax.vmap(lambda k, s: strategy.ask(k, s, each))(jax.random.split(key, asked), some)
        deal = lambda x: jnp.swapaxes(x, 0, 1).reshape(asked * each, *x.shape[2:])[:n]
        dealt = jax.tree.map(deal, found)
        return dealt._replace(trace=(jnp.tile(at, each)[:n], dealt.trace))

    def tell(key: jax.Array, trials: Trials, state: Islands) -> tuple[Trials, Islands]:
        k_from, k_tell = jax.random.split(key)
        trials = settle(trials, "islands")
        island, trace = trials.trace
        news = _travelling(trials, trace, metrics)
        own = trials.weight * (island == jnp.arange(count)[:, None])  # [count, n]
        best = jax.vmap(_best_of, (0, None, 0))(state.best, news, own)
        told = state.told + jnp.sum(trials.weight > 0, dtype=jnp.int32)
        due = told // period > state.told // period
        source = _sources(k_from, count, topology)
        arriving = jax.tree.map(lambda x: x[source], best)
        arriving = arriving._replace(weight=arriving.weight * due)

        def learn(key: jax.Array, weight: jax.Array, guests: Trials, inner: Any) -> Any:
            mine = news._replace(weight=weight)
            both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), mine, guests)
            return strategy.tell(key, both, inner)[1]

        keys = jax.random.split(k_tell, count)
        inner = jax.vmap(learn)(keys, own, arriving, state.inner)
        best = best._replace(weight=jnp.where(due, 0.0, best.weight))
        return trials, Islands(inner, best, told)

    return Strategy(init, ask, tell)


def _travelling(trials: Trials, trace: Any, metrics: Sequence[str]) -> Trials:
    """What an island learns from: the trials with the trace of its strategy and some metrics."""
    missing = [m for m in metrics if m not in trials.metrics]
    if missing:
        raise ValueError(
            f"islands were asked to carry the metrics {missing}, but the evaluator gives "
            f"{sorted(trials.metrics)}: name one of those."
        )
    keep = {m: jnp.asarray(trials.metrics[m], jnp.float32) for m in metrics}
    return Trials(trials.arch, trials.score, None, trials.weight, keep, trace, trials.budget)


def _best_of(old: Trials, new: Trials, weight: jax.Array) -> Trials:
    """The best of the old rows and of the new ones with their weights; the old rows' number."""
    new = new._replace(weight=weight)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), old, new)
    score = jnp.where(both.weight > 0, both.score, -jnp.inf)
    rank = jnp.argsort(-score, stable=True)[: old.score.size]
    return jax.tree.map(lambda x: x[rank], both)


def _sources(key: jax.Array, count: int, topology: str) -> jax.Array:
    """The island whose migrants each island receives, never itself: int32[count]."""
    shift = below(key, (count,), count - 1) if topology == "random" else count - 2
    return (jnp.arange(count) + 1 + shift) % count
