"""The `Space` of a specification of mobile networks."""

import itertools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jnas.base import Space
from jnas.spaces.mobile_counts import counts
from jnas.spaces.mobile_stages import LAYER, Mobile, Reader, Stage, check, decide, joins
from jnas.spaces.mobile_text import describe, parse


def mobile_space(spec: Mobile) -> Space:
    """The space of a specification.

    An architecture is a dict with a leaf for everything that can be chosen: `width` and `depth` for
    stages, `op`, `kernel`, `se` and `skip` for stages or layers, `image`. Its text has a word for
    each stage, such as `mb6_k5_se0.25_id_c40_r3` or `c40_r3:mb6_k5,mb3_k3,skip`, after `192px`
    where there are resolutions to choose from. The name of a published architecture is read too.
    Layers past the chosen depth choose nothing, and `canonical` makes all of that 0.

    Raises:
      InputError: a specification that cannot be.
    """
    check(spec)
    reader = Reader(spec)
    labels: dict[str, Any] = {name: [p.words for p in many] for name, many in reader.places.items()}
    choices = {name: np.asarray([len(w) for w in words]) for name, words in labels.items()}
    if len(spec.images) > 1:
        choices["image"] = np.asarray(len(spec.images))
        labels["image"] = [f"{side}px" for side in spec.images]
    return Space(
        name=spec.name,
        num_choices=choices,
        labels=labels,
        canonical=lambda arch: _canonical(reader, arch),
        describe=lambda arch: describe(spec, arch),
        parse=lambda text: parse(spec, text),
        counts=counts(reader),
        edges=lambda arch: _drawing(reader, arch),
        distinct=_distinct(spec),
    )


def _distinct(spec: Mobile) -> int:
    """How many canonical architectures there are."""
    stages = (_forms(stage, joins(spec, i)) for i, stage in enumerate(spec.stages))
    return len(spec.images) * math.prod(stages)


def _forms(stage: Stage, joined: bool) -> int:
    """How many canonical forms a stage has; its first layer adds its input where it is joined."""
    many = lambda options, *without: math.prod(
        len(words) for name, words in options.items() if name not in without
    )
    if not stage.each:
        skips = len(stage.rest.get("skip", ("",)))
        alike = sum(skips if depth > 1 or joined else 1 for depth in stage.depths)
        return len(stage.widths) * many(stage.rest, "skip") * alike
    ops = stage.rest.get("op", ("",))
    total = 0
    for depth in stage.depths:
        others = many(stage.rest, "op") ** (depth - 1)
        if "skip" in ops:  # any number of layers does something, in this order
            total += others * sum((len(ops) - 1) ** run for run in range(depth))
        else:
            total += others * len(ops) ** (depth - 1)
    return len(stage.widths) * many(stage.first) * total


def _canonical(reader: Reader, arch: Any) -> Any:
    """Layers that do not run choose 0, skipped layers come last, skips without effect are 0."""
    spec = reader.spec
    arch = {name: jnp.asarray(x) for name, x in arch.items()}
    columns = {
        name: [arch[name][..., k] for k in range(len(many))] for name, many in reader.places.items()
    }
    for i, stage in enumerate(spec.stages):
        depth = stage.depths[0] + reader.number(arch, "depth", i)
        if not stage.each:
            if ("skip", i, None) in reader.at and not joins(spec, i):
                k = reader.at["skip", i, None]
                columns["skip"][k] = jnp.where(depth > 1, columns["skip"][k], 0)
            continue
        for name in LAYER:
            for j in range(1, stage.depths[-1]):
                at = reader.at.get((name, i, j))
                if at is not None:
                    columns[name][at] = jnp.where(j < depth, columns[name][at], 0)
        words = stage.rest.get("op", ())
        if "skip" in words and stage.depths[-1] > 2:
            ks = [reader.at["op", i, j] for j in range(1, stage.depths[-1])]
            ops = jnp.stack([columns["op"][k] for k in ks], -1)
            order = jnp.argsort(ops == words.index("skip"), axis=-1, stable=True)
            ops = jnp.take_along_axis(ops, order, -1)
            for n, k in enumerate(ks):
                columns["op"][k] = ops[..., n]
    found = {name: jnp.stack(many, -1).astype(jnp.int32) for name, many in columns.items()}
    return {name: found.get(name, x) for name, x in arch.items()}


def _drawing(reader: Reader, arch: Any) -> list[tuple[str, str, str]]:
    """The blocks that run, in a row; blocks of one kind are one edge."""
    made = decide(reader.spec, arch)
    kind = lambda b: (b.kind, b.kernel, b.outputs)
    edges, last = [("image", "stem", "")], "stem"
    for i, ((name, kernel, width), same) in enumerate(itertools.groupby(made.blocks, kind)):
        words = [name, str(width)] if name == "skip" else [f"{name}_k{kernel}", f"c{width}"]
        node = str(i + 1)
        edges.append((last, node, "_".join([*words, f"r{len(list(same))}"])))
        last = node
    return [*edges, (last, "out", "")]
