"""Metrics of a classifier, from its confusion matrix."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnas.base import Architecture, InputError, Space, Trials
from jnas.evaluators.mesh import split_batch
from jnas.nets import Net

METRICS = ("accuracy", "recall", "f1", "loss")


def measured(validate_at: Sequence[int] = ()) -> list[str]:
    """The names of what is measured, at the end of a training and after some of its steps."""
    return [*METRICS, *(f"{name}_at_{step}" for step in validate_at for name in METRICS)]


def confusion(true: jax.Array, guessed: jax.Array, weight: jax.Array, classes: int) -> jax.Array:
    """Counts `[true class, predicted class]`: int classes `[B]`, weights f32[B] to f32[K, K]."""
    cells = jax.nn.one_hot(true, classes) * weight[:, None]
    return cells.T @ jax.nn.one_hot(guessed, classes)


def classification(matrix: jax.Array) -> dict[str, jax.Array]:
    """Accuracy, and recall and F1 averaged over classes (macro).

    Classes that occur neither as label nor as prediction do not enter the averages, and a class
    without labels has recall 0, as in scikit-learn.

    Args:
      matrix: the confusion matrix, `[true class, predicted class]`.

    Returns:
      `accuracy`, `recall` and `f1`.
    """
    right, true, guessed = jnp.diag(matrix), jnp.sum(matrix, 1), jnp.sum(matrix, 0)
    occurs = (true + guessed) > 0
    mean = lambda x: jnp.sum(jnp.where(occurs, x, 0.0)) / jnp.maximum(jnp.sum(occurs), 1)
    return {
        "accuracy": jnp.sum(right) / jnp.maximum(jnp.sum(matrix), 1),
        "recall": mean(right / jnp.maximum(true, 1)),
        "f1": mean(2 * right / jnp.maximum(true + guessed, 1)),
    }


def measure(
    net: Net, data: Any, arch: Architecture, params: Any, state: Any, classes: int
) -> dict[str, jax.Array]:
    """Loss, accuracy, macro recall and macro F1 of a trained network over all `Examples`."""
    n = data.y.shape[0]
    size = min(256, n)
    chunks = -(-n // size)
    rows = np.minimum(np.arange(chunks * size), n - 1).reshape(chunks, size)
    weight = (np.arange(chunks * size) < n).astype(np.float32).reshape(chunks, size)

    def part(chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        i, w = chunk
        x, y = split_batch((data.inputs(i), data.y[i]))
        logits, _ = net.apply(params, state, arch, x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.sum(losses * w), confusion(y, jnp.argmax(logits, -1), w, classes)

    losses, matrices = jax.lax.map(part, (jnp.asarray(rows), jnp.asarray(weight)))
    return {**classification(jnp.sum(matrices, 0)), "loss": jnp.sum(losses) / n}


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
) -> Trials:
    """The trials with their metrics, the counts of the space among them, and their scores.

    Args:
      space: of the architectures.
      trials: proposals; rows without a weight have weight 1.
      metrics: f32[n] each.
      score: the metric that is the score (a loss counts negatively), or a function of all.
      must: the metric that has to be finite; a row where it or the score is not fails.

    Returns:
      The trials; those that fail have weight 0 and score 0.
    """
    count = lambda f: jax.vmap(f)(trials.arch).astype(jnp.float32)
    metrics = {**metrics, **{name: count(f) for name, f in space.counts.items()}}
    if callable(score):
        value = score(metrics)
    else:
        lower = score.partition("_at_")[0] in ("loss", "fit_loss")
        value = -metrics[score] if lower else metrics[score]
    weight = jnp.ones(value.shape[0]) if trials.weight is None else trials.weight
    fine = jnp.isfinite(metrics[must]) & jnp.isfinite(value)
    return trials._replace(
        score=jnp.where(fine, value, 0.0),
        weight=jnp.where(fine, weight, 0.0),
        metrics={k: jnp.where(jnp.isfinite(v), v, 0.0) for k, v in metrics.items()},
    )
