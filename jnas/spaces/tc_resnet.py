"""Residual networks of convolutions along time, for keywords and other short series.

Choi et al. 2019, "Temporal Convolution for Real-time Keyword Spotting on Mobile Devices", arXiv
1904.03814.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jnas.base import Architecture, InputError, Space
from jnas.spaces.exact import Numbers, at_least, counted, rising, rising_numbers, some_of
from jnas.spaces.series import OUTPUTS

# The paper's networks, 40 MFCC to 12 words: blocks of a stage, and the multiple of all widths.
PUBLISHED: dict[str, tuple[int, float]] = {
    "TC-ResNet8": (1, 1.0),
    "TC-ResNet8-1.5": (1, 1.5),
    "TC-ResNet14": (2, 1.0),
    "TC-ResNet14-1.5": (2, 1.5),
}
PAPER: dict[str, Any] = {"features": 40, "classes": 12, "length": 98}


class Settings(NamedTuple):
    """What a family of these networks has in common; see `tc_resnet`."""

    channels: tuple[int, ...]
    multiples: tuple[float, ...]
    blocks: tuple[int, ...]
    kernels: tuple[int, ...]
    first: int
    output: str
    classes: int
    length: int
    features: int
    padded: bool

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return len(self.channels) - 1

    @property
    def widths(self) -> np.ndarray:
        """The channels of the first convolution and of every stage: int[1 + stages, multiples]."""
        return np.asarray([[max(1, int(c * m)) for m in self.multiples] for c in self.channels])

    @property
    def steps(self) -> np.ndarray:
        """The frames after the first convolution and after every stage: int[1 + stages]."""
        return np.asarray([-(-self.length // 2**i) for i in range(len(self.channels))])


def tc_resnet(
    channels: Sequence[int] = (16, 24, 32, 48),
    multiples: Sequence[float] = (0.5, 0.75, 1, 1.25, 1.5),
    blocks: Sequence[int] = (1, 2),
    kernels: Sequence[int] = (3, 5, 7, 9),
    first: int = 3,
    output: str = "classes",
    classes: int = 12,
    length: int = 98,
    features: int = 40,
    padded: bool = False,
) -> Space:
    """The space of TC-ResNets: blocks and kernel of every stage, and all widths.

    The features of a frame are the channels of the first convolution, so that every layer sees all
    frequencies. A stage halves the frames. An architecture is `{"blocks", "kernel": int32[stages],
    "width": int32[1 + stages]}`. No two are isomorphic. `published` has the paper's networks.

    Args:
      channels: of the first convolution and of every stage.
      multiples: of these, to choose from for each, in rising order (channels are rounded down).
      blocks: how many a stage may have, `1, 2, ...` without a gap.
      kernels: along time, odd, one for all blocks of a stage.
      first: the kernel of the first convolution, odd.
      output: `classes`, one for the series, or `ctc`, a label or the blank (0) for each step.
      classes: the classes, or the labels with the blank.
      length: the frames of a series; `flops` are for as many.
      features: the features of a frame.
      padded: whether the last of these is 1 for frames and 0 for padding.

    Returns:
      The space. Its counts are `params` (without running statistics) and `flops` (multiply-adds of
      products).

    Raises:
      InputError: a setting that cannot be.
    """
    s = checked(Settings(**locals()))
    choices = {
        "blocks": np.full(s.stages, len(s.blocks)),
        "kernel": np.full(s.stages, len(s.kernels)),
        "width": np.full(s.stages + 1, len(s.multiples)),
    }
    labels = {"blocks": s.blocks, "kernel": s.kernels, "width": s.multiples}
    space = Space("tc_resnet", choices, labels=labels)
    return counted(space, s, _params, _flops)


def published(name: str) -> tuple[dict[str, Any], Architecture]:
    """The settings of the space and the architecture of one of the paper's networks.

    Raises:
      InputError: an unknown name.
    """
    if name not in PUBLISHED:
        raise InputError(f"network {name!r}: published are {', '.join(PUBLISHED)}")
    blocks, multiple = PUBLISHED[name]
    space = tc_resnet(**PAPER)
    row = lambda value, n: ",".join([str(value)] * n)
    width = row(f"{multiple:g}", 4)
    return PAPER, space.parse(f"blocks=[{row(blocks, 3)}] kernel=[{row(9, 3)}] width=[{width}]")


def checked(s: Settings) -> Settings:
    """The settings with tuples.

    Raises:
      InputError: a setting that cannot be.
    """
    some_of("output", (s.output,), OUTPUTS)
    at_least(1, classes=s.classes, length=s.length, first=s.first)
    at_least(2 if s.padded else 1, features=s.features)
    channels = tuple(s.channels)
    if len(channels) < 2 or min(channels) < 1:
        raise InputError(f"channels={list(channels)}: at least two, each at least 1")
    blocks = tuple(s.blocks)
    if not blocks or blocks != tuple(range(1, len(blocks) + 1)):
        raise InputError(f"blocks={list(blocks)}: they have to be 1, 2, ... without a gap")
    kernels = rising("kernels", s.kernels)
    if any(k % 2 == 0 for k in (*kernels, s.first)):
        raise InputError(f"kernels={list(kernels)}, first={s.first}: they have to be odd")
    multiples = rising_numbers("multiples", s.multiples)
    return s._replace(channels=channels, blocks=blocks, kernels=kernels, multiples=multiples)


def _sizes(s: Settings, n: Numbers, arch: Any) -> tuple[Any, ...]:
    """Inputs, outputs, kernel and further blocks of every stage: each `[..., stages]`."""
    widths = n.take(s.widths, np.arange(s.stages + 1), arch["width"])
    kernel = n.take(s.kernels, arch["kernel"])
    return widths[..., :-1], widths[..., 1:], kernel, n.take(s.blocks, arch["blocks"]) - 1


def _params(s: Settings, n: Numbers, arch: Any) -> Any:
    into, out, kernel, more = _sizes(s, n, arch)
    features = s.features - s.padded
    stem = (s.first * features + 2) * into[..., 0]
    head = (out[..., -1] + 1) * s.classes
    one = kernel * into * out + kernel * out * out + into * out + 6 * out
    return stem + head + n.sum(one + more * (2 * kernel * out * out + 4 * out))


def _flops(s: Settings, n: Numbers, arch: Any) -> Any:
    into, out, kernel, more = _sizes(s, n, arch)
    features, steps = s.features - s.padded, n.take(s.steps, np.arange(1, s.stages + 1))
    stem = s.length * s.first * features * into[..., 0]
    heads = 1 if s.output == "classes" else int(s.steps[-1])
    one = kernel * into * out + kernel * out * out + into * out
    stages = n.sum(steps * (one + more * 2 * kernel * out * out))
    return stem + stages + heads * out[..., -1] * s.classes
