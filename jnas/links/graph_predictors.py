"""Predictors that read an architecture as a graph: GIN and GCN over its operations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnas.base import Architecture, InputError, Space, choice_counts, to_vector
from jnas.links.encodings import Encoding, one_hot_encoding
from jnas.links.predictors import (
    Loss,
    Network,
    Predictor,
    dense,
    dense_init,
    ensemble,
    squared_error,
)


class Cells(NamedTuple):
    """A batch of architectures as graphs whose nodes are the input, the operations, the output.

    kind: f32[m, nodes, kinds], one-hot.
    present: f32[m, nodes], 0 for an operation that takes its edge away.
    others: f32[m, k], the choices that belong to no operation, one-hot.
    """

    kind: jax.Array
    present: jax.Array
    others: jax.Array


class _Line(NamedTuple):
    """What is the same for all architectures of a space."""

    prepare: Callable[[Architecture], Cells]
    before: list[list[int]]  # the nodes whose output each node reads
    kinds: int
    others: int


def gin_predictor(
    space: Space,
    width: int = 32,
    layers: int = 3,
    head: int = 16,
    learning_rate: float = 0.005,
    weight_decay: float = 1e-4,
    members: int = 1,
    steps: int = 3000,
    batch_size: int = 16,
    loss: Loss = squared_error,
) -> Predictor:
    """A graph isomorphism network: the predictor of NPENAS.

    Every layer is `h_v <- MLP(h_v + the sum of h_u over the nodes u that v reads)` with an MLP of
    two layers; the mean over the nodes goes through a layer of `head` units. Xu et al. 2019, arXiv
    1810.00826, equation 4.1 with epsilon = 0; Wei et al. 2020, arXiv 2003.12857, and its authors'
    code (NPENASv1, `gin_predictor.py`): 3 layers of 32, head 16, Adam with learning rate 0.005,
    cosine decay and weight decay 1e-4, batches of 16, 300 epochs of squared error. Here every fit
    takes the same number of `steps`, by default those of 160 rows; batch normalisation and dropout
    are left out, and the output is not squashed, as scores are standardised.

    With `loss=gaussian_error` it is the predictor of NPENAS-BO, which is unsure by itself.

    Args:
      space: a space with a `graph`.
      width: the units of a node.
      layers: how far a node sees.
      head: the units of the layer on the mean of the nodes.
      learning_rate: of Adam, decayed to zero by a cosine.
      weight_decay: the L2 penalty's factor.
      members: see `ensemble`, as all the rest.
      steps: see `ensemble`.
      batch_size: see `ensemble`.
      loss: see `ensemble`.

    Returns:
      The predictor.

    Raises:
      InputError: a space without a graph, or no layer, unit, member, step or row.
    """
    line = _line(space, width=width, layers=layers, head=head)
    _at_least_1(steps=steps)

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, layers + 1)
        into = [line.kinds, *[width] * (layers - 1)]
        blocks = [dense_init(k, (a, width, width)) for k, a in zip(keys[:-1], into, strict=True)]
        return blocks, dense_init(keys[-1], (width + line.others, head, 2))

    def apply(weights: Any, cells: Cells) -> jax.Array:
        blocks, last = weights
        present = cells.present.T[..., None]
        h = jnp.moveaxis(cells.kind, 1, 0)  # [nodes, m, kinds]
        for block in blocks:
            h = h * present
            h = h + jnp.stack([_sum(h, before) for before in line.before])
            h = jax.nn.relu(_rowwise(block, h))
        return _pooled(last, h, present, cells)

    decay = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(decay))
    network = Network(line.prepare, init, apply)
    return ensemble(network, optimizer, members, steps, batch_size, loss)


def gcn_predictor(
    space: Space,
    width: int = 144,
    layers: int = 4,
    head: int = 128,
    learning_rate: float = 1e-4,
    weight_decay: float = 3e-4,
    members: int = 1,
    steps: int = 6000,
    batch_size: int = 7,
    loss: Loss = squared_error,
) -> Predictor:
    """A graph convolutional network that looks both ways: the neural predictor of Wen et al.

    Every layer is `h <- (relu(A h W) + relu(A' h V)) / 2`, where `A` averages over a node and those
    it reads, `A'` over a node and those that read it. Wen et al. 2020, "Neural Predictor for
    Neural Architecture Search", arXiv 1912.00848; the numbers are those of BONAS in naszilla's
    comparison (`gcn/model.py`, `gcn/train_gcn.py`): 4 layers of 144, head 128, Adam with learning
    rate 1e-4, cosine decay and weight decay 3e-4, batches of 7, 300 epochs (here `steps`, by
    default those of 140 rows), without its dropout.

    Args:
      space: a space with a `graph`.
      width: the units of a node.
      layers: how far a node sees.
      head: the units of the layer on the mean of the nodes.
      learning_rate: of Adam, decayed to zero by a cosine.
      weight_decay: the L2 penalty's factor.
      members: see `ensemble`, as all the rest.
      steps: see `ensemble`.
      batch_size: see `ensemble`.
      loss: see `ensemble`.

    Returns:
      The predictor.

    Raises:
      InputError: a space without a graph, or no layer, unit, member, step or row.
    """
    line = _line(space, width=width, layers=layers, head=head)
    _at_least_1(steps=steps)
    after = [[v for v, us in enumerate(line.before) if u in us] for u in range(len(line.before))]

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 2 * layers + 1)
        into = [line.kinds, *[width] * (layers - 1)] * 2
        ways = [dense_init(k, (a, width)) for k, a in zip(keys[:-1], into, strict=True)]
        return (ways[:layers], ways[layers:]), dense_init(keys[-1], (width + line.others, head, 2))

    def apply(weights: Any, cells: Cells) -> jax.Array:
        (forward, backward), last = weights
        present = cells.present.T[..., None]
        h = jnp.moveaxis(cells.kind, 1, 0)

        def one_way(layer: Any, h: jax.Array, near: list[list[int]]) -> jax.Array:
            x = _rowwise(layer, h) * present
            degree = present + jnp.stack([_sum(present, us) for us in near])
            summed = x + jnp.stack([_sum(x, us) for us in near])
            return jax.nn.relu(summed / jnp.maximum(degree, 1.0))

        for w, v in zip(forward, backward, strict=True):
            h = (one_way(w, h, line.before) + one_way(v, h, after)) / 2
        return _pooled(last, h, present, cells)

    decay = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(decay))
    network = Network(line.prepare, init, apply)
    return ensemble(network, optimizer, members, steps, batch_size, loss)


def _line(space: Space, **sizes: int) -> _Line:
    """The operations on edges as nodes: an operation reads those that end where it begins."""
    _at_least_1(**sizes)
    if space.graph is None:
        raise InputError(
            f"space {space.name!r} has no graph for a network to read: use mlp_ensemble"
        )
    edges, absent = space.graph
    counts = choice_counts(space)
    places = np.asarray([place for _, _, place in edges])
    last = max(b for _, b, _ in edges)
    ops = int(counts[places].max())
    ends = [(-1, 0), *((a, b) for a, b, _ in edges), (last, -2)]  # of the nodes of the line graph
    before = [[u for u, (_, b) in enumerate(ends) if b == a] for a, _ in ends]
    others = _others(space, places)

    def prepare(arch: Architecture) -> Cells:
        op = to_vector(space, arch)[:, places]
        edge = lambda value: jnp.full((op.shape[0], 1), value, op.dtype)
        number = jnp.concatenate([edge(ops), op, edge(ops + 1)], -1)
        kind = jax.nn.one_hot(number, ops + 2)
        gone = -1 if absent is None else absent
        return Cells(kind, (number != gone).astype(jnp.float32), others.encode(arch))

    return _Line(prepare, before, ops + 2, others.size)


def _others(space: Space, places: np.ndarray) -> Encoding:
    """A one-hot encoding of the places that hold no operation of the graph."""
    hot = one_hot_encoding(space)
    place = np.repeat(np.arange(choice_counts(space).size), choice_counts(space))
    kept = np.flatnonzero(~np.isin(place, places))
    return Encoding(kept.size, lambda arch: hot.encode(arch)[:, kept])


def _sum(h: jax.Array, nodes: list[int]) -> jax.Array:
    """The sum of a few nodes of `[nodes, m, c]`, in order."""
    total = jnp.zeros_like(h[0])
    for node in nodes:
        total = total + h[node]
    return total


def _rowwise(layers: Any, h: jax.Array) -> jax.Array:
    return dense(layers, h.reshape(-1, h.shape[-1])).reshape(*h.shape[:-1], -1)


def _pooled(layers: Any, h: jax.Array, present: jax.Array, cells: Cells) -> jax.Array:
    """The head on the mean of the nodes that are present."""
    every = list(range(h.shape[0]))
    mean = _sum(h * present, every) / _sum(present, every)
    return dense(layers, jnp.concatenate([mean, cells.others], -1))


def _at_least_1(**sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise InputError(f"{name}={value}: a predictor needs at least 1")
