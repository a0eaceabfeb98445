"""Successive halving: many candidates for a short while, the best of them for longer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Strategy, Trials, propose, rows, settle
from jnas.errors import positive
from jnas.links.multi_fidelity import (
    AHEAD,
    ask_source,
    earlier,
    empty_trace,
    put,
    rungs,
    top,
)


class Bracket(NamedTuple):
    """One run of successive halving: how many candidates each rung has, and at which budget."""

    sizes: tuple[int, ...]
    budgets: tuple[float, ...]


class Place(NamedTuple):
    """The trace of a row: what it was proposed for."""

    bracket: jax.Array  # int32[n], counted from the first; -1 for none
    rung: jax.Array  # int32[n]
    slot: jax.Array  # int32[n]
    source: Any  # the source's own trace


class Halving(NamedTuple):
    """`P` brackets under way at once, the oldest first, with `m` candidates each."""

    source: Any
    arch: Architecture  # leaves [P, m, ...]
    trace: Any  # of the source, leaves [P, m, ...]
    score: jax.Array  # f32[P, m], at the rung
    member: jax.Array  # bool[P, m], takes part in the rung
    told: jax.Array  # bool[P, m], has its score
    rung: jax.Array  # int32[P]
    done: jax.Array  # int32[], brackets ended
    idle: jax.Array  # int32[], tells in a row that brought the oldest bracket nothing


def successive_halving(
    source: Strategy,
    n: int = 27,
    eta: float = 3,
    min_budget: float = 1 / 27,
    *,
    budgets: Sequence[float] | None = None,
    parallel: int = 2,
    patience: int = 5,
) -> Strategy:
    """Evaluates `n` candidates at the smallest budget, and the best `1/eta` of a rung at the next.

    Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization", arXiv 1502.07943, Algorithm 1, with the rungs of Hyperband (Li et al. 2018,
    arXiv 1603.06560). After the last rung it begins again with new candidates.

    Args:
      source: proposes the candidates, and is told all results.
      n: candidates of the first rung.
      eta: `floor(n / eta^k)` candidates reach rung `k`, and at least one.
      min_budget: the budgets are `eta^-k`, down to this.
      budgets: given, they are the budgets of the rungs, rising to 1.
      parallel: brackets under way at once: rows for which the oldest has no place go to the next
        one. Rows for which none has a place are new candidates for the source alone.
      patience: an evaluation that fails leaves its place open, and the candidate is proposed
        again; after so many tells that bring the oldest bracket nothing, its open places are given
        up. Where results arrive late, as from `run_async`, it has to be larger than their delay.

    Returns:
      A strategy whose proposals have a budget.

    Raises:
      InputError: an impossible setting.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"n={n!r}: a rung has a whole number of candidates, at least 1")
    levels = rungs(eta, min_budget, budgets)
    plan = [Bracket(halved(n, eta, len(levels)), tuple(levels))]
    return brackets("successive_halving", source, plan, parallel, patience)


def halved(n: int, eta: float, rungs: int) -> tuple[int, ...]:
    """`n` candidates, then a part of `1 / eta` of them at every rung, at least one."""
    return tuple(max(int(n * float(eta) ** -k + 1e-6), 1) for k in range(rungs))


