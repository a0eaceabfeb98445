"""Baselines: links that subtract from a reward what was to be expected anyway."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, Strategy, Trials, on_tell, pass_on, settle
from jnas.links.sums import mean


class EmaState(NamedTuple):
    sum: jax.Array  # f32[], weighted scores so far
    mass: jax.Array  # f32[], the weights of that sum; 0 before anything was told


def subtract_ema(decay: float, include_new: bool = False) -> Strategy:
    """Subtracts an exponential moving average of the scores.

    After round `t` of mean score `m_t`, the average is `b_t = s_t / z_t`, with

      `s_t = decay * s_(t-1) + (1 - decay) * m_t`, and `z_t` the same sum of ones,

    so that early scores have no weight of their own. A round is what arrives in one `tell`, and a
    round without rows of weight > 0 leaves the average as it is.

    Zoph and Le 2017, arXiv 1611.01578, section 3.2, subtract the average of the *previous*
    scores, `b_(t-1)`: it does not depend on the rows of the round, so the policy gradient stays
    unbiased. The first round, which has nothing before it, has its own mean subtracted. The codes
    of ENAS (`src/cifar10/micro_controller.py`) and of NAS-Bench-201
    (AutoDL-Projects, `exps/algos/reinforce.py`) update the average first and subtract `b_t`.

    Args:
      decay: of the average, in [0, 1).
      include_new: subtract `b_t`, as those codes do, rather than `b_(t-1)`.

    Returns:
      A link for the feedback path.

    Raises:
      InputError: the decay is not in [0, 1).
    """
    if not 0 <= decay < 1:
        raise InputError(f"subtract_ema: decay={decay}: a number of at least 0 and less than 1")

    def init(key: jax.Array, arch: Architecture) -> EmaState:
        del key, arch
        return EmaState(jnp.float32(0), jnp.float32(0))

    def tell(key: jax.Array, trials: Trials, state: EmaState) -> tuple[Trials, EmaState]:
        del key
        trials = settle(trials, "subtract_ema")
        any_row, now = jnp.any(trials.weight > 0), mean(trials.score, trials.weight)
        move = lambda old, new: jnp.where(any_row, decay * old + (1 - decay) * new, old)
        new = EmaState(move(state.sum, now), move(state.mass, 1.0))
        used = new if include_new else state
        known = used.mass > 0
        baseline = jnp.where(known, used.sum / jnp.where(known, used.mass, 1.0), now)
        return _minus(trials, baseline), new

    return Strategy(init, pass_on, tell)


def subtract_mean() -> Strategy:
    """Subtracts the mean score of the round: what arrives in one `tell`, by weight.

    A round of a single row becomes a score of 0, which teaches a policy nothing; `n` rows make
    the policy gradient smaller by `1 - 1/n`.

    Returns:
      A link for the feedback path.
    """
    return on_tell(lambda trials: _minus(trials, mean(trials.score, trials.weight)))


def _minus(trials: Trials, baseline: jax.Array) -> Trials:
    return trials._replace(score=jnp.where(trials.weight > 0, trials.score - baseline, 0.0))
