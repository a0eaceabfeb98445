"""Selection: links that pick parents from evaluated trials, `[m]` rows to `[n]`.

With `arity=2` they pick two parents for each child: every leaf of the trials, weight included, is
then `[n, 2, ...]`, which is what a crossover takes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jnas.base import InputError, Strategy, Trials, below, on_ask, settle

UNROLLED = 16  # rows of a tournament that are compared one by one, which is quicker than argmax


def select_tournament(size: int, arity: int = 1) -> Strategy:
    """Each parent is the best of `size` rows drawn at random, with replacement.

    Real et al. 2019, arXiv 1802.01548, Algorithm 1 (`size` is its S); Goldberg and Deb 1991.
    A larger tournament selects harder; `size=1` is uniform selection.

    Args:
      size: the rows that compete for each place.
      arity: parents for each child.

    Returns:
      A link from evaluated trials to `n` of them. Rows of weight 0 never compete.

    Raises:
      InputError: the size or the arity is less than 1.
    """
    if size < 1:
        raise InputError(f"tournament size {size}: a sample has at least 1 row")

    def choose(key: jax.Array, trials: Trials, m: int) -> jax.Array:
        rivals = _draw(key, trials, (m, size))
        return _first_best(rivals, trials.score[rivals])

    return _selection("select_tournament", arity, choose)


def select_uniform(arity: int = 1) -> Strategy:
    """Each parent is any row, all with the same chance, with replacement."""
    return _selection("select_uniform", arity, lambda key, trials, m: _draw(key, trials, (m,)))


def select_roulette(baseline: float | None = None, arity: int = 1) -> Strategy:
    """Fitness-proportional selection: a row's chance is proportional to its score.

    Holland 1975; Goldberg 1989, "Genetic Algorithms in Search, Optimization and Machine
    Learning". What counts is how far a score lies above a baseline, so that negative
    scores do no harm; where no row lies above it, all have the same chance.

    Args:
      baseline: the score of no worth, 0 for the score itself; None for the worst score of the
        rows at hand (Grefenstette's window), which keeps up the pressure where scores are close.
      arity: parents for each child.

    Returns:
      A link from evaluated trials to `n` of them, with replacement.
    """

    def choose(key: jax.Array, trials: Trials, m: int) -> jax.Array:
        live = trials.weight > 0
        small = trials.score / 16  # differences, and one by them, stay within the floats
        worst = jnp.min(jnp.where(live, small, jnp.inf)) if baseline is None else baseline / 16
        share = jnp.where(live, jnp.maximum(small - worst, 0.0), 0.0)
        return _spin(key, jnp.where(jnp.any(share > 0), share, live), m)

    return _selection("select_roulette", arity, choose)


def select_rank_linear(pressure: float = 1.5, arity: int = 1) -> Strategy:
    """Linear ranking: a row's chance falls linearly with its rank.

    Baker 1985, "Adaptive selection methods for genetic algorithms". The best of M rows is drawn
    `pressure / M` of the time, the worst `(2 - pressure) / M`. Rows of equal score share the
    chances of the ranks that they take.

    Args:
      pressure: how much more often than at random the best is drawn, from 1 (uniform) to 2 (the
        worst is never drawn).
      arity: parents for each child.

    Returns:
      A link from evaluated trials to `n` of them, with replacement.

    Raises:
      InputError: the pressure is not in [1, 2], or the arity is less than 1.
    """
    if isinstance(pressure, int | float) and not 1 <= pressure <= 2:
        raise InputError(f"select_rank_linear(pressure={pressure}): it has to be in [1, 2]")

    def choose(key: jax.Array, trials: Trials, m: int) -> jax.Array:
        better, equal = _ranks(trials)
        live = trials.weight > 0
        rank = better + (equal - 1) / 2
        fall = (2 * pressure - 2) / jnp.maximum(jnp.sum(live) - 1, 1)
        return _spin(key, jnp.where(live, pressure - fall * rank, 0.0), m)

    return _selection("select_rank_linear", arity, choose)


def select_rank_exponential(decay: float = 0.9, arity: int = 1) -> Strategy:
    """Exponential ranking: each rank is drawn `decay` times as often as the one above it.

    Blickle and Thiele 1996, "A comparison of selection schemes used in evolutionary algorithms".
    Rows of equal score share the chances of the ranks that they take.

    Args:
      decay: in (0, 1); the closer to 0, the harder the selection.
      arity: parents for each child.

    Returns:
      A link from evaluated trials to `n` of them, with replacement.

    Raises:
      InputError: the decay is not in (0, 1), or the arity is less than 1.
    """
    if isinstance(decay, int | float) and not 0 < decay < 1:
        raise InputError(f"select_rank_exponential(decay={decay}): it has to be between 0 and 1")

    def choose(key: jax.Array, trials: Trials, m: int) -> jax.Array:
        better, equal = _ranks(trials)
        tied = jnp.maximum(equal, 1)
        mean = (1 - jnp.power(decay, tied)) / (tied * (1 - decay))  # of the ranks of a tie
        share = jnp.power(decay, better) * mean
        return _spin(key, jnp.where(trials.weight > 0, share, 0.0), m)

    return _selection("select_rank_exponential", arity, choose)


def select_truncation(fraction: float = 0.5, arity: int = 1) -> Strategy:
    """Each parent is any of the best rows, all with the same chance, with replacement.

    The selection of breeders: Mühlenbein and Schlierkamp-Voosen 1993, "Predictive models for the
    breeder genetic algorithm". Of equal scores at the border, the earlier rows are taken.

    Args:
      fraction: the part of the rows that may be parents, in (0, 1], rounded up.
      arity: parents for each child.

    Returns:
      A link from evaluated trials to `n` of them.

    Raises:
      InputError: the fraction is not in (0, 1], or the arity is less than 1.
    """
    if isinstance(fraction, int | float) and not 0 < fraction <= 1:
        raise InputError(f"select_truncation(fraction={fraction}): it has to be in (0, 1]")

    def choose(key: jax.Array, trials: Trials, m: int) -> jax.Array:
        live = trials.weight > 0
        position = _position(jnp.where(live, trials.score, -jnp.inf))
        parents = jnp.ceil(fraction * jnp.sum(live) - 1e-3)  # 0.1 of 10 rows is 1, not 1.0000001
        chosen = jnp.where(live & (position < parents), 1.0, 0.0)
        return _draw(key, trials._replace(weight=chosen, live=None), (m,))

    return _selection("select_truncation", arity, choose)


def _selection(
    who: str, arity: int, choose: Callable[[jax.Array, Trials, int], jax.Array]
) -> Strategy:
    """A link that takes the rows `choose(key, trials, m) -> int32[m]`."""
    if arity < 1:
        raise InputError(f"{who}(arity={arity}): a child has at least 1 parent")

    def pick(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        trials = _evaluated(trials, who)
        chosen = choose(key, trials, n * arity)
        return _take(trials, chosen if arity == 1 else chosen.reshape(n, arity))

    return on_ask(pick)


def _evaluated(trials: Trials | None, who: str) -> Trials:
    if trials is None or trials.score is None:
        raise ValueError(
            f"{who} ranks evaluated trials but was given unevaluated proposals: "
            "put a memory such as keep_youngest(...) to its left."
        )
    return trials if trials.live is not None else settle(trials, who)


def _draw(key: jax.Array, trials: Trials, shape: tuple[int, ...]) -> jax.Array:
    """Indices of rows of weight > 0, uniform with replacement; any row where there is none."""
    if trials.live is not None:  # so that nothing is counted over all rows
        return below(key, shape, jnp.maximum(trials.live, 1))
    live = jnp.cumsum(trials.weight > 0)
    nth = below(key, shape, jnp.maximum(live[-1], 1))
    return jnp.sum(nth[..., None] >= live, -1) % live.size  # branch-free search, fast under vmap


def _first_best(row: jax.Array, score: jax.Array) -> jax.Array:
    """The row of the best score of every tournament, `[m, size]` both; of equals the first."""
    if row.shape[1] > UNROLLED:
        best = jnp.argmax(score, -1)
        return jnp.take_along_axis(row, best[:, None], -1)[:, 0]
    winner, top = row[:, 0], score[:, 0]
    for k in range(1, row.shape[1]):  # one comparison of whole vectors each
        better = score[:, k] > top
        winner, top = jnp.where(better, row[:, k], winner), jnp.where(better, score[:, k], top)
    return winner


def _spin(key: jax.Array, share: jax.Array, m: int) -> jax.Array:
    """Indices int32[m] of rows, each as often as its share of all: a wheel spun `m` times.

    The shares are rounded to whole numbers, so that their sums are exact in any order, and a row
    with a share of 0 is never drawn.
    """
    share = jnp.asarray(share, jnp.float32)
    largest = jnp.max(share)
    unit = 2.0**31 / share.size
    parts = jnp.round(share / jnp.where(largest > 0, largest, 1.0) * unit).astype(jnp.uint32)
    end = jnp.cumsum(parts, dtype=jnp.uint32)
    bits = jax.random.bits(key, (m,), jnp.uint32) >> 8  # as many as a float holds
    at = (bits.astype(jnp.float32) * 2.0**-24 * end[-1].astype(jnp.float32)).astype(jnp.uint32)
    at = jnp.minimum(at, end[-1] - jnp.minimum(end[-1], 1))
    return jnp.sum(at[:, None] >= end, -1) % share.size


def _ranks(trials: Trials) -> tuple[jax.Array, jax.Array]:
    """How many live rows are better than each row, and how many as good, itself included."""
    live = trials.weight > 0
    score = jnp.where(live, trials.score, -jnp.inf)
    better = jnp.sum(score[None] > score[:, None], -1)
    return better, jnp.sum((score[None] == score[:, None]) & live, -1)


def _position(*worth: jax.Array) -> jax.Array:
    """The place of every row, int32[m], best first, by the first worth and then the next ones.

    Of equals the earlier row comes first. Counted pair by pair: a sort is slow under vmap.
    """
    row = jnp.arange(worth[0].size)
    ahead = row[None] < row[:, None]
    for x in reversed(worth):
        ahead = (x[None] > x[:, None]) | ((x[None] == x[:, None]) & ahead)
    return jnp.sum(ahead, -1)


def _take(trials: Trials, i: jax.Array) -> Trials:
    return jax.tree.map(lambda x: x[i], trials._replace(trace=(), live=None))
