"""Networks of the mobile spaces, and the published ones with everything decided."""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.base import InputError
from jnas.nets.choices import Repeat
from jnas.nets.counting import params_of
from jnas.nets.elastic import ElasticDepthwise, Resized
from jnas.nets.functional import Net, functional
from jnas.nets.initial import idle, lecun_uniform
from jnas.nets.mobile_blocks import (
    Block,
    Channels,
    ConvNorm,
    Dense,
    DepthwiseNorm,
    SqueezeExcite,
    depthwise,
    one_of,
    slim,
)
from jnas.spaces import mobile_blocks as decided
from jnas.spaces.compound import efficientnet as _efficientnet
from jnas.spaces.mobile import mobile_space
from jnas.spaces.mobile_blocks import Family, Network, Settings, hidden_channels, settings, squeezed
from jnas.spaces.mobile_families import FAMILIES
from jnas.spaces.mobile_networks import NETWORKS, published
from jnas.spaces.mobile_registry import of_settings, single_network
from jnas.spaces.mobile_stages import LAYER, Mobile, Stage, joins, places


class _Maker:
    """Makes the layers of a stage."""

    def __init__(self, family: Family, activation: str, rngs: Any):
        self.family, self.rngs, self.activation = family, rngs, activation
        self.rest: dict[str, Any] = {"eps": family.eps, "rngs": rngs}

    def conv(self, words: Settings, inputs: Channels, outputs: Channels, stride: int) -> nnx.Module:
        made = ConvNorm(
            inputs.most, outputs.most, words.kernel, stride, self.activation, **self.rest
        )
        return slim(made, outputs)

    def skip(self, inputs: Channels, outputs: Channels, stride: int) -> nnx.Module:
        alike = inputs.fixed and outputs.fixed and inputs.most == outputs.most
        if stride == 1 and (alike or inputs == outputs):
            return Block([], ("noskip",))
        made = ConvNorm(inputs.most, outputs.most, 1, stride, self.activation, **self.rest)
        return slim(made, outputs)

    def squeeze(
        self, parts: Mapping[str, float], name: str, inputs: Channels, hidden: Channels
    ) -> list[nnx.Module]:
        """Squeeze and excitation, nothing, or a choice between them; a list of at most one."""

        def option(part: float) -> nnx.Module:
            if not part:
                return Block([], ("noskip",))
            of = inputs if self.family.squeeze == "input" else hidden
            sizes = tuple(squeezed(self.family, part, n, n) for n in of.sizes)
            kind = self.family.squeeze_activation, self.family.gate
            return SqueezeExcite(hidden.most, Channels(sizes, of.name), *kind, rngs=self.rngs)

        if not any(parts.values()):
            return []
        return [one_of({word: option(part) for word, part in parts.items()}, name)]


def layer(
    spec: Mobile,
    stage: Stage,
    options: Mapping[str, tuple[str, ...]],
    name: Callable[[str], str],
    inputs: Channels,
    outputs: Channels,
    stride: int,
    joined: bool,
    rngs: Any,
) -> nnx.Module:
    """A layer with all its choices.

    Args:
      spec: of the space.
      stage: that it is in.
      options: the words to choose from, by the name of the choice.
      name: of a choice in the architecture.
      inputs: channels in.
      outputs: channels out.
      stride: 1 or 2.
      joined: whether the input may be added.
      rngs: the source of the parameters.
    """
    activation, rngs = decided.ACTIVATIONS[stage.activation or spec.family.activation], idle(rngs)
    make = _Maker(spec.family, activation, rngs)
    words = {dim: {w: settings(w) for w in options.get(dim, ())} for dim in LAYER}
    parts = {w: s.squeeze for w, s in words["se"].items()}
    skips = tuple(s.skip for s in words["skip"].values()) or ("id",)
    skips = skips if joined else ("noskip",)

    def block(op: Settings, hidden: Channels) -> nnx.Module:
        if op.kind == "skip":
            return make.skip(inputs, outputs, stride)
        kernels = {w: s.kernel for w, s in words["kernel"].items()} or {"": op.kernel}
        if op.kind == "conv":
            convs = {
                w: make.conv(op._replace(kernel=k), inputs, outputs, stride)
                for w, k in kernels.items()
            }
            rows = [
                one_of(convs, name("kernel")),
                *make.squeeze(parts, name("se"), inputs, outputs),
            ]
            return Block(rows, skips, name("skip"))
        pointwise: dict[str, Any] = {"groups": op.groups, **make.rest}
        rows = []
        if op.kind == "mb":
            expand = ConvNorm(inputs.most, hidden.most, 1, 1, activation, shuffle=True, **pointwise)
            rows.append(slim(expand, hidden))
        rows.append(slim(filters(kernels, hidden), hidden))
        rows += make.squeeze(parts, name("se"), inputs, hidden)
        rows.append(slim(ConvNorm(hidden.most, outputs.most, **pointwise), outputs))
        return Block(rows, skips, name("skip"))

    def filters(kernels: Mapping[str, int], hidden: Channels) -> nnx.Module:
        if spec.elastic and len(kernels) > 1:
            conv = ElasticDepthwise(
                hidden.most, tuple(kernels.values()), stride, True, rngs=rngs, name=name("kernel")
            )
            return DepthwiseNorm(conv, hidden.most, activation, spec.family.eps)
        every = {
            w: depthwise(hidden.most, k, stride, activation, **make.rest)
            for w, k in kernels.items()
        }
        return one_of(every, name("kernel"))

    ops = words["op"]
    if spec.elastic and len(ops) > 1:
        sizes = tuple(hidden_channels(op, inputs.most) for op in ops.values())
        return block(next(iter(ops.values())), Channels(sizes, name("op")))
    made = {
        w: block(op, Channels(tuple(hidden_channels(op, c) for c in inputs.sizes), inputs.name))
        for w, op in ops.items()
    }
    return one_of(made, name("op"))


