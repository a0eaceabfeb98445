"""Q-learning over edits: an agent walks from network to network, one choice at a time."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
    sample,
    settle,
    to_vector,
)
from jnas.errors import positive
from jnas.links.q_functions import QFunction, allowed_choices
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

KINDS = ("change", "add", "remove")
REWARDS = ("improvement", "score")


class EditEnvironment(NamedTuple):
    """Architectures as states, edits of one choice as actions.

    An action is a place and its new choice, numbered `place * K + choice`.

    space: the space.
    allowed: `x int32[L] -> bool[L, K]`, the edits that an architecture admits.
    """

    space: Space
    allowed: Callable[[jax.Array], jax.Array]


def edit_environment(
    space: Space,
    absent: Any = None,
    ordered: Any = None,
    kinds: Sequence[str] = KINDS,
) -> EditEnvironment:
    """The edits of a space: change, add or remove one choice.

    An edit sets one place to another choice. It removes where the new choice is the absent one,
    adds where the old one was, and changes otherwise. Edits to invalid architectures are left out.

    Args:
      space: the space.
      absent: a pytree like `num_choices` with the choice of each leaf that means "nothing here",
        such as an operation `none`, or None for a leaf where every choice is something.
      ordered: a pytree like `num_choices` of bools: True for a leaf whose choices are steps of
        one quantity, such as a depth, which goes up or down by 1.
      kinds: the kinds of edits: "change", "add", "remove".

    Returns:
      The environment.

    Raises:
      InputError: leaves that do not match the space, or no edit is left.

    >>> space = Space("pair", np.array([3, 2]))
    >>> edit_environment(space, absent=0).allowed(jnp.array([2, 0])).astype(int)
    Array([[1, 1, 0],
           [0, 1, 0]], dtype=int32)
    """
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds:
        raise InputError(f"kinds={tuple(kinds)}: allowed: {', '.join(KINDS)}")
    nothing = _per_place(space, absent, -1, "absent")
    stepwise = _per_place(space, ordered, False, "ordered").astype(bool)
    has = allowed_choices(space)
    if not (choice_counts(space) > 1).any():
        raise InputError(f"edit_environment: space {space.name!r} has no choice to change")
    if ((nothing < -1) | (nothing >= choice_counts(space))).any():
        raise InputError(f"absent={absent}: these are not choices of every place of their leaf")
    if "change" not in kinds and (nothing < 0).all():
        raise InputError(f"kinds={tuple(kinds)}: nothing can be absent, so only changes are edits")
    choice = np.arange(has.shape[1])
    of_kind = {k: k in kinds for k in KINDS}

    def allowed(x: jax.Array) -> jax.Array:
        old = x[:, None]
        removes = choice == nothing[:, None]
        adds = old == nothing[:, None]
        kind = jnp.where(
            removes, of_kind["remove"], jnp.where(adds, of_kind["add"], of_kind["change"])
        )
        near = ~stepwise[:, None] | (jnp.abs(choice - old) == 1)
        edits = has & (choice != old) & kind & near
        hit = np.eye(x.shape[0], dtype=bool)[:, None, :]
        successors = jnp.where(hit, choice[None, :, None], x)  # [L, K, L]
        valid = jax.vmap(jax.vmap(lambda x: space.is_valid(from_vector(space, x))))
        return edits & valid(successors)

    return EditEnvironment(space, allowed)


def _per_place(space: Space, given: Any, default: int, what: str) -> np.ndarray:
    """A value for each leaf as one for each place, int[L]."""
    leaves, tree = jax.tree.flatten(space.num_choices)
    values: list[Any] = [None] * len(leaves)
    if given is not None:
        values = jax.tree.leaves(given, is_leaf=lambda v: v is None)
        if str(jax.tree.structure(given, is_leaf=lambda v: v is None)) != str(tree):
            raise InputError(f"{what}={given}: it needs the structure of the space, {tree}")
    if any(not isinstance(v, int | np.integer | None) for v in values):
        raise InputError(f"{what}={given}: every leaf is a number or None")
    pairs = zip(leaves, values, strict=True)
    return np.concatenate([np.full(c.size, default if v is None else v) for c, v in pairs])


# ------------------------------------------------------------------------------------- the link


class Edit(NamedTuple):
    """A step of a walk, both ends int32[..., L]."""

    before: jax.Array
    after: jax.Array


class Walkers(NamedTuple):
    x: jax.Array  # int32[W, L], where they stand
    score: jax.Array  # f32[W], of these architectures
    step: jax.Array  # int32[W], evaluations of this episode; at 0 it starts anew


class EditTrace(NamedTuple):
    walker: jax.Array  # int32[n]
    before: jax.Array  # int32[n, L]
    score: jax.Array  # f32[n], of what is before
    step: jax.Array  # int32[n]


class EditState(NamedTuple):
    learned: Learned
    told: jax.Array  # int32[], trials of weight > 0 told so far
    scale: Scale
    experience: Any
    walkers: Walkers


def edit_q_learning(
    environment: EditEnvironment,
    q: QFunction,
    rule: float | optax.GradientTransformation,
    epsilon: float | Callable[[jax.Array], jax.Array],
    *,
    walkers: int = 1,
    episode: int = 20,
    reward: str = "improvement",
    discount: float = 0.9,
    target_period: int | None = None,
    double: bool = False,
    huber: float | None = None,
    normalise: bool = False,
    experience: Strategy | None = None,
    updates: int = 1,
) -> Strategy:
    """Walks from architecture to architecture by epsilon-greedy edits, and learns their worth.

    Row `i` of a round belongs to walker `i mod walkers`. An episode is one architecture drawn
    uniformly and then `episode` edits; a walk has no end of its own, so the last state counts on.
    A walker moves when its row is told: of several rows that started at the same step, the best
    one told together moves it, and rows that come after it has moved are only learned from.
    A row that failed leaves its walker where it was.

    Args:
      environment: what can be edited: `edit_environment(space)`.
      q: the Q-function: `tabular_q(space, "architecture")`, `linear_q`, `mlp_q`.
      rule: a learning rate or an optimizer; see `q_learning`.
      epsilon: the chance that an edit is random, or a schedule; see `q_learning`.
      walkers: the walks side by side; best as many as there are proposals in a round.
      episode: the edits of an episode.
      reward: of an edit: "improvement", the new score minus the old one; or "score", the new one.
      discount: below 1: how much the edits to come count.
      target_period: see `q_learning`.
      double: see `q_learning`.
      huber: see `q_learning`.
      normalise: rewards count in standard deviations of the scores so far, and scores from their
        mean.
      experience: `replay(memory, n)`; its memory holds edits and their rewards.
      updates: see `q_learning`.

    Returns:
      A link that proposes from nothing.

    Raises:
      InputError: settings out of range, or that do not go together.
    """
    s = Settings(rule, epsilon, discount, target_period, double, huber, normalise, experience,
                 updates)  # fmt: skip
    check(s, q, "edit_q_learning", "architecture")
    if discount == 1:
        raise InputError("edit_q_learning: discount=1.0: a walk without an end needs less than 1")
    positive(walkers=walkers, episode=episode)
    if reward not in REWARDS:
        raise InputError(f"edit_q_learning: reward={reward!r}: allowed: {', '.join(REWARDS)}")
    space = environment.space
    places, choices = allowed_choices(space).shape
    learner = make_learner(q, _editing(q, environment), s)

    def init(key: jax.Array, arch: Architecture) -> EditState:
        del arch
        k_learner, k_experience = jax.random.split(key)
        nothing = jnp.zeros(places, jnp.int32)
        memory = () if experience is None else experience.init(k_experience, Edit(nothing, nothing))
        x = jnp.zeros((walkers, places), jnp.int32)
        walk = Walkers(x, jnp.zeros(walkers), jnp.zeros(walkers, jnp.int32))
        return EditState(learner.init(k_learner), jnp.int32(0), no_scale(), memory, walk)

    def ask(key: jax.Array, state: EditState, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError("edit_q_learning proposes by itself: put it first in the chain.")
        k_edit, k_start = jax.random.split(key)
        mine = jnp.arange(n) % walkers
        x, score, step = jax.tree.map(lambda leaf: leaf[mine], state.walkers)
        bits = jax.random.bits(k_edit, (n, 2), jnp.uint32)
        chances = epsilon_of(s, state.told, n)

        def edited(x: jax.Array, bits: jax.Array, chance: jax.Array) -> jax.Array:
            allowed = environment.allowed(x)
            values = _everywhere(q, state.learned.params, x)
            action = pick(bits, values.ravel(), allowed.ravel(), chance)
            hit = (jnp.arange(places) == action // choices) & jnp.any(allowed)
            return jnp.where(hit, action % choices, x)

        start = to_vector(space, sample(space, k_start, n))
        after = jnp.where((step == 0)[:, None], start, jax.vmap(edited)(x, bits, chances))
        trace = EditTrace(mine, x, score, step)
        return propose(from_vector(space, after))._replace(trace=trace)

    def tell(key: jax.Array, trials: Trials, state: EditState) -> tuple[Trials, EditState]:
        trials = settle(trials, "edit_q_learning")
        trace: EditTrace = trials.trace
        after = to_vector(space, trials.arch)
        distance = jnp.sum(trace.before != after, -1)
        starts = trace.step == 0
        weight = jnp.where(starts | (distance != 1), 0, trials.weight)
        gain = trials.score - trace.score if reward == "improvement" else trials.score
        scale = seen(state.scale, trials) if normalise else state.scale
        rows = Trials(Edit(trace.before, after), gain, weight=weight)
        rows, memory = recalled(s, key, rows, state.experience, "edit_q_learning")
        worth = rows.score
        if normalise:
            worth = (worth if reward == "improvement" else worth - scale.mean) / deviation(scale)
        learned = learner.learn(state.learned, rows.arch, worth[:, None], rows.weight)
        told = state.told + jnp.sum(trials.weight > 0, dtype=jnp.int32)
        moves = (trials.weight > 0) & (starts | (distance <= 1))
        walk = _moved(state.walkers, trace, after, trials.score, moves, episode)
        return trials, EditState(learned, told, scale, memory, walk)

    return Strategy(init, ask, tell)


def _moved(
    walkers: Walkers,
    trace: EditTrace,
    after: jax.Array,
    score: jax.Array,
    moves: jax.Array,
    episode: int,
) -> Walkers:
    """Every walker at the best of its rows, if one started where it stands."""
    number = jnp.arange(walkers.step.shape[0])[:, None]
    mine = (trace.walker == number) & moves & (trace.step == walkers.step[:, None])  # [W, n]
    row = jnp.argmax(jnp.where(mine, score, -jnp.inf), -1)
    any_row = jnp.any(mine, -1)
    step = jnp.where(walkers.step == episode, 0, walkers.step + 1)
    new = Walkers(after[row], score[row], step)
    gate = lambda new, old: jnp.where(any_row.reshape(-1, *[1] * (old.ndim - 1)), new, old)
    return jax.tree.map(gate, new, walkers)


def _everywhere(q: QFunction, params: Any, x: jax.Array) -> jax.Array:
    """The values of all edits of an architecture, f32[L, K]."""
    return jax.vmap(q.apply, (None, None, 0))(params, x, jnp.arange(x.shape[0]))


def _editing(q: QFunction, environment: EditEnvironment) -> Walk:
    """A row is an `Edit`; it is one step."""

    def action(edit: Edit) -> tuple[jax.Array, jax.Array]:
        place = jnp.argmax(edit.before != edit.after)
        return place, edit.after[place]

    def at(params: Any, edit: Edit, t: Any) -> tuple[jax.Array, jax.Array]:
        del t
        place, choice = action(edit)
        now = q.apply(params, edit.before, place)[choice]
        allowed = environment.allowed(edit.after)
        after = jnp.where(allowed, _everywhere(q, params, edit.after), -jnp.inf)
        return now, jnp.where(jnp.any(allowed), after, 0).ravel()

    def along(params: Any, edit: Edit) -> tuple[jax.Array, jax.Array]:
        now, after = at(params, edit, 0)
        return now[None], after[None]

    def nudge(params: Any, edit: Edit, t: Any, amount: jax.Array) -> Any:
        del t
        assert q.nudge is not None
        return q.nudge(params, edit.before, *action(edit), amount)

    return Walk(1, at, along, nudge)
