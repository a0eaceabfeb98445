"""The tree-structured Parzen estimator: search where good trials are denser than bad ones."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import (
    Architecture,
    InputError,
    Space,
    Strategy,
    Trials,
    below,
    choice_counts,
    from_vector,
    propose,
    repaired,
    rows,
    sample,
    settle,
    to_vector,
)
from jnas.errors import positive
from jnas.links.candidates import among
from jnas.links.memory import keep_youngest


class Density(NamedTuple):
    """A density over the architectures of a space, which sums to 1."""

    vectors: jax.Array  # int32[m, L], where the kernels stand
    weights: jax.Array  # f32[m], of the kernels; they sum to 1
    bandwidth: jax.Array  # f32[L], the chance that a kernel gives to other choices than its own


def density(
    space: Space, vectors: jax.Array, weights: jax.Array, bandwidth: float | jax.Array | None = None
) -> Density:
    """A kernel density estimate on categorical data, with the kernel of Aitchison and Aitken 1976.

    `p(x) = sum_j w_j prod_p k_p(x_p, v_jp)`, where `k_p` is `1 - b_p` for the kernel's own choice
    and `b_p / (K_p - 1)` for each of the others. As in BOHB (Falkner et al. 2018, arXiv
    1807.01774, section 3.2) the density is joint over all places.

    Args:
      space: the space of the architectures.
      vectors: the data, int32[m, L].
      weights: of the rows, f32[m], not negative; 0 for rows that are not there.
      bandwidth: `b`, a number or f32[L]; at most `(K - 1) / K`, where the kernel is flat. By
        default `(1 - sum_v share_v^2) * m ** (-1 / (4 + L))` at each place, from the shares of its
        choices in the data: the normal reference rule with the spread of categories, which,
        unlike a standard deviation of their numbers, does not depend on their order.

    Returns:
      The density; the uniform one where all weights are 0.
    """
    counts = choice_counts(space)
    total = jnp.sum(weights)
    share = weights / jnp.maximum(total, 1e-30)
    flat = jnp.asarray((counts - 1) / counts, jnp.float32)
    if bandwidth is None:
        live = jnp.maximum(jnp.sum(weights > 0), 1)
        shares = jnp.sum(share[:, None, None] * _hot(counts, vectors), 0)
        bandwidth = (1 - jnp.sum(shares**2, -1)) * live ** (-1 / (4 + counts.size))
    wide = jnp.where(total > 0, jnp.minimum(bandwidth, flat), flat)
    share = jnp.where(total > 0, share, 1 / weights.size)
    return Density(vectors, share.astype(jnp.float32), wide.astype(jnp.float32))


def log_density(space: Space, density: Density, vectors: jax.Array) -> jax.Array:
    """The logarithm of the density at architectures int32[..., L]: f32[...]."""
    counts = choice_counts(space)
    log = lambda p: jnp.log(jnp.maximum(p, 1e-30))
    own, other = log(1 - density.bandwidth), log(density.bandwidth / np.maximum(counts - 1, 1))
    kernels = jnp.zeros((*vectors.shape[:-1], density.weights.size))  # [..., m]
    for p in range(counts.size):
        same = vectors[..., p, None] == density.vectors[:, p]
        kernels += jnp.where(same, own[p], other[p])
    top = jnp.max(kernels, -1, keepdims=True)
    return jnp.log(jnp.sum(density.weights * jnp.exp(kernels - top), -1)) + top[..., 0]


def sample_density(space: Space, key: jax.Array, density: Density, n: int) -> jax.Array:
    """Draws `n` architectures from the density: int32[n, L]."""
    counts = choice_counts(space)
    k_row, k_stay, k_step = jax.random.split(key, 3)
    upto = jnp.cumsum(density.weights)
    draw = jax.random.uniform(k_row, (n,)) * upto[-1]
    row = jnp.sum(draw[:, None] >= upto, -1)
    x = density.vectors[jnp.minimum(row, density.weights.size - 1)]
    leave = jax.random.uniform(k_stay, x.shape) < density.bandwidth
    step = 1 + below(k_step, x.shape, np.maximum(counts - 1, 1))
    return jnp.where(leave, (x + step) % counts, x)


def marginals(space: Space, density: Density) -> jax.Array:
    """The chance of every choice at every place: f32[L, K], 0 beyond the choices of a place."""
    counts = choice_counts(space)
    hot = _hot(counts, density.vectors)  # [m, L, K]
    other = (density.bandwidth / np.maximum(counts - 1, 1))[:, None]
    kernels = jnp.where(hot > 0, 1 - density.bandwidth[:, None], other)
    chance = jnp.sum(density.weights[:, None, None] * kernels, 0)
    return jnp.where(np.arange(counts.max()) < counts[:, None], chance, 0.0)


def log_marginals(space: Space, density: Density, vectors: jax.Array) -> jax.Array:
    """The logarithm of the product of the marginals at architectures int32[..., L]: f32[...]."""
    log = jnp.log(jnp.maximum(marginals(space, density), 1e-30))
    return jnp.sum(jnp.stack([log[p, vectors[..., p]] for p in range(vectors.shape[-1])]), 0)


def _hot(counts: np.ndarray, vectors: jax.Array) -> jax.Array:
    return (vectors[..., None] == np.arange(counts.max())).astype(jnp.float32)


def split(scores: jax.Array, live: jax.Array, good: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which live rows are among the `good` best, and which are not: two f32[m] of 0 and 1.

    Of equal scores the row that comes first is the better one.
    """
    order = jnp.argsort(-jnp.where(live, scores, -jnp.inf), stable=True)
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
    best = live & (rank < good)
    return best.astype(jnp.float32), (live & ~best).astype(jnp.float32)


