"""Frozen shared weights as an evaluator: the search phase of one-shot NAS."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jnas.base import Architecture, Evaluator, InputError, Trials
from jnas.evaluators.metrics import check_score, measure, rated
from jnas.evaluators.plans import Plan, live_only, population
from jnas.evaluators.plans import check as check_plan
from jnas.evaluators.shared import Shared
from jnas.evaluators.sub_supernets import routes
from jnas.evaluators.tasks import Task, task_of
from jnas.evaluators.training import Examples
from jnas.evaluators.weight_sharing import check_ints, cost
from jnas.nets import Net
from jnas.nets.usage import momenta


class Frozen(NamedTuple):
    """Shared weights that do not train any more; of several supernets, leaves lead with them."""

    params: Any
    state: Any


def shared_scores(
    net: Net,
    shared: Shared,
    score_on: Examples,
    *,
    classes: int | None = None,
    task: Task | None = None,
    score: str | Callable[[dict[str, jax.Array]], jax.Array] = "",
    fit_on: Examples | None = None,
    recalibrate: int = 0,
    batch_size: int = 64,
    batches: int | None = None,
    split: int | None = None,
    plan: str | Plan = "map",
    mesh: Mesh | None = None,
) -> Evaluator:
    """Scores architectures with shared weights as they are.

    The batch statistics of a candidate are computed anew before it is measured, since the running
    ones of a supernet mix those of all architectures: on `recalibrate` batches of the training
    examples (Guo et al. 2020, arXiv 1904.00420), or on the images that it is scored
    on.

    Args:
      net: the supernet; architectures are ints.
      shared: a trained one: the state of `weight_sharing`.
      score_on: the validation examples.
      classes: as in `jnas.evaluators.train`, and so `task` and `score`.
      task: see there.
      score: see there.
      fit_on: the training examples, for `recalibrate`.
      recalibrate: of how many training batches the statistics are the mean; 0 for all batches of
        the images that are scored.
      batch_size: examples in a batch, for the statistics and for `batches`.
      batches: how many batches of the validation examples are scored; None for all examples.
      split: as in the training of `shared`.
      plan: how the rows run; see `jnas.evaluators.train`.
      mesh: the devices that share the rows.

    Returns:
      An evaluator whose state is `Frozen`. It learns nothing, and scores do not depend on keys. Its
      metrics are those of the task, and the counts of the space.

    Raises:
      InputError: a setting that cannot be.
    """
    goal = task_of(task, classes)
    score = score or goal.score
    check_score(score, goal.metrics, net.space)
    check_plan(plan if isinstance(plan, str) else plan.name)
    if recalibrate < 0 or (recalibrate and fit_on is None):
        raise InputError(
            f"recalibrate={recalibrate}: a number of batches of the examples fit_on is needed, or 0"
        )
    score_on = jax.tree.map(jnp.asarray, _first_batches(score_on, batch_size, batches, "batches"))
    source = score_on
    if recalibrate:
        assert fit_on is not None
        source = _first_batches(fit_on, batch_size, recalibrate, "recalibrate")
    source = jax.tree.map(jnp.asarray, source)
    route = None if split is None else routes(net, split)
    renewed = _renewal(net, source, batch_size)

    def evaluate(key: jax.Array, trials: Trials, state: Frozen) -> tuple[Trials, Frozen]:
        del key
        check_ints(trials.arch)

        def one(arch: Architecture) -> dict[str, jax.Array]:
            mine = state
            if route is not None:
                mine = jax.tree.map(lambda x: x[route(arch)], state)
            statistics = renewed(mine.params, mine.state, arch)
            return measure(net, score_on, arch, mine.params, statistics, goal)

        n = jax.tree.leaves(trials.arch)[0].shape[0]
        live = jnp.ones(n, bool) if trials.weight is None else trials.weight > 0
        metrics = population(live_only(one), plan, mesh, cost(net))((trials.arch, live))
        return rated(net.space, trials, metrics, score, lower=goal.lower), state

    return Evaluator(lambda key: Frozen(shared.params, shared.state), evaluate)


def _renewal(net: Net, source: Examples, batch_size: int) -> Callable[..., Any]:
    """`(params, state, arch) -> state` whose statistics are the mean over batches of a source."""
    keep = momenta(net)
    known = lambda momentum: not np.isnan(momentum)
    n = source.number
    size = min(batch_size, n)
    rows = (np.arange(n // size * size)).reshape(-1, size)

    def renewed(params: Any, state: Any, arch: Architecture) -> Any:
        if not any(known(momentum) for momentum in jax.tree.leaves(keep)):
            return state
        zero = lambda m, s: jnp.zeros(s.shape, s.dtype) if known(m) else s
        blank = jax.tree.map(zero, keep, state)

        def add(total: Any, i: jax.Array) -> tuple[Any, None]:
            _, new = net.apply(params, blank, arch, source.inputs(i), train=True)
            return jax.tree.map(lambda m, t, s: t + s if known(m) else t, keep, total, new), None

        total, _ = jax.lax.scan(add, blank, jnp.asarray(rows))
        scale = lambda m, t: t / (len(rows) * (1 - m)) if known(m) else t
        return jax.tree.map(scale, keep, total)

    return renewed


def _first_batches(data: Examples, size: int, batches: int | None, name: str) -> Examples:
    """So many batches of examples, spread evenly over all; None for all."""
    if batches is None:
        return data
    n = data.number
    if not 1 <= batches <= n // min(size, n):
        raise InputError(
            f"{name}={batches}: from 1 to {n // min(size, n)} batches of {size} are there"
        )
    count = batches * min(size, n)
    rows = np.arange(count) * n // count
    mixed = rows.reshape(min(size, n), batches).T.ravel()  # each batch is spread over all as well
    x, y = jax.tree.map(lambda leaf: leaf[mixed], (data.x, data.y))
    return data._replace(x=x, y=y)
