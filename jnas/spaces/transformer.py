"""Transformers over tokens: encoder, decoder, and both with cross attention.

Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762. Blocks of attention, convolution
or gated convolution are mixed as in the space of So et al. 2019, "The Evolved Transformer", arXiv
1901.11117.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space
from jnas.spaces.exact import at_least, counted, depths, odd, rising, rising_numbers, some_of
from jnas.spaces.transformer_counts import flops, params

KINDS = ("encoder", "decoder", "encoder_decoder")
BLOCKS = ("attention", "convolution", "gated")
ACTIVATIONS = ("relu", "gelu", "swish")
NORMS = ("pre", "post")
POSITIONS = ("learned", "sinusoidal", "rotary", "none")
OUTPUTS = ("classes", "tokens")
POOLS = ("mean", "first")


class Settings(NamedTuple):
    """What a family of transformers has in common; see `transformer`."""

    kind: str
    depth: int
    least: int
    widths: tuple[int, ...]
    heads: tuple[int, ...]
    head: int
    ratios: tuple[float, ...]
    kernels: tuple[int, ...]
    blocks: tuple[str, ...]
    activations: tuple[str, ...]
    norms: tuple[str, ...]
    positions: tuple[str, ...]
    vocabulary: int
    length: int
    target_vocabulary: int
    target_length: int
    output: str
    classes: int
    pool: str
    segments: int
    shared: bool = True  # of an encoder_decoder: one table of embeddings for source and target

    @property
    def hidden(self) -> np.ndarray:
        """The width of the feed-forward layer: int[widths, ratios]."""
        return np.asarray([[int(w * r) for r in self.ratios] for w in self.widths])

    @property
    def inner(self) -> tuple[int, ...]:
        """The width of all heads together, for every number of heads."""
        return tuple(n * self.head for n in self.heads)

    @property
    def stacks(self) -> tuple[str, ...]:
        """The prefixes of the choices of every stack of layers."""
        return ("", "decoder_") if self.kind == "encoder_decoder" else ("",)


def transformer(
    kind: str = "encoder",
    depth: int = 4,
    least: int = 1,
    widths: Sequence[int] = (32, 48, 64),
    heads: Sequence[int] = (1, 2, 4),
    head: int = 16,
    ratios: Sequence[float] = (1, 2, 4),
    kernels: Sequence[int] = (3, 7, 11),
    blocks: Sequence[str] = BLOCKS,
    activations: Sequence[str] = ACTIVATIONS,
    norms: Sequence[str] = NORMS,
    positions: Sequence[str] = POSITIONS,
    vocabulary: int = 256,
    length: int = 64,
    target_vocabulary: int = 0,
    target_length: int = 0,
    output: str = "classes",
    classes: int = 2,
    pool: str = "mean",
    segments: int = 0,
) -> Space:
    """The space of transformers, whose layers choose their blocks and sizes one by one.

    An architecture is a dict: `depth`, `width`, `norm` and `position` are of the whole network,
    `activation`, `block`, `heads`, `kernel` and `ratio` of every layer (int32[depth]). With both
    an encoder and a decoder the latter has `decoder_depth` and so on of its own. `canonical` sets
    to their first choice what has no effect: choices of layers past the depth, heads of blocks
    without attention, kernels of blocks without convolution, and rotary positions without any
    attention.

    Args:
      kind: `encoder`, `decoder` (causal) or `encoder_decoder` (a decoder that attends to an
        encoder).
      depth: the most layers, of each stack.
      least: the fewest layers.
      widths: of the stream of tokens, in rising order.
      heads: of attention; a decoder's cross attention has as many as its self-attention.
      head: the width of a head, even.
      ratios: the width of the feed-forward layer, as a multiple of `width` (rounded down).
      kernels: of convolutions over tokens, odd.
      blocks: what mixes tokens: `attention`; `convolution`, a separable one; `gated`, a gated
        linear unit before a separable convolution.
      activations: of the feed-forward layer.
      norms: layer normalisation before a block (`pre`) or after its sum (`post`).
      positions: `learned`, `sinusoidal`, `rotary` or `none`.
      vocabulary: the number of tokens.
      length: the most tokens; `flops` are for as many.
      target_vocabulary: of the decoder of an `encoder_decoder`; 0 shares one table of embeddings.
      target_length: of the decoder of an `encoder_decoder`; 0 is `length`.
      output: of an encoder, `classes` or `tokens`; a decoder gives logits of tokens.
      classes: the outputs of an encoder; 0 gives the pooled features.
      pool: how an encoder sums up its tokens for `classes`: their `mean`, or the `first` one
        through a dense layer and tanh.
      segments: the kinds of segments of an encoder's input, 0 for none.

    Returns:
      The space. Its counts are `params` and `flops` (multiply-adds of products).

    Raises:
      InputError: a setting that cannot be.
    """
    settings = checked(Settings(**locals()))
    whole = {
        "depth": np.asarray(depth - least + 1),
        "norm": np.asarray(len(settings.norms)),
        "position": np.asarray(len(settings.positions)),
        "width": np.asarray(len(settings.widths)),
    }
    names: dict[str, tuple] = {
        "depth": tuple(range(least, depth + 1)),
        "norm": settings.norms,
        "position": settings.positions,
        "width": settings.widths,
        "activation": settings.activations,
        "block": settings.blocks,
        "heads": settings.heads,
        "kernel": settings.kernels,
        "ratio": settings.ratios,
    }
    choices, labels = dict(whole), {k: names[k] for k in whole}
    for prefix in settings.stacks:
        for key in ("activation", "block", "heads", "kernel", "ratio"):
            choices[prefix + key] = np.full(depth, len(names[key]))
            labels[prefix + key] = names[key]
        choices[prefix + "depth"], labels[prefix + "depth"] = whole["depth"], names["depth"]
    space = Space(
        name="transformer", num_choices=choices, labels=labels, canonical=_canonical(settings)
    )
    return counted(space, settings, params, flops)


def checked(given: Settings) -> Settings:
    """The settings with tuples and defaults filled in.

    Raises:
      InputError: a setting that cannot be.
    """
    for name, allowed in (("kind", KINDS), ("output", OUTPUTS), ("pool", POOLS)):
        some_of(name, (getattr(given, name),), allowed)
    at_least(1, depth=given.depth, least=given.least, vocabulary=given.vocabulary)
    at_least(1, length=given.length, head=given.head)
    at_least(0, classes=given.classes, segments=given.segments)
    at_least(0, target_vocabulary=given.target_vocabulary, target_length=given.target_length)
    depths(given.least, given.depth)
    if given.head % 2:
        raise InputError(f"head={given.head}: the width of a head has to be even")
    kernels = odd("kernels", given.kernels)
    ratios = rising_numbers("ratios", given.ratios)
    widths = rising("widths", given.widths)
    if int(widths[0] * ratios[0]) < 1:
        raise InputError(f"ratios={list(ratios)}: the least of them leaves no hidden unit")
    return given._replace(
        widths=widths,
        heads=rising("heads", given.heads),
        ratios=ratios,
        kernels=kernels,
        blocks=some_of("blocks", given.blocks, BLOCKS),
        activations=some_of("activations", given.activations, ACTIVATIONS),
        norms=some_of("norms", given.norms, NORMS),
        positions=some_of("positions", given.positions, POSITIONS),
        target_vocabulary=given.target_vocabulary or given.vocabulary,
        target_length=given.target_length or given.length,
        shared=given.target_vocabulary == 0,
    )


def _canonical(settings: Settings) -> Callable[[Architecture], Architecture]:
    attends = np.asarray([b == "attention" for b in settings.blocks])
    cross = settings.kind == "encoder_decoder"
    rotary = settings.positions.index("rotary") if "rotary" in settings.positions else -1
    none = settings.positions.index("none") if "none" in settings.positions else -1

    def canonical(arch: Architecture) -> Architecture:
        new: dict[str, Any] = dict(arch)
        turned = jnp.bool_(False)
        for prefix in settings.stacks:
            depth = jnp.asarray(arch[prefix + "depth"]) + settings.least
            live = jnp.arange(settings.depth) < depth
            has = jnp.asarray(attends)[jnp.asarray(arch[prefix + "block"])]
            turned = turned | jnp.any(live & has)
            heads = live if prefix and cross else live & has
            for key, used in (
                ("activation", live),
                ("block", live),
                ("heads", heads),
                ("kernel", live & ~has),
                ("ratio", live),
            ):
                new[prefix + key] = jnp.where(used, arch[prefix + key], 0).astype(jnp.int32)
        if rotary >= 0 and none >= 0:
            position = jnp.asarray(arch["position"])
            plain = (position == rotary) & ~turned
            new["position"] = jnp.where(plain, none, position).astype(jnp.int32)
        return new

    return canonical
