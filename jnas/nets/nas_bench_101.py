"""The network of NAS-Bench-101: modules of one cell, stacked, with the channels of its rule."""

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.base import InputError
from jnas.nets import ops
from jnas.nets.choices import OneOf, Repeat, Searchable
from jnas.nets.functional import Net, functional
from jnas.nets.initial import idle, lecun_uniform
from jnas.nets.narrow import ConvNorm, Width
from jnas.spaces.nas_bench_101 import INNER, OPERATIONS, VERTICES, matrix_of
from jnas.spaces.nas_bench_101_counts import modules_of, vertex_channels

ABSENT = len(OPERATIONS)  # the operation of a vertex that is on no path


class Wiring(Searchable):
    """The edges of a cell, int32[7, 7]."""

    def __init__(self) -> None:
        super().__init__(("absent", "present"), "matrix")

    def __call__(self, a: int, b: int) -> Any:
        """Whether there is an edge: a bool where the architecture is known, else int32[]."""
        matrix: Any = self.chosen()
        return matrix[a, b] if isinstance(matrix, jax.core.Tracer) else bool(matrix[a, b])


def _joined(parts: list[tuple[Any, jax.Array]]) -> Any:
    """The sum of those images whose edge is there; None where it is known that none is."""
    total: Any = None
    for edge, x in parts:
        if edge is False:
            continue
        x = x if edge is True else x * edge.astype(x.dtype)
        total = x if total is None else total + x
    return total


class Vertex(nnx.Module):
    """An inner vertex: the sum of the images that enter it, and its operation on that."""

    def __init__(self, number: int, inputs: int, channels: int, momentum: float, rngs: nnx.Rngs):
        own = f"channels_{channels}_{number}"

        def conv(into: int, kernel: int, width: str) -> ConvNorm:
            return ConvNorm(
                *(into, channels, kernel), into=width, out=own, momentum=momentum, rngs=rngs
            )

        self.number = number
        nothing = lambda x: jnp.zeros((*x.shape[:-1], channels), x.dtype)
        projects = {"no": nothing, "yes": conv(inputs, 1, "")}
        self.from_input = OneOf(projects, f"from_input_{number}")
        made = (conv(channels, 3, own), conv(channels, 1, own), ops.max_pool_3x3, jnp.zeros_like)
        self.op = OneOf(dict(zip((*OPERATIONS, "absent"), made, strict=True)), f"op_{number}")
        self.width = Width(channels, own)

    def __call__(self, x: jax.Array, before: list[Any], wiring: Wiring) -> Any:
        """Its images, `[B, H, W, C]`, of the cell's input and vertices before; None if absent."""
        v = self.number
        parts = [(wiring(w, v), y) for w, y in enumerate(before, 1) if y is not None]
        direct = wiring(0, v)
        if isinstance(direct, bool):
            parts = [(edge, self.width.cut(y)) for edge, y in parts if edge]
            if direct:
                parts.append((True, self.from_input(x)))
            total = _joined(parts)
            return None if total is None else self.op(total)
        total = self.from_input(x)  # zeros where there is no edge
        if parts:
            total = total + _joined(parts)
        return self.op(self.width.mask(total))


class Module(nnx.Module):
    """A cell: its inner vertices, what of them is concatenated, and the edge past them."""

    def __init__(self, inputs: int, channels: int, momentum: float, *, rngs: nnx.Rngs):
        vertex = lambda v: Vertex(v, inputs, channels, momentum, rngs)
        self.vertices = nnx.List([vertex(v) for v in range(1, 1 + INNER)])
        nothing = lambda x: jnp.zeros((*x.shape[:-1], channels), x.dtype)
        project = ConvNorm(inputs, channels, 1, momentum=momentum, rngs=rngs)
        self.past = OneOf({"no": nothing, "yes": project}, "past")
        self.wiring, self.channels = Wiring(), channels

    def __call__(self, x: jax.Array) -> jax.Array:
        found: list[Any] = []
        for vertex in self.vertices:
            found.append(vertex(x, found, self.wiring))
        ends = [self.wiring(v, VERTICES - 1) for v in range(VERTICES - 1)]
        if isinstance(ends[0], bool):
            last = [y for end, y in zip(ends[1:], found, strict=True) if end]
            parts = [jnp.concatenate(last, -1)] if last else []
            parts += [self.past(x)] if ends[0] else []
            return functools.reduce(jnp.add, parts)
        total, start = self.past(x), jnp.int32(0)
        here, there = np.arange(self.channels)[:, None], np.arange(self.channels)
        for end, vertex, y in zip(ends[1:], self.vertices, found, strict=True):
            # Concatenation at a place that is data: a product moves channels, and is quicker than
            # to gather them.
            kept = vertex.width.chosen()
            moves = (there == here + start) & (here < kept) & (end == 1)
            product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
            total = total + product(y, moves.astype(y.dtype))
            start = start + end * kept
        return total


