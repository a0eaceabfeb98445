"""AutoFormer: vision transformers whose layers choose their heads and feed-forward width.

Chen et al. 2021, "AutoFormer: Searching Transformers for Visual Recognition", arXiv 2107.00651.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space
from jnas.spaces.exact import Numbers, at_least, counted, depths, rising, rising_numbers

# The paper's three supernets (its table 1), at 224 x 224 and 1,000 classes. The tiny one has the
# ratio 3 besides, which its published network uses.
IMAGENET: dict[str, Any] = {"image": 224, "patch": 16, "inputs": 3, "classes": 1000, "head": 64}
TINY: dict[str, Any] = {
    **IMAGENET,
    "widths": (192, 216, 240),
    "heads": (3, 4),
    "ratios": (3, 3.5, 4),
    "depth": 14,
    "least": 12,
}
SMALL: dict[str, Any] = {
    **TINY,
    "widths": (320, 384, 448),
    "heads": (5, 6, 7),
}
BASE: dict[str, Any] = {
    **TINY,
    "widths": (528, 576, 624),
    "heads": (8, 9, 10),
    "depth": 16,
    "least": 14,
}
# The published networks: (supernet, width, heads and ratios of the layers), from the configurations
# of the authors' repository.
PUBLISHED: dict[str, tuple] = {
    "AutoFormer-T": (
        TINY,
        192,
        (3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3),
        (3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5),
    ),
    "AutoFormer-S": (
        SMALL,
        384,
        (6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7),
        (3, 3.5, 3, 3.5, 4, 4, 4, 4, 4, 4, 4, 3.5, 4),
    ),
    "AutoFormer-B": (
        BASE,
        576,
        (9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10),
        (3.5, 3.5, 4, 3.5, 4, 3.5, 3.5, 3, 4, 4, 3, 4, 3, 3.5),
    ),
}


class Settings(NamedTuple):
    """What a family of vision transformers has in common; see `autoformer`."""

    depth: int
    least: int
    widths: tuple[int, ...]
    heads: tuple[int, ...]
    head: int
    ratios: tuple[float, ...]
    patch: int
    relative: int
    classes: int
    image: int
    inputs: int

    @property
    def hidden(self) -> np.ndarray:
        """The width of the feed-forward layer: int[widths, ratios]."""
        return np.asarray([[int(w * r) for r in self.ratios] for w in self.widths])

    @property
    def patches(self) -> int:
        """How many patches an image has."""
        return (self.image // self.patch) ** 2


def autoformer(
    depth: int = 4,
    least: int = 2,
    widths: Sequence[int] = (32, 48, 64),
    heads: Sequence[int] = (2, 3, 4),
    head: int = 16,
    ratios: Sequence[float] = (1, 2, 4),
    patch: int = 2,
    relative: int = 14,
    classes: int = 10,
    image: int = 8,
    inputs: int = 1,
) -> Space:
    """The space of AutoFormer: depth and width of the network, heads and ratio of every layer.

    An architecture is `{"depth", "width": int32[], "heads", "ratio": int32[depth]}`. `canonical`
    sets the choices of layers past the depth to their first. The sizes of the paper are `TINY`,
    `SMALL` and `BASE`, its networks `published`.

    Args:
      depth: the most layers.
      least: the fewest layers.
      widths: of the tokens, in rising order.
      heads: of attention.
      head: the width of a head; as in the paper, queries, keys and values have `heads * head`.
      ratios: the width of the feed-forward layer, as a multiple of `width` (rounded down).
      patch: height and width of a patch.
      relative: the largest distance between patches, along each axis, that has an encoding of its
        own in attention (keys and values); 0 is without relative encodings.
      classes: the classes of the data set.
      image: height and width of the images, a multiple of `patch`.
      inputs: the channels of the images.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of products).

    Raises:
      InputError: a setting that cannot be.
    """
    s = checked(Settings(**locals()))
    choices = {
        "depth": np.asarray(s.depth - s.least + 1),
        "heads": np.full(s.depth, len(s.heads)),
        "ratio": np.full(s.depth, len(s.ratios)),
        "width": np.asarray(len(s.widths)),
    }
    labels = {
        "depth": tuple(range(s.least, s.depth + 1)),
        "heads": s.heads,
        "ratio": s.ratios,
        "width": s.widths,
    }
    space = Space("autoformer", choices, labels=labels, canonical=_canonical(s))
    return counted(space, s, _params, _flops)


def published(name: str) -> tuple[dict[str, Any], Architecture]:
    """The settings of the space and the architecture of AutoFormer-T, -S or -B.

    Raises:
      InputError: an unknown name.
    """
    if name not in PUBLISHED:
        raise InputError(f"network {name!r}: published are {', '.join(PUBLISHED)}")
    settings, width, heads, ratios = PUBLISHED[name]

    def fill(values: Sequence[float], allowed: Sequence[float]) -> np.ndarray:
        codes = [allowed.index(v) for v in values]
        return np.asarray(codes + [0] * (settings["depth"] - len(codes)), np.int32)

    return settings, {
        "depth": np.int32(len(heads) - settings["least"]),
        "heads": fill(heads, settings["heads"]),
        "ratio": fill(ratios, settings["ratios"]),
        "width": np.int32(settings["widths"].index(width)),
    }


def checked(s: Settings) -> Settings:
    """The settings with tuples.

    Raises:
      InputError: a setting that cannot be.
    """
    at_least(1, depth=s.depth, least=s.least, head=s.head, patch=s.patch, classes=s.classes)
    at_least(1, image=s.image, inputs=s.inputs)
    at_least(0, relative=s.relative)
    depths(s.least, s.depth)
    if s.image % s.patch:
        raise InputError(f"image size {s.image}: patches of {s.patch} need a multiple of {s.patch}")
    ratios = rising_numbers("ratios", s.ratios)
    return s._replace(
        widths=rising("widths", s.widths), heads=rising("heads", s.heads), ratios=ratios
    )


def _canonical(s: Settings) -> Callable[[Architecture], Architecture]:
    def canonical(arch: Architecture) -> Architecture:
        live = jnp.arange(s.depth) < jnp.asarray(arch["depth"]) + s.least
        cut = lambda x: jnp.where(live, x, 0).astype(jnp.int32)
        return {**arch, "heads": cut(arch["heads"]), "ratio": cut(arch["ratio"])}

    return canonical


def _layers(s: Settings, n: Numbers, arch: Any) -> tuple[Any, ...]:
    """Width, width of the heads, hidden width, and whether it runs, of layers `[..., L]`."""
    at = arch["width"][..., None]
    depth = n.take(np.arange(s.least, s.depth + 1), arch["depth"])
    inner = n.take([h * s.head for h in s.heads], arch["heads"])
    live = n.flag(np.arange(s.depth) < depth[..., None])
    return n.take(s.widths, at), inner, n.take(s.hidden, at, arch["ratio"]), live


def _params(s: Settings, n: Numbers, arch: Any) -> Any:
    w, inner, hidden, live = _layers(s, n, arch)
    tables = 4 * s.head * (2 * s.relative + 2) if s.relative else 0
    attention = 4 * w * inner + 3 * inner + w + tables
    each = attention + 2 * w * hidden + hidden + w + 4 * w
    width = w[..., 0]
    ends = s.patch**2 * s.inputs + 1 + 1 + (s.patches + 1) + 2 + s.classes
    return n.sum(each * live) + ends * width + s.classes


def _flops(s: Settings, n: Numbers, arch: Any) -> Any:
    w, inner, hidden, live = _layers(s, n, arch)
    t = s.patches + 1
    products = (4 if s.relative else 2) * t * t * inner
    each = 4 * t * w * inner + products + 2 * t * w * hidden
    ends = s.patches * s.patch**2 * s.inputs + s.classes
    return n.sum(each * live) + ends * w[..., 0]
