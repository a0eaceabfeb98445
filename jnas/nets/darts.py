"""The network of DARTS: normal and reduction cells of a genotype, stacked.

Liu, Simonyan and Yang 2019, arXiv 1806.09055, sections 2 and 3.1, and its published code.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.base import InputError
from jnas.nets.choices import (
    Choice,
    OneOf,
    Repeat,
    Searchable,
    changing,
    largest,
    relaxed,
    split,
)
from jnas.nets.darts_ops import edge_options, preprocess
from jnas.nets.functional import Net, functional
from jnas.nets.initial import idle, lecun_uniform
from jnas.nets.layers import BatchNorm, Conv
from jnas.spaces.darts import CELLS, NODES, OPERATIONS, PAIRS
from jnas.spaces.darts_counts import STEM, Cell, cells

EDGES = 2 * NODES


class Pick(Searchable):
    """One of several arrays of the same shape; of a simplex, their weighted sum."""

    def __init__(self, many: int, name: str):
        super().__init__([str(i) for i in range(many)], name)

    def __call__(self, arrays: Sequence[Any]) -> jax.Array:
        choice: Any = self.chosen()
        if isinstance(choice, int):
            return arrays[choice]
        if relaxed(choice) and self.sparse:
            k, weight = largest(choice)
            choice = weight * jax.nn.one_hot(k, len(arrays), dtype=weight.dtype)
        elif not relaxed(choice):
            choice = jax.nn.one_hot(choice, len(arrays), dtype=arrays[0].dtype)
        # A sum over all is one fused pass; to slice a stack of them would copy it first. An array
        # that is None has no weight.
        pairs = zip(choice, arrays, strict=True)
        return functools.reduce(jnp.add, [w * x for w, x in pairs if x is not None])


class Reducing(nnx.Module):
    """An operation on the first or on the second of two inputs."""

    def __init__(self, op: nnx.Module, which: int):
        self.op, self.which = op, which

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        return self.op(inputs[self.which])


class Edge(nnx.Module):
    """An operation on one of the inputs of the cell or of the nodes before.

    An edge of a reduction cell has a stride where it leaves an input of the cell. So it chooses
    among twice as many operations: with the stride, and on nodes without.
    """

    def __init__(
        self, width: int, reduces: bool, operations: Sequence[str], nodes: int, *, rngs: nnx.Rngs
    ):
        kind = "normal"
        options: dict[str, nnx.Module] = edge_options(width, 1, operations, rngs=rngs)
        self.reduces = reduces
        if reduces:
            kind, still = "reduce", options
            strided = edge_options(width, 2, operations, rngs=rngs)
            options = {op: Reducing(x, 0) for op, x in strided.items()}
            options |= {f"{op}_inside": Reducing(x, 1) for op, x in still.items()}
            self.inside = Pick(nodes, "reduce_inside")
        self.skip = operations.index("skip_connect") + reduces * len(operations)
        self.input = Pick(2 if reduces else 2 + nodes, f"{kind}_input")
        self.op = OneOf(options, f"{kind}_op")

    def __call__(self, inputs: Sequence[jax.Array], nodes: Sequence[Any], mask: Any) -> jax.Array:
        if self.reduces:
            inside = inputs[0]  # in place of a node, where there is none yet
            if any(node is not None for node in nodes):
                inside = self.inside(nodes)
            y = self.op(self.input(inputs), inside)
        else:
            y = self.op(self.input([*inputs, *nodes]))
        if mask is None:
            return y
        place = self.skip  # the identity is never dropped
        choice: Any = self.op.chosen()
        if isinstance(choice, int):
            skips: Any = float(choice == place)
        else:
            skips = choice[place] if relaxed(choice) else (choice == place).astype(jnp.float32)
        mask = skips + (1 - skips) * mask
        return y * jnp.asarray(mask, y.dtype)[:, None, None, None]


class Edges(Repeat):
    """The edges of a cell, two for each node, with a choice of their own each.

    Of an architecture that is known at compile time each becomes what it chose; else they are
    scanned, so that a program has the operations of one edge only.
    """

    def __init__(
        self,
        width: int,
        reduces: bool,
        operations: Sequence[str] = OPERATIONS,
        nodes: int = NODES,
        *,
        rngs: nnx.Rngs,
    ):
        make = lambda rngs: Edge(width, reduces, operations, nodes, rngs=idle(rngs))
        super().__init__(make, 2 * nodes, 2 * nodes, rngs=rngs)
        self.reduces, self.nodes = reduces, nodes

    def __call__(self, inputs: Sequence[jax.Array], masks: Any = None) -> list[jax.Array]:
        """Two inputs `[B, H, W, C]` and masks f32[edges, B], or None, to the sums at the nodes."""
        graph, choices, params, buffers = split(self.block, Choice, nnx.Param, ...)
        ops: Any = nnx.to_pure_dict(choices)["op"]["choice"]
        if not isinstance(ops, jax.core.Tracer) and not relaxed(ops):
            return self._known(np.asarray(ops).tolist(), inputs, masks)

        def step(nodes: jax.Array, layer: tuple) -> tuple:
            i, mask, *own = layer
            module = nnx.merge(graph, *own)
            y = module(inputs, nodes, mask)
            return nodes.at[i // 2].add(y), changing(module)

        b, h, w, c = inputs[0].shape
        side = 1 + self.reduces
        start = jnp.zeros((self.nodes, b, h // side, w // side, c), inputs[0].dtype)
        layers = (jnp.arange(2 * self.nodes), masks, choices, params, buffers)
        found: Any = jax.lax.scan(step, start, layers)
        nnx.update(self.block, found[1])
        return list(found[0])

    def _known(self, ops: list[int], inputs: Sequence[jax.Array], masks: Any) -> list[jax.Array]:
        """The same for operations that are known: of what no edge chose, nothing is touched."""
        graph, choices, params, buffers = split(self.block, Choice, nnx.Param, ...)
        at = jax.tree_util.tree_map_with_path
        nodes: list[Any] = [None] * self.nodes
        for i, op in enumerate(ops):
            mine = lambda path, op=op: _option(path) == op
            row = lambda path, leaf, i=i, mine=mine: leaf[i] if mine(path) else leaf
            chosen = jax.tree.map(lambda c, i=i: np.asarray(c)[i], choices)
            module = nnx.merge(graph, chosen, *at(row, (params, buffers)))
            y = module(inputs, nodes[: i // 2], None if masks is None else masks[i])
            nodes[i // 2] = y if i % 2 == 0 else nodes[i // 2] + y
            put = lambda path, leaf, new, i=i, mine=mine: (
                jax.lax.dynamic_update_index_in_dim(leaf, new, i, 0) if mine(path) else leaf
            )
            buffers = at(put, buffers, changing(module))
        nnx.update(self.block, buffers)
        return nodes


def _option(path: tuple) -> Any:
    """The number of the operation that a parameter or a statistic of an edge belongs to."""
    keys = [getattr(part, "key", getattr(part, "idx", None)) for part in path]
    return keys[keys.index("options") + 1]


class DartsCell(nnx.Module):
    """Four nodes, each the sum of two operations on two earlier ones; they are concatenated."""

    def __init__(self, spec: Cell, *, rngs: nnx.Rngs):
        self.before = preprocess(spec.before, spec.width, spec.halves, rngs=idle(rngs))
        self.last = preprocess(spec.last, spec.width, False, rngs=idle(rngs))
        self.edges = Edges(spec.width, spec.reduces, rngs=rngs)

    def __call__(self, carry: tuple) -> tuple:
        before, last, *dropping = carry
        masks = dropping[1][dropping[0]] if dropping else None
        nodes = self.edges([self.before(before), self.last(last)], masks)
        out = jnp.concatenate(nodes, -1)
        return (last, out, *((dropping[0] + 1, dropping[1]) if dropping else ()))


class AuxiliaryHead(nnx.Module):
    """A classifier that only trains: its loss helps the cells before it.

    The published one is for images of 8x8: the means of 5x5 windows at stride 3, two each way. For
    any other side s the windows are those at both ends with `max(1, 5 s // 8)` pixels.
    """

    trains_only = True

    def __init__(self, channels: int, classes: int, *, rngs: nnx.Rngs):
        self.first, self.first_norm = Conv(channels, 128, 1, rngs=rngs), BatchNorm(128)
        self.second = nnx.Linear(4 * 128, 768, use_bias=False, kernel_init=lecun_uniform, rngs=rngs)
        self.second_norm = BatchNorm(768)
        self.classifier = nnx.Linear(768, classes, kernel_init=lecun_uniform, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(x)
        ends = [(slice(0, n), slice(-n, None)) for n in (max(1, 5 * s // 8) for s in x.shape[1:3])]
        windows = [jnp.mean(x[:, h, w], (1, 2)) for h, w in itertools.product(*ends)]
        x = jnp.stack(windows, 1)[:, :, None]  # [B, 4, 1, C]
        x = jax.nn.relu(self.first_norm(self.first(x))).reshape(x.shape[0], -1)
        return self.classifier(jax.nn.relu(self.second_norm(self.second(x))))


class DartsNetwork(nnx.Module):
    """Stem, cells, pooling, classifier; equal cells that follow each other are scanned."""

    def __init__(
        self,
        channels: int,
        layers: int,
        classes: int,
        inputs: int,
        auxiliary: bool,
        drop_path: float,
        steps: int,
        *,
        rngs: nnx.Rngs,
    ):
        every = cells(channels, layers)
        groups = [(spec, len(list(same))) for spec, same in itertools.groupby(every)]

        def group(spec: Cell, many: int) -> Repeat:
            make = lambda rngs: DartsCell(spec, rngs=rngs)
            return Repeat(make, many, many, shared=True, rngs=rngs)

        wide = STEM * channels
        self.stem, self.stem_norm = Conv(inputs, wide, 3, rngs=rngs), BatchNorm(wide)
        self.groups = nnx.List([group(*each) for each in groups])
        self.classifier = nnx.Linear(
            NODES * every[-1].width, classes, kernel_init=lecun_uniform, rngs=rngs
        )
        self.layers, self.deterministic = layers, False
        self.drop_path, self.steps = drop_path, steps
        if auxiliary:
            reductions = [i for i, (spec, _) in enumerate(groups) if spec.reduces]
            self.tapped = reductions[-1]
            self.auxiliary = AuxiliaryHead(NODES * groups[self.tapped][0].width, classes, rngs=rngs)
        else:
            self.tapped = -1
        if drop_path:
            self.stream = rngs.dropout.fork()

    def __call__(self, x: jax.Array) -> Any:
        x = self.stem_norm(self.stem(x))
        carry: tuple = (x, x, *self._drawn(x.shape[0]))
        tapped = None
        for i, group in enumerate(self.groups):
            carry = group(carry)
            tapped = carry[1] if i == self.tapped else tapped
        logits = self.classifier(jnp.mean(carry[1], (1, 2)))
        if tapped is None or self.deterministic:
            return logits
        return logits, self.auxiliary(tapped)

    def _drawn(self, batch: int) -> tuple:
        """The number of the first cell, and what each edge is multiplied by: `[layers, 8, B]`.

        Of every example an edge is dropped by itself (Larsson et al. 2017, arXiv 1605.07648).
        """
        if not self.drop_path or self.deterministic:
            return ()
        # The stream counts the steps of the training: it is drawn from once in each.
        now = self.stream.count[...].astype(jnp.float32)
        part = jnp.minimum(now / self.steps, 1.0) if self.steps else 1.0
        keep = 1 - self.drop_path * part
        kept = jax.random.bernoulli(self.stream(), keep, (self.layers, EDGES, batch))
        return jnp.int32(0), kept / keep


def darts(
    channels: int = 36,
    layers: int = 20,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    auxiliary: bool = False,
    drop_path: float = 0.0,
    steps: int = 0,
) -> Net:
    """The network of a DARTS genotype for small images, at any width and depth.

    The stem is a 3x3 convolution to 3 C channels. The cells at a third and at two thirds of the
    layers halve the image and double the width.

    Args:
      channels: C, of the first cells.
      layers: the cells.
      classes: the outputs.
      image: height and width of the images, a multiple of 4.
      inputs: the channels of the images.
      auxiliary: in training the network returns `(logits, auxiliary logits)`; the second head
        follows the last reduction.
      drop_path: the probability that a path is dropped in training, of every example and edge by
        itself; the identity stays.
      steps: of a training, in which `drop_path` rises linearly from 0; 0 keeps it as it is.

    Returns:
      The net over `jnas.spaces.darts`: `[B, image, image, inputs]` to `[B, classes]`. Of a relaxed
      architecture, an edge runs on its expected input.

    Raises:
      InputError: a network that there cannot be.
    """
    if not 0 <= drop_path < 1:
        raise InputError(f"drop_path={drop_path!r}: it has to be at least 0 and less than 1")
    return functional(
        lambda rngs: DartsNetwork(
            channels, layers, classes, inputs, auxiliary, drop_path, steps, rngs=rngs
        ),
        space=spaces.darts(channels, layers, classes, image, inputs),
        bind=_bind,
    )


def _bind(arch: Any) -> dict[str, Any]:
    """The choices of the modules: of every edge its operation and where its input lies, `[8]`."""
    values: dict[str, Any] = {}
    for kind in CELLS:
        pairs, ops = arch[kind]["inputs"], arch[kind]["ops"]
        soft = jnp.issubdtype(jnp.result_type(pairs), jnp.floating)
        if soft:
            hot = np.eye(2 + NODES, dtype=np.float32)[np.asarray(PAIRS)]  # [10, 2, 6]
            source = jnp.einsum("np,psk->nsk", pairs, hot).reshape(EDGES, -1)
        else:
            table = np.asarray(PAIRS, np.int32)
            known = isinstance(pairs, np.ndarray)
            source = (table if known else jnp.asarray(table))[pairs].reshape(EDGES)
        if kind == "normal":
            values |= {"normal_op": ops, "normal_input": source}
        elif soft:
            outside, inside = source[:, :2], source[:, 2:]
            strided = jnp.sum(outside, -1, keepdims=True)
            over = lambda x: x / jnp.maximum(jnp.sum(x, -1, keepdims=True), 1e-12)
            values["reduce_op"] = jnp.concatenate([ops * strided, ops * (1 - strided)], -1)
            values |= {"reduce_input": over(outside), "reduce_inside": over(inside)}
        else:
            values["reduce_op"] = ops + len(OPERATIONS) * (source > 1)
            values["reduce_input"] = source.clip(None, 1)
            values["reduce_inside"] = (source - 2).clip(0)
    return values