class NasBench101Network(nnx.Module):
    """Stem, stacks of modules with the images halved between them, pooling, classifier."""

    def __init__(
        self,
        channels: int,
        stacks: int,
        modules: int,
        classes: int,
        inputs: int,
        momentum: float,
        *,
        rngs: nnx.Rngs,
    ):
        def group(before: int, width: int, many: int) -> Repeat:
            make = lambda rngs: Module(before, width, momentum, rngs=idle(rngs))
            return Repeat(make, many, many, shared=True, rngs=rngs)

        every = modules_of(channels, stacks, modules, 2**stacks)
        self.stem = ConvNorm(inputs, channels, 3, momentum=momentum, rngs=rngs)
        self.groups = nnx.List([group(before, width, many) for before, width, _, many in every])
        self.halves = [i > 0 and side < every[i - 1][2] for i, (_, _, side, _) in enumerate(every)]
        widest = channels * 2 ** (stacks - 1)
        self.classifier = nnx.Linear(widest, classes, kernel_init=lecun_uniform, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for halve, group in zip(self.halves, self.groups, strict=True):
            x = group(ops.max_pool_2x2(x) if halve else x)
        return self.classifier(jnp.mean(x, (1, 2)))


def nas_bench_101(
    channels: int = 128,
    stacks: int = 3,
    modules: int = 3,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    momentum: float = 0.9,
) -> Net:
    """The network of NAS-Bench-101.

    A 3x3 convolution, then stacks of equal modules. Between stacks a max pooling halves the image
    and the channels double. An edge from the input of a module passes a 1x1 convolution; what
    enters an inner vertex is added, cut to the vertex's channels; what enters the output is
    concatenated, and the edge from the input to the output added to it.

    Args:
      channels: of the first stack.
      stacks: of modules.
      modules: of a stack.
      classes: the outputs.
      image: height and width of the images, a multiple of `2 ** (stacks - 1)`.
      inputs: the channels of the images.
      momentum: of the running statistics; the paper's is 0.997, for its 108 epochs.

    Returns:
      The net over `jnas.spaces.nas_bench_101`: `[B, image, image, inputs]` to `[B, classes]`. It
      takes no relaxed architectures: an edge is there or not.
    """
    widths = sorted({width for _, width, _, _ in modules_of(channels, stacks, modules, image)})

    def bind(arch: Any) -> dict[str, Any]:
        if jnp.issubdtype(jnp.result_type(arch["ops"]), jnp.floating):
            raise InputError("nas_bench_101: the number of channels of a relaxed cell is undefined")
        known = all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(arch))
        with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
            values = _values(arch, widths)
            return jax.tree.map(np.asarray, values) if known else values

    return functional(
        lambda rngs: NasBench101Network(
            channels, stacks, modules, classes, inputs, momentum, rngs=rngs
        ),
        space=spaces.nas_bench_101(channels, stacks, modules, classes, image, inputs),
        bind=bind,
    )


def _values(arch: Any, widths: list[int]) -> dict[str, Any]:
    """The choices of the modules: of each vertex the operation, the channels, the projection."""
    matrix = matrix_of(arch)
    absent = jnp.max(matrix[1:-1], -1) == 0
    op = jnp.where(absent, ABSENT, jnp.asarray(arch["ops"]))
    values: dict[str, Any] = {"matrix": matrix, "past": matrix[0, -1]}
    for v in range(1, 1 + INNER):
        values |= {f"op_{v}": op[v - 1], f"from_input_{v}": matrix[0, v]}
    for width in widths:
        channels = vertex_channels(matrix, width)
        values |= {f"channels_{width}_{v + 1}": channels[v] for v in range(INNER)}
    return values
