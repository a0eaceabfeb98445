"""An evaluator with a fitness of one's own in place of its score."""

from collections.abc import Callable
from typing import Any

import jax

from jnas.base import Evaluator, Strategy, Trials, on_tell


def scored(
    evaluator: Evaluator, fitness: Strategy | Callable[[Trials], jax.Array], raw: str = ""
) -> Evaluator:
    """Sends the scores of an evaluator through a feedback link before anybody sees them.

    So the history holds the fitness, and the best of a run is the best by it.

    Args:
      evaluator: gives the score and the metrics.
      fitness: a link such as `jnas.links.mnasnet("latency", 0.02)`, or a function from trials to
        scores f32[n]. A row that a link gives weight 0 counts as failed.
      raw: the name under which the evaluator's own score is kept among the metrics, "" for none;
        the link sees it there.

    Returns:
      The evaluator.
    """
    link = fitness if isinstance(fitness, Strategy) else _by(fitness)

    def init(key: jax.Array) -> Any:
        return evaluator.init(key), link.init(jax.random.fold_in(key, 1), ())

    def evaluate(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        trials, inner = evaluator.evaluate(key, trials, state[0])
        if raw:
            trials = trials._replace(metrics={**trials.metrics, raw: trials.score})
        told, mine = link.tell(jax.random.fold_in(key, 1), trials._replace(trace=()), state[1])
        if told.score.shape != trials.score.shape:
            raise ValueError("scored needs a link that passes on the rows that it is told.")
        return trials._replace(score=told.score, weight=told.weight), (inner, mine)

    def halve() -> Evaluator | None:
        smaller = evaluator.halve() if evaluator.halve else None
        return None if smaller is None else scored(smaller, link, raw)

    return Evaluator(init, evaluate, halve)


def _by(f: Callable[[Trials], jax.Array]) -> Strategy:
    return on_tell(lambda trials: trials._replace(score=f(trials)))
