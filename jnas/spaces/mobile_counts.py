"""Parameters and multiply-adds of mobile networks, as functions of the architecture."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.spaces.mobile_blocks import ends_cost, halve, layer_cost
from jnas.spaces.mobile_stages import LAYER, Mobile, Reader, layer_block


def counts(reader: Reader) -> dict[str, Callable[[Any], jax.Array]]:
    """`params` and `flops`: sums over tables of every layer's cost for all that it may choose.

    Multiply-adds are those of convolutions and dense layers, squeeze and excitation among them.
    They are float32 where int32 would not hold them.
    """
    spec = reader.spec
    side = np.asarray([halve(image, spec.stem_stride) for image in spec.images])
    stem_side = side
    before: tuple[int, ...] = (spec.family.stem,)
    tables: list[tuple] = []  # (stage, layer, params, flops), of all choices
    for i, stage in enumerate(spec.stages):
        tables.append((i, 0, *_table(spec, i, 0, before, side)))
        side = np.asarray([halve(s, stage.stride) for s in side])
        before = stage.widths
        if stage.depths[-1] > 1:
            tables.append((i, 1, *_table(spec, i, 1, before, side)))
    ends = np.asarray(
        [
            [
                ends_cost(spec.family, spec.inputs, spec.classes, last, int(a), int(b))
                for a, b in zip(stem_side, side, strict=True)
            ]
            for last in before
        ]
    )  # [widths, images, 2]
    many = {i: stage.depths[-1] - 1 for i, stage in enumerate(spec.stages)}

    def count(which: int) -> Callable[[Any], jax.Array]:
        most = sum(int(t[2 + which].max()) * (many[t[0]] if t[1] else 1) for t in tables)
        dtype = jnp.int32 if most + int(ends[..., which].max()) < 2**31 else jnp.float32

        def total(arch: Any) -> jax.Array:
            arch = jax.tree.map(jnp.asarray, arch)
            image = arch.get("image", jnp.int32(0))
            widths = [reader.number(arch, "width", i) for i in range(len(spec.stages))]
            found = jnp.asarray(ends[..., which], dtype)[widths[-1], image]
            for i, first, *both in tables:
                table = jnp.asarray(both[which], dtype)
                depth = spec.stages[i].depths[0] + reader.number(arch, "depth", i)
                into = widths[i] if first else (widths[i - 1] if i else 0)
                cost = lambda j, table=table, i=i, into=into: table[
                    into, widths[i], *(reader.layer(arch, n, i, j) for n in LAYER[:3]), image
                ]
                if not first:
                    found = found + cost(0)
                elif spec.stages[i].each:
                    for j in range(1, many[i] + 1):
                        found = found + jnp.where(j < depth, cost(j), 0)
                else:
                    found = found + (depth - 1) * cost(1)
            return found

        return total

    return {"params": count(0), "flops": count(1)}


def _table(
    spec: Mobile, i: int, j: int, before: tuple[int, ...], sides: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and multiply-adds of a layer: int64[inputs, widths, op, kernel, se, images]."""
    stage = spec.stages[i]
    options = stage.rest if j else stage.first
    axes = [range(len(options.get(name, ("",)))) for name in LAYER[:3]]
    shape = [len(before), len(stage.widths), *map(len, axes), len(sides)]
    table = np.zeros((2, *shape), np.int64)
    numbers: Any
    for a, b, *numbers in itertools.product(range(shape[0]), range(shape[1]), *axes):
        if j and a != b:
            continue
        chosen = dict(zip(LAYER[:3], numbers, strict=True))
        made = layer_block(spec, i, j, chosen, before[a], stage.widths[b])
        for k, side in enumerate(sides):
            table[(slice(None), a, b, *numbers, k)] = layer_cost(made, int(side))
    return table[0], table[1]
