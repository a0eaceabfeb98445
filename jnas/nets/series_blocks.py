"""The stems and blocks of networks over series; see `jnas.nets.frames` for streams."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jnas.nets import initial, ops
from jnas.nets.attention import Attention
from jnas.nets.frames import NORMS, FrameNorm, Stream, every, live
from jnas.nets.lines import ConvLine, DepthwiseLine
from jnas.nets.recurrent import Recurrent
from jnas.nets.sizes import Dense, LayerNorm, Pick, Size, Taps, fixed, one_of
from jnas.nets.transformer_blocks import FeedForward
from jnas.spaces.series import CHANNELS, DEEP_SPEECH, Settings


class Options(NamedTuple):
    """What the layers choose from."""

    widths: tuple[int, ...]
    blocks: tuple[str, ...]
    kernels: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[float, ...]


class FramesStem(nnx.Module):
    """A product for every frame."""

    def __init__(self, s: Settings, width: Size, *, rngs: nnx.Rngs):
        self.dense = Dense(fixed(s.channels), width, rngs=rngs)

    def __call__(self, stream: Stream) -> Stream:
        return {**stream, "x": self.dense(stream["x"])}


class Weighted(nnx.Module):
    """A kernel `[*lead, inputs, outputs]` and a bias, of chosen numbers of channels.

    Args:
      lead: the axes of the kernel before the channels.
      gain: uniform weights within `sqrt(gain / (the values that an output sums))`.
    """

    def __init__(
        self, lead: tuple[int, ...], gain: int, inputs: Size, outputs: Size, *, rngs: nnx.Rngs
    ):
        self.inputs, self.outputs = inputs, outputs
        shape = (*lead, inputs.most, outputs.most)
        bound = (gain / math.prod(shape[:-1])) ** 0.5
        self.kernel = nnx.Param(initial.uniform(rngs.params(), shape, bound))
        self.bias = nnx.Param(jnp.zeros(outputs.most))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        out = self.outputs.kept(values)
        return {"kernel": (self.inputs.kept(values), out), "bias": (out,)}


class SquareConv(Weighted):
    """A 3x3 convolution over time and frequency with a bias, of stride 2."""

    def __init__(self, inputs: Size, outputs: Size, *, rngs: nnx.Rngs):
        super().__init__((3, 3), 6, inputs, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outputs.keep(ops.conv(x, self.kernel[...], 2) + self.bias[...])


class Bands(Weighted):
    """A product of all frequencies and channels of a step: `[B, T, F, C]` to `[B, T, width]`."""

    def __init__(self, bands: int, inputs: Size, outputs: Size, *, rngs: nnx.Rngs):
        super().__init__((bands,), 3, inputs, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        flat = self.kernel[...].reshape(-1, self.outputs.most)
        return self.outputs.keep(x.reshape(*x.shape[:2], -1) @ flat + self.bias[...])


class SubsampleStem(nnx.Module):
    """Two convolutions over time and frequency, and a product: every fourth frame."""

    def __init__(self, s: Settings, width: Size, *, rngs: nnx.Rngs):
        self.first = SquareConv(fixed(1), width, rngs=rngs)
        self.second = SquareConv(width, width, rngs=rngs)
        self.bands = Bands(-(-s.channels // 4), width, width, rngs=rngs)

    def __call__(self, stream: Stream) -> Stream:
        x, keep = stream["x"][..., None], stream["keep"]
        for conv in (self.first, self.second):
            keep = every(keep, 2)
            x = live(jax.nn.relu(conv(x)), keep)
        return {"x": self.bands(x), "keep": keep}


class DeepSpeechConv(nnx.Module):
    """A convolution over time and frequency, batch normalisation, and a ReLU clipped at 20."""

    def __init__(
        self,
        inputs: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        *,
        rngs: nnx.Rngs,
    ):
        shape = (*kernel, inputs, CHANNELS)
        bound = (6 / (kernel[0] * kernel[1] * inputs)) ** 0.5
        self.kernel = nnx.Param(initial.uniform(rngs.params(), shape, bound))
        self.norm = FrameNorm(fixed(CHANNELS))
        self.stride = stride

    def __call__(self, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel = self.kernel[...]
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            self.stride,
            [(n // 2, n // 2) for n in kernel.shape[:2]],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        keep = every(keep, self.stride[0])
        return live(jnp.clip(self.norm(y, keep), 0, 20), keep), keep


class DeepSpeechStem(nnx.Module):
    """The two convolutions of Deep Speech 2, and a product: every second frame."""

    def __init__(self, s: Settings, width: Size, *, rngs: nnx.Rngs):
        inputs, bands = 1, s.channels
        convs: list[DeepSpeechConv] = []
        for kernel, stride in DEEP_SPEECH:
            convs.append(DeepSpeechConv(inputs, kernel, stride, rngs=rngs))
            inputs, bands = CHANNELS, -(-bands // stride[1])
        self.convs = nnx.List(convs)
        self.bands = Bands(bands, fixed(CHANNELS), width, rngs=rngs)

    def __call__(self, stream: Stream) -> Stream:
        x, keep = stream["x"][..., None], stream["keep"]
        for conv in self.convs:
            x, keep = conv(x, keep)
        return {"x": self.bands(x), "keep": keep}


STEMS: dict[str, Callable[..., nnx.Module]] = {
    "frames": FramesStem,
    "subsample": SubsampleStem,
    "deep_speech": DeepSpeechStem,
}


class ConvBlock(nnx.Module):
    """Normalisation, ReLU and a convolution along time."""

    def __init__(self, s: Settings, width: Size, taps: Size, *, rngs: nnx.Rngs):
        self.norm: Any = NORMS[s.norm](width)
        self.conv = ConvLine(taps, width, width, rngs=rngs)
        self.residual = s.residual

    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        y = self.conv(live(jax.nn.relu(self.norm(x, keep)), keep))
        return x + y if self.residual else y


class RecurrentBlock(nnx.Module):
    """Normalisation and a recurrent layer."""

    def __init__(self, s: Settings, width: Size, kind: str, directions: int, *, rngs: nnx.Rngs):
        self.norm: Any = NORMS[s.norm](width)
        self.recurrent = Recurrent(kind, width, width, directions, rngs=rngs)
        self.residual = s.residual

    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        y = self.recurrent(self.norm(x, keep), keep)
        return x + y if self.residual else y


class GatedConv(nnx.Module):
    """The convolution module of the Conformer: gated unit, depthwise convolution, swish."""

    def __init__(self, s: Settings, width: Size, taps: Size, *, rngs: nnx.Rngs):
        self.value, self.gate = (Dense(width, width, rngs=rngs) for _ in range(2))
        self.depthwise = DepthwiseLine(taps, width, rngs=rngs)
        self.norm: Any = NORMS[s.norm](width)
        self.out = Dense(width, width, rngs=rngs)

    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        x = live(self.value(x) * jax.nn.sigmoid(self.gate(x)), keep)
        return self.out(jax.nn.swish(self.norm(self.depthwise(x), keep)))


class Conformer(nnx.Module):
    """Attention with rotary positions and a gated convolution between two halves of a feed-forward.

    The paper has relative positions of sinusoids in their place.
    """

    def __init__(
        self, s: Settings, width: Size, inner: Size, hidden: Size, taps: Size, *, rngs: nnx.Rngs
    ):
        turned = Pick(["rotary"], "")
        self.feeds = nnx.List(
            [FeedForward(width, hidden, ("swish",), "", rngs=rngs) for _ in range(2)]
        )
        self.attention = Attention(width, inner, s.head, position=turned, rngs=rngs)
        self.conv = GatedConv(s, width, taps, rngs=rngs)
        self.norms = nnx.List([LayerNorm(width) for _ in range(5)])

    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        norms = self.norms
        x = x + self.feeds[0](norms[0](x)) / 2
        x = x + self.attention(norms[1](x), keep)
        x = x + self.conv(norms[2](x), keep)
        x = x + self.feeds[1](norms[3](x)) / 2
        return norms[4](x)


class Layer(nnx.Module):
    """One of the blocks."""

    def __init__(self, s: Settings, options: Options, *, rngs: nnx.Rngs):
        o = options
        pick = lambda values, name: Pick([str(v) for v in values], name)
        channels, ratio = pick(o.widths, "layers.width"), pick(o.ratios, "ratio")
        width = Size(o.widths, channels)
        hidden = Size([[int(w * r) for r in o.ratios] for w in o.widths], channels, ratio)
        inner = Size([n * s.head for n in o.heads], pick(o.heads, "heads"))
        taps = Taps(o.kernels, pick(o.kernels, "kernel"), causal=False)
        recurrent = lambda kind, n: lambda: RecurrentBlock(s, width, kind, n, rngs=rngs)
        make: dict[str, Callable[[], nnx.Module]] = {
            "convolution": lambda: ConvBlock(s, width, taps, rngs=rngs),
            "gru": recurrent("gru", 1),
            "lstm": recurrent("lstm", 1),
            "bigru": recurrent("gru", 2),
            "bilstm": recurrent("lstm", 2),
            "conformer": lambda: Conformer(s, width, inner, hidden, taps, rngs=rngs),
        }
        self.block = one_of({word: make[word]() for word in o.blocks}, "block")

    def __call__(self, stream: Stream) -> Stream:
        return {**stream, "x": self.block(stream["x"], stream["keep"])}
