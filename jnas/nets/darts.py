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
from jnas.nets.choices import OneOf, Repeat, Searchable, largest, relaxed
from jnas.nets.darts_ops import edge_options, preprocess
from jnas.nets.functional import Net, functional
from jnas.nets.initial import idle, lecun_uniform
from jnas.nets.layers import BatchNorm, Conv
from jnas.spaces.darts import CELLS, NODES, OPERATIONS, PAIRS
from jnas.spaces.darts_counts import STEM, Cell, cells

SKIP = OPERATIONS.index("skip_connect")
EDGES = 2 * NODES


class Pick(Searchable):
    """One of several arrays of the same shape; of a simplex, their weighted sum."""

    def __init__(self, many: int, name: str):
        super().__init__([str(i) for i in range(many)], name)

    def __call__(self, arrays: Sequence[jax.Array]) -> jax.Array:
        if len(self.labels) == 1:
            return arrays[0]
        choice: Any = self.chosen()
        if isinstance(choice, int):
            return arrays[choice]
        if relaxed(choice) and self.sparse:
            k, weight = largest(choice)
            choice = weight * jax.nn.one_hot(k, len(arrays), dtype=weight.dtype)
        elif not relaxed(choice):
            choice = jax.nn.one_hot(choice, len(arrays), dtype=arrays[0].dtype)
        # A sum over all is a fused pass over what lies there; a slice of a stack copies it first.
        return functools.reduce(jnp.add, [w * x for w, x in zip(choice, arrays, strict=True)])


class Reducing(nnx.Module):
    """An operation on the first or on the second of two inputs."""

    def __init__(self, op: nnx.Module, which: int):
        self.op, self.which = op, which

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        return self.op(inputs[self.which])


class DartsCell(nnx.Module):
    """Four nodes, each the sum of two operations on two earlier ones; they are concatenated.

    An edge of a reduction cell has a stride where it leaves an input of the cell. So it chooses
    among 14 operations: 7 on the inputs, with the stride, and 7 on the nodes before it, without.
    """

    def __init__(self, spec: Cell, *, rngs: nnx.Rngs):
        kind = "reduce" if spec.reduces else "normal"
        rngs = idle(rngs)
        self.before = preprocess(spec.before, spec.width, spec.halves, rngs=rngs)
        self.last = preprocess(spec.last, spec.width, False, rngs=rngs)
        self.reduces = spec.reduces
        picks, inner, edges = [], [], []
        for i in range(EDGES):
            node, side = divmod(i, 2)
            name = f"{kind}_{i}"
            if not spec.reduces:
                picks.append(Pick(node + 2 if node else 1, f"{name}_input"))
                edges.append(OneOf(edge_options(spec.width, 1, rngs=rngs), name))
                continue
            options: dict[str, nnx.Module] = {
                op: Reducing(made, 0) for op, made in edge_options(spec.width, 2, rngs=rngs).items()
            }
            picks.append(Pick(2 if node else 1, f"{name}_input"))
            if node + side > 1:  # its input may be a node of the cell
                still = edge_options(spec.width, 1, rngs=rngs)
                options |= {f"{op}_inside": Reducing(made, 1) for op, made in still.items()}
            inner.append(Pick(max(node, 1), f"{name}_inside"))
            edges.append(OneOf(options, name))
        self.picks, self.inner = nnx.List(picks), nnx.List(inner)
        self.edges: Any = nnx.List(edges)

    def __call__(self, carry: tuple) -> tuple:
        before, last, *rest = carry
        states = [self.before(before), self.last(last)]
        for node in range(NODES):
            parts = [self._edge(2 * node + side, states, rest) for side in (0, 1)]
            states.append(parts[0] + parts[1])
        out = jnp.concatenate(states[2:], -1)
        return (last, out, *((rest[0] + 1, rest[1]) if rest else ()))

    def _edge(self, i: int, states: list[jax.Array], rest: Sequence) -> jax.Array:
        node, side = divmod(i, 2)
        edge: OneOf = self.edges[i]
        of_cell = states[side : side + 1] if node == 0 else states[:2]
        if not self.reduces:
            inputs = [self.picks[i](of_cell if node == 0 else states)]
        else:
            inputs = [self.picks[i](of_cell)]
            if len(edge.labels) > len(OPERATIONS):
                inputs.append(self.inner[i](states[2:]))
        y = edge(*inputs)
        if not rest:
            return y
        number, masks = rest
        mask, skips = masks[number, i], self._skips(edge)
        if not isinstance(skips, bool):
            mask = skips + (1 - skips) * mask
        return y if skips is True else y * jnp.asarray(mask, y.dtype)[:, None, None, None]

    def _skips(self, edge: OneOf) -> Any:
        """Whether an edge is the identity, which is never dropped; a weight where it is relaxed."""
        place = SKIP + (len(OPERATIONS) if self.reduces else 0)
        if place >= len(edge.labels):
            return False
        choice: Any = edge.chosen()
        return choice[place] if not isinstance(choice, int) and relaxed(choice) else choice == place


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
    """The choices of the modules: of every edge its operation and where its input lies."""
    values: dict[str, Any] = {}
    for kind in CELLS:
        for i in range(EDGES):
            pair, op = arch[kind]["inputs"][i // 2], arch[kind]["ops"][i]
            values |= _bind_edge(kind, i, pair, op)
    return values


def _bind_edge(kind: str, i: int, pair: Any, op: Any) -> dict[str, Any]:
    """Those of one edge, from the pair of its node's inputs and its operation."""
    node, side = divmod(i, 2)
    name, possible = f"{kind}_{i}", node * (node + 3) // 2 + 1
    sources = np.asarray(PAIRS[:possible], np.int32)[:, side]
    if jnp.issubdtype(jnp.result_type(pair), jnp.floating):
        hot = np.eye(node + 2, dtype=np.float32)[sources]
        source = jnp.asarray(pair)[:possible] @ hot
        outside, inside = source[:2], source[2:]
        strided = jnp.sum(outside)
        over = lambda x: x / jnp.maximum(jnp.sum(x), 1e-12)
        where = source if kind == "normal" else over(outside), over(inside)
        both = jnp.concatenate([op * strided, op * (1 - strided)])
    else:
        known = isinstance(pair, np.ndarray | np.generic)
        source = (sources if known else jnp.asarray(sources))[pair]
        least, most = (np.minimum, np.maximum) if known else (jnp.minimum, jnp.maximum)
        where = source if kind == "normal" else least(source, 1), most(source - 2, 0)
        both = op + len(OPERATIONS) * (source > 1)
    strides = kind == "reduce" and node + side > 1
    return {
        name: both if strides else op,
        f"{name}_input": where[0],
        f"{name}_inside": where[1],
    }
