"""Redrawing: strategies that propose again what cannot be or has been evaluated already."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import lookup
from jnas.base import (
    Architecture,
    InputError,
    Space,
    Strategy,
    Trials,
    choice_counts,
    rows,
    settle,
    to_vector,
)
from jnas.links.feedback import check_bounds, violation


def reject(
    strategy: Strategy,
    space: Space,
    count: str | Callable[[Architecture], Any],
    at_most: float | None = None,
    at_least: float | None = None,
    tries: int = 16,
) -> Strategy:
    """Draws proposals again that break a bound which can be counted before anything is trained.

    `reject(mutate_one(space), space, "params", at_most=1e6)` in a chain mutates the same parents
    until the children fit; around a whole chain it selects again as well.

    Args:
      strategy: a link, or a whole strategy, that proposes.
      space: of the architectures.
      count: one of `space.counts`, such as `params`, or a function of one architecture; of one
        that says yes or no, `at_least=1` keeps yes.
      at_most: the upper bound of the count.
      at_least: its lower bound.
      tries: the draws. A row that has not met the bounds by then is the nearest of its draws.

    Returns:
      A strategy in place of `strategy`.

    Raises:
      InputError: bounds or tries that cannot be, or a count that the space does not have.
    """
    check_bounds("reject", at_most, at_least)
    _check_tries("reject", tries)
    if isinstance(count, str) and count not in space.counts:
        known = ", ".join(space.counts) or "no counts"
        raise InputError(f"reject: count {count!r}: space {space.name!r} has {known}")
    of_one = space.counts[count] if isinstance(count, str) else count

    def by_how_much(trials: Trials) -> jax.Array:
        value = jax.vmap(of_one)(trials.arch)
        return violation(jnp.asarray(value, jnp.float32), at_most, at_least)

    def nearer(kept: Trials, off: jax.Array, new: Trials) -> tuple[Trials, jax.Array]:
        of_new = by_how_much(new)
        return rows(of_new < off, new, kept), jnp.minimum(of_new, off)

    def ask(key: jax.Array, state: Any, n: int, trials: Trials | None = None) -> Trials:
        return _redrawn("reject", strategy, tries, nearer, key, state, n, trials)

    return strategy._replace(ask=ask)


class Told(NamedTuple):
    inner: Any
    seen: lookup.Lookup  # of canonical forms


def without_repeats(strategy: Strategy, space: Space, size: int, tries: int = 16) -> Strategy:
    """Draws proposals again that it has been told already, or that the batch has already.

    Two architectures are the same where their canonical forms are. To make a repeat free rather
    than rare, see `jnas.evaluators.remembered`.

    Args:
      strategy: a link, or a whole strategy, that proposes.
      space: of the architectures.
      size: how many architectures it remembers, the last ones told for the first time.
      tries: the draws, after which a repeat is proposed all the same.

    Returns:
      A strategy in place of `strategy`.

    Raises:
      InputError: `size` or `tries` less than 1.
    """
    if size < 1:
        raise InputError(f"without_repeats: size={size}: it has to be at least 1")
    _check_tries("without_repeats", tries)
    forms = lambda arch: to_vector(space, jax.vmap(space.canonical)(arch))

    def init(key: jax.Array, arch: Architecture) -> Told:
        return Told(strategy.init(key, arch), lookup.empty(size, choice_counts(space).size))

    def ask(key: jax.Array, state: Told, n: int, trials: Trials | None = None) -> Trials:
        def newer(kept: Trials, old: jax.Array, new: Trials) -> tuple[Trials, jax.Array]:
            kept = rows(old > 0, new, kept)
            form = forms(kept.arch)
            known = jax.vmap(lambda v: lookup.find(state.seen, v))(form) != lookup.NONE
            old = known | (lookup.repeats(form) < jnp.arange(n))
            return kept, old.astype(jnp.float32)

        return _redrawn("without_repeats", strategy, tries, newer, key, state.inner, n, trials)

    def tell(key: jax.Array, trials: Trials, state: Told) -> tuple[Trials, Told]:
        trials = settle(trials, "without_repeats")
        seen, _ = lookup.insert(state.seen, forms(trials.arch), trials.weight > 0)
        told, inner = strategy.tell(key, trials, state.inner)
        return told, Told(inner, seen)

    return Strategy(init, ask, tell)


def _redrawn(
    who: str,
    strategy: Strategy,
    tries: int,
    choose: Callable[[Trials, jax.Array, Trials], tuple[Trials, jax.Array]],
    key: jax.Array,
    state: Any,
    n: int,
    trials: Trials | None,
) -> Trials:
    """Rows from as many draws as needed.

    `choose(kept, cost, new) -> (kept, cost)`: a cost of 0 is a row to stay with, and every row
    that is kept so far costs more than any new one at first.
    """
    # As data, since JAX's check for reused keys takes keys that a loop runs over for used.
    hashed = jax.random.key_data(jax.random.split(key, tries))

    def draw(i: jax.Array) -> Trials:
        k = jax.random.wrap_key_data(hashed[i], impl=jax.random.key_impl(key))
        return strategy.ask(k, state, n, trials)

    form = jax.eval_shape(draw, jnp.int32(0))
    if form.score is not None or form.weight.shape != (n,):
        raise ValueError(
            f"{who} draws new architectures again but was given a memory or a selection: put the "
            "whole chain, up to the link that makes children, into it."
        )

    def again(carry: tuple) -> tuple:
        i, kept, cost = carry
        return i + 1, *choose(kept, cost, draw(i))

    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), form)
    goes_on = lambda carry: (carry[0] < tries) & jnp.any(carry[2] > 0)
    return jax.lax.while_loop(goes_on, again, (jnp.int32(0), start, jnp.full(n, jnp.inf)))[1]


def _check_tries(who: str, tries: int) -> None:
    if tries < 1:
        raise InputError(f"{who}: tries={tries}: it has to be at least 1")
