"""AutoFormer's vision transformer, one program for all its widths, heads and depths."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.base import Architecture
from jnas.nets import initial
from jnas.nets.attention import Attention, Learned, attend
from jnas.nets.functional import Net, functional
from jnas.nets.sizes import Dense, LayerNorm, Pick, Size, fixed, layers
from jnas.nets.small import single, takes
from jnas.nets.transformer_blocks import FeedForward
from jnas.spaces.autoformer import Settings, checked

Options = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]  # widths, heads, ratios


class ClassToken(nnx.Module):
    """A learned token before all others, which the classifier reads."""

    def __init__(self, width: Size, *, rngs: nnx.Rngs):
        self.width = width
        bound = (3 / width.most) ** 0.5
        self.token = nnx.Param(initial.uniform(rngs.params(), (width.most,), bound))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        return {"token": (self.width.kept(values),)}

    def __call__(self, x: jax.Array) -> jax.Array:
        token = self.width.keep(self.token[...])
        first = jnp.broadcast_to(token, (x.shape[0], 1, x.shape[-1]))
        return jnp.concatenate([first, x], 1)


class Distances(nnx.Module):
    """A vector for every pair of tokens, by how far apart their patches are along each axis.

    Shaw et al. 2018, arXiv 1803.02155, in two dimensions. The class token is at a distance of its
    own from all.
    """

    def __init__(self, side: int, most: int, head: int, *, rngs: nnx.Rngs):
        shape, bound = (2 * most + 2, head), 0.02 * 3**0.5
        self.down = nnx.Param(initial.uniform(rngs.params(), shape, bound))
        self.along = nnx.Param(initial.uniform(rngs.params(), shape, bound))
        self.side, self.most = side, most

    def __call__(self) -> jax.Array:
        """`[T, T, head]`, for the class token and `side * side` patches."""
        at = np.arange(self.side**2)
        found = []
        for table, place in ((self.down, at // self.side), (self.along, at % self.side)):
            apart = np.clip(place[None] - place[:, None], -self.most, self.most) + self.most + 1
            found.append(table[...][np.pad(apart, ((1, 0), (1, 0)))])
        return found[0] + found[1]


class RelativeAttention(Attention):
    """Attention that knows how far apart two patches are, for keys and for values."""

    def __init__(
        self, width: Size, inner: Size, head: int, side: int, relative: int, *, rngs: nnx.Rngs
    ):
        super().__init__(width, inner, head, rngs=rngs)
        self.keys = Distances(side, relative, head, rngs=rngs) if relative else None
        self.values = Distances(side, relative, head, rngs=rngs) if relative else None
        self.inner = inner

    def __call__(
        self, x: jax.Array, keep: jax.Array | None = None, memory: jax.Array | None = None
    ) -> jax.Array:
        assert keep is None and memory is None, "patches attend to all patches"
        q, k, v = (self._heads(f(x)) for f in (self.query, self.key, self.value))
        if self.keys is None or self.values is None:
            y = attend(q, k, v, None, False)
        else:
            scores = jnp.einsum("bthd,bshd->bhts", q, k)
            scores = scores + jnp.einsum("bthd,tsd->bhts", q, self.keys())
            scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
            weight = jax.nn.softmax(scores / self.head**0.5, -1).astype(v.dtype)
            y = jnp.einsum("bhts,bshd->bthd", weight, v)
            y = y + jnp.einsum("bhts,tsd->bthd", weight, self.values())
        return self.out(self.inner.keep(y.reshape(*x.shape[:-1], -1)))


class Layer(nnx.Module):
    """Attention and a feed-forward, with normalisation before each."""

    def __init__(self, s: Settings, options: Options, *, rngs: nnx.Rngs):
        widths, heads, ratios = options
        pick = lambda values, name: Pick([str(v) for v in values], name)
        channels = pick(widths, "layers.width")
        width = Size(widths, channels)
        hidden = Size(
            [[int(w * r) for r in ratios] for w in widths], channels, pick(ratios, "ratio")
        )
        inner = Size([n * s.head for n in heads], pick(heads, "heads"))
        side = s.image // s.patch
        self.attention = RelativeAttention(width, inner, s.head, side, s.relative, rngs=rngs)
        self.feed = FeedForward(width, hidden, ("gelu",), "", rngs=rngs)
        self.first, self.second = LayerNorm(width), LayerNorm(width)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.first(x))
        return x + self.feed(self.second(x))


class AutoFormer(nnx.Module):
    """Patches, a class token, learned positions, layers, and a classifier."""

    def __init__(self, s: Settings, options: list[Options], least: int, *, rngs: nnx.Rngs):
        width = Size(s.widths, Pick([str(w) for w in s.widths], "width"))
        self.patch = s.patch
        self.embedding = Dense(fixed(s.patch**2 * s.inputs), width, rngs=rngs)
        self.token = ClassToken(width, rngs=rngs)
        self.position = Learned(s.patches + 1, width, rngs=rngs)
        make = lambda o, rngs: Layer(s, o, rngs=rngs)
        self.layers = layers(make, options, least, rngs=rngs, name="depth")
        self.norm = LayerNorm(width)
        self.classifier = Dense(width, fixed(s.classes), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        b, high, wide, c = x.shape
        p = self.patch
        x = x.reshape(b, high // p, p, wide // p, p, c).swapaxes(2, 3)
        x = self.position(self.token(self.embedding(x.reshape(b, -1, p * p * c))))
        return self.classifier(jnp.mean(self.norm(self.layers(x))[:, 1:], 1))


@takes(spaces.autoformer)
def autoformer(**settings: Any) -> Net:
    """The vision transformers of AutoFormer, with every setting of `jnas.spaces.autoformer`.

    Layers have normalisation before attention and before the feed-forward (gelu). As in the
    published runs, what the patches end up as is averaged for the classifier; the class token only
    takes part in attention.

    Args:
      **settings: see `jnas.spaces.autoformer`.

    Returns:
      The net: `[B, image, image, inputs]` to `[B, classes]`.
    """
    space = spaces.autoformer(**settings)
    s = checked(Settings(**settings))
    options = [(s.widths, s.heads, s.ratios)] * s.depth

    def bind(arch: Architecture) -> dict[str, Any]:
        width = jnp.asarray(arch["width"])
        return {**arch, "layers.width": jnp.broadcast_to(width, (s.depth, *width.shape))}

    net = functional(
        lambda rngs: AutoFormer(s, options, s.least, rngs=rngs), space=space, bind=bind
    )
    return net._replace(alone=functools.partial(_alone, s))


def _alone(s: Settings, arch: Architecture) -> Net:
    """The network of one architecture."""
    width = (s.widths[int(arch["width"])],)
    pick = lambda values, i: (values[int(i)],)
    options: list[Options] = [
        (width, pick(s.heads, arch["heads"][i]), pick(s.ratios, arch["ratio"][i]))
        for i in range(int(arch["depth"]) + s.least)
    ]
    small = s._replace(widths=width)
    make = lambda rngs: AutoFormer(small, options, len(options), rngs=rngs)
    return single(make, "autoformer")