class MobileStage(nnx.Module):
    """The first layer of a stage, and the ones after it."""

    def __init__(self, spec: Mobile, i: int, inputs: Channels, *, rngs: nnx.Rngs):
        stage = spec.stages[i]
        outputs = Channels(stage.widths, f"width_{i}")
        suffix = ("_first", "_rest") if stage.each else ("", "")
        named = lambda j: lambda dim: f"{dim}_{i}{suffix[j]}"
        make = lambda j, into, stride, joined: (
            lambda rngs: layer(
                spec,
                stage,
                stage.rest if j else stage.first,
                named(j),
                into,
                outputs,
                stride,
                joined,
                rngs,
            )
        )
        self.first: Any = make(0, inputs, stage.stride, joins(spec, i))(rngs)
        least, most = stage.depths[0] - 1, stage.depths[-1] - 1
        rest = make(1, outputs, 1, True)
        shared: dict[str, Any] = {"shared": not stage.each, "rngs": rngs, "name": f"depth_{i}"}
        self.rest = Repeat(rest, most, least, **shared) if most else None

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.first(x)
        return x if self.rest is None else self.rest(x)


class MobileNetwork(nnx.Module):
    """Stem, stages, head, pooling, a dense layer where there is one, classifier."""

    def __init__(
        self,
        family: Family,
        stages: Callable[[nnx.Rngs], list[nnx.Module]],
        last: int,
        inputs: int,
        classes: int,
        stem_stride: int,
        dropout: float,
        *,
        rngs: nnx.Rngs,
    ):
        activation = decided.ACTIVATIONS[family.activation]
        rest: dict[str, Any] = {"activation": activation, "eps": family.eps, "rngs": rngs}
        self.stem = ConvNorm(inputs, family.stem, 3, stem_stride, **rest)
        self.stages = nnx.List(stages(rngs))
        self.head = ConvNorm(last, family.head, **rest) if family.head else None
        width = family.head or last
        bias, size = family.feature_bias, family.features
        self.features = Dense(width, size, activation, bias, rngs=rngs) if size else None
        width = size or width
        self.classifier = nnx.Linear(width, classes, kernel_init=lecun_uniform, rngs=rngs)
        self.dropout, self.deterministic = dropout, False
        if dropout:
            self.stream = rngs.dropout.fork()

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = jnp.mean(x if self.head is None else self.head(x), (1, 2))
        x = x if self.features is None else self.features(x)
        if self.dropout and not self.deterministic:
            kept = jax.random.bernoulli(self.stream(), 1 - self.dropout, x.shape)
            x = jnp.where(kept, x / (1 - self.dropout), 0)
        return self.classifier(x)


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise InputError(f"dropout={dropout!r}: it has to be at least 0 and less than 1")


def mobile(spec: Mobile, *, dropout: float = 0.0) -> Net:
    """The network of a specification of mobile networks.

    Operations, kernels and squeeze and excitation are branches, widths are masks over the widest
    layer, depths are stacked blocks of which the first few run. Where the specification is elastic,
    expansions are masks too, and the kernels of a layer share their weights.

    Args:
      spec: see `jnas.spaces.mobile_families`.
      dropout: the probability that a feature before the classifier is 0 in training.

    Returns:
      The net over `jnas.spaces.mobile.mobile_space(spec)`: `[B, image, image, inputs]` to
      `[B, classes]`. With resolutions to choose from, the images are resized to the chosen one.
    """
    _check_dropout(dropout)

    def stages(rngs: nnx.Rngs) -> list[nnx.Module]:
        before = Channels((spec.family.stem,))
        made: list[nnx.Module] = []
        for i, stage in enumerate(spec.stages):
            made.append(MobileStage(spec, i, before, rngs=rngs))
            before = Channels(stage.widths, f"width_{i}")
        return made

    def make(rngs: nnx.Rngs) -> nnx.Module:
        last = max(spec.stages[-1].widths)
        sizes = (spec.inputs, spec.classes, spec.stem_stride)
        net = MobileNetwork(spec.family, stages, last, *sizes, dropout, rngs=rngs)
        return Resized(net, spec.images, "image") if len(spec.images) > 1 else net

    return functional(make, space=mobile_space(spec), bind=_binder(spec))


