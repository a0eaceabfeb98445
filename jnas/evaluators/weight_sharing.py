"""One supernet trains on all that is proposed: the evaluator of one-shot NAS."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jnas.base import Architecture, Evaluator, InputError, Trials, choice_counts
from jnas.evaluators.metrics import check_score, rated
from jnas.evaluators.plans import Plan, costs, live_only, population
from jnas.evaluators.plans import check as check_plan
from jnas.evaluators.shared import Shared, draw_fit, draw_score, start, take_step
from jnas.evaluators.sub_supernets import copies, pick, put, routes
from jnas.evaluators.tasks import Task, task_of
from jnas.evaluators.training import (
    Examples,
    Training,
    check,
    forward,
)
from jnas.nets import Net
from jnas.nets.usage import used_params

ROWS = ("each", "mean", "sum")


def weight_sharing(
    net: Net,
    training: Training,
    fit_on: Examples,
    score_on: Examples,
    *,
    classes: int | None = None,
    task: Task | None = None,
    score: str | Callable[[dict[str, jax.Array]], jax.Array] = "",
    rows: str = "each",
    steps: int = 1,
    score_batches: int = 1,
    teacher: Architecture | Callable[[Architecture], Architecture] | None = None,
    distill: float = 1.0,
    begin: Shared | None = None,
    split: int | None = None,
    plan: str | Plan = "map",
    mesh: Mesh | None = None,
) -> Evaluator:
    """Trains shared weights on the proposed architectures, then scores each with these weights.

    A round takes its steps first. With `rows="each"` every row takes `steps` steps of the
    optimizer, one row after another, each on the next training batch (ENAS: Pham et al. 2018, arXiv
    1802.03268; single paths: Guo et al. 2020, arXiv 1904.00420). Else the whole round takes `steps`
    steps, each down the gradient of all rows on one batch: their sum as where every row's gradient
    is added up before the optimizer steps (FairNAS: Chu et al. 2021, arXiv 1907.01845, algorithm
    1; slimmable networks: Yu and Huang 2019, arXiv 1903.05134), or their mean. Then each row is
    scored on the next `score_batches` validation batches, the same for all rows, with the batch's
    own statistics: running ones mix all architectures.

    Parameters that no row used (`jnas.nets.usage.used_params`) do not move, and neither do their
    momenta: neither decay nor momentum touches them, as where PyTorch skips parameters without a
    gradient. Steps are counted for all together, for schedules and for Adam's bias correction.
    Rows of weight 0 teach nothing and take no batch, and a loss that is not finite teaches nothing.

    With a `teacher`, its outputs on the batch, in training mode and at the weights of the step, are
    soft labels for all rows but itself (in-place distillation, Yu and Huang 2019):

      `(1 - distill) * L(labels) + distill * cross_entropy(softmax(teacher), softmax(row))`

    With `begin` the weights start from those of an earlier training, with a new optimizer. With
    `split` there are as many supernets as place number `split` of `to_vector` has choices, all
    copies of `begin`, and a row trains and uses the one of its choice there: few-shot NAS (Zhao et
    al. 2021, arXiv 2006.06863). Each counts its own steps.

    Args:
      net: the supernet; architectures are ints.
      training: optimizer, batch size and all else that a step does; its steps are the schedule's
        business only. Averages (`ema`) and `validate_at` are not for shared weights.
      fit_on: the training examples.
      score_on: the validation examples.
      classes: as in `jnas.evaluators.train`, and so `task`.
      task: see there.
      score: see there. Without validation batches it is the training loss.
      rows: `each`, `mean` or `sum`.
      steps: for each row, or for the round.
      score_batches: 0 for none.
      teacher: an architecture of ints, such as `jnas.links.sampling.largest(space)`, or a function
        from that of a row to its teacher's, such as `enlarge(space, ordered)`.
      distill: the part of soft labels, in [0, 1].
      begin: the state of an earlier training, of one supernet: of `jnas.search`, `carry[1]`.
      split: the place whose choices split the supernet.
      plan: how the rows are scored, `map`, `vmap` or `grouped`; see `jnas.evaluators.train`.
      mesh: the devices that share the scoring. Weights train on each of them alike.

    Returns:
      An evaluator whose state is a `Shared`; with `split` its parameters, state, optimizer, order
      of training examples and step lead with the choices of the place. The metrics are `fit_loss`,
      the mean loss of the row's steps, those of the task, where there are validation batches, and
      the counts of the space.

    Raises:
      InputError: a setting that cannot be.
    """
    goal = task_of(task, classes)
    score = score or goal.score
    check(training, fit_on, goal)
    if teacher is not None and goal.name != "classification":
        raise InputError(f"teacher: soft labels are for classification, not for {goal.name}")
    check_plan(plan if isinstance(plan, str) else plan.name)
    names = [*goal.metrics, "fit_loss"] if score_batches else ["fit_loss"]
    if not score_batches and isinstance(score, str):
        score = "fit_loss"
    check_score(score, names, net.space)
    _check_numbers(training, rows, steps, score_batches, distill, split)
    size = min(training.batch_size, score_on.number)
    if score_batches * size > score_on.number:
        raise InputError(
            f"score_batches={score_batches}: there are {score_on.number // size} of {size} examples"
        )
    route = None if split is None else routes(net, split)
    fit_on, score_on = (jax.tree.map(jnp.asarray, part) for part in (fit_on, score_on))
    same_for_all = not callable(teacher)
    teacher_of = teacher if callable(teacher) else lambda arch: jax.tree.map(jnp.asarray, teacher)
    loss_of, used_by = _taught(net, training, goal, teacher_of, distill), used_params(net)

    def init(key: jax.Array) -> Shared:
        fresh = start(net, training, fit_on, score_on, key)
        if begin is not None:
            fresh = fresh._replace(params=begin.params, state=begin.state)
        return fresh if split is None else copies(fresh, int(choice_counts(net.space)[split]))

    def gradient(shared: Shared, state: Any, arch: Architecture, batch: tuple, soft: Any) -> tuple:
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (found, state), grads = grad(shared.params, state, arch, batch, soft)
        return found, state, grads

    def soft_labels(shared: Shared, batch: tuple, arch: Architecture) -> Any:
        if teacher is None:
            return None
        run = forward(net, training)
        return jax.nn.softmax(run(shared.params, shared.state, teacher_of(arch), batch[0])[0])

    def descend(shared: Shared, arch: Any, grads: Any, state: Any, found: Any, used: Any) -> Shared:
        new = take_step(net, training, shared, arch, grads, state, found)
        return keep_unused(used, new, shared)

    def one_by_one(key: jax.Array, archs: Any, live: jax.Array, shared: Shared) -> tuple:
        """Every row takes its steps, one after another."""

        def row(shared: Shared, item: tuple) -> tuple[Shared, jax.Array]:
            arch, on = item
            number = None if route is None else route(arch)
            mine = shared if number is None else pick(shared, number)
            own_key = key if number is None else jax.random.fold_in(key, number)

            def step(now: Shared, _: None) -> tuple[Shared, jax.Array]:
                now, batch = draw_fit(training, fit_on, own_key, now)
                soft = soft_labels(now, batch, arch)
                found, state, grads = gradient(now, now.state, arch, batch, soft)
                return descend(now, arch, grads, state, found, used_by(arch)), found

            new, found = jax.lax.scan(step, mine, length=steps)
            new = _where(on, new, mine)
            return new if number is None else put(shared, number, new), jnp.mean(found)

        return jax.lax.scan(row, shared, (archs, live))

    def together(key: jax.Array, archs: Any, live: jax.Array, shared: Shared) -> tuple:
        """The round takes its steps, each down the gradient of all rows on one batch."""

        def step(old: Shared, _: None) -> tuple[Shared, jax.Array]:
            now, batch = draw_fit(training, fit_on, key, old)
            first = jax.tree.map(lambda x: x[0], archs)
            known = soft_labels(now, batch, first) if same_for_all else None

            def row(carry: tuple, item: tuple) -> tuple[tuple, jax.Array]:
                total, state, used, count = carry
                arch, on = item
                soft = known if same_for_all else soft_labels(now, batch, arch)
                found, new, grads = gradient(now, state, arch, batch, soft)
                on = on & jnp.isfinite(found)
                add = lambda t, g: t + jnp.where(on, g, 0)
                total = jax.tree.map(add, total, grads)
                used = jax.tree.map(lambda u, m: u | (m & on), used, used_by(arch))
                return (total, _where(on, new, state), used, count + on), found

            nothing = jax.tree.map(jnp.zeros_like, (now.params, used_by(first)))
            begun = (nothing[0], now.state, nothing[1], jnp.int32(0))
            (total, state, used, count), found = jax.lax.scan(row, begun, (archs, live))
            share = 1 / jnp.maximum(count, 1) if rows == "mean" else 1.0
            grads = jax.tree.map(lambda g: g * share, total)
            new = descend(now, first, grads, state, jnp.float32(0), used)
            return _where(count > 0, new, old), found

        shared, found = jax.lax.scan(step, shared, length=steps)
        return shared, jnp.mean(found, 0)

    def validation(key: jax.Array, shared: Shared) -> tuple[Shared, Any]:
        draws = []
        for _ in range(score_batches):
            shared, (x, y, _) = draw_score(training, score_on, key, shared)
            draws.append((x, y))
        return shared, jax.tree.map(lambda *parts: jnp.stack(parts), *draws)

    def evaluate(key: jax.Array, trials: Trials, state: Shared) -> tuple[Trials, Shared]:
        check_ints(trials.arch)
        k_fit, k_score = jax.random.split(key)
        n = jax.tree.leaves(trials.arch)[0].shape[0]
        live = jnp.ones(n, bool) if trials.weight is None else trials.weight > 0
        train = one_by_one if rows == "each" else together
        shared, fit_loss = train(k_fit, trials.arch, live, state)
        metrics = {"fit_loss": fit_loss}
        if score_batches:
            shared, batches = validation(k_score, shared)

            def one(arch: Architecture) -> dict[str, jax.Array]:
                mine = shared if route is None else pick(shared, route(arch))
                return _on_batches(net, mine.params, mine.state, arch, batches, goal)

            every = population(live_only(one), plan, mesh, cost(net))
            metrics |= every((trials.arch, live))
        must = "loss" if score_batches else "fit_loss"
        shared = _where(jnp.any(live), shared, state)
        less = (*goal.lower, "fit_loss")
        return rated(net.space, trials, metrics, score, must, less), shared

    return Evaluator(init, evaluate)


def keep_unused(used: Any, new: Shared, old: Shared) -> Shared:
    """A step undone for the parameters that were not used, and for what their optimizer keeps."""
    shape: Any = jax.tree.structure(old.params)
    mine = lambda tree: bool(jax.tree.structure(tree) == shape)

    def undo(before: Any, after: Any) -> Any:
        if not mine(before):
            return after
        keep = lambda u, p, b, a: jnp.where(u, a, b) if a.shape == p.shape else a
        return jax.tree.map(keep, used, old.params, before, after)

    optimizer = jax.tree.map(undo, old.optimizer, new.optimizer, is_leaf=mine)
    return new._replace(params=undo(old.params, new.params), optimizer=optimizer)


def _taught(
    net: Net, training: Training, task: Task, teacher_of: Any, distill: float
) -> Callable[..., tuple]:
    """`(params, state, arch, batch, soft) -> (loss, state)`, from labels and soft labels."""
    run = forward(net, training)

    def f(params: Any, state: Any, arch: Architecture, batch: tuple, soft: Any) -> tuple:
        x, y, share = batch
        logits, new = run(params, state, arch, x)
        hard = task.loss(logits, y, training.smoothing, share)
        if soft is None:
            return hard, new
        cross = -jnp.mean(jnp.sum(soft * jax.nn.log_softmax(logits), -1))
        equal = jax.tree.map(lambda a, b: jnp.all(a == b), arch, teacher_of(arch))
        part = jnp.where(jnp.all(jnp.stack(jax.tree.leaves(equal))), 0.0, distill)
        return (1 - part) * hard + part * cross, new

    return f


def _on_batches(
    net: Net, params: Any, state: Any, arch: Architecture, batches: Any, task: Task
) -> dict[str, jax.Array]:
    """The metrics on stacked batches `(x, y)`, each with its own statistics."""
    number, size = jax.tree.leaves(batches)[0].shape[:2]

    def run(x: Any) -> Any:
        heads, _ = net.apply(params, state, arch, x, train=True)
        return heads[0] if isinstance(heads, tuple) else heads  # without an auxiliary one

    def part(batch: tuple) -> tuple:
        x, y = batch
        return task.loss(run(x), y, 0.0, None), task.sums(run, x, y, jnp.ones(size))

    found, parts = jax.lax.map(part, batches)
    metrics = task.finish(jax.tree.map(lambda each: jnp.sum(each, 0), parts), number * size)
    return {**metrics, "loss": jnp.mean(found)}


def _where(on: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(on, a, b), yes, no)


def cost(net: Net) -> Any:
    """What rows `(arch, live)` cost, where the space counts it."""
    each = costs(net.space)
    return None if each is None else lambda pair: each(pair[0]) * pair[1]


def check_ints(arch: Architecture) -> None:
    """Raises `InputError` for a relaxed architecture."""
    if any(not jnp.issubdtype(x.dtype, jnp.integer) for x in jax.tree.leaves(arch)):
        raise InputError(
            "weight sharing takes architectures of ints: for relaxed ones there are the bilevel "
            "evaluators"
        )


def _check_numbers(
    training: Training, rows: str, steps: int, score_batches: int, distill: float, split: Any
) -> None:
    if rows not in ROWS:
        raise InputError(f"rows {rows!r}: allowed are {', '.join(ROWS)}")
    if split is not None and rows != "each":
        raise InputError(f"rows {rows!r}: with split={split} every row trains its own: each")
    for name, value, least in (("steps", steps, 1), ("score_batches", score_batches, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}={value!r}: a whole number of at least {least} is needed")
    if not 0 <= distill <= 1:
        raise InputError(f"distill={distill}: a number in [0, 1] is needed")
    if training.ema or training.validate_at:
        raise InputError(
            f"ema={training.ema}, validate_at={training.validate_at}: shared weights have neither"
        )
    if callable(training.optimizer):
        raise InputError("an optimizer of searched hyperparameters cannot train shared weights")
