"""A one-shot method as one pure function: train the supernet, search its weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jnas.base import Architecture, Trials
from jnas.evaluators.plans import Plan
from jnas.evaluators.shared import Shared
from jnas.evaluators.shared_scores import shared_scores
from jnas.evaluators.tasks import Task
from jnas.evaluators.training import Examples, Training
from jnas.evaluators.weight_sharing import weight_sharing
from jnas.nets import Net
from jnas.recipes.sharing import OneShot
from jnas.search import search


class Found(NamedTuple):
    best: Architecture  # the one of the best score; leaves [...]
    score: jax.Array  # f32[], with shared weights
    shared: Shared  # the weights at the end of the training
    trained: tuple[Trials, ...]  # of every stage, leaves [rounds, batch, ...]
    trials: Trials  # of the search, leaves [rounds, batch, ...]


def one_shot(
    key: jax.Array,
    method: OneShot,
    net: Net,
    training: Callable[[int], Training],
    fit_on: Examples,
    score_on: Examples,
    *,
    classes: int | None = None,
    task: Task | None = None,
    score: Any = "",
    recalibrate: int = 0,
    plan: str | Plan = "map",
    mesh: Mesh | None = None,
) -> Found:
    """Runs all stages of a method; jit it, or vmap it over keys for many seeds at once.

    Args:
      key: of the run.
      method: of `jnas.recipes.sharing`, such as `spos(net.space, steps=1000)`.
      net: the supernet.
      training: from a number of steps to how the weights train, so that schedules end with a stage.
      fit_on: the training examples.
      score_on: the validation examples.
      classes: see `jnas.evaluators.train`, and so `task`.
      task: see there.
      score: see `jnas.evaluators.train`.
      recalibrate: see `jnas.evaluators.shared_scores`.
      plan: how architectures are scored.
      mesh: the devices that share the scoring.

    Returns:
      What was found.
    """
    keys = jax.random.split(key, len(method.train) + 1)
    common: Any = {"classes": classes, "task": task, "score": score, "plan": plan, "mesh": mesh}
    begin, state, trained = None, None, []
    for stage, k in zip(method.train, keys[:-1], strict=True):
        options = {**common, **stage.options, "begin": begin}
        evaluator = weight_sharing(net, training(stage.steps), fit_on, score_on, **options)
        rounds = stage.evaluations // stage.batch
        carry, trials = search(
            k, stage.strategy, evaluator, net.space, steps=rounds, batch=stage.batch
        )
        state, begin = carry
        trained.append(trials)
    assert begin is not None
    find = method.find(state)
    options = {**common, "fit_on": fit_on, "recalibrate": recalibrate, **find.options}
    evaluator = shared_scores(net, begin, score_on, **options)
    rounds = find.evaluations // find.batch
    _, trials = search(
        keys[-1], find.strategy, evaluator, net.space, steps=rounds, batch=find.batch
    )
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (trials.arch, trials.score))
    weight = trials.weight.reshape(-1)
    at = jnp.argmax(jnp.where(weight > 0, flat[1], -jnp.inf))
    best, value = jax.tree.map(lambda x: x[at], flat)
    return Found(best, value, begin, tuple(trained), trials)
