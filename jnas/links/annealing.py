"""Simulated annealing: walkers that now and then accept a worse neighbour."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import (
    Architecture,
    InputError,
    Space,
    Strategy,
    Trials,
    from_vector,
    propose,
    rows,
    sample,
    settle,
    to_vector,
)
from jnas.links.variation import mutate_one


class Walkers(NamedTuple):
    vector: jax.Array  # int32[walkers, L]
    score: jax.Array  # f32[walkers]; -inf for a walker that has not started
    told: jax.Array  # int32[], rows of weight > 0 so far


def geometric(initial: float, final: float, steps: int) -> Callable[[jax.Array], jax.Array]:
    """The schedule that falls from `initial` to `final` by the same factor at each of `steps`.

    Args:
      initial: the value at count 0.
      final: the value from count `steps` on.
      steps: how many steps there are.

    Returns:
      A schedule `count -> value`.

    Raises:
      InputError: a value that is not positive, or no step.
    """
    if not (initial > 0 and final > 0):
        raise InputError(f"temperatures {initial} to {final}: both have to be more than 0")
    if steps < 1:
        raise InputError(f"steps={steps}: a schedule has at least 1 step")
    rate = jnp.log(final / initial) / steps
    return lambda count: initial * jnp.exp(rate * jnp.minimum(count, steps))


def anneal(
    space: Space, temperature: float | Callable[[jax.Array], jax.Array], walkers: int = 1
) -> Strategy:
    """Each walker proposes a neighbour and moves to it with chance `min(1, exp(gain / T))`.

    Kirkpatrick et al. 1983, "Optimization by Simulated Annealing", with the rule of Metropolis et
    al. 1953. A neighbour is drawn by `mutate_one`; a walker starts from a random architecture.
    Rows take turns among the walkers. Several rows of a walker in one batch, or late ones, are
    judged one after the other against where the walker stands by then.

    Args:
      space: the space of the architectures.
      temperature: T in units of the score, at least 0 (0: only gains that are not negative are
        accepted); a number, or a schedule of the number of trials told before the row.
      walkers: how many walk independently.

    Returns:
      A strategy that proposes from nothing.

    Raises:
      InputError: no walker, or a negative temperature.
    """
    if walkers < 1:
        raise InputError(f"walkers={walkers}: at least 1 has to walk")
    if not callable(temperature) and not temperature >= 0:
        raise InputError(f"temperature={temperature}: it has to be at least 0")
    at = temperature if callable(temperature) else lambda count: jnp.float32(temperature)
    mutate = mutate_one(space)

    def init(key: jax.Array, arch: Architecture) -> Walkers:
        del key
        vector = jnp.broadcast_to(to_vector(space, arch), (walkers, to_vector(space, arch).size))
        return Walkers(vector, jnp.full(walkers, -jnp.inf, jnp.float32), jnp.int32(0))

    def ask(key: jax.Array, state: Walkers, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError("anneal proposes from its own walkers: put it first in the chain.")
        k_start, k_move, k_luck = jax.random.split(key, 3)
        walker = (state.told + jnp.arange(n)) % walkers
        here = propose(from_vector(space, state.vector[walker]))
        near = mutate.ask(k_move, (), n, here).arch
        arch = rows(jnp.isfinite(state.score[walker]), near, sample(space, k_start, n))
        luck = jax.random.uniform(k_luck, (n,))
        return propose(arch)._replace(trace=(walker, luck))

    def tell(key: jax.Array, trials: Trials, state: Walkers) -> tuple[Trials, Walkers]:
        del key
        trials = settle(trials, "anneal")

        def judge(state: Walkers, row: tuple) -> tuple[Walkers, None]:
            x, score, live, (walker, luck) = row
            mine = jnp.arange(walkers) == walker
            gain = score - state.score
            chance = jnp.where(gain >= 0, 1.0, jnp.exp(gain / jnp.maximum(at(state.told), 1e-30)))
            move = mine & live & (luck < chance)
            vector = jnp.where(move[:, None], x, state.vector)
            told = state.told + live.astype(jnp.int32)
            return Walkers(vector, jnp.where(move, score, state.score), told), None

        told = (to_vector(space, trials.arch), trials.score, trials.weight > 0, trials.trace)
        return trials, jax.lax.scan(judge, state, told)[0]

    return Strategy(init, ask, tell)
