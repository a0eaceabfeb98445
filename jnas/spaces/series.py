"""Networks over series: recurrent, convolutional and conformer blocks, mixed or alone.

Amodei et al. 2015, "Deep Speech 2", arXiv 1512.02595; Gulati et al. 2020, "Conformer", arXiv
2005.08100.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space
from jnas.spaces.exact import (
    Numbers,
    at_least,
    counted,
    depths,
    odd,
    rising,
    rising_numbers,
    some_of,
)

BLOCKS = ("convolution", "gru", "lstm", "bigru", "bilstm", "conformer")
STEMS = ("frames", "subsample", "deep_speech")
OUTPUTS = ("classes", "ctc")
NORMS = ("layer", "batch")
# (time, frequency) of the kernels and strides of Deep Speech 2 (its section 3.5), and channels.
DEEP_SPEECH = (((11, 41), (2, 2)), ((11, 21), (1, 2)))
CHANNELS = 32


class Settings(NamedTuple):
    """What a family of networks over series has in common; see `series`."""

    depth: int
    least: int
    widths: tuple[int, ...]
    blocks: tuple[str, ...]
    kernels: tuple[int, ...]
    heads: tuple[int, ...]
    head: int
    ratios: tuple[float, ...]
    stem: str
    norm: str
    residual: bool
    output: str
    classes: int
    length: int
    features: int
    padded: bool

    @property
    def hidden(self) -> np.ndarray:
        """The width of the feed-forward layer: int[widths, ratios]."""
        return np.asarray([[int(w * r) for r in self.ratios] for w in self.widths])

    @property
    def channels(self) -> int:
        """The features of a frame, without that of the padding."""
        return self.features - self.padded

    @property
    def steps(self) -> int:
        """The frames after the stem."""
        return -(-self.length // {"frames": 1, "subsample": 4, "deep_speech": 2}[self.stem])


def series(
    depth: int = 4,
    least: int = 1,
    widths: Sequence[int] = (16, 24, 32),
    blocks: Sequence[str] = BLOCKS,
    kernels: Sequence[int] = (3, 7, 15),
    heads: Sequence[int] = (1, 2, 4),
    head: int = 8,
    ratios: Sequence[float] = (1, 2, 4),
    stem: str = "frames",
    norm: str = "layer",
    residual: bool = True,
    output: str = "classes",
    classes: int = 10,
    length: int = 32,
    features: int = 12,
    padded: bool = False,
) -> Space:
    """The space of networks over log-mel frames or any other series of vectors.

    An architecture is `{"depth", "width": int32[], "block", "heads", "kernel", "ratio":
    int32[depth]}`. `canonical` sets to their first choice what has no effect: choices of layers
    past the depth, kernels of recurrent blocks, heads and ratios of all but conformers.

    Args:
      depth: the most layers.
      least: the fewest layers.
      widths: of the stream, in rising order.
      blocks: `convolution` along time, `gru`, `lstm`, both in two directions (`bigru`, `bilstm`),
        and `conformer` (two halves of a feed-forward around attention and a gated convolution).
      kernels: of convolutions, odd.
      heads: of a conformer's attention.
      head: the width of a head, even.
      ratios: the width of a conformer's feed-forward, as a multiple of `width` (rounded down).
      stem: what turns features into the stream: `frames`, a product for each frame; `subsample`,
        two 3x3 convolutions over time and frequency with stride 2, as the Conformer has; or
        `deep_speech`, the two of Deep Speech 2 (11x41 and 11x21, 32 channels, every second frame).
      norm: `layer` or `batch`, of the blocks.
      residual: whether convolutional and recurrent blocks are added to their input.
      output: `classes`, one for the series, or `ctc`, a label or the blank (0) for each step.
      classes: the classes, or the labels with the blank.
      length: the frames of a series; `flops` are for as many.
      features: the features of a frame.
      padded: whether the last of these is 1 for frames and 0 for padding.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of products).

    Raises:
      InputError: a setting that cannot be.
    """
    s = checked(Settings(**locals()))
    names: dict[str, tuple] = {
        "block": s.blocks,
        "heads": s.heads,
        "kernel": s.kernels,
        "ratio": s.ratios,
    }
    choices: dict[str, np.ndarray] = {k: np.full(depth, len(v)) for k, v in names.items()}
    choices |= {"depth": np.asarray(depth - least + 1), "width": np.asarray(len(s.widths))}
    labels = {**names, "depth": tuple(range(least, depth + 1)), "width": s.widths}
    labels = {k: labels[k] for k in choices}
    space = Space("series", choices, labels=labels, canonical=_canonical(s))
    return counted(space, s, _params, _flops)


def checked(s: Settings) -> Settings:
    """The settings with tuples.

    Raises:
      InputError: a setting that cannot be.
    """
    for name, allowed in (("stem", STEMS), ("norm", NORMS), ("output", OUTPUTS)):
        some_of(name, (getattr(s, name),), allowed)
    at_least(1, depth=s.depth, least=s.least, head=s.head, classes=s.classes, length=s.length)
    at_least(2 if s.padded else 1, features=s.features)
    depths(s.least, s.depth)
    if s.head % 2:
        raise InputError(f"head={s.head}: the width of a head has to be even")
    kernels = odd("kernels", s.kernels)
    widths = rising("widths", s.widths)
    ratios = rising_numbers("ratios", s.ratios)
    if int(widths[0] * ratios[0]) < 1:
        raise InputError(f"ratios={list(ratios)}: the least of them leaves no hidden unit")
    return s._replace(
        widths=widths,
        blocks=some_of("blocks", s.blocks, BLOCKS),
        kernels=kernels,
        heads=rising("heads", s.heads),
        ratios=ratios,
    )


def _canonical(s: Settings) -> Callable[[Architecture], Architecture]:
    kernels = np.asarray([b in ("convolution", "conformer") for b in s.blocks])
    conformer = np.asarray([b == "conformer" for b in s.blocks])

    def canonical(arch: Architecture) -> Architecture:
        live = jnp.arange(s.depth) < jnp.asarray(arch["depth"]) + s.least
        block = jnp.asarray(arch["block"])
        used = {
            "block": live,
            "heads": live & jnp.asarray(conformer)[block],
            "kernel": live & jnp.asarray(kernels)[block],
            "ratio": live & jnp.asarray(conformer)[block],
        }
        cut = {k: jnp.where(v, arch[k], 0).astype(jnp.int32) for k, v in used.items()}
        return {**arch, **cut}

    return canonical


def convolved(s: Settings) -> list[tuple[int, int, int, int]]:
    """Of each convolution of Deep Speech 2's stem: taps, steps, frequencies and inputs."""
    found: list[tuple[int, int, int, int]] = []
    steps, bands, inputs = s.length, s.channels, 1
    for (high, wide), (down, across) in DEEP_SPEECH:
        steps, bands = -(-steps // down), -(-bands // across)
        found.append((high * wide, steps, bands, inputs))
        inputs = CHANNELS
    return found


def _stem(s: Settings, w: Any) -> tuple[Any, Any]:
    """Parameters and multiply-adds of the stem, of a width."""
    if s.stem == "frames":
        return (s.channels + 1) * w, s.length * s.channels * w
    if s.stem == "subsample":
        halves = [(-(-s.length // n), -(-s.channels // n)) for n in (2, 4)]
        bands = halves[1][1]
        params = 9 * w + w + 9 * w * w + w + bands * w * w + w
        areas = [steps * bands for steps, bands in halves]
        flops = areas[0] * 9 * w + areas[1] * 9 * w * w + halves[1][0] * bands * w * w
        return params, flops
    convs = convolved(s)
    bands = convs[-1][2]
    params = sum(taps * inputs * CHANNELS + 2 * CHANNELS for taps, _, _, inputs in convs)
    flops = sum(t * f * taps * inputs * CHANNELS for taps, t, f, inputs in convs)
    last = bands * CHANNELS
    return params + (last + 1) * w, flops + s.steps * last * w


def _layers(s: Settings, n: Numbers, arch: Any) -> tuple[Any, ...]:
    """Width, width of heads, hidden width, kernel, and whether it runs: each `[..., L]`."""
    at = arch["width"][..., None]
    depth = n.take(np.arange(s.least, s.depth + 1), arch["depth"])
    return (
        n.take(s.widths, at),
        n.take([h * s.head for h in s.heads], arch["heads"]),
        n.take(s.hidden, at, arch["ratio"]),
        n.take(s.kernels, arch["kernel"]),
        n.flag(np.arange(s.depth) < depth[..., None]),
    )


def _of_block(s: Settings, n: Numbers, arch: Any, values: dict[str, Any]) -> Any:
    """The value of the chosen block."""
    flag = lambda word: n.flag(arch["block"] == s.blocks.index(word))
    return sum(value * flag(word) for word, value in values.items() if word in s.blocks)


def _params(s: Settings, n: Numbers, arch: Any) -> Any:
    w, inner, hidden, kernel, live = _layers(s, n, arch)
    gru, lstm = 6 * w * w + 4 * w, 8 * w * w + 4 * w
    feed = 2 * w * hidden + hidden + w
    module = 2 * w * w + 2 * w + kernel * w + w + 2 * w + w * w + w  # the gated convolution
    attention = 4 * w * inner + 3 * inner + w
    blocks = {
        "convolution": 2 * w + kernel * w * w,
        "gru": 2 * w + gru,
        "lstm": 2 * w + lstm,
        "bigru": 2 * w + 2 * gru,
        "bilstm": 2 * w + 2 * lstm,
        "conformer": 2 * feed + attention + module + 5 * 2 * w,
    }
    total = n.sum(_of_block(s, n, arch, blocks) * live)
    width = w[..., 0]
    return total + _stem(s, width)[0] + 2 * width + (width + 1) * s.classes


def _flops(s: Settings, n: Numbers, arch: Any) -> Any:
    w, inner, hidden, kernel, live = _layers(s, n, arch)
    t, square = s.steps, w * w
    attention = 4 * t * w * inner + 2 * t * t * inner
    blocks = {
        "convolution": t * kernel * square,
        "gru": 6 * t * square,
        "lstm": 8 * t * square,
        "bigru": 12 * t * square,
        "bilstm": 16 * t * square,
        "conformer": 4 * t * w * hidden + attention + t * (3 * square + kernel * w),
    }
    width = w[..., 0]
    heads = 1 if s.output == "classes" else t
    total = n.sum(_of_block(s, n, arch, blocks) * live)
    return total + _stem(s, width)[1] + heads * width * s.classes
