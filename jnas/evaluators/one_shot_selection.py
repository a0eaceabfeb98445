"""Selection from a supernet by what its accuracy loses without a choice: DARTS-PT."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnas.base import Architecture, InputError, Space, choice_counts, from_vector, repaired
from jnas.evaluators.shared import Shared, descend_weights, draw_fit
from jnas.evaluators.training import Examples, Training, forward
from jnas.nets import Net


class Selected(NamedTuple):
    """What a selection found.

    arch: the int architecture.
    shared: the fine-tuned supernet.
    without: f32[L, K], the criterion without each choice of each place, in the order of
      `jnas.base.to_vector`; NaN where there is none.
    order: int32[L], the places in the order in which they were decided.
    """

    arch: Architecture
    shared: Shared
    without: jax.Array
    order: jax.Array


def perturbation_selection(
    net: Net,
    training: Training,
    fit_on: Examples,
    score_on: Examples,
    key: jax.Array,
    shared: Shared,
    relaxed: Architecture,
    *,
    tune: int = 100,
    criterion: str = "accuracy",
) -> Selected:
    """Decides place by place for the choice whose removal costs the supernet most.

    Wang et al. 2021, "Rethinking Architecture Selection in Differentiable NAS", arXiv 2108.04392,
    algorithm 1. Places come in random order. At each, every choice in turn gets weight 0, the
    others keeping theirs, and the supernet is measured on the held-out examples, with the
    statistics of each batch, as in its code; the choice without which it is worst is fixed, and the
    weights train on for `tune` steps. Pure and jittable.

    Args:
      net: the supernet.
      training: of its weights; there at a tenth of the rate of the search.
      fit_on: the examples that train the weights.
      score_on: the examples that judge.
      key: of the order of places and the batches.
      shared: the supernet after the search, such as `state.shared` of `bilevel`.
      relaxed: the architecture after the search, one, leaves f32[..., K].
      tune: steps between two decisions; there 5 epochs.
      criterion: `accuracy` or `loss`.

    Returns:
      The selection.

    Raises:
      InputError: an unknown criterion, or a negative number of steps.
    """
    check_criterion(criterion)
    if tune < 0:
        raise InputError(f"tune={tune}: a number of steps of at least 0 is needed")
    fit_on, score_on = (jax.tree.map(jnp.asarray, part) for part in (fit_on, score_on))
    counts = choice_counts(net.space)
    widest = int(counts.max())
    k_order, k_batches = jax.random.split(key)
    hashed = jax.random.key_data(k_batches)  # of all batches
    order = jax.random.permutation(k_order, counts.size).astype(jnp.int32)
    sign = 1.0 if criterion == "accuracy" else -1.0

    judge = _judge(net, training, score_on)

    def value(shared: Shared, weights: jax.Array) -> jax.Array:
        return sign * judge(shared, from_weights(net.space, weights))[criterion]

    def steps(shared: Shared, weights: jax.Array) -> Shared:
        arch = from_weights(net.space, weights)

        def one(shared: Shared, _: None) -> tuple[Shared, None]:
            key = jax.random.wrap_key_data(hashed)
            shared, batch = draw_fit(training, fit_on, key, shared)
            return descend_weights(net, training, shared, arch, batch)[0], None

        return jax.lax.scan(one, shared, length=tune)[0]

    def decide(carry: tuple, place: jax.Array) -> tuple[tuple, tuple]:
        shared, weights = carry
        without = lambda k: value(shared, weights.at[place, k].set(0.0))
        left = jax.lax.map(without, jnp.arange(widest))
        real = jnp.arange(widest) < jnp.asarray(counts)[place]
        choice = jnp.argmin(jnp.where(real, left, jnp.inf)).astype(jnp.int32)
        weights = weights.at[place].set(jax.nn.one_hot(choice, widest))
        row = jnp.where(real, sign * left, jnp.nan)
        return (steps(shared, weights), weights), (choice, row)

    start = (shared, to_weights(net.space, relaxed))
    (shared, _), (choices, rows) = jax.lax.scan(decide, start, order)
    vector = jnp.zeros(counts.size, jnp.int32).at[order].set(choices)
    without = jnp.zeros((counts.size, widest)).at[order].set(rows)
    found = repaired(net.space, from_vector(net.space, vector))
    return Selected(found, shared, without, order)


def edge_selection(
    net: Net,
    training: Training,
    score_on: Examples,
    shared: Shared,
    relaxed: Architecture,
    nodes: Sequence[Sequence[int]],
    *,
    keep: int = 2,
    criterion: str = "accuracy",
) -> jax.Array:
    """Keeps of every node the incoming edges whose removal costs the supernet most.

    The selection of edges of DARTS-PT (Wang et al. 2021, arXiv 2108.04392, section 4.1), after
    that of their operations: node by node, every edge in turn gets no weight at all, and those
    without which the supernet is worst stay. Edges that are out stay out for the nodes after. In
    the paper the weights train on between two nodes: call it for each node with
    `perturbation_selection`'s supernet tuned as you like.

    Args:
      net: the supernet.
      training: for its batch size and dtype.
      score_on: the examples that judge.
      shared: the supernet, its operations decided.
      relaxed: the architecture, one, such as the one-hot of what was selected.
      nodes: for every node the places of its incoming edges, in the order of
        `jnas.base.to_vector`.
      keep: how many edges of a node stay; where it has no more, all do.
      criterion: `accuracy` or `loss`.

    Returns:
      bool[L], which places stay; those of no node do.

    Raises:
      InputError: an unknown criterion.
    """
    check_criterion(criterion)
    score_on = jax.tree.map(jnp.asarray, score_on)
    judge, sign = _judge(net, training, score_on), 1.0 if criterion == "accuracy" else -1.0
    weights = to_weights(net.space, relaxed)
    stays = jnp.ones(weights.shape[0], bool)
    for places in nodes:
        if len(places) <= keep:
            continue
        here = jnp.asarray(places, jnp.int32)

        def without(place: jax.Array, stays: jax.Array = stays) -> jax.Array:
            left = weights * stays.at[place].set(False)[:, None]
            return sign * judge(shared, from_weights(net.space, left))[criterion]

        left = jax.lax.map(without, here)
        rank = jnp.argsort(jnp.argsort(left, stable=True), stable=True)
        stays = stays.at[here].set(rank < keep)
    return stays


def check_criterion(criterion: str) -> None:
    """Raises `InputError` for an unknown criterion."""
    if criterion not in ("accuracy", "loss"):
        raise InputError(f"criterion {criterion!r}: allowed are accuracy, loss")


def _judge(net: Net, training: Training, data: Examples) -> Any:
    """`(shared, arch) -> {accuracy, loss}` over all whole batches of the examples."""
    run, n = forward(net, training), data.y.shape[0]
    size = min(training.batch_size, n)
    chunks = jnp.arange(n // size * size).reshape(-1, size)

    def judge(shared: Shared, arch: Architecture) -> dict[str, jax.Array]:
        def part(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, _ = run(shared.params, shared.state, arch, data.inputs(rows))
            y = data.y[rows]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return jnp.mean((jnp.argmax(logits, -1) == y).astype(jnp.float32)), jnp.mean(losses)

        accuracy, losses = jax.lax.map(part, chunks)
        return {"accuracy": jnp.mean(accuracy), "loss": jnp.mean(losses)}

    return judge


def to_weights(space: Space, relaxed: Architecture) -> jax.Array:
    """One relaxed architecture as a matrix f32[L, K], places in the order of `to_vector`."""
    widest = int(choice_counts(space).max())
    parts = []
    for x in jax.tree.leaves(relaxed):
        x = x.reshape(-1, x.shape[-1])
        parts.append(jnp.pad(x, ((0, 0), (0, widest - x.shape[-1]))))
    return jnp.concatenate(parts)


def from_weights(space: Space, weights: jax.Array) -> Architecture:
    """The inverse of `to_weights`."""
    leaves, tree = jax.tree.flatten(space.num_choices)
    ends = np.cumsum([c.size for c in leaves])[:-1]
    parts = jnp.split(weights, ends)
    shaped: list[Any] = [
        p[:, : int(c.max())].reshape(*c.shape, int(c.max()))
        for p, c in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, shaped)
