"""Several objectives at once: non-dominated sorting, crowding, and the memories made of them.

Objectives are a mapping from names to directions, such as `{"score": "max", "params": "min"}`;
a name is `score` or a metric. One row dominates another if it is nowhere worse and somewhere
better. A row with an objective that is not finite counts as failed.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jnas.base import InputError, Strategy, Trials, on_ask, pass_on
from jnas.links.memory import Memory, _joined, _memory
from jnas.links.selection import _evaluated, _position

SIGNS = {"max": 1.0, "min": -1.0}


def keep_nondominated(
    size: int, objectives: Mapping[str, str], metrics: Sequence[str] = ()
) -> Strategy:
    """Keeps the `size` trials of the first fronts; of the last front the least crowded ones.

    The survival of NSGA-II: Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm:
    NSGA-II", IEEE Transactions on Evolutionary Computation 6(2), section III. Told `size` trials at
    once it is the paper's; told fewer at once, it is its steady-state form.

    Args:
      size: how many trials are kept.
      objectives: names and directions ("max" or "min") of what is optimized.
      metrics: the names of other metrics that are kept with each row.

    Returns:
      A link that proposes all its rows as evaluated trials, `[size]`, in the crowded order.

    Raises:
      InputError: the size is less than 1, or an objective has another direction.
    """
    _check("keep_nondominated", objectives)

    def put(state: Memory, new: Trials) -> Trials:
        both = _joined(state.rows, new)
        values, live = objectives_of("keep_nondominated", both, objectives)
        front = nondominated_sort(values, live)
        order = _position(-front, crowding_distance(values, front))
        return _arranged(both, live, order, state.rows, new)

    return _memory("keep_nondominated", size, _names(objectives, metrics), put)


def archive(size: int, objectives: Mapping[str, str], metrics: Sequence[str] = ()) -> Strategy:
    """Records the Pareto front of all trials ever told, on their way through the feedback path.

    Of trials with equal objectives the first is kept. Where the front outgrows the archive, the
    most crowded trials are dropped, as in NSGA-II. The front is in the state: `state.rows`, of
    weight 0 where empty.

    Args:
      size: the largest number of trials on record.
      objectives: names and directions ("max" or "min").
      metrics: the names of other metrics that are kept with each row.

    Returns:
      A link that changes neither proposals nor feedback.

    Raises:
      InputError: the size is less than 1, or an objective has another direction.
    """
    _check("archive", objectives)

    def put(state: Memory, new: Trials) -> Trials:
        both = _joined(state.rows, new)
        values, live = objectives_of("archive", both, objectives)
        row = jnp.arange(live.size)
        same = jnp.all(values[:, None] == values[None], -1) & live
        again = jnp.any(same & (row[None] < row[:, None]), -1)
        best = live & ~again & ~jnp.any(dominates(values, live), 0)
        crowding = crowding_distance(values, jnp.where(best, 0, 1))
        fits = jnp.sum(best) <= size  # then in the order of arrival
        order = _position(best, jnp.where(fits, 0.0, crowding))
        return _arranged(both, best, order, state.rows, new)

    memory = _memory("archive", size, _names(objectives, metrics), put)
    return memory._replace(ask=pass_on)


def rank_crowded(objectives: Mapping[str, str]) -> Strategy:
    """Scores evaluated trials by the crowded comparison, so that any selection can follow.

    A trial's score becomes minus the number of trials before it: those of an earlier front, and
    those of its own front that are less crowded. A binary tournament on it is the selection of
    NSGA-II (Deb et al. 2002, section III-B): `chain(keep_nondominated(...), rank_crowded(...),
    select_tournament(2))`.

    Args:
      objectives: names and directions ("max" or "min"); the memory to the left keeps the metrics.

    Returns:
      A link from evaluated trials to the same trials with other scores.

    Raises:
      InputError: an objective has another direction.
    """
    _check("rank_crowded", objectives)

    def rank(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        del key, n
        trials = _evaluated(trials, "rank_crowded")
        values, live = objectives_of("rank_crowded", trials, objectives)
        front = nondominated_sort(values, live)
        apart = crowding_distance(values, front)
        ahead = (front[None] < front[:, None]) | (
            (front[None] == front[:, None]) & (apart[None] > apart[:, None])
        )
        return trials._replace(score=-jnp.sum(ahead, -1, dtype=jnp.float32))

    return on_ask(rank)


def objectives_of(
    who: str, trials: Trials, objectives: Mapping[str, str]
) -> tuple[jax.Array, jax.Array]:
    """The objectives of the rows, f32[m, d], the larger the better, and which rows count."""
    known = {**dict(trials.metrics), "score": trials.score}
    missing = [name for name in objectives if name not in known]
    if missing:
        raise ValueError(
            f"{who} compares by {missing}, but the rows carry {sorted(known)}: let the memory "
            "keep those metrics, as keep_nondominated does."
        )
    values = jnp.stack([SIGNS[way] * known[name] for name, way in objectives.items()], -1)
    live = (trials.weight > 0) & jnp.all(jnp.isfinite(values), -1)
    return jnp.where(live[:, None], values, 0.0), live


def dominates(values: jax.Array, live: jax.Array) -> jax.Array:
    """Whether row i dominates row j, bool[m, m], of values f32[m, d], the larger the better."""
    as_good, better = True, False
    for x in values.T:  # one objective after the other: arrays stay [m, m]
        as_good &= x[:, None] >= x[None]
        better |= x[:, None] > x[None]
    return as_good & better & live[:, None] & live[None]


def nondominated_sort(values: jax.Array, live: jax.Array) -> jax.Array:
    """The front of each row, int32[m], 0 for the rows that no other dominates.

    Deb et al. 2002, section III-A. Rows that are not live come after all others, as front m.

    Args:
      values: f32[m, d], the larger the better.
      live: bool[m].

    Returns:
      The number of its front for each row.
    """
    over = dominates(values, live)
    m = live.size

    def peel(carry: tuple) -> tuple:
        front, left, number = carry
        best = left & ~jnp.any(over & left[:, None], 0)
        return jnp.where(best, number, front), left & ~best, number + 1

    start = (jnp.full(m, m, jnp.int32), live, jnp.int32(0))
    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), peel, start)[0]


def crowding_distance(values: jax.Array, front: jax.Array) -> jax.Array:
    """How far apart the neighbours of each row in its front are, f32[m]; infinite at its ends.

    Deb et al. 2002, section III-B. The gaps of an objective are divided by its range in the
    front, and summed over the objectives. Among equal values the earlier row comes first.

    Args:
      values: f32[m, d].
      front: int32[m].

    Returns:
      The crowding distance of each row.
    """
    row = jnp.arange(front.size)
    mates = front[:, None] == front[None]
    total = jnp.zeros(front.size)
    for x in values.T:
        below = mates & (
            (x[None] < x[:, None]) | ((x[None] == x[:, None]) & (row[None] < row[:, None]))
        )
        above = mates & ~below & (row[None] != row[:, None])
        lower = jnp.max(jnp.where(below, x[None], -jnp.inf), -1)
        upper = jnp.min(jnp.where(above, x[None], jnp.inf), -1)
        first = jnp.min(jnp.where(mates, x[None], jnp.inf), -1)
        last = jnp.max(jnp.where(mates, x[None], -jnp.inf), -1)
        span = last - first
        total += (upper - lower) / jnp.where(span > 0, span, 1.0)
    return total


def _arranged(both: Trials, live: jax.Array, order: jax.Array, old: Trials, new: Trials) -> Trials:
    """The live rows in their order, as many as fit in the old ones' place, which stay unless
    there is news."""
    slot = jnp.where(live, order, order.size)  # order.size: dropped
    some = jnp.any(new.weight > 0)

    def put(x: jax.Array, before: jax.Array) -> jax.Array:
        return jnp.where(some, jnp.zeros_like(before).at[slot].set(x, mode="drop"), before)

    return jax.tree.map(put, both, old)


def _check(who: str, objectives: Mapping[str, str]) -> None:
    if not objectives:
        raise InputError(f"{who}: give at least one objective, such as {{'score': 'max'}}")
    for name, way in objectives.items():
        if way not in SIGNS:
            raise InputError(f"{who}: objective {name}={way!r}; allowed are 'max' and 'min'")


def _names(objectives: Mapping[str, str], metrics: Sequence[str]) -> list[str]:
    """The metrics to keep."""
    return [name for name in {**objectives, **dict.fromkeys(metrics)} if name != "score"]
