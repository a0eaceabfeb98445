"""Search by a model of the score: many candidates are predicted, the most promising proposed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, Space, Strategy, Trials, propose, settle, to_vector
from jnas.errors import positive
from jnas.links.candidates import among, equal
from jnas.links.gaussian_process import expected_improvement as gain
from jnas.links.memory import keep_youngest
from jnas.links.predictors import Prediction, Predictor

Acquisition = Callable[[jax.Array, Prediction, jax.Array], jax.Array]


class SurrogateState(NamedTuple):
    memory: Any  # the trials that the predictor learns from
    candidates: Any
    params: Any  # of the predictor
    told: jax.Array  # int32[], rows ever told
    fitted: jax.Array  # int32[], how many of them the last fit knew of


def thompson() -> Acquisition:
    """Independent Thompson sampling: a draw from `N(mean, std^2)` for each candidate.

    White et al. 2021, arXiv 1910.11858, section 5, found it the best of those here.
    """

    def value(key: jax.Array, predicted: Prediction, best: jax.Array) -> jax.Array:
        del best
        return predicted.mean + predicted.std * jax.random.normal(key, predicted.mean.shape)

    return value


def upper_confidence_bound(beta: float = 0.5) -> Acquisition:
    """`mean + beta std`; 0.5 is naszilla's factor (`acquisition_functions.py`)."""
    return lambda key, predicted, best: predicted.mean + beta * predicted.std


def expected_improvement() -> Acquisition:
    """`E[max(N(mean, std^2) - best, 0)]`, where `best` is the best score told so far."""

    def value(key: jax.Array, predicted: Prediction, best: jax.Array) -> jax.Array:
        del key
        return gain(predicted.mean, jnp.maximum(predicted.std, 1e-12), best)

    return value


def highest_mean() -> Acquisition:
    """The mean alone: the predictor ranks, as in NPENAS-NP."""
    return lambda key, predicted, best: predicted.mean


def predictor_guided(
    space: Space,
    candidates: Strategy,
    predictor: Predictor,
    acquisition: Acquisition,
    pool: int = 100,
    refit: int = 1,
    memory: int = 1000,
    isomorphic: bool = False,
) -> Strategy:
    """Proposes those of many candidates that a predictor finds most promising.

    Candidates that were told before, and the second of two equal ones, are proposed only where the
    pool has too few others: give `candidates` a share of random ones (`mixture`) if it could dry
    up. The predictor learns in `tell`, from the last `memory` trials, as soon as `refit` rows have
    been told since it did so last; under `vmap` it learns at every tell and keeps what it learned
    only then, so tell in batches where many seeds run side by side.

    Args:
      space: the space searched.
      candidates: a strategy that proposes candidates; it is told all that comes back.
      predictor: learns the scores.
      acquisition: `(key, prediction, best score) -> f32[pool]`, how promising candidates are, such
        as `thompson()`, `upper_confidence_bound()`, `expected_improvement()`, `highest_mean()`.
      pool: the candidates for a batch of proposals.
      refit: rows told from one fit to the next.
      memory: the trials that are remembered.
      isomorphic: propose an architecture whose `space.canonical` is that of one told before.

    Returns:
      The strategy; before any trial is told it proposes candidates in the order of a predictor
      that knows nothing.

    Raises:
      InputError: a pool, memory or interval of less than 1, or more proposals than the pool has.
    """
    positive(pool=pool, refit=refit, memory=memory)
    remembered = keep_youngest(memory)

    def init(key: jax.Array, arch: Architecture) -> SurrogateState:
        k_memory, k_candidates, k_predictor = jax.random.split(key, 3)
        return SurrogateState(
            remembered.init(k_memory, arch),
            candidates.init(k_candidates, arch),
            predictor.init(k_predictor),
            jnp.int32(0),
            jnp.int32(0),
        )

    def name_of(arch: Architecture) -> jax.Array:
        return to_vector(space, arch if isomorphic else jax.vmap(space.canonical)(arch))

    def fresh(arch: Architecture, past: Trials) -> jax.Array:
        """Which of the candidates are new: bool[pool]."""
        names = name_of(arch)
        known = among(names, name_of(past.arch), past.weight > 0)
        return ~known & ~jnp.any(jnp.tril(equal(names, names), -1), -1)

    def ask(key: jax.Array, state: SurrogateState, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError(
                "predictor_guided asks its own candidates: put it first in the chain, and what "
                "proposes for it into `candidates`."
            )
        if n > pool:
            raise InputError(f"pool={pool}: {n} proposals need a pool of at least as many")
        k_candidates, k_value = jax.random.split(key)
        offered = candidates.ask(k_candidates, state.candidates, pool)
        past = remembered.ask(key, state.memory, memory)
        best = jnp.max(jnp.where(past.weight > 0, past.score, -jnp.inf))
        predicted = predictor.predict(state.params, offered.arch)
        value = acquisition(k_value, predicted, jnp.where(jnp.isfinite(best), best, 0.0))
        value = jnp.where(fresh(offered.arch, past), value, -jnp.inf)
        chosen = jax.lax.top_k(value, n)[1]
        arch, trace = jax.tree.map(lambda x: x[chosen], (offered.arch, offered.trace))
        return propose(arch)._replace(trace=trace)

    def tell(
        key: jax.Array, trials: Trials, state: SurrogateState
    ) -> tuple[Trials, SurrogateState]:
        k_memory, k_candidates, k_fit = jax.random.split(key, 3)
        trials = settle(trials, "predictor_guided")
        _, kept = remembered.tell(k_memory, trials, state.memory)
        _, offering = candidates.tell(k_candidates, trials, state.candidates)
        told = state.told + jnp.sum(trials.weight > 0, dtype=jnp.int32)
        due = told - state.fitted >= refit
        hashed = jax.random.key_data(k_fit)  # the check for reused keys does not know `cond`

        def learn() -> Any:
            key = jax.random.wrap_key_data(hashed, impl=jax.random.key_impl(k_fit))
            past = kept.rows
            return predictor.fit(key, state.params, past.arch, past.score, past.weight)

        params = jax.lax.cond(due, learn, lambda: state.params)
        fitted = jnp.where(due, told, state.fitted)
        return trials, SurrogateState(kept, offering, params, told, fitted)

    return Strategy(init, ask, tell)
