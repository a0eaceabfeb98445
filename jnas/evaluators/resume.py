"""Training that goes on: what has stopped at a part of its steps is kept, and continued later."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, Trials
from jnas.nets import dispatch


class Store(NamedTuple):
    """The last candidates that stopped early, `C` of them."""

    arch: Architecture  # leaves [C, ...]
    key: jax.Array  # uint32[C, ...], the data of the candidate's own key
    progress: Any  # leaves [C, ...]
    steps: jax.Array  # int32[C], taken so far; 0 where empty
    used: jax.Array  # int32[C], the round in which it last trained
    round: jax.Array  # int32[]


def check(remember: int) -> None:
    """Raises `InputError` for a number of candidates that cannot be kept."""
    if isinstance(remember, bool) or not isinstance(remember, int) or remember < 0:
        raise InputError(f"remember={remember!r}: a number of candidates is needed, or 0")


def empty(arch: Architecture, key: jax.Array, progress: Any, size: int) -> Store:
    """A store without candidates.

    Args:
      arch: one architecture, for its form.
      key: the data of one key, for its form.
      progress: of one candidate, for its form; arrays or `jax.ShapeDtypeStruct`.
      size: how many candidates are kept.
    """
    blank = lambda x: jnp.zeros((size, *x.shape), x.dtype)
    counts = jnp.zeros(size, jnp.int32)
    return Store(
        jax.tree.map(blank, arch),
        blank(key),
        jax.tree.map(blank, progress),
        counts,
        counts,
        jnp.int32(0),
    )


def find(store: Store, arch: Architecture, target: jax.Array) -> jax.Array:
    """Where each row can go on: the kept candidate of its architecture with the most steps.

    Only with fewer steps than the row is to have; of equal ones the first. No two rows go on from
    the same candidate.

    Args:
      store: the candidates kept.
      arch: of the rows, leaves `[n, ...]`.
      target: steps that a row is to have in the end, int32[n].

    Returns:
      int32[n], the size of the store where a row starts afresh.
    """
    size, n = store.steps.size, target.size
    same = (store.steps > 0) & (store.steps < target[:, None])
    for mine, kept in zip(jax.tree.leaves(arch), jax.tree.leaves(store.arch), strict=True):
        equal = mine.reshape(n, 1, -1) == kept.reshape(1, size, -1)
        same &= jnp.all(equal, -1)

    def choose(taken: jax.Array, fits: jax.Array) -> tuple[jax.Array, jax.Array]:
        steps = jnp.where(fits & ~taken, store.steps, 0)
        best = jnp.argmax(steps)
        place = jnp.where(steps[best] > 0, best, size).astype(jnp.int32)
        return taken | (jnp.arange(size) == place), place

    return jax.lax.scan(choose, jnp.zeros(size, bool), same)[1]


def take(store: Store, place: jax.Array, key: jax.Array, progress: Any) -> tuple[Any, Any, Any]:
    """The keys, the progress and the steps taken of rows that go on, or of new ones.

    Args:
      store: the candidates kept.
      place: of `find`.
      key: of the rows as new candidates, uint32[n, ...].
      progress: of the rows as new candidates, leaves `[n, ...]`.
    """
    known, at = place < store.steps.size, jnp.minimum(place, store.steps.size - 1)

    def of(kept: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(known.reshape(-1, *(1,) * (new.ndim - 1)), kept[at], new)

    steps = jnp.where(known, store.steps[at], 0)
    return of(store.key, key), jax.tree.map(of, store.progress, progress), steps


def put(
    store: Store,
    place: jax.Array,
    arch: Architecture,
    key: jax.Array,
    progress: Any,
    steps: jax.Array,
    keep: jax.Array,
) -> Store:
    """The store after a round.

    What went on keeps its place, and leaves it empty where it need not be kept any more. New
    candidates take the empty places, then those that have not trained for the longest; a batch
    larger than the store keeps its first rows.

    Args:
      store: before the round.
      place: of `find`.
      arch: of the rows.
      key: of the rows.
      progress: of the rows after the round.
      steps: that they have taken in all.
      keep: whether each may go on later, bool[n].
    """
    size = store.steps.size
    known = place < size
    leaving = jnp.where(known & ~keep, place, size)
    held = store.steps.at[leaving].set(0, mode="drop")
    busy = jnp.zeros(size, bool).at[jnp.where(known & keep, place, size)].set(True, mode="drop")
    age = jnp.where(busy, jnp.iinfo(jnp.int32).max, jnp.where(held > 0, store.used + 1, 0))
    free = jnp.argsort(age, stable=True).astype(jnp.int32)
    new = keep & ~known
    nth = jnp.cumsum(new) - 1
    fits = new & (nth < size - jnp.sum(busy))
    place = jnp.where(fits, free[jnp.minimum(nth, size - 1)], jnp.where(keep, place, size))
    write = lambda old, x: old.at[place].set(x, mode="drop")
    return Store(
        jax.tree.map(write, store.arch, arch),
        write(store.key, key),
        jax.tree.map(write, store.progress, progress),
        write(held, steps),
        write(store.used, jnp.full_like(place, store.round)),
        store.round + 1,
    )


class Partly(NamedTuple):
    """Trains candidates for a part of the steps each.

    init: `arch -> state`, given one architecture for its form.
    evaluate: `(every, key, trials, state) -> (metrics, state)`, where `every` makes a function of
      one row one of a batch.
    """

    init: Callable[[Architecture], Any]
    evaluate: Callable[..., tuple[dict[str, jax.Array], Any]]


def partly(
    start: Callable[[jax.Array], Any], go_on: Callable[..., Any], total: int, remember: int
) -> Partly:
    """Training by budgets.

    Args:
      start: `key -> progress`, of a candidate's own key.
      go_on: `(key, arch, progress, first, last) -> (progress, metrics)` trains from step `first`
        up to `last`; progress has a field `alive`.
      total: steps of a full training. A row of budget `b` has `round(b * total)`, at least one.
      remember: how many candidates are kept to go on from, 0 for none.
    """
    plain = lambda progress: [dispatch.unwrapped(x)[0] for x in jax.tree.leaves(progress)]
    hashed = lambda key: jax.random.key_data(key)

    def init(arch: Architecture) -> Any:
        if not remember:
            return ()
        progress = jax.eval_shape(lambda: plain(start(jax.random.key(0))))
        return empty(arch, hashed(jax.random.key(0)), progress, remember)

    def evaluate(every: Callable, key: jax.Array, trials: Trials, state: Any) -> tuple[dict, Any]:
        n = jax.tree.leaves(trials.arch)[0].shape[0]
        budget = jnp.ones(n) if trials.budget is None else trials.budget
        last = jnp.clip(jnp.round(budget * total), 1, total).astype(jnp.int32)
        if trials.weight is not None:  # nobody's row trains no step, and takes no candidate
            last = jnp.where(trials.weight > 0, last, 0)
        keys = hashed(jax.random.split(key, n))
        begun = jax.vmap(start)(jax.random.wrap_key_data(keys))
        wraps = [dispatch.unwrapped(x)[1] for x in jax.tree.leaves(begun)]
        tree = jax.tree.structure(begun)
        progress, first = plain(begun), jnp.zeros(n, jnp.int32)
        if remember:
            place = find(state, trials.arch, last)
            keys, progress, first = take(state, place, keys, progress)

        def one(row: tuple) -> tuple[list, jax.Array, dict[str, jax.Array]]:
            words, arch, leaves, begin, end = row
            wrapped = [wrap(x) for wrap, x in zip(wraps, leaves, strict=True)]
            now = jax.tree.unflatten(tree, wrapped)
            now, found = go_on(jax.random.wrap_key_data(words), arch, now, begin, end)
            return plain(now), now.alive, found

        progress, alive, metrics = every(one)((keys, trials.arch, progress, first, last))
        metrics["steps_done"] = (last - first).astype(jnp.float32)
        if remember:
            keep = alive & (last < total)
            state = put(state, place, trials.arch, keys, progress, last, keep)
        return metrics, state

    return Partly(init, evaluate)
