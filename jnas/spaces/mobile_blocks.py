"""Mobile networks with everything decided: their blocks, parameters and multiply-adds.

A block of them is the inverted residual of MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381,
"MBConv"): a 1x1 convolution expands the channels, a depthwise one filters them, squeeze and
excitation (Hu et al. 2018, arXiv 1709.01507) may weigh them, a 1x1 convolution projects them.
"""

from typing import Any, NamedTuple

from jnas.base import InputError

# By the letters of a text: ReLU, ReLU6, swish and hard swish.
ACTIVATIONS = {"re": "relu", "r6": "relu6", "sw": "swish", "hs": "hard_swish"}
KINDS = ("mb", "sep", "conv", "skip")
SKIPS = ("noskip", "id", "pool")


class Family(NamedTuple):
    """What all networks of a paper have in common.

    Attributes:
      name: of the family.
      stem: channels of the first convolution, 3x3.
      head: channels of the 1x1 convolution before the pooling.
      activation: of both, and of blocks that do not name another.
      features: units of a dense layer after the pooling, 0 for none.
      feature_bias: whether that layer has biases.
      squeeze: the squeezed channels are a part of the block's `input`, or of its `hidden` ones and
        then a multiple of 8.
      squeeze_activation: between the two layers of squeeze and excitation.
      gate: after them, `sigmoid` or `hard_sigmoid`.
      eps: of batch normalisation.
    """

    name: str
    stem: int
    head: int
    activation: str
    features: int = 0
    feature_bias: bool = True
    squeeze: str = "input"
    squeeze_activation: str = "relu"
    gate: str = "sigmoid"
    eps: float = 1e-5


class Block(NamedTuple):
    """A block with everything decided.

    Attributes:
      kind: `mb`, `sep` (no expansion), `conv` (a convolution of its own) or `skip` (the identity,
        or a 1x1 convolution where the shape changes).
      inputs: channels in.
      hidden: channels of the depthwise convolution, 0 where there is none.
      outputs: channels out.
      kernel: of the depthwise convolution, or of the one of `conv`.
      stride: 1 or 2.
      squeeze: channels between the layers of squeeze and excitation, 0 for none.
      skip: what is added to the output: nothing (`noskip`), the input (`id`) or its mean over 3x3
        neighbours (`pool`).
      activation: a name of `ACTIVATIONS`' values.
      groups: of the 1x1 convolutions.
    """

    kind: str
    inputs: int
    hidden: int
    outputs: int
    kernel: int
    stride: int
    squeeze: int
    skip: str
    activation: str
    groups: int = 1


class Network(NamedTuple):
    """A mobile network with everything decided; `family` says the rest."""

    family: Family
    blocks: tuple[Block, ...]
    image: int
    inputs: int = 3
    classes: int = 1000
    stem_stride: int = 2


def divisible(channels: float, divisor: int = 8) -> int:
    """Channels as the nearest multiple of `divisor`, and not below 90% of what was asked.

    The rule of the published code of MobileNetV2, MnasNet and EfficientNet.

    >>> [divisible(c) for c in (4, 32 * 1.1, 24 * 1.4, 10.9)]
    [8, 32, 32, 16]
    """
    found = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return found + divisor if found < 0.9 * channels else found


class Settings(NamedTuple):
    """What the words of a layer say, before its channels are known."""

    kind: str = "mb"
    expand: float = 0.0  # times the channels in
    hidden: int = 0  # where it is given outright
    kernel: int = 3
    squeeze: float = 0.0  # the part of the channels
    skip: str = "id"
    groups: int = 1


def settings(*words: str) -> Settings:
    """Reads the words of a layer, such as `mb6_k5`, `se0.25`, `id`.

    `mb6` expands six times, `h72` to 72 channels; `sep`, `conv` and `skip` are kinds; `k5` is a
    kernel, `g2` are groups of the 1x1 convolutions; `se0.25` squeezes, `se0` does not; `id`,
    `noskip` and `pool` say what is added.

    Raises:
      InputError: an unknown word.
    """
    found = Settings()
    for word in "_".join(words).split("_"):
        letters = word.rstrip("0123456789.")
        number = word[len(letters) :]
        try:
            if word in KINDS[1:]:
                found = found._replace(kind=word)
            elif word in SKIPS:
                found = found._replace(skip=word)
            elif letters == "mb":
                found = found._replace(kind="mb", expand=float(number))
            elif letters == "h":
                found = found._replace(kind="mb", hidden=int(number))
            elif letters in ("k", "g"):
                name: dict[str, Any] = {{"k": "kernel", "g": "groups"}[letters]: int(number)}
                found = found._replace(**name)
            elif letters == "se":
                found = found._replace(squeeze=float(number))
            else:
                raise ValueError
        except ValueError:
            raise InputError(f"layer {'_'.join(words)!r}: unknown word {word!r}") from None
    return found


