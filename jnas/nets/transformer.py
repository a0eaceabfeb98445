"""Transformers over tokens as networks: one program for all widths, heads, depths and blocks."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.base import Architecture
from jnas.nets.attention import Learned, Sinusoidal, unchanged
from jnas.nets.functional import Net, functional
from jnas.nets.sizes import Dense, Embedding, LayerNorm, Pick, Size, fixed, layers, one_of
from jnas.nets.small import single, takes
from jnas.nets.transformer_blocks import Layer, Options, inside, ones
from jnas.spaces.transformer import Settings, checked


class Stack(nnx.Module):
    """Positions, layers and the normalisation before or after them, over embedded tokens."""

    def __init__(
        self, s: Settings, options: list[Options], least: int, prefix: str, *, rngs: nnx.Rngs
    ):
        width = Size(s.widths, Pick([str(w) for w in s.widths], "width"))
        length = s.target_length if prefix else s.length
        kinds: dict[str, Any] = {}
        for word in s.positions:
            if word == "learned":
                kinds[word] = Learned(length, width, rngs=rngs)
            else:
                kinds[word] = Sinusoidal(width) if word == "sinusoidal" else unchanged
        self.position = one_of(kinds, "position")
        edge = lambda word: one_of(
            {w: LayerNorm(width) if w == word else unchanged for w in s.norms}, "norm"
        )
        self.first, self.last = edge("post"), edge("pre")
        make = lambda o, rngs: Layer(
            o,
            prefix,
            s.head,
            causal=bool(prefix) or s.kind == "decoder",
            cross=bool(prefix),
            rngs=rngs,
        )
        self.layers = layers(make, options, least, rngs=rngs, name=prefix + "depth")

    def __call__(self, stream: dict[str, Any]) -> jax.Array:
        x = self.first(self.position(stream["x"]))
        return self.last(self.layers({**stream, "x": x})["x"])


class Transformer(nnx.Module):
    """Encoder, decoder or both.

    Args:
      s: the settings of the space.
      options: of every layer, for each stack.
      least: the fewest layers that run, for each stack.
      rngs: the source of the parameters.
    """

    def __init__(
        self, s: Settings, options: list[list[Options]], least: list[int], *, rngs: nnx.Rngs
    ):
        width = Size(s.widths, Pick([str(w) for w in s.widths], "width"))
        self.settings = s
        self.embedding = Embedding(s.vocabulary, width, rngs=rngs)
        self.segments = Embedding(s.segments, width, rngs=rngs) if s.segments else None
        both = s.kind == "encoder_decoder"
        own = both and not s.shared
        self.target = Embedding(s.target_vocabulary, width, rngs=rngs) if own else None
        self.stack = Stack(s, options[0], least[0], "", rngs=rngs)
        self.decoder = Stack(s, options[1], least[1], "decoder_", rngs=rngs) if both else None
        sums = s.kind == "encoder" and s.output == "classes"
        first = sums and s.pool == "first"
        self.pooler = Dense(width, width, rngs=rngs) if first else None
        classes = sums and s.classes > 0
        self.classifier = Dense(width, fixed(s.classes), rngs=rngs) if classes else None

    def __call__(self, x: Any) -> jax.Array:
        if self.decoder is not None:
            return self._translated(x, self.decoder)
        if self.settings.kind == "decoder":
            return self.embedding.logits(self.stack({"x": self.embedding(x), "keep": ones(x)}))
        return self._encoded(x)

    def _encoded(self, x: Any) -> jax.Array:
        tokens = x["tokens"] if isinstance(x, Mapping) else x
        keep = (tokens != 0).astype(jnp.float32)
        embedded = self.embedding(tokens)
        if self.segments is not None:
            kinds = x["segments"] if isinstance(x, Mapping) else jnp.zeros_like(tokens)
            embedded = embedded + self.segments(kinds)
        y = self.stack({"x": embedded, "keep": keep})
        if self.settings.output == "tokens":
            return self.embedding.logits(y)
        y = self.pooled(y, keep)
        return y if self.classifier is None else self.classifier(y)

    def pooled(self, y: jax.Array, keep: jax.Array) -> jax.Array:
        """One vector for each example: `[B, T, width]` to `[B, width]`."""
        if self.pooler is not None:
            return jnp.tanh(self.pooler(y[:, 0]))
        share = keep / jnp.maximum(jnp.sum(keep, -1, keepdims=True), 1)
        return jnp.sum(y * share[..., None].astype(y.dtype), 1)

    def _translated(self, x: Any, decoder: Stack) -> jax.Array:
        source, target = (x["source"], x["target"]) if isinstance(x, Mapping) else (x[0], x[1])
        keep = (source != 0).astype(jnp.float32)
        memory = self.stack({"x": self.embedding(source), "keep": keep})
        words = self.embedding if self.target is None else self.target
        stream = {"x": words(target), "keep": ones(target), "memory": memory}
        return words.logits(decoder({**stream, "memory_keep": keep}))


@takes(spaces.transformer)
def transformer(**settings: Any) -> Net:
    """A transformer over tokens, with every setting of `jnas.spaces.transformer`.

    Tokens are int32 below `vocabulary`, of at most `length` steps. In an encoder and in a source 0
    is padding: nothing attends to it, and it does not count in the mean; a decoder sees every
    token before as it is. Logits are products with the embeddings.

    Args:
      **settings: see `jnas.spaces.transformer`.

    Returns:
      The net. An `encoder` takes `[B, T]`, or `{"tokens", "segments"}` of that shape, and gives
      `[B, classes]`, the pooled `[B, width]` where classes is 0, or `[B, T, vocabulary]` where
      `output` is `tokens`. A `decoder` takes `[B, T]` and gives `[B, T, vocabulary]`: step t is
      what follows token t. An `encoder_decoder` takes `{"source": [B, S], "target": [B, T]}`, or
      the two as a tuple, and gives `[B, T, target_vocabulary]`: step t is what follows target t.
    """
    space = spaces.transformer(**settings)
    s = checked(Settings(**settings))
    every = Options(*(getattr(s, name) for name in Options._fields))
    options = [[every] * s.depth for _ in s.stacks]
    net = functional(
        lambda rngs: Transformer(s, options, [s.least] * len(options), rngs=rngs),
        space=space,
        bind=functools.partial(_bound, s),
    )
    return net._replace(alone=functools.partial(_alone, s))


def _bound(s: Settings, arch: Architecture) -> dict[str, Any]:
    """Choices by name; those of the whole network are given to every layer too."""
    values = dict(arch)
    for prefix in s.stacks:
        for name in ("width", "norm", "position"):
            choice = jnp.asarray(arch[name])
            values[inside(prefix, name)] = jnp.broadcast_to(choice, (s.depth, *choice.shape))
    return values


def _alone(s: Settings, arch: Architecture) -> Net:
    """The network of one architecture."""
    at = jax.tree.map(np.asarray, arch)
    pick = lambda values, i: (values[int(i)],)
    whole: dict[str, Any] = {
        "widths": pick(s.widths, at["width"]),
        "norms": pick(s.norms, at["norm"]),
        "positions": pick(s.positions, at["position"]),
    }
    options = []
    for prefix in s.stacks:
        own = {
            "heads": ("heads", s.heads),
            "ratios": ("ratio", s.ratios),
            "kernels": ("kernel", s.kernels),
            "blocks": ("block", s.blocks),
            "activations": ("activation", s.activations),
        }
        depth = int(at[prefix + "depth"]) + s.least
        rows = [{k: pick(v, at[prefix + name][i]) for k, (name, v) in own.items()}
                for i in range(depth)]  # fmt: skip
        options.append([Options(**whole, **row) for row in rows])
    small = s._replace(**whole)

    def make(rngs: nnx.Rngs) -> nnx.Module:
        return Transformer(small, options, [len(o) for o in options], rngs=rngs)

    return single(make, "transformer")


_BASE: dict[str, Any] = {
    "depth": 12,
    "least": 12,
    "widths": (768,),
    "heads": (12,),
    "head": 64,
    "ratios": (4,),
    "blocks": ("attention",),
    "activations": ("gelu",),
    "positions": ("learned",),
}
BERT_BASE: dict[str, Any] = {
    **_BASE,
    "norms": ("post",),
    "vocabulary": 30_522,
    "length": 512,
    "classes": 0,
    "pool": "first",
    "segments": 2,
}
GPT2_SMALL: dict[str, Any] = {
    **_BASE,
    "kind": "decoder",
    "norms": ("pre",),
    "vocabulary": 50_257,
    "length": 1024,
}


def _params(settings: dict[str, Any]) -> Any:
    """The parameters of a space with a single architecture, by the shapes of its network."""
    shapes = jax.eval_shape(transformer(**settings).init, jax.random.key(0))[0]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


PUBLISHED = (
    (
        "BERT-base",
        functools.partial(_params, BERT_BASE),
        109_482_240,
        "the model bert-base-uncased, with its pooler, of arXiv 1810.04805",
    ),
    (
        "GPT-2 small",
        functools.partial(_params, GPT2_SMALL),
        124_439_808,
        "the model gpt2 (Radford et al. 2019)",
    ),
)
