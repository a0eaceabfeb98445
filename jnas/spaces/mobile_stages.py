"""Spaces of mobile networks as data: stages of blocks, and what can be chosen in each.

A stage is a row of blocks of one output width, the first with the stride. It chooses its width and
its depth, and either all its layers alike (MnasNet's factorised hierarchical space) or each layer
for itself (ProxylessNAS, FBNet, once-for-all) choose operation, kernel, squeeze and skip.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas.base import InputError
from jnas.spaces.mobile_blocks import ACTIVATIONS, Block, Family, Network, block, settings

LAYER = ("op", "kernel", "se", "skip")  # what a layer chooses, in the order of the text


class Stage(NamedTuple):
    """A row of blocks of one output width.

    Attributes:
      widths: channels out to choose from.
      depths: numbers of layers to choose from, each one more than the last.
      stride: of the first layer.
      first: the words to choose from for the first layer, by name of the choice.
      rest: the same for the layers after it.
      each: whether every layer chooses for itself; else all layers of the stage are alike, and
        `first` and `rest` are equal.
      activation: two letters of `ACTIVATIONS`, or empty for the family's.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    stride: int
    first: Mapping[str, tuple[str, ...]]
    rest: Mapping[str, tuple[str, ...]]
    each: bool = False
    activation: str = ""


class Mobile(NamedTuple):
    """A space of mobile networks as data, from which its `Space` and its network are made.

    Attributes:
      name: of the space.
      family: what all its networks have in common.
      stages: the rows of blocks.
      images: height and width of the images to choose from, rising; the largest is that of the
        data.
      inputs: the channels of the images.
      classes: the outputs.
      stem_stride: of the first convolution.
      elastic: layers share the weights of all their kernels and expansions.
      points: published architectures by name, as texts of the space.
    """

    name: str
    family: Family
    stages: tuple[Stage, ...]
    images: tuple[int, ...]
    inputs: int = 3
    classes: int = 1000
    stem_stride: int = 2
    elastic: bool = False
    points: Mapping[str, str] = {}


class Place(NamedTuple):
    """Something to choose: which layer of which stage (None: all of it), and among what."""

    stage: int
    layer: int | None
    words: tuple[str, ...]


def places(spec: Mobile) -> dict[str, list[Place]]:
    """Everything that has more than one choice, by the name of the leaf of the architecture."""
    found: dict[str, list[Place]] = {}

    def add(name: str, stage: int, layer: int | None, words: tuple[str, ...]) -> None:
        if len(words) > 1:
            found.setdefault(name, []).append(Place(stage, layer, words))

    for i, stage in enumerate(spec.stages):
        add("width", i, None, tuple(f"c{w}" for w in stage.widths))
        add("depth", i, None, tuple(f"r{d}" for d in stage.depths))
        for j in range(stage.depths[-1] if stage.each else 1):
            for name, words in (stage.rest if j else stage.first).items():
                add(name, i, j if stage.each else None, words)
    return found


class Reader:
    """Where the choices of an architecture lie, for all functions of a space."""

    def __init__(self, spec: Mobile):
        self.spec, self.places = spec, places(spec)
        self.at = {
            (name, p.stage, p.layer): i
            for name, many in self.places.items()
            for i, p in enumerate(many)
        }

    def number(self, arch: Any, name: str, stage: int, layer: int | None = None) -> Any:
        """The choice at a place, of any batch shape; 0 where there is nothing to choose."""
        where = self.at.get((name, stage, layer))
        return 0 if where is None else arch[name][..., where]

    def layer(self, arch: Any, name: str, stage: int, j: int) -> Any:
        """The choice of a layer."""
        return self.number(arch, name, stage, j if self.spec.stages[stage].each else None)


def check(spec: Mobile) -> None:
    """Raises `InputError` for a specification that cannot be."""
    who = f"space {spec.name!r}"
    if not spec.stages or not spec.images:
        raise InputError(f"{who}: at least one stage and one resolution are needed")
    if min(spec.images) < 1 or spec.inputs < 1 or spec.classes < 1:
        sizes = f"images={list(spec.images)}, inputs={spec.inputs}, classes={spec.classes}"
        raise InputError(f"{who}: {sizes}: all have to be at least 1")
    if list(spec.images) != sorted(set(spec.images)):
        raise InputError(f"{who}: resolutions {list(spec.images)}: they have to rise")
    for i, stage in enumerate(spec.stages):
        steps = range(stage.depths[0], stage.depths[0] + len(stage.depths)) if stage.depths else ()
        if tuple(steps) != stage.depths or not stage.depths or stage.depths[0] < 1:
            raise InputError(
                f"{who}: stage {i}: depths {list(stage.depths)}: each one more, from 1"
            )
        if not stage.widths or list(stage.widths) != sorted(set(stage.widths)):
            raise InputError(f"{who}: stage {i}: widths {list(stage.widths)}: they have to rise")
        if "skip" in stage.rest.get("op", ()) and len(stage.depths) > 1:
            raise InputError(f"{who}: stage {i}: a skip is a choice of depth: give one depth")
        if not stage.each and stage.first != stage.rest:
            raise InputError(f"{who}: stage {i}: its layers are alike, but first and rest differ")


def joins(spec: Mobile, stage: int) -> bool:
    """Whether the first layer of a stage may add its input: all widths around it are one number.

    Where widths are chosen it never does, though two of them may happen to be equal.
    """
    before = (spec.family.stem,) if stage == 0 else spec.stages[stage - 1].widths
    return (
        spec.stages[stage].stride == 1 and before == spec.stages[stage].widths and len(before) == 1
    )


def layer_words(stage: Stage, j: int, numbers: Mapping[str, int]) -> list[str]:
    """The words of a layer by the numbers of its choices."""
    options = stage.first if j == 0 else stage.rest
    return [options[name][numbers.get(name, 0)] for name in LAYER if name in options]


def layer_block(spec: Mobile, i: int, j: int, numbers: Any, inputs: int, outputs: int) -> Block:
    stage = spec.stages[i]
    words = settings(*layer_words(stage, j, numbers))
    if j == 0 and not joins(spec, i):
        words = words._replace(skip="noskip")
    activation = ACTIVATIONS[stage.activation or spec.family.activation]
    return block(spec.family, words, inputs, outputs, 1 if j else stage.stride, activation)


def decide(spec: Mobile, arch: Any) -> Network:
    """The network of an architecture of concrete ints, with everything decided."""
    reader, arch = Reader(spec), jax.tree.map(np.asarray, arch)
    blocks: list[Block] = []
    before = spec.family.stem
    for i, stage in enumerate(spec.stages):
        width = stage.widths[int(reader.number(arch, "width", i))]
        for j in range(stage.depths[int(reader.number(arch, "depth", i))]):
            numbers = {name: int(reader.layer(arch, name, i, j)) for name in LAYER}
            blocks.append(layer_block(spec, i, j, numbers, before, width))
            before = width
    image = spec.images[int(arch["image"]) if "image" in arch else 0]
    return Network(spec.family, tuple(blocks), image, spec.inputs, spec.classes, spec.stem_stride)