def hidden_channels(words: Settings, inputs: int) -> int:
    """Channels of the depthwise convolution of a layer with so many inputs."""
    if words.kind == "mb":
        return words.hidden or round(inputs * words.expand)
    return inputs if words.kind == "sep" else 0


def squeezed(family: Family, part: float, inputs: int, hidden: int) -> int:
    """Channels between the layers of squeeze and excitation."""
    if not part:
        return 0
    return max(1, int(inputs * part)) if family.squeeze == "input" else divisible(hidden * part)


def block(
    family: Family, words: Settings, inputs: int, outputs: int, stride: int, activation: str
) -> Block:
    """The block of a layer whose channels are known."""
    hidden = hidden_channels(words, inputs)
    if words.kind == "skip":
        return Block("skip", inputs, 0, outputs, 1, stride, 0, "noskip", activation)
    same = stride == 1 and inputs == outputs
    return Block(
        words.kind,
        inputs,
        hidden,
        outputs,
        words.kernel,
        stride,
        squeezed(family, words.squeeze, inputs, hidden or outputs),
        words.skip if same else "noskip",
        activation,
        words.groups,
    )


def layer_cost(b: Block, into: int) -> tuple[int, int]:
    """Parameters and multiply-adds of a block whose input has `into` pixels each way.

    Products of convolutions and dense layers count; biases, normalisation and activations do not.
    """
    side = halve(into, b.stride)
    norm = lambda channels: 2 * channels
    if b.kind == "skip":
        if b.stride == 1 and b.inputs == b.outputs:
            return 0, 0
        product = b.inputs * b.outputs
        return product + norm(b.outputs), product * side**2
    squeezing = 2 * b.squeeze * (b.hidden or b.outputs)
    biases = b.squeeze + (b.hidden or b.outputs) if b.squeeze else 0
    if b.kind == "conv":
        product = b.kernel**2 * b.inputs * b.outputs
        return product + norm(b.outputs) + squeezing + biases, product * side**2 + squeezing
    params, adds = squeezing + biases, squeezing
    if b.kind == "mb":
        product = b.inputs * b.hidden // b.groups
        params, adds = params + product + norm(b.hidden), adds + product * into**2
    depthwise, project = b.kernel**2 * b.hidden, b.hidden * b.outputs // b.groups
    params += depthwise + norm(b.hidden) + project + norm(b.outputs)
    return params, adds + (depthwise + project) * side**2


def halve(side: int, stride: int) -> int:
    """The pixels each way after a convolution with a stride, padded by half its kernel."""
    return -(-side // stride)


def ends_cost(
    family: Family, inputs: int, classes: int, last: int, stem_side: int, side: int
) -> tuple[int, int]:
    """Parameters and multiply-adds of all but the blocks: stem, head and classifier.

    Args:
      family: of the network.
      inputs: channels of the images.
      classes: the outputs.
      last: channels of the last block.
      stem_side: pixels each way after the stem.
      side: pixels each way after the last block.
    """
    stem = 9 * inputs * family.stem
    params, adds = stem + 2 * family.stem, stem * stem_side**2
    width = last
    if family.head:
        product = last * family.head
        params, adds, width = (
            params + product + 2 * family.head,
            adds + product * side**2,
            family.head,
        )
    if family.features:
        product = width * family.features
        params += product + family.features * family.feature_bias
        adds, width = adds + product, family.features
    return params + (width + 1) * classes, adds + width * classes


def costs(network: Network) -> tuple[int, int]:
    """Parameters and multiply-adds of a network, as exact Python ints."""
    side = stem_side = halve(network.image, network.stem_stride)
    params = adds = 0
    for b in network.blocks:
        more = layer_cost(b, side)
        params, adds, side = params + more[0], adds + more[1], halve(side, b.stride)
    last = network.blocks[-1].outputs
    ends = ends_cost(network.family, network.inputs, network.classes, last, stem_side, side)
    return params + ends[0], adds + ends[1]
