"""Rates that adapt while the search runs, around any link that takes a rate."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, Strategy, Trials, settle

MakeLink = Callable[[Any], Strategy]  # from a rate, a scalar or f32[n], to a link


def self_adapting(
    mutate: MakeLink,
    start: float,
    learning_rate: float = 0.22,
    low: float = 0.01,
    high: float = 0.5,
    metric: str = "mutation_rate",
) -> Strategy:
    """Every individual carries a mutation rate of its own, which is mutated first and inherited.

    Good rates survive with the individuals that they made. Bäck 1992, "The interaction of mutation
    rate, selection, and self-adaptation within a genetic algorithm"; the rule is that of Bäck and
    Schütz 1996, "Intelligent mutation rate control in canonical genetic algorithms",

        p' = 1 / (1 + (1 - p) / p * exp(-gamma * N(0, 1))),

    log-normal in the odds of p, with gamma = 0.22.

    The rate travels as a metric: the memory keeps it with each row and the selection hands it on,
    as in `chain(keep_best(20, metrics=["mutation_rate"]), select_uniform(), self_adapting(...))`.
    A trial that something else proposed, such as the warm-up of a mixture, is kept with `start`.

    Args:
      mutate: makes the link of a rate, such as `functools.partial(mutate_resample, space)`; it is
        called with one rate for each child, f32[n].
      start: the rate of an individual that has none yet.
      learning_rate: gamma.
      low: the least rate.
      high: the largest rate.
      metric: the name that the rate is kept under.

    Returns:
      A link from `[n]` parents to `[n]` children.

    Raises:
      InputError: `0 < low <= start <= high < 1` does not hold.
    """
    _check_bounds("self_adapting", low, start, high)

    def ask(key: jax.Array, state: Any, n: int, trials: Trials | None = None) -> Trials:
        k_rate, k_mutate = jax.random.split(key)
        parent = _inherited("self_adapting", metric, trials, n)
        parent = jnp.where(parent > 0, parent, start)  # an empty row has none
        odds = (1 - parent) / parent
        odds *= jnp.exp(-learning_rate * jax.random.normal(k_rate, (n,)))
        rate = jnp.clip(1 / (1 + odds), low, high)
        children = mutate(rate).ask(k_mutate, state, n, trials)
        return children._replace(trace=(rate, children.arch, children.trace))

    def tell(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        rate, arch, trace = trials.trace
        trials = settle(trials, "self_adapting")
        kept = jnp.where(_equal(trials.arch, arch), rate, jnp.float32(start))
        trials, state = mutate(start).tell(key, trials._replace(trace=trace), state)
        return trials._replace(metrics={**dict(trials.metrics), metric: kept}), state

    return Strategy(mutate(start).init, ask, tell)


class OneFifth(NamedTuple):
    rate: jax.Array  # f32[]
    link: Any  # the state of the link that mutates


def one_fifth_rule(
    mutate: MakeLink, start: float, factor: float = 1.5, low: float = 0.01, high: float = 0.5
) -> Strategy:
    """One rate for all, which grows where more than 1 child of 5 is better than its parent.

    Rechenberg 1973, in the form of Kern et al. 2004, "Learning probability distributions in
    continuous evolutionary algorithms": a success multiplies the rate by `factor`, a failure by
    `factor ** -0.25`, so that it rests where a fifth succeeds. Trials that something else
    proposed, such as the warm-up of a mixture, do not count.

    Args:
      mutate: makes the link of a rate, such as `functools.partial(mutate_resample, space)`.
      start: the rate at first.
      factor: above 1; how fast it adapts.
      low: the least rate.
      high: the largest rate.

    Returns:
      A link from `[n]` selected parents to `[n]` children.

    Raises:
      InputError: `0 < low <= start <= high < 1` does not hold, or the factor is not above 1.
    """
    _check_bounds("one_fifth_rule", low, start, high)
    if not factor > 1:
        raise InputError(f"one_fifth_rule(factor={factor}): it has to be above 1")

    def init(key: jax.Array, arch: Architecture) -> OneFifth:
        return OneFifth(jnp.float32(start), mutate(start).init(key, arch))

    def ask(key: jax.Array, state: OneFifth, n: int, trials: Trials | None = None) -> Trials:
        if trials is None or trials.score is None or trials.score.shape != (n,):
            raise ValueError(
                "one_fifth_rule compares each child with its parent: put a selection right to its "
                "left."
            )
        children = mutate(state.rate).ask(key, state.link, n, trials)
        trace = (trials.score, trials.weight, children.arch, children.trace)
        return children._replace(trace=trace)

    def tell(key: jax.Array, trials: Trials, state: OneFifth) -> tuple[Trials, OneFifth]:
        score, weight, arch, trace = trials.trace
        trials = settle(trials, "one_fifth_rule")
        counts = (trials.weight > 0) & (weight > 0) & _equal(trials.arch, arch)
        growth = jnp.sum(counts * jnp.where(trials.score > score, 1.0, -0.25))
        rate = jnp.clip(state.rate * jnp.power(factor, growth), low, high)
        trials, link = mutate(start).tell(key, trials._replace(trace=trace), state.link)
        return trials, OneFifth(rate, link)

    return Strategy(init, ask, tell)


def _check_bounds(who: str, low: float, start: float, high: float) -> None:
    if not 0 < low <= start <= high < 1:
        raise InputError(
            f"{who}(low={low}, start={start}, high={high}): 0 < low <= start <= high < 1 has to "
            "hold"
        )


def _inherited(who: str, metric: str, trials: Trials | None, n: int) -> jax.Array:
    """The metric f32[n] of the parents."""
    if trials is None:
        raise ValueError(f"{who} needs parents: put a selection to its left.")
    if metric not in trials.metrics:
        raise ValueError(
            f"{who} inherits the metric {metric!r}: let the memory keep it, as in "
            f"keep_best(20, metrics=[{metric!r}])."
        )
    value = trials.metrics[metric]
    if value.shape != (n,):
        raise ValueError(
            f"{who} was given parents {value.shape} for {n} children: put a selection, and a "
            "crossover where it picks two for each child, to its left."
        )
    return value


def _equal(a: Architecture, b: Architecture) -> jax.Array:
    """Which rows of two batches of architectures are equal: bool[n]."""
    row = lambda x, y: jnp.all((x == y).reshape(x.shape[0], -1), -1)
    return jnp.all(jnp.stack(jax.tree.leaves(jax.tree.map(row, a, b))), 0)
