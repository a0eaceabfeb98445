"""Q-learning over partial architectures: an agent fills the places in order."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.base import (
    Architecture,
    Space,
    Strategy,
    Trials,
    from_vector,
    propose,
    repaired,
    settle,
    to_vector,
)
from jnas.links.q_functions import QFunction, allowed_choices, before
from jnas.links.temporal_difference import (
    Learned,
    Scale,
    Settings,
    Walk,
    check,
    deviation,
    epsilon_of,
    make_learner,
    no_scale,
    pick,
    recalled,
    seen,
)


class QState(NamedTuple):
    learned: Learned
    told: jax.Array  # int32[], trials of weight > 0 told so far
    scale: Scale
    experience: Any


def q_learning(
    space: Space,
    q: QFunction,
    rule: float | optax.GradientTransformation,
    epsilon: float | Callable[[jax.Array], jax.Array],
    *,
    discount: float = 1.0,
    target_period: int | None = None,
    double: bool = False,
    huber: float | None = None,
    shaped: bool = False,
    normalise: bool = False,
    experience: Strategy | None = None,
    updates: int = 1,
) -> Strategy:
    """Chooses place after place, epsilon-greedily, and learns what the choices were worth.

    An architecture is an episode of `L` steps; the state is what the places before hold, and the
    score is the reward of the last step. With `Q(s, a)` for the value of choice `a`::

        Q(s, a) <- Q(s, a) + rate (r + discount max_b Q(s', b) - Q(s, a))

    Watkins 1989; MetaQNN (Baker et al. 2017, arXiv 1611.02167) with a table and a learning rate;
    DQN (Mnih et al. 2015, Nature 518, 529) with a perceptron, an optimizer, a target network and
    experience replay; double DQN (van Hasselt et al. 2016, arXiv 1509.06461) with `double`.

    Args:
      space: the space.
      q: the Q-function: `tabular_q`, `linear_q`, `mlp_q`.
      rule: a learning rate: rows one by one, each from its last place to its first; or an
        optimizer: the gradient of the squared error of all places of all rows.
      epsilon: the chance that a choice is random, or a schedule `count -> chance` of the number
        of trials told before the proposal.
      discount: of the value of the next state.
      target_period: updates between two copies of the parameters into the target network, which
        values the next state; None for no target network.
      double: the parameters choose the next action, the target network values it.
      huber: the error from which on the loss is linear; None for the squared error.
      shaped: every step is rewarded with its part of the score, `score / L`, rather than the last
        with all; faster, and no longer exact (after Zhong et al. 2018, arXiv 1708.05552).
      normalise: scores count in standard deviations from their mean so far. Otherwise choose the
        Q-function's `initial` and the learning rate for the scores' own unit.
      experience: `replay(memory, n)` over architectures; None learns from each row once. Put it
        here rather than to the right of this link, where `epsilon` would count replayed rows.
      updates: batches that the replayed rows are split into, one update of the optimizer each.

    Returns:
      A link that proposes from nothing.

    Raises:
      InputError: settings out of range, or that do not go together.
    """
    s = Settings(rule, epsilon, discount, target_period, double, huber, normalise, experience,
                 updates)  # fmt: skip
    check(s, q, "q_learning", "prefix")
    allowed = jnp.asarray(allowed_choices(space))
    places = allowed.shape[0]
    learner = make_learner(q, _filling(q, allowed), s)

    def init(key: jax.Array, arch: Architecture) -> QState:
        k_learner, k_experience = jax.random.split(key)
        memory = () if experience is None else experience.init(k_experience, arch)
        return QState(learner.init(k_learner), jnp.int32(0), no_scale(), memory)

    def ask(key: jax.Array, state: QState, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError("q_learning proposes by itself: put it first in the chain.")
        bits = jax.random.bits(key, (places, n, 2), jnp.uint32)
        chances = epsilon_of(s, state.told, n)
        value = jax.vmap(q.apply, (None, 0, None))

        def step(x: jax.Array, given: tuple) -> tuple[jax.Array, None]:
            place, bits, allowed = given
            values = value(state.learned.params, x, place)
            choice = jax.vmap(pick, (0, 0, None, 0))(bits, values, allowed, chances)
            return x.at[:, place].set(choice), None

        empty = jnp.full((n, places), -1, jnp.int32)
        x, _ = jax.lax.scan(step, empty, (jnp.arange(places), bits, allowed))
        return propose(repaired(space, from_vector(space, x)))

    def tell(key: jax.Array, trials: Trials, state: QState) -> tuple[Trials, QState]:
        trials = settle(trials, "q_learning")
        scale = seen(state.scale, trials) if normalise else state.scale
        rows = Trials(trials.arch, trials.score, weight=trials.weight)
        rows, memory = recalled(s, key, rows, state.experience, "q_learning")
        score = (rows.score - scale.mean) / deviation(scale) if normalise else rows.score
        part = jnp.full(places, 1 / places) if shaped else jnp.arange(places) == places - 1
        x = to_vector(space, rows.arch)
        learned = learner.learn(state.learned, x, score[:, None] * part, rows.weight)
        told = state.told + jnp.sum(trials.weight > 0, dtype=jnp.int32)
        return trials, QState(learned, told, scale, memory)

    return Strategy(init, ask, tell)


def _filling(q: QFunction, allowed: jax.Array) -> Walk:
    """A row is an architecture, int32[L]; step `t` fills place `t`."""
    places, choices = allowed.shape

    def at(params: Any, x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        now = q.apply(params, before(x, t), t)[x[t]]
        following = jnp.minimum(t + 1, places - 1)
        after = q.apply(params, before(x, following), following)
        after = jnp.where(allowed[following], after, -jnp.inf)
        return now, jnp.where(t == places - 1, 0, after)

    def along(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = q.along(params, x)
        now = jnp.sum(jnp.where(jnp.arange(choices) == x[:, None], values, 0), -1)
        after = jnp.where(allowed, values, -jnp.inf)[1:]
        return now, jnp.concatenate([after, jnp.zeros((1, choices))])

    def nudge(params: Any, x: jax.Array, t: jax.Array, amount: jax.Array) -> Any:
        assert q.nudge is not None
        return q.nudge(params, before(x, t), t, x[t], amount)

    return Walk(places, at, along, nudge)
