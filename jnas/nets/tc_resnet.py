"""TC-ResNets as networks: one program for all widths, kernels and blocks."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.base import Architecture
from jnas.nets.choices import Repeat
from jnas.nets.frames import ConvNorm, Head, Stream, every, read
from jnas.nets.functional import Net, functional
from jnas.nets.sizes import Pick, Size, Taps, fixed
from jnas.nets.small import single, takes
from jnas.spaces.tc_resnet import Settings, checked


class Options(NamedTuple):
    """What a stage chooses from."""

    number: int
    into: tuple[int, ...]
    out: tuple[int, ...]
    blocks: tuple[int, ...]
    kernels: tuple[int, ...]


class Block(nnx.Module):
    """Two convolutions, and a shortcut that is one where it narrows or widens."""

    def __init__(self, taps: Size, into: Size, out: Size, stride: int, *, rngs: nnx.Rngs):
        self.first = ConvNorm(taps, into, out, stride, rngs=rngs)
        self.second = ConvNorm(taps, out, out, rngs=rngs)
        down = stride > 1
        self.down = ConvNorm(fixed(1), into, out, stride, rngs=rngs) if down else None
        self.stride = stride

    def __call__(self, stream: Stream) -> Stream:
        x, keep = stream["x"], stream["keep"]
        short = x if self.down is None else jax.nn.relu(self.down(x, keep))
        after = every(keep, self.stride)
        y = self.second(jax.nn.relu(self.first(x, keep)), after)
        return {"x": jax.nn.relu(y + short), "keep": after}


class Stage(nnx.Module):
    """A block that halves the frames, and further ones."""

    def __init__(self, o: Options, *, rngs: nnx.Rngs):
        at = f"stage_{o.number}"
        pick = lambda values, name: Pick([str(v) for v in values], name)
        taps = lambda name: Taps(o.kernels, pick(o.kernels, name), causal=False)
        into = Size(o.into, pick(o.into, f"width_{o.number}"))
        out = Size(o.out, pick(o.out, f"width_{o.number + 1}"))
        self.first = Block(taps(f"{at}.kernel"), into, out, 2, rngs=rngs)

        def block(rngs: nnx.Rngs) -> Block:
            inside = Size(o.out, pick(o.out, f"{at}.blocks.width"))
            return Block(taps(f"{at}.blocks.kernel"), inside, inside, 1, rngs=rngs)

        most, least = max(o.blocks) - 1, min(o.blocks) - 1
        self.more = Repeat(block, most, least, rngs=rngs, name=f"{at}.blocks") if most else None

    def __call__(self, stream: Stream) -> Stream:
        stream = self.first(stream)
        return stream if self.more is None else self.more(stream)


class TCResNet(nnx.Module):
    """A first convolution, stages and a head."""

    def __init__(self, s: Settings, stages: list[Options], *, rngs: nnx.Rngs):
        first = stages[0].into
        width = Size(first, Pick([str(w) for w in first], "width_0"))
        self.padded = s.padded
        self.stem = ConvNorm(fixed(s.first), fixed(s.features - s.padded), width, rngs=rngs)
        self.stages = nnx.List([Stage(o, rngs=rngs) for o in stages])
        last = Size(stages[-1].out, Pick([str(w) for w in stages[-1].out], f"width_{s.stages}"))
        self.head = Head(last, s.classes, s.output, rngs=rngs)

    def __call__(self, x: Any) -> jax.Array:
        stream = read(x, self.padded)
        stream["x"] = jax.nn.relu(self.stem(stream["x"], stream["keep"]))
        for stage in self.stages:
            stream = stage(stream)
        return self.head(stream)


@takes(spaces.tc_resnet)
def tc_resnet(**settings: Any) -> Net:
    """A TC-ResNet, with every setting of `jnas.spaces.tc_resnet`. Padding has no effect.

    Args:
      **settings: see `jnas.spaces.tc_resnet`.

    Returns:
      The net: `[B, T, features]`, or `{"series": [B, T, features], "frames": int32[B]}`, to
      `[B, classes]`, or for `ctc` to `[B, T / 2 ** stages, classes]`, rounded up.
    """
    space = spaces.tc_resnet(**settings)
    s = checked(Settings(**settings))
    widths = [tuple(row) for row in s.widths.tolist()]
    pairs = enumerate(itertools.pairwise(widths))
    stages = [Options(i, *pair, s.blocks, s.kernels) for i, pair in pairs]
    net = functional(
        lambda rngs: TCResNet(s, stages, rngs=rngs),
        space=space,
        bind=functools.partial(_bound, s),
    )
    return net._replace(alone=functools.partial(_alone, s))


def _bound(s: Settings, arch: Architecture) -> dict[str, Any]:
    """Choices by name; the further blocks of a stage share its width and kernel."""
    width, kernel, more = (jnp.asarray(arch[name]) for name in ("width", "kernel", "blocks"))
    values = {f"width_{i}": width[i] for i in range(s.stages + 1)}
    most = max(s.blocks) - 1
    for i in range(s.stages):
        many = lambda x: jnp.broadcast_to(x, (most, *x.shape))
        values |= {
            f"stage_{i}.kernel": kernel[i],
            f"stage_{i}.blocks": more[i],
            f"stage_{i}.blocks.kernel": many(kernel[i]),
            f"stage_{i}.blocks.width": many(width[i + 1]),
        }
    return values


def _alone(s: Settings, arch: Architecture) -> Net:
    """The network of one architecture."""
    at = jax.tree.map(np.asarray, arch)
    widths = [(int(s.widths[i, k]),) for i, k in enumerate(at["width"])]
    stages = [
        Options(
            i,
            widths[i],
            widths[i + 1],
            (s.blocks[int(at["blocks"][i])],),
            (s.kernels[int(at["kernel"][i])],),
        )
        for i in range(s.stages)
    ]
    return single(lambda rngs: TCResNet(s, stages, rngs=rngs), "tc_resnet")
