"""ASHA: successive halving that promotes as soon as it can and never waits for a rung."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, Strategy, Trials, propose, rows, settle
from jnas.errors import positive
from jnas.links.multi_fidelity import (
    AHEAD,
    ask_source,
    earlier,
    empty_trace,
    ordered,
    put,
    rungs,
    top,
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
    positive(patience=patience)
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
        ready = _ready(state)
        first, queue = _queue(state, ready, n)
        # A candidate that always fails would else be all that a batch of one row ever is.
        away = (jax.random.uniform(k_ahead) < AHEAD) & (jnp.arange(n) == n - 1)
        up = (queue < low * size) & ~away
        place = jnp.minimum(queue, low * size - 1)
        of_place = lambda x: x.reshape(-1, *x.shape[2:])[place]
        some = lambda x: jnp.broadcast_to(jnp.where(first < low * size, x, -1), (n,))
        rung = jnp.where(up, place // size + 1, 0)
        return propose(rows(up, jax.tree.map(of_place, state.arch), asked.arch))._replace(
            budget=jnp.asarray(levels, jnp.float32)[rung],
            trace=Step(
                rung=rung,
                parent=jnp.where(up, of_place(state.number), -1),
                head_rung=some(first // size),
                head=some(state.number.ravel()[jnp.minimum(first, low * size - 1)]),
                source=rows(up, jax.tree.map(of_place, state.trace), asked.trace),
            ),
        )

    def _ready(state: Rungs) -> jax.Array:
        """Which rows are to be promoted: bool[low, size]."""
        there = state.number >= 0
        many = jnp.floor(jnp.sum(there, -1) / eta + 1e-6).astype(jnp.int32)
        waiting = ~state.promoted & (state.passed < patience)
        return top(state.score, there, many) & waiting

    def _queue(state: Rungs, ready: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        """The places of the first `n` rows to be promoted, and of the first; `low * size` for none.

        The highest rung comes first, and in it the best.
        """
        key = jnp.where(ready, ordered(state.score), 0)

        def first(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            rung = low - 1 - jnp.argmax(jnp.any(key > 0, -1)[::-1])
            slot = jnp.argmax(key[rung])
            place = jnp.where(key[rung, slot] > 0, rung * size + slot, low * size)
            return key.ravel().at[place].set(0, mode="drop").reshape(key.shape), place

        queue = jax.lax.scan(first, key, None, length=n)[1].astype(jnp.int32)
        return queue[0], queue

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
