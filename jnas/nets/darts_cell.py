"""A cell of DARTS' supernet: its 14 edges in one loop, which keeps nothing but the nodes.

The loop is differentiated by hand. An input of an edge is a node, final by the time the edge reads
it, so the backward loop finds it among the nodes and computes the edge again: memory for one edge
only, whatever their number, and no time spent on keeping what is cheap to compute.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.nets import rows
from jnas.nets.mixed import Edge, How, Statistics, alone, mixed, operation, stacked
from jnas.spaces.darts import CANDIDATES, EDGES, NODES

FROM_INPUTS = np.asarray([a < 2 for a, _ in EDGES])  # the edges that a reduction cell strides


class Choices(NamedTuple):
    """What the edges of a cell do.

    Attributes:
      ops: f32[14, 8] weights of the operations; or int32[14], of one operation each.
      scale: f32[14], the weight of the one operation; None where there are weights of all.
      strength: f32[14], the weight of the edge; None without edge normalisation.
    """

    ops: Any
    scale: Any = None
    strength: Any = None

    @property
    def fixed(self) -> bool:
        """Whether the operations are known at trace time."""
        return isinstance(self.ops, np.ndarray)

    def of(self, edges: np.ndarray) -> "Choices":
        """Those of some edges, bool[14]."""
        return Choices(*(None if part is None else part[edges] for part in self))


class _Plan(NamedTuple):
    """How a loop over edges runs: static."""

    how: How
    partial: int
    sparse: bool  # one operation an edge
    own: bool  # whether edges read the nodes that they add to


def _weighed(edge: Callable, x: jax.Array, strength: Any, plan: _Plan) -> tuple[jax.Array, Any]:
    """An edge on a share of the channels, the others passed on, and its weight.

    PC-DARTS: Xu et al. 2020, arXiv 1907.05737.
    """
    if plan.partial > 1:
        share = x.shape[0] // plan.partial
        y, found = edge(x[:share])
        rest = x[share:]
        if plan.how.stride == 2:
            rest = rows.max_pool_2x2(rest, plan.how.image)
        groups = jnp.concatenate((y, rest)).reshape(plan.partial, share, *y.shape[1:])
        y = groups.swapaxes(0, 1).reshape(-1, *y.shape[1:])
    else:
        y, found = edge(x)
    return (y if strength is None else strength * y), found


def _branches(plan: _Plan) -> list[Callable]:
    """What an edge does to `(x, differentiable arguments, others)`: for one operation each, or all.

    The arguments are `(params, weights or weight, strength)`, the others `(statistics, operation)`.
    """

    def wrap(run: Callable) -> Callable:
        def whole(x: jax.Array, args: Any, others: Any) -> tuple[jax.Array, Statistics]:
            params, weight, strength = args
            edge = Edge(params, others[0])
            return _weighed(lambda x: run(x, weight, edge), x, strength, plan)

        return whole

    if plan.sparse:
        return [wrap(run) for run in alone(plan.how)]
    return [wrap(lambda x, weights, edge: mixed(x, weights, edge, plan.how))]


def _forward_edge(plan: _Plan, x: jax.Array, args: Any, others: Any) -> tuple:
    branches = _branches(plan)
    if not plan.sparse:
        return branches[0](x, args, others)
    return jax.lax.switch(others[1], branches, x, args, others)


def _backward_edge(plan: _Plan, x: jax.Array, args: Any, others: Any, grad: jax.Array) -> tuple:
    def back(run: Callable) -> Callable:
        def pull(x: jax.Array, args: Any, others: Any, grad: jax.Array) -> tuple:
            return jax.vjp(lambda x, args: run(x, args, others)[0], x, args)[1](grad)

        return pull

    backs = [back(run) for run in _branches(plan)]
    if not plan.sparse:
        return backs[0](x, args, others, grad)
    return jax.lax.switch(others[1], backs, x, args, others, grad)


def _at(x: jax.Array, i: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(x, i, keepdims=False)


def _added(x: jax.Array, i: jax.Array, y: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(x, _at(x, i) + y, i, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loop(
    plan: _Plan, inputs: jax.Array, nodes: jax.Array, args: Any, others: Any, places: jax.Array
) -> tuple[jax.Array, Statistics]:
    """`nodes[b] += edge(x[a])` for every edge (a, b) in order, x the inputs or the nodes."""

    def step(nodes: jax.Array, edge: Any) -> tuple[jax.Array, Statistics]:
        args, others, (a, b) = edge
        y, found = _forward_edge(plan, _at(nodes if plan.own else inputs, a), args, others)
        return _added(nodes, b, jax.lax.optimization_barrier(y)), found

    return jax.lax.scan(step, nodes, (args, others, places))


def _loop_forward(plan: _Plan, inputs: Any, nodes: Any, *rest: Any) -> tuple:
    nodes, found = _loop(plan, inputs, nodes, *rest)
    return (nodes, found), (inputs, nodes, *rest)


def _loop_backward(plan: _Plan, saved: tuple, grads: tuple) -> tuple:
    inputs, nodes, *rest = saved

    def step(carry: tuple, edge: Any) -> tuple[tuple, Any]:
        to_inputs, to_nodes = carry
        args, others, (a, b) = edge
        x = _at(nodes if plan.own else inputs, a)
        dx, dargs = _backward_edge(plan, x, args, others, _at(to_nodes, b))
        dx = jax.lax.optimization_barrier(dx)
        if plan.own:
            return (to_inputs, _added(to_nodes, a, dx)), dargs
        return (_added(to_inputs, a, dx), to_nodes), dargs

    start = (jnp.zeros_like(inputs), grads[0])
    (to_inputs, to_nodes), dargs = jax.lax.scan(step, start, tuple(rest), reverse=True)
    return to_inputs, to_nodes, dargs, None, None


_loop.defvjp(_loop_forward, _loop_backward)


def _edges(
    plan: _Plan,
    inputs: jax.Array,
    nodes: jax.Array,
    params: Any,
    running: Statistics,
    choices: Choices,
    places: np.ndarray,
) -> tuple[jax.Array, Statistics]:
    """The nodes after all edges, and the statistics of the batch, `[edges, norms, C]`."""
    if choices.fixed:
        return _unrolled(plan, inputs, nodes, params, running, choices, places)
    weights = choices.scale if plan.sparse else choices.ops
    args = (params, weights, choices.strength)
    others = (running, choices.ops if plan.sparse else None)
    return _loop(plan, inputs, nodes, args, others, jnp.asarray(places))


def _unrolled(
    plan: _Plan,
    inputs: jax.Array,
    nodes: jax.Array,
    params: Any,
    running: Statistics,
    choices: Choices,
    places: np.ndarray,
) -> tuple[jax.Array, Statistics]:
    """The same for operations that are known: a network of its own, without a branch."""
    every, statistics = list(nodes), []
    for i, (a, b) in enumerate(places):
        name = CANDIDATES[int(choices.ops[i])]
        params_i, running_i = jax.tree.map(lambda leaf, i=i: leaf[i], (params, running))
        edge = Edge(params_i, running_i)

        def run(x: jax.Array, name: str = name, edge: Edge = edge) -> tuple[jax.Array, Any]:
            y, found = operation(name, x, 1.0, edge, plan.how)
            return y, stacked(found, edge.running, x.dtype)

        strength = None if choices.strength is None else choices.strength[i]
        y, found = _weighed(run, every[a] if plan.own else inputs[a], strength, plan)
        statistics.append(found)
        if name != "none" or plan.partial > 1:
            every[b] = every[b] + y
    found = jax.tree.map(lambda *leaves: jnp.stack(leaves), *statistics)
    return jnp.stack(every), found


def cell(
    pair: tuple[jax.Array, jax.Array],
    params: dict[str, Any],
    running: dict[str, Statistics],
    choices: Choices,
    *,
    image: int,
    reduce: bool,
    train: bool,
    partial: int = 1,
) -> tuple[jax.Array, dict[str, Statistics]]:
    """A normal or a reduction cell.

    Args:
      pair: the preprocessed inputs, `[C, H * W * B]` each.
      params: of the edges, stacked: `plain` `[14, ...]`; in a reduction cell the 8 edges from the
        inputs are `strided`, the 6 others `plain`.
      running: statistics likewise, `[edges, norms, C / partial]`.
      choices: what the edges do.
      image: height and width of the inputs.
      reduce: whether the edges from the inputs have stride 2.
      train: whether to normalise by the batch.
      partial: edges run on `1 / partial` of the channels.

    Returns:
      The concatenated nodes, `[4 C, ...]`, and the statistics of the batch.
    """
    plan = _Plan(How(image, 1, train), partial, choices.scale is not None, True)
    pairs, inputs = np.asarray(EDGES, np.int32), jnp.stack(pair)
    if not reduce:
        nodes = jnp.concatenate((inputs, jnp.zeros((NODES, *inputs.shape[1:]), inputs.dtype)))
        none = inputs[:0]
        nodes, plain = _edges(plan, none, nodes, params["plain"], running["plain"], choices, pairs)
        return _concatenated(nodes[2:]), {"plain": plain}
    c, n = pair[0].shape
    nodes, found = jnp.zeros((NODES, c, n // 4), inputs.dtype), {}
    for name, mine in (("strided", FROM_INPUTS), ("plain", ~FROM_INPUTS)):
        strided = name == "strided"
        how = How(image, 2, train) if strided else How(image // 2, 1, train)
        plan = plan._replace(how=how, own=not strided)
        places = pairs[mine] - np.asarray([0 if strided else 2, 2], np.int32)
        nodes, found[name] = _edges(
            *(plan, inputs, nodes, params[name], running[name], choices.of(mine), places)
        )
    return _concatenated(nodes), found


def _concatenated(nodes: jax.Array) -> jax.Array:
    return nodes.reshape(-1, *nodes.shape[2:])
