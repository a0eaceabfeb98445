"""Learning a Q-function from steps: by a table's rule, in order, or by an optimizer, in batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.base import InputError, Strategy, Trials, settle
from jnas.links.q_functions import QFunction


class Walk(NamedTuple):
    """How a Q-function values a row of experience of `T` steps with `A` actions each.

    The values of the next actions are -inf for those that are not allowed, and all 0 after the
    end.

    steps: T.
    at: `(params, row, t) -> (value of the action taken f32[], of the next actions f32[A])`.
    along: `(params, row) -> (f32[T], f32[T, A])`, the same for all steps.
    nudge: `(params, row, t, amount) -> params`, whose value of the action taken has moved.
    """

    steps: int
    at: Callable[..., tuple[jax.Array, jax.Array]]
    along: Callable[..., tuple[jax.Array, jax.Array]]
    nudge: Callable[..., Any]


class Learned(NamedTuple):
    params: Any
    target: Any  # like params: the target network; () where there is none
    rule: Any  # of the optimizer
    updates: jax.Array  # int32[], updates of params so far


class Learner(NamedTuple):
    """init: `key -> Learned`; learn: `(learned, rows [m], rewards [m, T], weight [m])`."""

    init: Callable[[jax.Array], Learned]
    learn: Callable[..., Learned]


class Settings(NamedTuple):
    """What both views of Q-learning share; see `q_learning`."""

    rule: float | optax.GradientTransformation
    epsilon: float | Callable[[jax.Array], jax.Array]
    discount: float
    target_period: int | None
    double: bool
    huber: float | None
    normalise: bool
    experience: Strategy | None
    updates: int


def check(s: Settings, q: QFunction, who: str, reads: str) -> None:
    """Raises `InputError` for settings that cannot work, and a Q-function of the other view."""
    learns_by_rule = isinstance(s.rule, int | float)
    if learns_by_rule and not 0 < s.rule <= 1:
        raise InputError(f"{who}: learning rate {s.rule}: it has to be above 0 and at most 1")
    if learns_by_rule and q.nudge is None:
        raise InputError(f"{who}: this Q-function learns with an optimizer, such as optax.adam")
    if not callable(s.epsilon) and not 0 <= s.epsilon <= 1:
        raise InputError(f"{who}: epsilon={s.epsilon}: a probability is at least 0 and at most 1")
    if not 0 <= s.discount <= 1:
        raise InputError(f"{who}: discount={s.discount}: it has to be at least 0 and at most 1")
    if s.target_period is not None and s.target_period < 1:
        raise InputError(f"{who}: target_period={s.target_period}: at least 1, or None")
    if s.double and s.target_period is None:
        raise InputError(f"{who}: double=True chooses with one network and values with the target "
                         "network: give a target_period")  # fmt: skip
    if s.huber is not None and not (s.huber > 0 and not learns_by_rule):
        raise InputError(f"{who}: huber={s.huber}: above 0, and with an optimizer only")
    if s.updates < 1 or (s.updates > 1 and (learns_by_rule or s.experience is None)):
        raise InputError(f"{who}: updates={s.updates}: 1, or more with an optimizer and experience")
    if q.reads not in ("both", reads):
        states = "'architecture'" if reads == "architecture" else "'prefix' or 'last'"
        raise InputError(
            f"{who}: a table of the other view: use tabular_q(space, ...) with {states}"
        )


def make_learner(q: QFunction, walk: Walk, s: Settings) -> Learner:
    """A learner of `Q(s, a) = r + discount max Q(s', .)`.

    With a learning rate, steps are learned one by one, row by row and the last step of a row
    first, so that a reward travels the whole row at once. With an optimizer, all steps of all
    rows are one batch, or `updates` batches in turn.
    """

    def best(online: jax.Array, far: jax.Array) -> jax.Array:
        """The value of the next action; van Hasselt et al. 2016, arXiv 1509.06461, equation 4."""
        if not s.double:
            return jnp.max(far, -1)
        return jnp.take_along_axis(far, jnp.argmax(online, -1)[..., None], -1)[..., 0]

    def in_order(learned: Learned, rows: Any, rewards: jax.Array, weight: jax.Array) -> Learned:
        def step(params: Any, row: Any, rate: jax.Array, t: jax.Array, reward: jax.Array) -> Any:
            now, after = walk.at(params, row, t)
            far = after if s.target_period is None else walk.at(learned.target, row, t)[1]
            error = reward + s.discount * best(after, far) - now
            return walk.nudge(params, row, t, rate * error)

        def one(params: Any, given: tuple) -> tuple[Any, None]:
            row, reward, rate = given
            back = lambda params, given: (step(params, row, rate, *given), None)
            steps = jnp.arange(walk.steps), reward
            return jax.lax.scan(back, params, steps, reverse=True)[0], None

        params, _ = jax.lax.scan(one, learned.params, (rows, rewards, s.rule * weight))
        return synced(learned, learned._replace(params=params), jnp.any(weight > 0))

    def loss(params: Any, target: Any, rows: Any, rewards: jax.Array, weight: jax.Array) -> Any:
        def one(row: Any, reward: jax.Array) -> jax.Array:
            now, after = walk.along(params, row)
            far = after if s.target_period is None else walk.along(target, row)[1]
            goal = jax.lax.stop_gradient(reward + s.discount * best(after, far))
            if s.huber is None:
                return optax.l2_loss(now, goal)
            return optax.huber_loss(now, goal, delta=s.huber)

        losses = jax.vmap(one)(rows, rewards)
        ones = jnp.ones(walk.steps)
        total = weight @ jnp.ones_like(weight)
        return weight @ losses @ ones / jnp.where(total > 0, total * walk.steps, 1)

    def in_batches(learned: Learned, rows: Any, rewards: jax.Array, weight: jax.Array) -> Learned:
        assert isinstance(s.rule, optax.GradientTransformation)
        rule = s.rule

        def update(learned: Learned, batch: tuple) -> tuple[Learned, None]:
            gradient = jax.grad(loss)(learned.params, learned.target, *batch)
            change, state = rule.update(gradient, learned.rule, learned.params)
            params = optax.apply_updates(learned.params, change)
            new = learned._replace(params=params, rule=state)
            return synced(learned, new, jnp.any(batch[2] > 0)), None

        if s.updates == 1:
            return update(learned, (rows, rewards, weight))[0]
        if weight.shape[0] % s.updates:
            raise ValueError(
                f"{weight.shape[0]} rows of experience cannot be split into updates={s.updates} "
                "batches of the same size: replay a multiple of it."
            )
        split = lambda x: x.reshape(s.updates, -1, *x.shape[1:])
        batches = jax.tree.map(split, (rows, rewards, weight))
        return jax.lax.scan(update, learned, batches)[0]

    def synced(old: Learned, new: Learned, live: jax.Array) -> Learned:
        """The new state, its target network renewed when it is time; the old one if not live."""
        count = old.updates + 1
        new = new._replace(updates=count)
        if s.target_period is not None:
            fresh = count % s.target_period == 0
            keep = lambda target, params: jnp.where(fresh, params, target)
            new = new._replace(target=jax.tree.map(keep, old.target, new.params))
        parts: tuple[str, ...] = new._fields
        if isinstance(s.rule, int | float):  # params have not moved where nothing is live: no copy
            parts = ("updates",) if s.target_period is None else ("updates", "target")
        gate = lambda a, b: jnp.where(live, a, b)
        kept = {f: jax.tree.map(gate, getattr(new, f), getattr(old, f)) for f in parts}
        return new._replace(**kept)

    def init(key: jax.Array) -> Learned:
        params = q.init(key)
        target = () if s.target_period is None else params
        rule = () if isinstance(s.rule, int | float) else s.rule.init(params)
        return Learned(params, target, rule, jnp.int32(0))

    return Learner(init, in_order if isinstance(s.rule, int | float) else in_batches)


# -------------------------------------------------------------------------- choosing an action


def epsilon_of(s: Settings, told: jax.Array, n: int) -> jax.Array:
    """The epsilon of each of the next `n` trials, f32[n]."""
    value = s.epsilon(told + jnp.arange(n)) if callable(s.epsilon) else s.epsilon
    return jnp.broadcast_to(jnp.asarray(value, jnp.float32), (n,))


def pick(bits: jax.Array, values: jax.Array, allowed: jax.Array, epsilon: jax.Array) -> jax.Array:
    """An action, epsilon-greedy: with chance epsilon any, else one of the best, by chance.

    Args:
      bits: uint32[2], random.
      values: f32[A].
      allowed: bool[A], at least one of them.
      epsilon: f32[].

    Returns:
      int32[].
    """
    explore = (bits[0] >> 8).astype(jnp.float32) * 2.0**-24 < epsilon
    best = jnp.max(jnp.where(allowed, values, -jnp.inf))
    pool = allowed & (explore | (values == best))
    pool = jnp.where(jnp.any(pool), pool, allowed)  # values may be NaN after a divergence
    nth = bits[1] % jnp.sum(pool, dtype=jnp.uint32)
    return jnp.sum(jnp.cumsum(pool) <= nth, dtype=jnp.int32)


# ----------------------------------------------------------------------------- units of a score


class Scale(NamedTuple):
    """Mean and spread of the scores so far."""

    number: jax.Array  # f32[], of scores
    mean: jax.Array  # f32[]
    squares: jax.Array  # f32[], the sum of squared distances from the mean


def no_scale() -> Scale:
    """The scale before any score."""
    return Scale(jnp.float32(0), jnp.float32(0), jnp.float32(0))


def seen(scale: Scale, trials: Trials) -> Scale:
    """The scale after some more trials (Chan et al. 1979, the pairwise update)."""
    live = trials.weight > 0
    n = jnp.sum(live, dtype=jnp.float32)
    total = jnp.maximum(scale.number + n, 1)
    ones = jnp.ones_like(trials.score)
    mean = jnp.where(live, trials.score, 0) @ ones / jnp.maximum(n, 1)
    off = jnp.where(live, trials.score - mean, 0)
    squares = off @ off
    shift = jnp.where(n > 0, mean - scale.mean, 0)
    return Scale(
        scale.number + n,
        scale.mean + shift * n / total,
        scale.squares + squares + shift**2 * scale.number * n / total,
    )


def deviation(scale: Scale) -> jax.Array:
    """The standard deviation of the scores so far, 1 where there is none."""
    variance = scale.squares / jnp.maximum(scale.number, 1)
    return jnp.where(variance > 0, jnp.sqrt(variance), 1)


# ----------------------------------------------------------------------------------- experience


def recalled(
    s: Settings, key: jax.Array, rows: Trials, memory: Any, who: str
) -> tuple[Trials, Any]:
    """What to learn from now: the rows themselves, or what the experience makes of them."""
    if s.experience is None:
        return rows, memory
    past, memory = s.experience.tell(key, rows._replace(trace=()), memory)
    return settle(past, who), memory
