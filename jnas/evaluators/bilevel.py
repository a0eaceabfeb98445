"""Bilevel search: a supernet whose weights train while it judges relaxed architectures."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.base import Architecture, Evaluator, InputError, Trials
from jnas.evaluators.hypergradients import Hypergradient, Problem, named
from jnas.evaluators.perturbation import Perturbation, perturbed
from jnas.evaluators.perturbation import check as check_perturbation
from jnas.evaluators.shared import Shared, draw_fit, draw_score, start, take_step
from jnas.evaluators.tasks import Task, mean_cross_entropy
from jnas.evaluators.training import Examples, Training, check, forward, loss, optimizer_of
from jnas.nets import Net

SCORES = ("loss", "accuracy")


class Bilevel(NamedTuple):
    """A supernet in search, a pytree that can be saved at any round."""

    shared: Shared
    key: jax.Array  # of all batches, as plain data


def bilevel(
    net: Net,
    training: Training,
    fit_on: Examples,
    score_on: Examples,
    *,
    task: Task | None = None,
    order: str | Hypergradient = "first",
    score: str = "loss",
    sparse: bool = False,
    perturbation: Perturbation | None = None,
) -> Evaluator:
    """Trains shared weights and gives the gradient of the loss by the architecture: DARTS' loop.

    Liu et al. 2019, arXiv 1806.09055, algorithm 1, in its order: a round takes the step of the
    weights that the round before has prepared, on its training batch and under the architecture
    that has been updated since, and then differentiates the loss of the next validation batch. So
    after t rounds the architecture has had t gradients and the weights t - 1 steps.

    Both losses are those of the mode of training, with the statistics of the batch. Of several
    rows each gets its own gradient, and the weights follow the mean of the rows' gradients by their
    weight. A row whose loss is not finite gets weight 0.

    The published setting: weights by `optax.sgd` of rate 0.025 that falls to 0.001 by a cosine,
    momentum 0.9, L2 decay 3e-4, gradients clipped to norm 5; the architecture by Adam, which the
    strategy holds (`jnas.recipes.darts`).

    Args:
      net: a supernet; it is run with relaxed architectures.
      training: optimizer, batch size, augmentation and dtype. `steps` is for its schedule only.
      fit_on: the examples that train the weights.
      score_on: the examples that judge architectures.
      task: what is to be learned; by default to classify.
      order: how the gradient accounts for the response of the weights: `first`, `second` (exactly,
        through one step), `finite` (DARTS' finite difference), `unrolled` (through 2 steps),
        `implicit` (iDARTS) or `single` (one level); or one of `jnas.evaluators.hypergradients`
        with settings of its own, such as `unrolled(5)`.
      score: `loss`, which counts negatively, or of a classifier `accuracy`, both of the validation
        batch.
      sparse: of every simplex run the choice of the largest weight only: GDAS.
      perturbation: of the architecture in the weights' steps: SDARTS.

    Returns:
      An evaluator whose trials have `grad`, and the metrics `loss` and (0 where the task is not to
      classify) `accuracy` of the validation batch. Its state is `Bilevel`.

    Raises:
      InputError: a setting that cannot be.
    """
    classifies = task is None or task.name == "classification"
    loss_on = mean_cross_entropy if task is None else task.loss
    check(training, fit_on, task)
    way = named(order)
    scores = SCORES if classifies else SCORES[:1]
    if score not in scores:
        raise InputError(f"score {score!r}: allowed are {', '.join(scores)}")
    if perturbation is not None:
        check_perturbation(perturbation)
    if callable(training.optimizer):
        raise InputError("bilevel: an optimizer of hyperparameters: a supernet has one for all")
    fit_on, score_on = (jax.tree.map(jnp.asarray, part) for part in (fit_on, score_on))
    loss_of, run = loss(net, training, task), forward(net, training)

    def init(key: jax.Array) -> Bilevel:
        k_start, k_data = jax.random.split(key)
        shared = start(net, training, fit_on, score_on, k_start)
        return Bilevel(shared, jax.random.key_data(k_data))

    def outer(shared: Shared, params: Any, arch: Architecture, batch: tuple) -> tuple:
        x, y, _ = batch
        logits, _ = run(params, shared.state, arch, x, sparse)
        found = loss_on(logits, y, 0.0, None)
        if not classifies:
            return found, jnp.float32(0)
        return found, jnp.mean((jnp.argmax(logits, -1) == y).astype(jnp.float32))

    def train(
        key: jax.Array, shared: Shared, archs: Architecture, weight: jax.Array, batch: tuple
    ) -> Shared:
        """The step of the weights, down the mean of all rows' gradients."""
        grad_of = jax.value_and_grad(loss_of, has_aux=True)

        def row(state: Any, one: tuple) -> tuple:
            arch, hashed = one
            if perturbation is not None:
                at = lambda a: loss_of(shared.params, shared.state, a, batch, sparse)[0]
                key = jax.random.wrap_key_data(hashed)
                arch = perturbed(perturbation, key, arch, shared.step, at)
            (found, state), grads = grad_of(shared.params, state, arch, batch, sparse)
            return state, (found, grads)

        n = weight.shape[0]
        hashed = jax.random.key_data(jax.random.split(key, n))
        if n == 1:
            state, (found, grads) = row(shared.state, (_row(archs, 0), hashed[0]))
        else:
            share = weight / jnp.maximum(jnp.sum(weight), 1e-30)

            def add(carry: tuple, one: tuple) -> tuple[tuple, None]:
                state, total = carry
                new, found = row(state, one[:2])
                live = one[2] > 0
                state = jax.tree.map(lambda a, b: jnp.where(live, a, b), new, state)
                plus = lambda t, x: t + jnp.where(live, one[2] * x, 0.0).astype(t.dtype)
                return (state, jax.tree.map(plus, total, found)), None

            nothing = (jnp.float32(0), jax.tree.map(jnp.zeros_like, shared.params))
            carry = (shared.state, nothing)
            (state, (found, grads)), _ = jax.lax.scan(add, carry, (archs, hashed, share))
        return take_step(net, training, shared, _row(archs, 0), grads, state, found)

    def evaluate(key: jax.Array, trials: Trials, state: Bilevel) -> tuple[Trials, Bilevel]:
        archs = trials.arch
        _check_relaxed(archs)
        n = jax.tree.leaves(archs)[0].shape[0]
        weight = jnp.ones(n) if trials.weight is None else trials.weight
        k_fit, k_score = jax.random.split(jax.random.wrap_key_data(state.key))
        hashed = jax.random.key_data(k_fit)  # the same batch is drawn twice: ahead, and to train on
        again = lambda: jax.random.wrap_key_data(hashed)

        old = state.shared
        drawn, batch = draw_fit(training, fit_on, again(), old)
        moves = (old.judged > 0) & jnp.any(weight > 0)
        new = train(key, drawn, archs, weight, batch)
        shared = jax.tree.map(lambda a, b: jnp.where(moves, a, b), new, old)
        shared, held_out = draw_score(training, score_on, k_score, shared)
        problem = Problem(
            inner=lambda w, a, batch: loss_of(w, shared.state, a, batch, sparse)[0],
            outer=lambda w, a, batch: outer(shared, w, a, batch),
            rule=optimizer_of(net, training, archs),
            params=shared.params,
            optimizer=shared.optimizer,
            fit=_ahead(training, fit_on, again, shared, way.batches),
            held_out=held_out,
        )
        judge = lambda arch: way.grad(problem, arch)
        if n == 1:
            found = jax.tree.map(lambda x: x[None], judge(_row(archs, 0)))
        else:
            found = jax.lax.map(judge, archs)
        (losses, accuracy), grad = found
        fine = jnp.isfinite(losses)
        value = -losses if score == "loss" else accuracy
        return trials._replace(
            score=jnp.where(fine, value, 0.0),
            grad=grad,
            weight=jnp.where(fine, weight, 0.0),
            metrics={"loss": jnp.where(fine, losses, 0.0), "accuracy": accuracy},
        ), Bilevel(shared, state.key)

    return Evaluator(init, evaluate)


def _row(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)


def _ahead(training: Training, fit_on: Examples, key: Any, shared: Shared, n: int) -> Any:
    """The next `n` training batches, leaves `[n, B, ...]`, without taking them."""
    batches = []
    for _ in range(n):
        shared, batch = draw_fit(training, fit_on, key(), shared)
        shared = shared._replace(step=shared.step + 1)
        batches.append(batch)
    return jax.tree.map(lambda *x: jnp.stack(x), *batches) if batches else ()


def _check_relaxed(archs: Architecture) -> None:
    if any(not jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(archs)):
        raise ValueError(
            "bilevel differentiates by relaxed architectures but was given choices: end the chain "
            "in a relaxation such as softmax(space)."
        )