def tpe(
    space: Space,
    size: int = 300,
    quantile: float = 0.15,
    candidates: int = 64,
    random: float = 1 / 3,
    minimum: int | None = None,
    bandwidth: float | None = None,
    min_bandwidth: float = 1e-3,
    budgets: Sequence[float] = (),
    joint: bool = True,
    repeats: bool = False,
) -> Strategy:
    """Proposes, of candidates drawn from the density of the good, the one of largest `l / g`.

    `l` is the density of the best trials, `g` that of the others; `l / g` grows with the expected
    improvement (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4).
    The defaults are the settings of BOHB's model (Falkner et al. 2018, arXiv 1807.01774, and its
    code, HpBandSter): 15 % of the trials but at least `L + 1` are good, 64 candidates, a third of
    the proposals are random, and no model before `L + 1` trials are good and as many bad.

    Args:
      space: the space of the architectures.
      size: the trials remembered, the youngest.
      quantile: the share of the trials that is good.
      candidates: drawn for each proposal.
      random: the share of the proposals that is drawn from the space.
      minimum: the fewest trials that a density is made of; by default `L + 1`.
      bandwidth: see `density`.
      min_bandwidth: the smallest bandwidth, so that no choice is ever ruled out.
      budgets: the parts of a full evaluation that are asked for, where there are several. A trial
        then counts for the budget nearest to its own, and the model is that of the largest budget
        that has enough trials. Without them all trials are alike.
      joint: the densities are joint over all places, as BOHB's are; else independent, the product
        of their marginals, as in the paper of 2011 and much quicker.
      repeats: propose candidates that are remembered already, as the papers do; else only where
        all candidates of a proposal are.

    Returns:
      A strategy that proposes from nothing.

    Raises:
      InputError: a setting outside its range.
    """
    length = choice_counts(space).size
    fewest = length + 1 if minimum is None else minimum
    _check(size, quantile, candidates, random, fewest, bandwidth, min_bandwidth)
    memory = keep_youngest(size, ["budget"])
    levels = np.sort(np.asarray(budgets or (1.0,), np.float32))

    score = functools.partial(log_density if joint else log_marginals, space)

    def init(key: jax.Array, arch: Architecture) -> Any:
        return memory.init(key, arch)

    def model(kept: Trials) -> tuple[Density, Density, jax.Array]:
        """The densities of the good and the bad, and whether there are enough trials for them."""
        live = kept.weight > 0
        level = jnp.argmin(jnp.abs(kept.metrics["budget"][:, None] - levels), -1)
        many = jnp.sum(live[:, None] & (level[:, None] == np.arange(levels.size)), 0)
        enough = many >= 2 * fewest
        top = jnp.max(jnp.where(enough, np.arange(levels.size), 0))
        live &= level == top
        share = (quantile * many[top]).astype(jnp.int32)
        good, bad = split(kept.score, live, jnp.maximum(fewest, share))
        x = to_vector(space, kept.arch)
        fit = lambda weights: _widened(density(space, x, weights, bandwidth), space, min_bandwidth)
        return fit(good), fit(bad), enough[top]

    def ask(key: jax.Array, state: Any, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError("tpe proposes from its own trials: put it first in the chain.")
        k_any, k_which, k_draw, k_memory = jax.random.split(key, 4)
        kept = memory.ask(k_memory, state, n)
        good, bad, ready = model(kept)
        x = sample_density(space, k_draw, good, n * candidates)
        x = to_vector(space, repaired(space, from_vector(space, x)))
        gain = score(good, x) - score(bad, x)
        if not repeats:
            known = among(x, to_vector(space, kept.arch), kept.weight > 0)
            gain = jnp.where(known, -jnp.inf, gain)
        pick = jnp.argmax(gain.reshape(n, candidates), -1)
        best = x.reshape(n, candidates, length)[jnp.arange(n), pick]
        modelled = ready & (jax.random.uniform(k_which, (n,)) >= random)
        return propose(rows(modelled, from_vector(space, best), sample(space, k_any, n)))

    def tell(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        trials = settle(trials, "tpe")
        budget = jnp.ones_like(trials.score) if trials.budget is None else trials.budget
        _, state = memory.tell(key, trials._replace(metrics={"budget": budget}), state)
        return trials, state

    return Strategy(init, ask, tell)


def _widened(density: Density, space: Space, least: float) -> Density:
    counts = choice_counts(space)
    least = np.minimum(least, (counts - 1) / counts).astype(np.float32)
    return density._replace(bandwidth=jnp.maximum(density.bandwidth, least))


def _check(
    size: int,
    quantile: float,
    candidates: int,
    random: float,
    fewest: int,
    bandwidth: float | None,
    min_bandwidth: float,
) -> None:
    positive(candidates=candidates, minimum=fewest)
    if size < 2 * fewest:
        raise InputError(
            f"tpe: size={size}: a memory of at least {2 * fewest} trials is needed for "
            f"{fewest} good and {fewest} bad ones"
        )
    wide = min_bandwidth if bandwidth is None else bandwidth
    for name, part in (("quantile", quantile), ("random", random), ("bandwidth", wide)):
        if not 0 <= part <= 1:
            raise InputError(f"tpe: {name}={part}: it has to be between 0 and 1")