def brackets(
    who: str, source: Strategy, plan: Sequence[Bracket], parallel: int, patience: int
) -> Strategy:
    """Runs brackets of successive halving one after another, over and over.

    Args:
      who: the link, for errors.
      source: see `successive_halving`.
      plan: the brackets of a cycle.
      parallel: see `successive_halving`.
      patience: see `successive_halving`.

    Returns:
      The strategy.
    """
    if isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 2:
        raise InputError(f"parallel={parallel!r}: at least 2 brackets have to be under way")
    positive(patience=patience)
    many, most = parallel, max(b.sizes[0] for b in plan)
    depth = max(len(b.sizes) for b in plan)
    length = lambda kind: jnp.asarray([len(b.sizes) for b in plan])[kind]
    sizes = np.zeros((len(plan), depth + 1), np.int32)  # no candidates behind the last rung
    budget = np.ones((len(plan), depth + 1), np.float32)
    for i, b in enumerate(plan):
        sizes[i, : len(b.sizes)], budget[i, : len(b.sizes)] = b.sizes, b.budgets

    def kinds(done: jax.Array) -> jax.Array:
        return (done + jnp.arange(many)) % len(plan)

    def begun(done: jax.Array) -> jax.Array:
        """Members of the first rung of every bracket."""
        return jnp.arange(most) < jnp.asarray(sizes)[kinds(done), 0][:, None]

    def init(key: jax.Array, arch: Architecture) -> Halving:
        state = source.init(key, arch)
        blank = lambda x: jnp.zeros((many, most, *jnp.shape(x)), jnp.asarray(x).dtype)
        nothing = jnp.zeros((many, most), bool)
        return Halving(
            source=state,
            arch=jax.tree.map(blank, arch),
            trace=jax.tree.map(blank, empty_trace(source, state)),
            score=jnp.zeros((many, most)),
            member=begun(jnp.int32(0)),
            told=nothing,
            rung=jnp.zeros(many, jnp.int32),
            done=jnp.int32(0),
            idle=jnp.int32(0),
        )

    def ask(key: jax.Array, state: Halving, n: int, trials: Trials | None = None) -> Trials:
        k_source, k_ahead = jax.random.split(key)
        asked = ask_source(who, source, k_source, state.source, n, trials)
        free = state.member & ~state.told
        # A candidate that always fails would else be all that a batch of one row ever is.
        away = (jax.random.uniform(k_ahead) < AHEAD) & (state.rung[0] > 0)
        behind = jnp.maximum(n - 1, jnp.sum(free[0]))
        nth = jnp.where(away & (jnp.arange(n) == n - 1), behind, jnp.arange(n))
        place = jnp.sum(nth[:, None] >= jnp.cumsum(free.ravel()), -1, dtype=jnp.int32)
        spare = place == many * most
        place = jnp.minimum(place, many * most - 1)
        p, slot = place // most, place % most
        p = jnp.where(spare, many - 1, p)
        rung = jnp.where(spare, 0, state.rung[p])
        of_place = lambda x: x.reshape(-1, *x.shape[2:])[place]
        known = rung > 0
        arch = rows(known, jax.tree.map(of_place, state.arch), asked.arch)
        trace = rows(known, jax.tree.map(of_place, state.trace), asked.trace)
        number = jnp.where(spare, -1, state.done + p)
        return propose(arch)._replace(
            budget=jnp.asarray(budget)[kinds(state.done)[p], rung],
            trace=Place(number, rung, slot, trace),
        )

    def tell(key: jax.Array, trials: Trials, state: Halving) -> tuple[Trials, Halving]:
        trials, where = settle(trials, who), trials.trace
        _, learned = source.tell(key, trials._replace(trace=where.source), state.source)
        live = trials.weight > 0
        p = where.bracket - state.done
        inside = live & (where.bracket >= 0) & (p >= 0) & (p < many)
        p = jnp.clip(p, 0, many - 1)
        inside &= where.rung == state.rung[p]
        # New candidates take the places as they come, so that none is lost to an early bird.
        new = inside & (where.rung == 0)
        nth = earlier(new[:, None] & new & (p[:, None] == p))
        slot = jnp.where(new, jnp.sum(state.told, -1)[p] + nth, where.slot)
        place = jnp.where(inside & (slot < most), p * most + slot, many * most)
        free = jnp.append((state.member & ~state.told).ravel(), False)
        place = jnp.where(earlier(place[:, None] == place) == 0, place, many * most)
        place = jnp.where(free[place], place, many * most)
        told = put(state.told, place, jnp.ones_like(live))
        moved = jnp.any(told[0] & ~state.told[0])
        idle = jnp.where(moved, 0, state.idle + jnp.any(live))
        given_up = (idle >= patience) & (state.rung[0] > 0)
        member = state.member.at[0].set(state.member[0] & (told[0] | ~given_up))
        return trials, _moved_on(
            state._replace(
                source=learned,
                arch=put(state.arch, place, trials.arch),
                trace=put(state.trace, place, where.source),
                score=put(state.score, place, trials.score),
                member=member,
                told=told,
                idle=jnp.where(given_up, 0, idle).astype(jnp.int32),
            ),
            jnp.any(live),
        )

    def _moved_on(state: Halving, live: jax.Array) -> Halving:
        """Full rungs make place for the next ones, and ended brackets for new ones."""
        kind = kinds(state.done)
        over = ~jnp.any(state.member & ~state.told, -1) & (state.rung < length(kind)) & live
        rung = state.rung + over
        wanted = jnp.asarray(sizes)[kind, rung]
        up = top(state.score, state.told & state.member, wanted)
        full = over[:, None]
        ended = jnp.cumprod(rung >= length(kind))
        lead = jnp.sum(ended, dtype=jnp.int32)
        done = state.done + lead
        fresh = state._replace(
            member=begun(done), told=jnp.zeros_like(state.told), rung=jnp.zeros_like(rung)
        )
        now = state._replace(
            member=jnp.where(full, up, state.member), told=state.told & ~full, rung=rung
        )
        shift = lambda x, new: _shifted(x, new, lead)
        return state._replace(
            arch=jax.tree.map(shift, now.arch, fresh.arch),
            trace=jax.tree.map(shift, now.trace, fresh.trace),
            score=shift(now.score, fresh.score),
            member=shift(now.member, fresh.member),
            told=shift(now.told, fresh.told),
            rung=shift(now.rung, fresh.rung),
            done=done,
            idle=jnp.where(over[0], 0, state.idle),
        )

    return Strategy(init, ask, tell)


def _shifted(x: jax.Array, new: jax.Array, lead: jax.Array) -> jax.Array:
    """Rows of the first axis moved to the front by `lead`, those of `new` behind them."""
    moved = x
    for k in range(1, x.shape[0] + 1):
        # Their last rows: what the places hold that become free.
        moved = jnp.where(lead == k, jnp.concatenate([x[k:], new[x.shape[0] - k :]]), moved)
    return moved
