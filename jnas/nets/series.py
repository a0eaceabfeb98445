"""Networks over series of vectors: one program for all blocks, widths, kernels and depths."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jnas import spaces
from jnas.base import Architecture
from jnas.nets.frames import NORMS, Head, read
from jnas.nets.functional import Net, functional
from jnas.nets.series_blocks import STEMS, Layer, Options
from jnas.nets.sizes import Pick, Size, layers
from jnas.nets.small import single, takes
from jnas.spaces.series import Settings, checked


class Series(nnx.Module):
    """A stem, layers, normalisation and a head."""

    def __init__(self, s: Settings, options: list[Options], least: int, *, rngs: nnx.Rngs):
        width = Size(s.widths, Pick([str(w) for w in s.widths], "width"))
        self.padded = s.padded
        self.stem = STEMS[s.stem](s, width, rngs=rngs)
        make = lambda o, rngs: Layer(s, o, rngs=rngs)
        self.layers = layers(make, options, least, rngs=rngs, name="depth")
        self.norm: Any = NORMS[s.norm](width)
        self.head = Head(width, s.classes, s.output, rngs=rngs)

    def __call__(self, x: Any) -> jax.Array:
        stem: Any = self.stem
        stream = self.layers(stem(read(x, self.padded)))
        return self.head({**stream, "x": self.norm(stream["x"], stream["keep"])})


@takes(spaces.series)
def series(**settings: Any) -> Net:
    """A network over series, with every setting of `jnas.spaces.series`.

    Padding has no effect: no block, statistic or mean looks at it, and the state of a recurrent
    layer of either direction passes it by.

    Args:
      **settings: see `jnas.spaces.series`.

    Returns:
      The net: `[B, T, features]`, or `{"series": [B, T, features], "frames": int32[B]}`, to
      `[B, classes]`, or for `ctc` to `[B, T', classes]`, with T' = T / 4 after the stem
      `subsample` and T / 2 after `deep_speech`, rounded up.
    """
    space = spaces.series(**settings)
    s = checked(Settings(**settings))
    options = [Options(*(getattr(s, name) for name in Options._fields))] * s.depth

    def bind(arch: Architecture) -> dict[str, Any]:
        width = jnp.asarray(arch["width"])
        return {**arch, "layers.width": jnp.broadcast_to(width, (s.depth, *width.shape))}

    make = lambda rngs: Series(s, options, s.least, rngs=rngs)
    return functional(make, space=space, bind=bind)._replace(alone=functools.partial(_alone, s))


def _alone(s: Settings, arch: Architecture) -> Net:
    """The network of one architecture."""
    width = (s.widths[int(arch["width"])],)
    pick = lambda values, name, i: (values[int(arch[name][i])],)
    options = [
        Options(
            width,
            pick(s.blocks, "block", i),
            pick(s.kernels, "kernel", i),
            pick(s.heads, "heads", i),
            pick(s.ratios, "ratio", i),
        )
        for i in range(int(arch["depth"]) + s.least)
    ]
    small = s._replace(widths=width)
    return single(lambda rngs: Series(small, options, len(options), rngs=rngs), "series")
