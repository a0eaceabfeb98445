"""Parameters and multiply-adds of transformers, as formulas of the architecture."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jnas.spaces.exact import Numbers

if TYPE_CHECKING:
    from jnas.spaces.transformer import Settings


def params(settings: "Settings", numbers: Numbers, arch: Any) -> Any:
    """The parameters: weights, biases, embeddings and normalisation."""
    s, n = settings, numbers
    width = n.take(s.widths, arch["width"])
    total = (s.vocabulary + s.segments) * width
    if s.kind == "encoder_decoder" and not s.shared:
        total = total + s.target_vocabulary * width
    learned = n.take([p == "learned" for p in s.positions], arch["position"])
    for prefix in s.stacks:
        w, inner, hidden, kernel, live = _layers(s, n, arch, prefix)
        attention = 4 * w * inner + 3 * inner + w
        separable = kernel * w + w + w * w + w
        mixed = (attention, separable, separable + 2 * w * w + 2 * w)
        each = _of_block(s, n, arch, prefix, mixed)
        each = each + 2 * w * hidden + hidden + w + 4 * w
        if prefix:
            each = each + attention + 2 * w
        length = s.target_length if prefix else s.length
        total = total + n.sum(each * live) + 2 * width + learned * length * width
    if s.kind == "encoder" and s.output == "classes":
        if s.pool == "first":
            total = total + width * width + width
        total = total + (width + 1) * s.classes
    return total


def flops(settings: "Settings", numbers: Numbers, arch: Any) -> Any:
    """Multiply-adds of one example of the full length; embeddings are looked up, not multiplied."""
    s, n = settings, numbers
    width = n.take(s.widths, arch["width"])
    total = 0 * width
    for prefix in s.stacks:
        w, inner, hidden, kernel, live = _layers(s, n, arch, prefix)
        t = s.target_length if prefix else s.length
        separable = t * (kernel * w + w * w)
        mixed = (t * 4 * w * inner + 2 * t * t * inner, separable, separable + 2 * t * w * w)
        each = _of_block(s, n, arch, prefix, mixed) + 2 * t * w * hidden
        if prefix:
            each = each + 2 * (t + s.length) * w * inner + 2 * t * s.length * inner
        total = total + n.sum(each * live)
    if s.kind != "encoder" or s.output == "tokens":
        cross = s.kind == "encoder_decoder"
        length, words = (
            (s.target_length, s.target_vocabulary) if cross else (s.length, s.vocabulary)
        )
        return total + length * words * width
    if s.pool == "first":
        total = total + width * width
    return total + width * s.classes


def _layers(s: "Settings", n: Numbers, arch: Any, prefix: str) -> tuple[Any, ...]:
    """Width, width of heads, hidden width, kernel, and whether it runs: each `[..., L]`."""
    at = arch["width"][..., None]
    depth = n.take(np.arange(s.least, s.depth + 1), arch[prefix + "depth"])
    live = n.flag(np.arange(s.depth) < depth[..., None])
    return (
        n.take(s.widths, at),
        n.take(s.inner, arch[prefix + "heads"]),
        n.take(s.hidden, at, arch[prefix + "ratio"]),
        n.take(s.kernels, arch[prefix + "kernel"]),
        live,
    )


def _of_block(s: "Settings", n: Numbers, arch: Any, prefix: str, values: tuple) -> Any:
    """The value of the chosen block, of those of attention, convolution and gated."""
    every = ("attention", "convolution", "gated")
    total: Any = 0
    for word, value in zip(every, values, strict=True):
        if word in s.blocks:
            total = total + value * n.flag(arch[prefix + "block"] == s.blocks.index(word))
    return total
