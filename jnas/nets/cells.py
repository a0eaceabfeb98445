"""Networks of stacked cells, built from the pieces: the ready networks of the cell spaces."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jnas import spaces
from jnas.nets import ops
from jnas.nets.choices import OneOf, Repeat
from jnas.nets.functional import Net, functional
from jnas.nets.initial import lecun_uniform
from jnas.nets.layers import BatchNorm, Conv, ReLUConvBN, ResidualReduction
from jnas.spaces.nas_bench_201 import EDGES, OPERATIONS


class NasBench201Cell(nnx.Module):
    """A cell: every node sums one operation on each node before it; the last is the output."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        def edge(number: int) -> OneOf:
            made = (
                jnp.zeros_like,
                lambda x: x,
                ReLUConvBN(channels, channels, 1, rngs=rngs),
                ReLUConvBN(channels, channels, 3, rngs=rngs),
                ops.avg_pool_3x3,
            )
            return OneOf(dict(zip(OPERATIONS, made, strict=True)), name=f"edge_{number}")

        self.edges = nnx.List([edge(i) for i in range(len(EDGES))])

    def __call__(self, x: jax.Array) -> jax.Array:
        nodes = {0: x}
        for (a, b), edge in zip(EDGES, self.edges, strict=True):
            y = edge(nodes[a])
            nodes[b] = nodes[b] + y if b in nodes else y
        return nodes[3]


class NasBench201Network(nnx.Module):
    """Stem, stages of cells with a residual reduction between them, pooling, classifier."""

    def __init__(
        self,
        channels: int,
        cells: int,
        classes: int,
        inputs: int,
        stages: int = 3,
        *,
        rngs: nnx.Rngs,
    ):
        def stage(width: int) -> Repeat:
            make = lambda rngs: NasBench201Cell(width, rngs=rngs)
            return Repeat(make, cells, cells, shared=True, rngs=rngs)

        widths = [channels * 2**i for i in range(stages)]
        last = widths[-1]
        self.stem, self.stem_norm = Conv(inputs, channels, 3, rngs=rngs), BatchNorm(channels)
        self.stages = nnx.List([stage(width) for width in widths])
        self.reductions = nnx.List([ResidualReduction(c, 2 * c, rngs=rngs) for c in widths[:-1]])
        self.norm = BatchNorm(last)
        self.classifier = nnx.Linear(last, classes, kernel_init=lecun_uniform, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stages[0](self.stem_norm(self.stem(x)))
        for reduction, stage in zip(self.reductions, self.stages[1:], strict=True):
            x = stage(reduction(x))
        x = jnp.mean(jax.nn.relu(self.norm(x)), (1, 2))
        return self.classifier(x)


def nas_bench_201(
    channels: int = 16,
    cells: int = 5,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    stages: int = 3,
) -> Net:
    """The network of NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326, figure 1).

    Args:
      channels: C, the width of the first stage; each later one is twice as wide.
      cells: N, the cells of a stage.
      classes: the outputs.
      image: height and width of the images, a multiple of 4 (of `2 ** (stages - 1)`).
      inputs: the channels of the images.
      stages: of cells, with a reduction between one and the next; the paper has 3.

    Returns:
      The net over `jnas.spaces.nas_bench_201`: `[B, image, image, inputs]` to `[B, classes]`.
    """

    def bind(arch: Any) -> dict[str, Any]:
        return {f"edge_{i}": arch[i] for i in range(len(EDGES))}

    space = spaces.nas_bench_201(channels, cells, classes, image, inputs, stages)
    make = lambda rngs: NasBench201Network(channels, cells, classes, inputs, stages, rngs=rngs)
    return functional(make, space=space, bind=bind)
