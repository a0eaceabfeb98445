"""The layers of transformers: what mixes tokens, and what follows.

A layer maps a stream, a dict with `x` f32[B, T, width] and `keep` f32[B, T] (0 for padding), with
`memory` and `memory_keep` for the cross attention of a decoder, to the same with another `x`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jnas.nets.attention import Attention
from jnas.nets.lines import DepthwiseLine
from jnas.nets.sizes import Dense, LayerNorm, Pick, Size, Taps, one_of

FUNCTIONS: dict[str, Callable] = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "swish": jax.nn.swish}


class Options(NamedTuple):
    """What the layers of a transformer choose from."""

    widths: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[float, ...]
    kernels: tuple[int, ...]
    blocks: tuple[str, ...]
    activations: tuple[str, ...]
    norms: tuple[str, ...]
    positions: tuple[str, ...]


def inside(prefix: str, name: str) -> str:
    """The name of a choice of the whole network inside the layers of a stack."""
    return f"{prefix}layers.{name}"


class SeparableLine(nnx.Module):
    """A depthwise convolution over tokens and a product, after a gated linear unit or not.

    The gated linear unit is that of Dauphin et al. 2017, arXiv 1612.08083.
    """

    def __init__(self, width: Size, taps: Size, causal: bool, gated: bool, *, rngs: nnx.Rngs):
        self.gate = Dense(width, width, rngs=rngs) if gated else None
        self.value = Dense(width, width, rngs=rngs) if gated else None
        self.depthwise = DepthwiseLine(taps, width, causal, rngs=rngs)
        self.out = Dense(width, width, rngs=rngs)

    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        if self.gate is not None and self.value is not None:
            x = self.value(x) * jax.nn.sigmoid(self.gate(x))
        return self.out(self.depthwise(x * keep[..., None].astype(x.dtype)))


class FeedForward(nnx.Module):
    """Two dense layers with an activation between."""

    def __init__(
        self, width: Size, hidden: Size, activations: Sequence[str], name: str, *, rngs: nnx.Rngs
    ):
        self.into = Dense(width, hidden, rngs=rngs)
        self.activation = one_of({word: FUNCTIONS[word] for word in activations}, name)
        self.out = Dense(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.activation(self.into(x)))


class Residual(nnx.Module):
    """`x + f(norm(x))` or `norm(x + f(x))`, as is chosen."""

    def __init__(self, width: Size, place: Pick):
        self.norm, self.place = LayerNorm(width), place

    def __call__(self, x: jax.Array, f: Callable[[jax.Array], jax.Array]) -> jax.Array:
        return self.after(x + f(self.before(x)))

    def before(self, x: jax.Array) -> jax.Array:
        return self._at("pre", x)

    def after(self, x: jax.Array) -> jax.Array:
        return self._at("post", x)

    def _at(self, word: str, x: jax.Array) -> jax.Array:
        norm, plain = lambda: self.norm(x), lambda: x
        return self.place.blend(*(norm if w == word else plain for w in self.place.labels))


class Layer(nnx.Module):
    """A mixing of tokens, cross attention in a decoder that has an encoder, and a feed-forward.

    Args:
      options: what it chooses from.
      prefix: of the names of its choices.
      head: the width of a head.
      causal: whether tokens see only those before.
      cross: whether it attends to a memory.
      rngs: the source of the parameters.
    """

    def __init__(
        self,
        options: Options,
        prefix: str,
        head: int,
        *,
        causal: bool,
        cross: bool,
        rngs: nnx.Rngs,
    ):
        o = options
        pick = lambda values, name: Pick([str(v) for v in values], name)
        stack = lambda name: inside(prefix, name)
        channels, ratio = pick(o.widths, stack("width")), pick(o.ratios, prefix + "ratio")
        width = Size(o.widths, channels)
        hidden = Size([[int(w * r) for r in o.ratios] for w in o.widths], channels, ratio)
        inner = Size([n * head for n in o.heads], pick(o.heads, prefix + "heads"))
        taps = Taps(o.kernels, pick(o.kernels, prefix + "kernel"), causal=causal)
        position = pick(o.positions, stack("position"))
        make = {
            "attention": lambda: Attention(
                width, inner, head, causal=causal, position=position, rngs=rngs
            ),
            "convolution": lambda: SeparableLine(width, taps, causal, False, rngs=rngs),
            "gated": lambda: SeparableLine(width, taps, causal, True, rngs=rngs),
        }
        self.mixer = one_of({word: make[word]() for word in o.blocks}, prefix + "block")
        self.mixing = Residual(width, pick(o.norms, stack("norm")))
        self.cross = Attention(width, inner, head, rngs=rngs) if cross else None
        self.crossing = Residual(width, pick(o.norms, stack("norm"))) if cross else None
        self.feed = FeedForward(width, hidden, o.activations, prefix + "activation", rngs=rngs)
        self.feeding = Residual(width, pick(o.norms, stack("norm")))

    def __call__(self, stream: dict[str, Any]) -> dict[str, Any]:
        x, keep = stream["x"], stream["keep"]
        x = self.mixing(x, lambda y: self.mixer(y, keep))
        if self.cross is not None and self.crossing is not None:
            cross, seen = self.cross, (stream["memory_keep"], stream["memory"])
            x = self.crossing(x, lambda y: cross(y, *seen))
        return {**stream, "x": self.feeding(x, self.feed)}


def ones(tokens: jax.Array) -> jax.Array:
    """That every token counts: f32[B, T]."""
    return jnp.ones(tokens.shape, jnp.float32)
