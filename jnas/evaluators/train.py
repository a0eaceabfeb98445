"""Stand-alone training of a whole population, from scratch, inside one compiled program."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jnas.base import Architecture, Evaluator, InputError, Trials, sample, template
from jnas.evaluators import resume
from jnas.evaluators.metrics import check_score, measure, measured, rated
from jnas.evaluators.plans import Plan, costs, live_only, population
from jnas.evaluators.plans import check as check_plan
from jnas.evaluators.tasks import Task, task_of
from jnas.evaluators.training import (
    Batches,
    Examples,
    Training,
    check,
    is_float,
    loss,
    optimizer_of,
)
from jnas.evaluators.tuning import Tuner
from jnas.nets import Net
from jnas.spaces.joint import Joint


class Progress(NamedTuple):
    """A network in training, a pytree that can be saved at any step."""

    params: Any
    state: Any
    optimizer: Any
    order: jax.Array  # int32[N], the shuffled examples of the running epoch
    alive: jax.Array  # bool[], false from the first loss on that is not finite
    average: Any = ()  # of params and state, where they are averaged


def begin(net: Net, training: Training, data: Examples, key: jax.Array) -> Progress:
    """A network before its first step, initialised from `key`."""
    check(training, data)
    params, state = net.init(key)
    rule = optimizer_of(net, training, template(net.space))
    average = optax.ema(training.ema).init(_averaged(params, state)) if training.ema else ()
    order = jnp.arange(data.number)
    return Progress(params, state, rule.init(params), order, jnp.bool_(True), average)


def advance(
    net: Net,
    training: Training,
    data: Examples,
    key: jax.Array,
    arch: Architecture,
    progress: Progress,
    start: Any,
    steps: int,
    task: Task | None = None,
) -> tuple[Progress, Any]:
    """Trains by `steps` steps down the loss of a task on shuffled batches.

    Every epoch is a new permutation that depends on `key` and the epoch only, and so does the
    augmentation of a batch on `key` and the step; the rest of an epoch that does not fill a batch
    is dropped. So training in pieces equals training at once. At a loss that is not finite it
    ends; under `vmap` it goes on with the other rows, in vain.

    Args:
      net: the network.
      training: optimizer and batch size.
      data: the training examples.
      key: of the shuffling, the same in every piece.
      arch: one architecture, int or relaxed.
      progress: where it stands.
      start: the number of steps taken before, an int or int32[].
      steps: how many to take, static.
      task: whose loss; by default the cross-entropy of a classifier.

    Returns:
      The progress, and the loss of every step f32[steps]; NaN where none was taken any more.
    """
    step = _step(net, training, data, key, arch, task)
    return _loop(lambda now, i: step(now, start + i), progress, 0, steps, jnp.full(steps, jnp.nan))


def weights(training: Training, progress: Progress) -> tuple[Any, Any]:
    """`(params, state)` to evaluate: the averages where they are kept."""
    if not training.ema:
        return progress.params, progress.state
    mean = progress.average
    params, floats = optax.tree.bias_correction(mean.ema, training.ema, mean.count)
    ready = iter(floats)
    state = jax.tree.map(lambda x: next(ready) if is_float(x) else x, progress.state)
    return params, state


def _loop(
    step: Callable, progress: Progress, first: Any, last: Any, losses: jax.Array | None = None
) -> tuple[Progress, Any]:
    """Steps number `first` to `last`; their losses are written to the places of their numbers."""

    def body(carry: tuple) -> tuple:
        i, now, losses = carry
        new, loss = step(now, i)
        if losses is not None:
            losses = losses.at[i].set(jnp.where(now.alive, loss, jnp.nan))
        return i + 1, new, losses

    goes_on = lambda carry: (carry[0] < last) & _needed(carry[1].alive)
    return jax.lax.while_loop(goes_on, body, (jnp.int32(first), progress, losses))[1:]


@jax.custom_batching.custom_vmap
def _needed(alive: jax.Array) -> jax.Array:
    """Whether a loop has to go on: a vmapped one has, without a mask over its state."""
    return alive


@_needed.def_vmap
def _needed_vmapped(axis_size: int, batched: list[bool], alive: jax.Array) -> tuple:
    del axis_size, batched, alive
    return jnp.bool_(True), False


def _step(
    net: Net,
    training: Training,
    data: Examples,
    key: jax.Array,
    arch: Architecture,
    task: Task | None,
) -> Any:
    """The function `(progress, number of the step) -> (progress, loss)`."""
    batches = Batches(data, training.batch_size, training.augment)
    rule = optimizer_of(net, training, arch)
    loss_of = loss(net, training, task)

    def step(now: Progress, i: jax.Array) -> tuple[Progress, jax.Array]:
        order, batch = batches.draw(key, now.order, i)
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (found, state), grads = grad(now.params, now.state, arch, batch)
        updates, optimizer = rule.update(grads, now.optimizer, now.params)
        params, average = optax.apply_updates(now.params, updates), now.average
        if training.ema:
            average = optax.ema(training.ema).update(_averaged(params, state), average)[1]
        alive = now.alive & jnp.isfinite(found)
        return Progress(params, state, optimizer, order, alive, average), found

    return step


def _averaged(params: Any, state: Any) -> tuple[Any, list[jax.Array]]:
    """What is averaged: counters and random keys of a state are not."""
    return params, [x for x in jax.tree.leaves(state) if is_float(x)]


def train(
    net: Net,
    training: Training,
    fit_on: Examples,
    score_on: Examples,
    *,
    classes: int | None = None,
    task: Task | None = None,
    score: str | Callable[[dict[str, jax.Array]], jax.Array] = "",
    plan: str | Plan = "map",
    mesh: Mesh | None = None,
    memory: int = 0,
    plan_file: Path | None = None,
    remember: int = 0,
) -> Evaluator:
    """Trains every architecture of a batch from scratch and scores it on held-out examples.

    Row `i` draws its initial weights, its order of examples and its augmentation from its own key,
    so a candidate does not depend on its neighbours; one that diverges stops and gets weight 0.
    A row with a budget trains for that part of the steps, under the schedule of all of them.
    Rows given with weight 0 are left out: see `jnas.evaluators.plans.live_only`.

    Args:
      net: the network; one program serves all its architectures. One over a joint space
        (`jnas.evaluators.joint`) trains every candidate with hyperparameters of its own.
      training: optimizer, steps, batch size and all else that a step does.
      fit_on: the training examples.
      score_on: the validation examples.
      classes: the number of classes, where the task is to classify.
      task: what is to be learned, one of `jnas.evaluators.tasks`.
      score: the metric to maximise (negated where less is better, as of a loss), or a function of
        all metrics; by default the task's own, of a classifier `accuracy`.
      plan: how the batch runs: `map`, one after another, each with just the operations that it
        has; `vmap`, all at once, each with all operations masked; `grouped`, all at once, those
        that chose an operation together; `auto`, the fastest of them by a short measurement, which
        is remembered on disk.
      mesh: the devices that share the work, of `make_mesh`; None is one device. Plan and mesh do
        not change the numbers, to float tolerance.
      memory: the bytes that the candidates on one device may hold; what does not fit is trained
        in chunks, one after another. 0 takes what the device has free.
      plan_file: where the plan that `auto` and `memory` lead to is kept, so that a run that goes
        on has the same.
      remember: of how many candidates that stopped at a part of the steps the training is kept:
        an architecture that is proposed again with a larger budget goes on from there. The longest
        untouched gives way. 0 starts each afresh.

    Returns:
      An evaluator whose metrics are those of the task (of a classifier `accuracy`, `top5`,
      `precision`, `recall`, `f1` and `loss`), the same after the steps `training.validate_at`,
      such as `accuracy_at_100`, and the counts of the space,
      such as `params`; with budgets or `remember` also `steps_done`, the steps that a row took.

    Raises:
      InputError: an unknown plan or score, a mesh that does not divide the batch, or a training
        that cannot be.
    """
    goal = task_of(task, classes)
    score = score or goal.score
    check(training, fit_on, goal)
    resume.check(remember)
    if plan != "auto":
        check_plan(plan if isinstance(plan, str) else plan.name)
    if callable(training.optimizer) != isinstance(net.space, Joint):
        raise InputError(
            "an optimizer that is a function of hyperparameters and a net from "
            "jnas.evaluators.joint need each other: one of the two is missing"
        )
    check_score(score, measured(goal, training.validate_at), net.space)
    size, parts = min(training.batch_size, fit_on.number), 1 if mesh is None else mesh.shape["data"]
    if size % parts:
        raise InputError(f"mesh.data={parts}: it has to divide the batch of {size} examples")
    fit_on, score_on = (jax.tree.map(jnp.asarray, part) for part in (fit_on, score_on))

    def scored(step: Any, arch: Architecture, now: Progress, first: Any, last: Any) -> tuple:
        now, _ = _loop(step, now, first, last)
        found = measure(net, score_on, arch, *weights(training, now), goal)
        return now, {k: jnp.where(now.alive, v, jnp.nan) for k, v in found.items()}

    def one(row: tuple[jax.Array, Architecture]) -> dict[str, jax.Array]:
        key, arch = row
        k_init, k_order = jax.random.split(key)
        now = begin(net, training, fit_on, k_init)
        step = _step(net, training, fit_on, k_order, arch, goal)

        piece = lambda now, span: scored(step, arch, now, *span)
        if not training.validate_at:
            return piece(now, (0, training.steps))[1]
        ends = sorted({*training.validate_at, training.steps})
        spans = jnp.stack([jnp.asarray([0, *ends[:-1]]), jnp.asarray(ends)], 1)
        found: dict[str, jax.Array] = jax.lax.scan(piece, now, spans)[1]
        rows = [(f"_at_{step}", ends.index(step)) for step in training.validate_at]
        return {k + at: v[i] for at, i in [("", -1), *rows] for k, v in found.items()}

    def go_on(key: jax.Array, arch: Architecture, now: Progress, first: Any, last: Any) -> tuple:
        step = _step(net, training, fit_on, jax.random.split(key)[1], arch, goal)
        return scored(step, arch, now, first, last)

    start = lambda key: begin(net, training, fit_on, jax.random.split(key)[0])
    partial = resume.partly(start, go_on, training.steps, remember)

    def probe(row: tuple[jax.Array, Architecture]) -> Any:
        """The work of a few steps, for a choice of the plan; all of it enters what it returns."""
        hashed, arch = row
        k_init, k_order = jax.random.split(jax.random.wrap_key_data(hashed))
        now = begin(net, training, fit_on, k_init)
        step = _step(net, training, fit_on, k_order, arch, goal)
        now, _ = _loop(step, now, 0, min(2, training.steps))
        return jax.tree.map(jnp.sum, now.params)

    def rows(n: int) -> tuple[jax.Array, Architecture]:
        k_rows, k_archs = jax.random.split(jax.random.key(0))
        return jax.random.key_data(jax.random.split(k_rows, n)), sample(net.space, k_archs, n)

    tuner = Tuner(probe, rows, plan, memory, 1 if mesh is None else mesh.shape["pop"], plan_file)
    each, cost = costs(net.space), None
    if each is not None:
        cost = lambda pair: each(pair[0][1]) * _share(pair[0]) * pair[1]

    def evaluate(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        n = jax.tree.leaves(trials.arch)[0].shape[0]
        weight = jnp.ones(n) if trials.weight is None else trials.weight
        some = lambda f: population(live_only(f), tuner.plan(n), mesh, cost)
        every = lambda f: lambda batch: some(f)((batch, weight > 0))
        if trials.budget is None and not remember:
            metrics = every(one)((jax.random.split(key, n), trials.arch))
        elif training.validate_at:
            raise InputError("validate_at: a training that goes on by budgets has no such steps")
        else:
            metrics, state = partial.evaluate(every, key, trials, state)
        return rated(net.space, trials, metrics, score, lower=goal.lower), state

    def halve() -> Evaluator | None:
        half = tuner.halved()
        if half is None:
            return None
        options: Any = {"task": goal, "score": score, "plan": half, "mesh": mesh}
        return train(net, training, fit_on, score_on, remember=remember, **options)

    return Evaluator(lambda key: partial.init(template(net.space)), evaluate, halve)


def _share(batch: tuple) -> Any:
    """Of the steps of rows `(key, arch, ...)`, where they differ."""
    return batch[4] - batch[3] if len(batch) > 2 else 1
