"""The final training of one architecture, and its one look at the test split."""

import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError
from jnas.compiling import jit
from jnas.evaluators.metrics import measure
from jnas.evaluators.tasks import Task, task_of
from jnas.evaluators.train import advance, begin, weights
from jnas.evaluators.training import Examples, Training
from jnas.nets import Net, count_params
from jnas.runs import Progress, RunFolder


def train_final(
    net: Net,
    arch: Architecture,
    training: Training,
    fit_on: Examples,
    test: Examples,
    *,
    classes: int | None = None,
    task: Task | None = None,
    seed: int = 0,
    chunk: int = 100,
    workdir: str | Path | None = None,
    setting: dict[str, Any] | None = None,
    verbose: bool = True,
) -> dict[str, float]:
    """Trains one architecture from scratch and measures it once on the test split.

    The architecture is compiled into a network of its own. With a `workdir` the training goes on
    where it was stopped, and ends with the same numbers.

    Args:
      net: the network.
      arch: one architecture of concrete ints.
      training: optimizer, steps and batch size.
      fit_on: the examples to train on, usually training and validation split together.
      test: the test split.
      classes: the number of classes, where the task is to classify.
      task: what is to be learned.
      seed: of the initial weights and of the order of the examples.
      chunk: steps between checkpoints.
      workdir: the folder of checkpoints and of `history.csv`, the loss of every step.
      setting: what else has to be equal for a stopped training to go on.
      verbose: print progress to standard error.

    Returns:
      The metrics of the task (`test_accuracy`, `test_loss`, ...), `params` and `seconds`.
    """
    goal = task_of(task, classes)
    fixed = jax.tree.map(np.asarray, arch)
    fit_on, test = (jax.tree.map(jnp.asarray, part) for part in (fit_on, test))
    k_init, k_order = jax.random.split(jax.random.key(seed))
    now = jit(lambda key: begin(net, training, fit_on, key))(k_init)

    @functools.partial(jit, static_argnums=2)
    def piece(now: Any, start: jax.Array, steps: int) -> Any:
        return advance(net, training, fit_on, k_order, fixed, now, start, steps, goal)

    whole = {**(setting or {}), "architecture": net.space.describe(fixed), "seed": seed}
    with RunFolder(workdir, whole) as folder:
        now, done, seconds = folder.restore(now)
        meter = Progress("final training", training.steps, done, seconds, verbose)
        while done < training.steps:
            started = time.perf_counter()
            now, losses = piece(now, jnp.int32(done), min(chunk, training.steps - done))
            losses = np.asarray(losses)
            rows = [{"step": done + i + 1, "loss": float(x)} for i, x in enumerate(losses)]
            done += len(rows)
            seconds += time.perf_counter() - started
            folder.save(now, done, seconds, rows)
            meter.show(done, f"loss {np.mean(losses):.4f}")
        meter.end()
    look = jit(lambda p, s: measure(net, test, fixed, p, s, goal))
    metrics = {k: float(v) for k, v in look(*weights(training, now)).items()}
    if not (now.alive and np.isfinite(metrics["loss"])):
        raise InputError("the final training diverged: choose a smaller final.learning_rate")
    names = {k: f"test_{k}" for k in goal.metrics}
    return {
        **{name: metrics[k] for k, name in names.items()},
        "params": int(count_params(net, fixed)),
        "seconds": seconds,
    }
