"""Bayesian optimisation: a Gaussian process of the score, and an acquisition function."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.base import (
    Architecture,
    InputError,
    Space,
    Strategy,
    Trials,
    choice_counts,
    from_vector,
    propose,
    rows,
    sample,
    settle,
    to_vector,
)
from jnas.errors import positive
from jnas.links.candidates import among, mutants
from jnas.links.gaussian_process import (
    Hyper,
    Process,
    bounded,
    condition,
    correlation,
    default_hyper,
    expected_improvement,
    fold,
    gradient,
    log_prior,
    normal_scores,
    predict,
    standard_scores,
    whitened,
)
from jnas.links.memory import Memory, keep_youngest

ACQUISITIONS = ("expected_improvement", "upper_confidence", "thompson")
WARPS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "ranks": normal_scores,
    "standard": standard_scores,
}


class Belief(NamedTuple):
    memory: Memory  # rows [size, ...]
    hyper: Hyper


def gaussian_process(
    space: Space,
    size: int = 300,
    start: int = 10,
    acquisition: str = "expected_improvement",
    candidates: int = 100,
    mutations: int = 100,
    parents: int = 10,
    explore: float = 2.0,
    step: float = 0.1,
    warp: str = "ranks",
) -> Strategy:
    """Proposes the candidates that promise most by a Gaussian process of the score.

    Snoek et al. 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", arXiv
    1206.2944, on one-hot codes: see `correlation`. Each hyperparameter's logarithm moves
    by `step` at each tell, up the marginal likelihood times `log_prior`: by the sign of the
    gradient, which is the same for all its scales. Candidates are random
    architectures, and mutations of the best. No candidate is remembered or chosen twice while
    there are others; within a batch, each choice counts as seen at its posterior mean before the
    next is made ("kriging believer", Ginsbourger et al. 2010; for `upper_confidence` this is
    GP-BUCB, Desautels et al. 2014). A factor of `[size, size]` is computed at each ask and tell.

    Args:
      space: the space of the architectures.
      size: the trials remembered, the youngest.
      start: random architectures before the model is used.
      acquisition: `expected_improvement` over the best so far; `upper_confidence`, mean +
        `explore` standard deviations; or `thompson`, a draw from the posterior of each candidate
        on its own (independent Thompson sampling, White et al. 2021, arXiv 1910.11858).
      candidates: random ones for each ask.
      mutations: mutated ones for each ask.
      parents: how many of the best are mutated.
      explore: standard deviations, of `upper_confidence` alone.
      step: of the logarithms of the hyperparameters; 0 leaves them as `default_hyper`.
      warp: `ranks`, see `normal_scores`; or `standard`, to mean 0 and variance 1.

    Returns:
      A strategy that proposes from nothing.

    Raises:
      InputError: a setting outside its range.
    """
    _check(size, start, candidates, mutations, parents, acquisition, warp, step)
    memory, climb = keep_youngest(size), optax.sign_sgd(step)

    def init(key: jax.Array, arch: Architecture) -> Belief:
        return Belief(memory.init(key, arch), default_hyper(choice_counts(space).size))

    def seen(state: Belief) -> tuple[Process, jax.Array]:
        """The process of the remembered rows, and their warped scores."""
        kept = state.memory.rows
        live = kept.weight > 0
        y = WARPS[warp](kept.score, live)
        return condition(to_vector(space, kept.arch), y, live, state.hyper), y

    def ask(key: jax.Array, state: Belief, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError(
                "gaussian_process proposes from its own trials: put it first in the chain."
            )
        k_any, k_mutate, k_luck, k_start = jax.random.split(key, 4)
        process, y = seen(state)
        live, x = process.live, process.vectors
        random = to_vector(space, sample(space, k_any, max(candidates, n)))
        near = mutants(space, k_mutate, x, y, live, mutations, parents)
        vectors = jnp.concatenate([random, near])
        best = jnp.max(jnp.where(live, y, -jnp.inf))

        def value(luck: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
            if acquisition == "thompson":
                return mean + deviation * luck
            if acquisition == "upper_confidence":
                return mean + explore * deviation
            return expected_improvement(mean, deviation, best)

        luck = jax.random.normal(k_luck, (n, vectors.shape[0]))
        chosen = choose(luck, process, vectors, among(vectors, x, live), value)
        modelled = state.memory.told + jnp.arange(n) >= start
        arch = rows(modelled, from_vector(space, vectors[chosen]), sample(space, k_start, n))
        return propose(arch)

    def tell(key: jax.Array, trials: Trials, state: Belief) -> tuple[Trials, Belief]:
        trials = settle(trials, "gaussian_process")
        _, kept = memory.tell(key, trials, state.memory)
        process, _ = seen(state._replace(memory=kept))
        uphill = jax.tree.map(jnp.add, gradient(process), jax.grad(log_prior)(state.hyper))
        learn = jnp.any(trials.weight > 0)
        downhill = jax.tree.map(lambda g: jnp.where(learn, -jnp.nan_to_num(g), 0.0), uphill)
        moves, _ = climb.update(downhill, climb.init(state.hyper))
        return trials, Belief(kept, bounded(optax.apply_updates(state.hyper, moves)))

    return Strategy(init, ask, tell)


def choose(
    luck: jax.Array,
    process: Process,
    vectors: jax.Array,
    known: jax.Array,
    value: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """Chooses candidates one after the other, each as if the ones before it had been seen.

    Args:
      luck: normal draws for acquisitions that need them, f32[n, c]; a row for each choice.
      process: the process of what was seen.
      vectors: the candidates, int32[c, L].
      known: bool[c], candidates that are taken only when no other is left.
      value: `(luck, mean, deviation) -> f32[c]`; the largest is chosen.

    Returns:
      The numbers of the candidates, int32[n].
    """
    mean, variance = predict(process, vectors)
    amplitude, noise = jnp.exp(process.hyper.amplitude), jnp.exp(process.hyper.noise)
    seen = whitened(process, vectors)
    factor = jnp.concatenate([seen, jnp.zeros_like(luck)])

    def pick(carry: tuple, given: tuple) -> tuple[tuple, jax.Array]:
        factor, variance, closed = carry
        luck, nth = given
        worth = value(luck, mean, jnp.sqrt(variance))
        worth = jnp.where(closed, -jnp.inf, jnp.nan_to_num(worth, nan=-1e30, neginf=-1e30))
        i = jnp.argmax(worth)
        prior = amplitude * correlation(vectors, vectors[i][None], process.hyper.decay)[:, 0]
        shared = prior - fold(factor * factor[:, i][:, None])
        row = shared / jnp.sqrt(variance[i] + amplitude * noise)
        factor = factor.at[seen.shape[0] + nth].set(row)
        closed |= jnp.all(vectors == vectors[i], -1)
        return (factor, jnp.maximum(variance - row**2, 1e-9), closed), i

    given = (luck, jnp.arange(luck.shape[0]))
    return jax.lax.scan(pick, (factor, variance, known), given)[1]


def _check(
    size: int,
    start: int,
    candidates: int,
    mutations: int,
    parents: int,
    acquisition: str,
    warp: str,
    step: float,
) -> None:
    positive(size=size, start=start, candidates=candidates, parents=parents)
    if mutations < 0:
        raise InputError(f"gaussian_process: mutations={mutations}: it has to be at least 0")
    if not step >= 0:
        raise InputError(f"gaussian_process: step={step}: it has to be at least 0")
    for name, word, allowed in (
        ("acquisition", acquisition, ACQUISITIONS),
        ("warp", warp, tuple(WARPS)),
    ):
        if word not in allowed:
            raise InputError(
                f"gaussian_process: unknown {name} {word!r}; allowed: {', '.join(allowed)}"
            )
