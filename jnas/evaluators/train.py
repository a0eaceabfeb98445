"""Stand-alone training of a whole population, from scratch, inside one compiled program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jnas.base import Architecture, Evaluator, InputError, Trials
from jnas.evaluators.mesh import split_batch
from jnas.evaluators.metrics import classification, confusion
from jnas.evaluators.plans import population
from jnas.nets import Net

METRICS = ("accuracy", "recall", "f1", "loss")


class Examples(NamedTuple):
    """Labelled examples, raw; they are scaled by `(x - mean) / std` as they are used."""

    x: Any  # [N, ...]
    y: Any  # int32[N]
    mean: Any = 0.0  # for the last axis of x
    std: Any = 1.0

    def inputs(self, rows: jax.Array) -> jax.Array:
        """The scaled inputs of some rows, float32."""
        return (self.x[rows].astype(jnp.float32) - self.mean) / self.std


class Training(NamedTuple):
    """How a network is trained: the optimizer knows its schedule."""

    optimizer: optax.GradientTransformation
    steps: int
    batch_size: int = 64


class Progress(NamedTuple):
    """A network in training, a pytree that can be saved at any step."""

    params: Any
    state: Any
    optimizer: Any
    order: jax.Array  # int32[N], the shuffled examples of the running epoch


def begin(net: Net, training: Training, data: Examples, key: jax.Array) -> Progress:
    """A network before its first step, initialised from `key`."""
    params, state = net.init(key)
    return Progress(params, state, training.optimizer.init(params), jnp.arange(data.y.shape[0]))


def advance(
    net: Net,
    training: Training,
    data: Examples,
    key: jax.Array,
    arch: Architecture,
    progress: Progress,
    start: Any,
    steps: int,
) -> tuple[Progress, jax.Array]:
    """Trains by `steps` steps of cross-entropy on shuffled batches.

    Every epoch is a new permutation that depends on `key` and the epoch only; the rest of an
    epoch that does not fill a batch is dropped. So training in pieces equals training at once.

    Args:
      net: the network.
      training: optimizer and batch size.
      data: the training examples.
      key: of the shuffling, the same in every piece.
      arch: one architecture, int or relaxed.
      progress: where it stands.
      start: the number of steps taken before, an int or int32[].
      steps: how many to take, static.

    Returns:
      The progress, and the loss of every step f32[steps].
    """
    size = min(training.batch_size, data.y.shape[0])
    per_epoch = data.y.shape[0] // size

    def loss_of(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any]:
        logits, state = net.apply(params, state, arch, x, train=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.mean(losses), state

    def step(now: Progress, i: jax.Array) -> tuple[Progress, jax.Array]:
        epoch, place = i // per_epoch, i % per_epoch
        shuffle = lambda: jax.random.permutation(jax.random.fold_in(key, epoch), data.y.shape[0])
        order = jax.lax.cond(place == 0, shuffle, lambda: now.order)
        rows = jax.lax.dynamic_slice_in_dim(order, place * size, size)
        grad = jax.value_and_grad(loss_of, has_aux=True)
        x, y = split_batch((data.inputs(rows), data.y[rows]))
        (loss, state), grads = grad(now.params, now.state, x, y)
        updates, optimizer = training.optimizer.update(grads, now.optimizer, now.params)
        return Progress(optax.apply_updates(now.params, updates), state, optimizer, order), loss

    return jax.lax.scan(step, progress, start + jnp.arange(steps))


def measure(
    net: Net, data: Examples, arch: Architecture, params: Any, state: Any, classes: int
) -> dict[str, jax.Array]:
    """Loss, accuracy, macro recall and macro F1 of a trained network over all examples."""
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


def train(
    net: Net,
    training: Training,
    fit_on: Examples,
    score_on: Examples,
    *,
    classes: int,
    score: str | Callable[[dict[str, jax.Array]], jax.Array] = "accuracy",
    plan: str = "map",
    mesh: Mesh | None = None,
) -> Evaluator:
    """Trains every architecture of a batch from scratch and scores it on held-out examples.

    Row `i` draws its initial weights and its order of examples from its own key, so a candidate
    does not depend on its neighbours; one that diverges gets weight 0.

    Args:
      net: the network; one program serves all its architectures.
      training: optimizer, steps and batch size.
      fit_on: the training examples.
      score_on: the validation examples.
      classes: the number of classes.
      score: the metric to maximise (`loss` counts negatively), or a function of all metrics.
      plan: how the batch runs: `map`, one after another, each with just the operations that it
        has; `vmap`, all at once, each with all operations masked.
      mesh: the devices that share the work, of `make_mesh`; None is one device. Plan and mesh do
        not change the numbers, to float tolerance.

    Returns:
      An evaluator whose metrics are `accuracy`, `recall`, `f1` (macro), `loss` and the counts of
      the space, such as `params`.

    Raises:
      InputError: an unknown plan or score, or a mesh that does not divide the batch.
    """
    allowed = [*METRICS, *net.space.counts]
    if isinstance(score, str) and score not in allowed:
        raise InputError(f"score {score!r}: allowed are {', '.join(allowed)}")
    size, parts = min(training.batch_size, len(fit_on.y)), 1 if mesh is None else mesh.shape["data"]
    if size % parts:
        raise InputError(f"mesh.data={parts}: it has to divide the batch of {size} examples")
    fit_on, score_on = (jax.tree.map(jnp.asarray, part) for part in (fit_on, score_on))

    def one(row: tuple[jax.Array, Architecture]) -> dict[str, jax.Array]:
        key, arch = row
        k_init, k_order = jax.random.split(key)
        now = begin(net, training, fit_on, k_init)
        now, _ = advance(net, training, fit_on, k_order, arch, now, 0, training.steps)
        return measure(net, score_on, arch, now.params, now.state, classes)

    flops = net.space.counts.get("flops")
    cost = None if flops is None or plan == "vmap" else lambda batch: jax.vmap(flops)(batch[1])
    every = population(one, plan, mesh, cost)

    def evaluate(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        n = jax.tree.leaves(trials.arch)[0].shape[0]
        metrics = every((jax.random.split(key, n), trials.arch))
        for name, count in net.space.counts.items():
            metrics[name] = jax.vmap(count)(trials.arch).astype(jnp.float32)
        if callable(score):
            value = score(metrics)
        else:
            value = -metrics["loss"] if score == "loss" else metrics[score]
        fine = jnp.isfinite(metrics["loss"]) & jnp.isfinite(value)
        weight = jnp.ones(n) if trials.weight is None else trials.weight
        return trials._replace(
            score=jnp.where(fine, value, 0.0),
            weight=jnp.where(fine, weight, 0.0),
            metrics={k: jnp.where(jnp.isfinite(v), v, 0.0) for k, v in metrics.items()},
        ), state

    return Evaluator(lambda key: (), evaluate)
