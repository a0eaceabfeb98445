"""Feedback: links that change what the links to their left learn from.

The history keeps the evaluator's own score. Where the best of a run is to be chosen by the changed
score too, the same links go around the evaluator: `jnas.evaluators.scored`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jnas.base import InputError, Strategy, Trials, no_init, pass_on, settle


def score_by(f: Callable[[Trials], jax.Array], name: str = "score_by") -> Strategy:
    """Replaces the score by any function of the trials.

    >>> import jnas
    >>> link = jnas.links.score_by(lambda t: t.score - 0.1 * t.metrics["params"] / 1e6)

    Args:
      f: from trials with scores, weights and metrics f32[n] to new scores f32[n]; a score that is
        not finite is a failure. It has to leave rows of weight 0 out of all that it computes.
      name: in errors.

    Returns:
      A link for the feedback path.
    """

    def tell(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        del key
        trials = settle(trials, name)
        score = jnp.asarray(f(trials), jnp.float32)
        if score.shape != trials.score.shape:
            raise ValueError(
                f"{name} made scores of shape {score.shape} for {trials.score.shape[0]} rows: "
                "one number for each row is needed."
            )
        new = settle(trials._replace(score=score), name)
        return new._replace(score=jnp.where(new.weight > 0, new.score, 0.0)), state

    return Strategy(no_init, pass_on, tell)


def term(trials: Trials, name: str, who: str) -> jax.Array:
    """The metric of that name, or the score for `score`: f32[n].

    Raises:
      InputError: there is none; it says which there are.
    """
    if name == "score":
        return trials.score
    if name not in trials.metrics:
        known = ", ".join(["score", *sorted(trials.metrics)])
        raise InputError(f"{who}: there is no metric {name!r}; there are {known}")
    return jnp.asarray(trials.metrics[name], jnp.float32)


def weighted_sum(per: Mapping[str, float] | None = None, **weights: float) -> Strategy:
    """A fitness of several terms: the sum of `weight * metric / unit`.

    `weighted_sum(accuracy=1.0, params=-0.01, per={"params": 1e6})` takes 0.01 off for a million
    parameters. Terms to be small, such as `params`, `flops`, `latency`, have negative weights.

    Args:
      per: the unit of a term, such as its target; 1 where none is given.
      **weights: of metrics by their names, and of the score itself as `score`.

    Returns:
      A link for the feedback path.

    Raises:
      InputError: no terms, numbers that cannot be, or, when rows are told, an unknown metric.
    """
    units = dict(per or {})
    if not weights:
        raise InputError("weighted_sum: at least one term is needed, such as accuracy=1.0")
    for name, weight in weights.items():
        _number("weighted_sum", name, weight)
    for name, unit in units.items():
        if name not in weights:
            raise InputError(f"weighted_sum: per has {name!r}, but the terms are {[*weights]}")
        _number("weighted_sum", f"per {name}", unit, unit != 0, "different from 0")

    def fitness(trials: Trials) -> jax.Array:
        of = lambda name: term(trials, name, "weighted_sum") / units.get(name, 1.0)
        return sum((w * of(name) for name, w in weights.items()), jnp.zeros_like(trials.score))

    return score_by(fitness, "weighted_sum")


def mnasnet(metric: str, target: float, alpha: float = -0.07, beta: float = -0.07) -> Strategy:
    """The reward of MnasNet: `score * (m / T)^w`, `w` = alpha where `m <= T`, else beta.

    Tan et al. 2019, "MnasNet: Platform-Aware Neural Architecture Search for Mobile", arXiv
    1807.11626, equations 2 and 3. Its soft reward is alpha = beta = -0.07, the default; its hard
    one is alpha = 0, beta = -1. Scores and metric have to be positive.

    Args:
      metric: m, such as `latency`.
      target: T.
      alpha: the exponent up to the target.
      beta: the exponent above it.

    Returns:
      A link for the feedback path.
    """
    _number("mnasnet", "target", target, target > 0, "above 0")
    _number("mnasnet", "alpha", alpha, alpha <= 0, "of at most 0")
    _number("mnasnet", "beta", beta, beta <= 0, "of at most 0")

    def reward(trials: Trials) -> jax.Array:
        ratio = term(trials, metric, "mnasnet") / target
        return trials.score * ratio ** jnp.where(ratio <= 1, alpha, beta)

    return score_by(reward, "mnasnet")


def tunas_absolute(metric: str, target: float, beta: float) -> Strategy:
    """The absolute reward of TuNAS: `score + beta * |m / T - 1|`.

    Bender et al. 2020, "Can weight sharing outperform random architecture search? An investigation
    with TuNAS", arXiv 2008.06120, section 3: the search ends at the target, not below it.

    Args:
      metric: m, such as `latency`.
      target: T.
      beta: less than 0, in the unit of the score.

    Returns:
      A link for the feedback path.
    """
    _number("tunas_absolute", "target", target, target > 0, "above 0")
    _number("tunas_absolute", "beta", beta, beta < 0, "below 0")

    def reward(trials: Trials) -> jax.Array:
        return trials.score + beta * jnp.abs(term(trials, metric, "tunas_absolute") / target - 1)

    return score_by(reward, "tunas_absolute")


def constrain(
    metric: str,
    at_most: float | None = None,
    at_least: float | None = None,
    penalty: float | None = None,
) -> Strategy:
    """Bounds for a metric, by a penalty or by rejection.

    Without a penalty a row outside the bounds gets weight 0: it teaches nothing, and around an
    evaluator (`jnas.evaluators.scored`) it cannot be the best of a run. With one it loses
    `penalty * (m / at_most - 1)` or `penalty * (1 - m / at_least)`.

    Args:
      metric: m, the name of a metric, or `score`.
      at_most: its upper bound.
      at_least: its lower bound.
      penalty: score lost for a violation as large as the bound; None for rejection.

    Returns:
      A link for the feedback path.
    """
    check_bounds("constrain", at_most, at_least)
    if penalty is not None:
        _number("constrain", "penalty", penalty, penalty > 0, "above 0")
        for name, bound in (("at_most", at_most), ("at_least", at_least)):
            if bound is not None:
                _number("constrain", name, bound, bound > 0, "above 0, where there is a penalty,")

    def judge(trials: Trials) -> jax.Array:
        value = term(trials, metric, "constrain")
        if penalty is None:
            outside = violation(value, at_most, at_least) > 0
            return jnp.where(outside, jnp.nan, trials.score)
        above = 0.0 if at_most is None else jnp.maximum(value / at_most - 1, 0)
        below = 0.0 if at_least is None else jnp.maximum(1 - value / at_least, 0)
        return trials.score - penalty * (above + below)

    return score_by(judge, "constrain")


def violation(value: jax.Array, at_most: float | None, at_least: float | None) -> jax.Array:
    """By how much values lie outside of their bounds, 0 inside."""
    inf = math.inf
    above = value - (inf if at_most is None else at_most)
    below = (-inf if at_least is None else at_least) - value
    return jnp.maximum(jnp.maximum(above, below), 0.0)


def check_bounds(who: str, at_most: float | None, at_least: float | None) -> None:
    """Raises `InputError` for bounds that cannot be."""
    for name, bound in (("at_most", at_most), ("at_least", at_least)):
        if bound is not None:
            _number(who, name, bound)
    if at_most is None and at_least is None:
        raise InputError(f"{who}: a bound is needed, at_most or at_least")
    if at_most is not None and at_least is not None and at_least > at_most:
        raise InputError(f"{who}: at_least={at_least} is above at_most={at_most}")


def _number(who: str, name: str, value: Any, fine: bool = True, which: str = "") -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not fine:
        raise InputError(f"{who}: {name}={value!r}: a number {which} is needed".replace("  ", " "))
