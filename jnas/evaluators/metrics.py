"""Metrics from counts of what was right, and the measuring of a network in chunks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space, Trials
from jnas.evaluators.mesh import split_batch
from jnas.nets import Net

if TYPE_CHECKING:
    from jnas.evaluators.tasks import Task

METRICS = ("accuracy", "recall", "f1", "loss", "precision", "top5")  # of a classifier


def measured(task: "Task", validate_at: Sequence[int] = ()) -> list[str]:
    """The names of what is measured, at the end of a training and after some of its steps."""
    names = task.metrics
    return [*names, *(f"{name}_at_{step}" for step in validate_at for name in names)]


def confusion(true: jax.Array, guessed: jax.Array, weight: jax.Array, classes: int) -> jax.Array:
    """Counts `[true class, predicted class]`: int classes `[B]`, weights f32[B] to f32[K, K]."""
    cells = jax.nn.one_hot(true, classes) * weight[:, None]
    return cells.T @ jax.nn.one_hot(guessed, classes)


def from_confusion(matrix: jax.Array, least: float = 1.0) -> dict[str, jax.Array]:
    """Accuracy, and precision, recall and F1 averaged over classes (macro).

    Classes that occur neither as label nor as prediction do not enter the averages. A class
    without labels has recall 0, one without predictions precision 0, as in scikit-learn.

    Args:
      matrix: the confusion matrix, `[true class, predicted class]`.
      least: the smallest count that there can be, other than 0.

    Returns:
      `accuracy`, `precision`, `recall` and `f1`.
    """
    right, true, guessed = jnp.diag(matrix), jnp.sum(matrix, 1), jnp.sum(matrix, 0)
    occurs = (true + guessed) > 0
    mean = lambda x: jnp.sum(jnp.where(occurs, x, 0.0)) / jnp.maximum(jnp.sum(occurs), 1)
    return {
        "accuracy": jnp.sum(right) / jnp.maximum(jnp.sum(matrix), least),
        "precision": mean(right / jnp.maximum(guessed, least)),
        "recall": mean(right / jnp.maximum(true, least)),
        "f1": mean(2 * right / jnp.maximum(true + guessed, least)),
    }


def multi_label_rates(right: jax.Array, extra: jax.Array, missed: jax.Array) -> dict:
    """Precision, recall and F1 averaged over labels (macro), and F1 of all together (micro).

    What has no cases is 0, as in scikit-learn.

    Args:
      right: the true positives of each label, f32[K].
      extra: the false positives.
      missed: the false negatives.

    Returns:
      `precision`, `recall`, `f1` and `f1_micro`.
    """
    part = lambda a, b: a / jnp.maximum(a + b, 1)
    f1 = lambda a, b, c: 2 * a / jnp.maximum(2 * a + b + c, 1)
    return {
        "precision": jnp.mean(part(right, extra)),
        "recall": jnp.mean(part(right, missed)),
        "f1": jnp.mean(f1(right, extra, missed)),
        "f1_micro": f1(jnp.sum(right), jnp.sum(extra), jnp.sum(missed)),
    }


def measure(
    net: Net, data: Any, arch: Architecture, params: Any, state: Any, task: "Task"
) -> dict[str, jax.Array]:
    """What a task measures of a trained network over all `Examples`, 256 at a time."""
    n = data.number
    size = min(256, n)
    chunks = -(-n // size)
    rows = np.minimum(np.arange(chunks * size), n - 1).reshape(chunks, size)
    weight = (np.arange(chunks * size) < n).astype(np.float32).reshape(chunks, size)

    def part(chunk: tuple[jax.Array, jax.Array]) -> Any:
        i, w = chunk
        x, y = split_batch((data.inputs(i), data.labels(i)))
        return task.sums(lambda x: net.apply(params, state, arch, x)[0], x, y, w)

    parts = jax.lax.map(part, (jnp.asarray(rows), jnp.asarray(weight)))
    return task.finish(jax.tree.map(lambda each: jnp.sum(each, 0), parts), n)


def check_score(score: str | Callable, measured: Sequence[str], space: Space) -> None:
    """Raises `InputError` for the name of a score that is neither measured nor counted."""
    allowed = [*measured, *space.counts]
    if isinstance(score, str) and score not in allowed:
        raise InputError(f"score {score!r}: allowed are {', '.join(allowed)}")


def rated(
    space: Space,
    trials: Trials,
    metrics: dict[str, jax.Array],
    score: str | Callable[[dict[str, jax.Array]], jax.Array],
    must: str = "loss",
    lower: Sequence[str] = ("loss",),
) -> Trials:
    """The trials with their metrics, the counts of the space among them, and their scores.

    Args:
      space: of the architectures.
      trials: proposals; rows without a weight have weight 1.
      metrics: f32[n] each.
      score: the metric that is the score (negated where less is better), or a function of all.
      must: the metric that has to be finite; a row where it or the score is not fails.
      lower: the metrics of which less is better.

    Returns:
      The trials; those that fail have weight 0 and score 0.
    """
    count = lambda f: jax.vmap(f)(trials.arch).astype(jnp.float32)
    metrics = {**metrics, **{name: count(f) for name, f in space.counts.items()}}
    if callable(score):
        value = score(metrics)
    else:
        value = -metrics[score] if score.partition("_at_")[0] in lower else metrics[score]
    weight = jnp.ones(value.shape[0]) if trials.weight is None else trials.weight
    fine = jnp.isfinite(metrics[must]) & jnp.isfinite(value)
    return trials._replace(
        score=jnp.where(fine, value, 0.0),
        weight=jnp.where(fine, weight, 0.0),
        metrics={k: jnp.where(jnp.isfinite(v), v, 0.0) for k, v in metrics.items()},
    )
