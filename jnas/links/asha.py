"""ASHA: successive halving that promotes as soon as it can and never waits for a rung."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, Strategy, Trials, propose, rows, settle
from jnas.links.multi_fidelity import (
    AHEAD,
    ask_source,
    better,
    check_patience,
    earlier,
    empty_trace,
    put,
    rungs,
)


class Step(NamedTuple):
    """The trace of a row: what it was proposed for."""

    rung: jax.Array  # int32[n], which the row is to reach
    parent: jax.Array  # int32[n], number of the row of the rung below; -1 for a new candidate
    head_rung: jax.Array  # int32[n], of the row that was the first to be promoted; -1 for none
    head: jax.Array  # int32[n], its number
    source: Any  # the source's own trace


class Rungs(NamedTuple):
    """The last `C` rows of every rung but the highest, `K - 1` of them."""

    source: Any
    arch: Architecture  # leaves [K - 1, C, ...]
    trace: Any  # of the source, leaves [K - 1, C, ...]
    score: jax.Array  # f32[K - 1, C]
    number: jax.Array  # int32[K - 1, C], counted in each rung; -1 where empty
    promoted: jax.Array  # bool[K - 1, C]
    passed: jax.Array  # int32[K - 1, C], tells that left it the first to be promoted
    entered: jax.Array  # int32[K - 1], rows ever


def asha(
    source: Strategy,
    eta: float = 3,
    min_budget: float = 1 / 27,
    *,
    budgets: Sequence[float] | None = None,
    capacity: int = 256,
    patience: int = 5,
) -> Strategy:
    """Promotes a candidate that is among the best `1/eta` of its rung, else adds a new one.

    Asynchronous successive halving, Li et al. 2020, "A System for Massively Parallel Hyperparameter
    Tuning", arXiv 1810.05934, Algorithm 2 with s = 0; `eta` there is 4. A batch is what `n` workers
    that ask one after another would get. Rungs are looked through from the highest down, and
    within a rung the best comes first.

    Args:
      source: proposes new candidates, and is told all results.
      eta: the best `floor(rows / eta)` of a rung are promoted.
      min_budget: the budgets are `eta^-k`, down to this.
      budgets: given, they are the budgets of the rungs, rising to 1.
      capacity: rows of a rung that are remembered; with more, the rung is its youngest.
      patience: a promotion that fails is proposed again; after so many tells for which the
        candidate stayed the first to be promoted, it is given up.

    Returns:
      A strategy whose proposals have a budget.

    Raises:
      InputError: an impossible setting.
    """
    levels = rungs(eta, min_budget, budgets)
    if len(levels) < 2:
        raise InputError(f"min_budget={min_budget}: with eta={eta} there is only one rung")
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < eta:
        raise InputError(f"capacity={capacity!r}: a whole number of at least eta={eta} is needed")
    check_patience(patience)
    low, size = len(levels) - 1, capacity

    def init(key: jax.Array, arch: Architecture) -> Rungs:
        state = source.init(key, arch)
        blank = lambda x: jnp.zeros((low, size, *jnp.shape(x)), jnp.asarray(x).dtype)
        zeros = jnp.zeros((low, size), jnp.int32)
        return Rungs(
            source=state,
            arch=jax.tree.map(blank, arch),
            trace=jax.tree.map(blank, empty_trace(source, state)),
            score=jnp.zeros((low, size)),
            number=zeros - 1,
            promoted=zeros > 0,
            passed=zeros,
            entered=jnp.zeros(low, jnp.int32),
        )

    def ask(key: jax.Array, state: Rungs, n: int, trials: Trials | None = None) -> Trials:
        k_source, k_ahead = jax.random.split(key)
        asked = ask_source("asha", source, k_source, state.source, n, trials)
        order, many = _queue(state)
        # A candidate that always fails would else be all that a batch of one row ever is.
        away = jax.random.uniform(k_ahead) < AHEAD
        nth = jnp.where(away & (jnp.arange(n) == n - 1), low * size, jnp.arange(n))
        up = nth < many
        place = jnp.argmax(order.ravel() == nth[:, None], -1)
        of_place = lambda x: x.reshape(-1, *x.shape[2:])[place]
        first = jnp.argmax(order.ravel() == 0)
        some = lambda x: jnp.broadcast_to(jnp.where(many > 0, x, -1), (n,)).astype(jnp.int32)
        rung = jnp.where(up, place // size + 1, 0).astype(jnp.int32)
        return propose(rows(up, jax.tree.map(of_place, state.arch), asked.arch))._replace(
            budget=jnp.asarray(levels, jnp.float32)[rung],
            trace=Step(
                rung=rung,
                parent=jnp.where(up, of_place(state.number), -1),
                head_rung=some(first // size),
                head=some(state.number.ravel()[first]),
                source=rows(up, jax.tree.map(of_place, state.trace), asked.trace),
            ),
        )

    def _queue(state: Rungs) -> tuple[jax.Array, jax.Array]:
        """The place of every row among those to be promoted, and how many these are."""
        there = state.number >= 0
        ahead = better(state.score, there)
        best = jnp.sum(ahead, -1) < jnp.floor(jnp.sum(there, -1) / eta + 1e-6)[:, None]
        ready = there & best & ~state.promoted & (state.passed < patience)
        many = jnp.sum(ready, -1)
        above = jnp.cumsum(many[::-1])[::-1] - many
        within = jnp.sum(ahead & ready[:, None, :], -1)
        return jnp.where(ready, above[:, None] + within, -1), jnp.sum(many)

    def tell(key: jax.Array, trials: Trials, state: Rungs) -> tuple[Trials, Rungs]:
        trials, step = settle(trials, "asha"), trials.trace
        _, learned = source.tell(key, trials._replace(trace=step.source), state.source)
        live = trials.weight > 0
        parent = _place(state, step.rung - 1, step.parent)
        parent = jnp.where(live & (step.rung > 0), parent, low * size)
        parent = jnp.where(earlier(parent[:, None] == parent) == 0, parent, low * size)
        known = ~jnp.append(state.promoted.ravel(), True)[parent]
        promoted = put(state.promoted, jnp.where(known, parent, low * size), known)
        # The head of a queue that was asked for and is still there.
        head = _place(state, step.head_rung, step.head)
        head = jnp.where(live & ~jnp.append(promoted.ravel(), True)[head], head, low * size)
        passed = state.passed.ravel().at[head].max(state.passed.ravel()[head] + 1, mode="drop")
        enters = live & (known | (step.rung == 0)) & (step.rung < low)
        nth = earlier(enters[:, None] & enters & (step.rung[:, None] == step.rung))
        rung = jnp.where(enters, step.rung, 0)
        arrived = jnp.sum(enters[:, None] & (step.rung[:, None] == jnp.arange(low)), 0)
        number = state.entered[rung] + nth
        last = nth >= arrived[rung] - size  # a batch may be larger than a rung
        place = jnp.where(enters & last, rung * size + number % size, low * size)
        return trials, Rungs(
            source=learned,
            arch=put(state.arch, place, trials.arch),
            trace=put(state.trace, place, step.source),
            score=put(state.score, place, trials.score),
            number=put(state.number, place, number),
            promoted=put(promoted, place, jnp.zeros_like(live)),
            passed=put(passed.reshape(low, size), place, jnp.zeros_like(place)),
            entered=state.entered + arrived.astype(jnp.int32),
        )

    def _place(state: Rungs, rung: jax.Array, number: jax.Array) -> jax.Array:
        """Where a row of a rung is kept, `low * size` where it is not any more: int32[n]."""
        place = jnp.clip(rung, 0, low - 1) * size + number % size
        there = (rung >= 0) & (number >= 0) & (state.number.ravel()[place] == number)
        return jnp.where(there, place, low * size)

    return Strategy(init, ask, tell)