def _binder(spec: Mobile) -> Callable[[Any], dict[str, Any]]:
    """From the leaves of an architecture to the choices of the modules."""
    found = places(spec)

    def bind(arch: Any) -> dict[str, Any]:
        values: dict[str, Any] = {"image": arch["image"]} if "image" in arch else {}

        def pick(leaf: Any, where: list[int], many: int) -> Any:
            soft = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
            part = leaf[np.asarray(where)]
            return part[..., :many] if soft else part

        for dim, every in found.items():
            rows: dict[str, list[int]] = {}
            counts: dict[str, int] = {}
            for k, place in enumerate(every):
                suffix = {None: "", 0: "_first"}.get(place.layer, "_rest")
                name = f"{dim}_{place.stage}{suffix}"
                rows.setdefault(name, []).append(k)
                counts[name] = len(place.words)
            for name, where in rows.items():
                part = pick(arch[dim], where, counts[name])
                values[name] = part if name.endswith("_rest") else part[0]
        return values

    return bind


def decided_network(network: Network, name: str, dropout: float = 0.0) -> Net:
    """The network of a description with everything decided; blocks that repeat are scanned."""
    _check_dropout(dropout)
    one = lambda n: Channels((n,))

    def block(b: decided.Block, rngs: Any) -> nnx.Module:
        rngs = idle(rngs)
        inputs, outputs = one(b.inputs), one(b.outputs)
        make = _Maker(network.family, b.activation, rngs)
        words = Settings(b.kind, kernel=b.kernel, groups=b.groups)
        if b.kind == "skip":
            return make.skip(inputs, outputs, b.stride)
        squeeze: list[nnx.Module] = []
        if b.squeeze:
            kind = network.family.squeeze_activation, network.family.gate
            into = b.hidden or b.outputs
            squeeze = [SqueezeExcite(into, one(b.squeeze), *kind, rngs=rngs)]
        if b.kind == "conv":
            return Block([make.conv(words, inputs, outputs, b.stride), *squeeze], (b.skip,))
        groups: dict[str, Any] = {"groups": b.groups, **make.rest}
        rows: list[nnx.Module] = []
        if b.kind == "mb":
            rows = [ConvNorm(b.inputs, b.hidden, 1, 1, b.activation, shuffle=True, **groups)]
        rows.append(depthwise(b.hidden, b.kernel, b.stride, b.activation, **make.rest))
        rows += [*squeeze, ConvNorm(b.hidden, b.outputs, **groups)]
        return Block(rows, (b.skip,))

    def stages(rngs: nnx.Rngs) -> list[nnx.Module]:
        def row(b: decided.Block, many: int) -> nnx.Module:
            return Repeat(lambda rngs: block(b, rngs), many, many, shared=True, rngs=rngs)

        return [row(b, len(list(same))) for b, same in itertools.groupby(network.blocks)]

    last = network.blocks[-1].outputs
    sizes = (last, network.inputs, network.classes, network.stem_stride)
    return functional(
        lambda rngs: MobileNetwork(network.family, stages, *sizes, dropout, rngs=rngs),
        space=single_network(network, name),
        bind=lambda arch: {},
    )


def mobile_network(
    name: str = "efficientnet_b0",
    image: int | None = None,
    inputs: int = 3,
    classes: int = 1000,
    eps: float | None = None,
    dropout: float = 0.0,
) -> Net:
    """One published mobile network, such as `efficientnet_b0` or `mobilenet_v2`, to be trained.

    Args:
      name: of `jnas.spaces.mobile_networks.NETWORKS`.
      image: height and width of the images, by default those of the paper.
      inputs: the channels of the images.
      classes: the outputs.
      eps: of batch normalisation, instead of the paper's.
      dropout: the probability that a feature before the classifier is 0 in training.

    Returns:
      The net over `jnas.spaces.mobile_network`: `[B, image, image, inputs]` to `[B, classes]`.
    """
    sizes = {} if image is None else {"image": image}
    network = published(name, eps, inputs=inputs, classes=classes, **sizes)
    return decided_network(network, name, dropout)


fbnet = of_settings(FAMILIES["fbnet"], mobile)
mnasnet = of_settings(FAMILIES["mnasnet"], mobile)
mobilenet_v2 = of_settings(FAMILIES["mobilenet_v2"], mobile)
mobilenet_v3 = of_settings(FAMILIES["mobilenet_v3"], mobile)
ofa = of_settings(FAMILIES["ofa"], mobile)
proxylessnas = of_settings(FAMILIES["proxylessnas"], mobile)
efficientnet = of_settings(_efficientnet, mobile)


PUBLISHED = tuple(
    (
        name,
        params_of(partial(mobile_network, name), f"network={name}"),
        paper.params,
        f"{paper.source}, {paper.paper}",
    )
    for name, paper in NETWORKS.items()
    if paper.params is not None
)
