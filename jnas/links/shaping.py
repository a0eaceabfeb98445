"""Shaping: feedback links that put the scores of a batch in relation to one another."""

import jax
import jax.numpy as jnp

from jnas.base import InputError, Strategy, Trials
from jnas.links.baselines import subtract_mean
from jnas.links.feedback import score_by
from jnas.links.sums import mean


def rank_scores() -> Strategy:
    """Replaces the scores of a batch by their centred ranks, from -0.5 (worst) to 0.5 (best).

    The fitness shaping of Salimans et al. 2017, "Evolution Strategies as a Scalable Alternative to
    Reinforcement Learning", arXiv 1703.03864, section 2.1: only the order of the scores counts.
    Equal scores share the mean of their ranks. A batch of one row has rank 0 and so teaches a
    policy gradient nothing.
    """

    def rank(trials: Trials) -> jax.Array:
        live = trials.weight > 0
        rival = live & live[:, None]
        below = jnp.sum(rival & (trials.score[:, None] > trials.score), -1)
        equal = jnp.sum(rival & (trials.score[:, None] == trials.score), -1)
        twice = 2 * below + equal - 1  # of the mean rank, from 0
        return twice / jnp.maximum(2 * jnp.sum(live) - 2, 1) - jnp.where(jnp.sum(live) > 1, 0.5, 0)

    return score_by(rank, "rank_scores")


def centre() -> Strategy:
    """Takes the weighted mean of a batch off its scores: `subtract_mean` by its name in shaping."""
    return subtract_mean()


def standardise(epsilon: float = 1e-8) -> Strategy:
    """Gives the scores of a batch weighted mean 0 and standard deviation 1.

    Args:
      epsilon: added to the standard deviation, so that equal scores become 0.

    Returns:
      A link for the feedback path.
    """
    if not epsilon > 0:
        raise InputError(f"standardise: epsilon={epsilon}: a number above 0 is needed")

    def scale(trials: Trials) -> jax.Array:
        off = trials.score - mean(trials.score, trials.weight)
        return off / (jnp.sqrt(mean(off**2, trials.weight)) + epsilon)

    return score_by(scale, "standardise")


def clip_scores(low: float, high: float) -> Strategy:
    """Moves scores outside of `[low, high]` to its ends."""
    if not low < high:
        raise InputError(f"clip_scores: low={low} has to be below high={high}")
    return score_by(lambda trials: jnp.clip(trials.score, low, high), "clip_scores")
