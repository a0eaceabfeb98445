"""The spaces that the laws of spaces are checked on, each with small settings: one line a space."""

from typing import Any, NamedTuple


class Case(NamedTuple):
    """What the laws need to know of a registered space.

    settings: of `jnas.spaces.SPACES[name]`, and of `jnas.nets.NETS[name]` where `net` is None.
    shape: of one input of the network, without the batch; None where there is no network.
    net: settings of the network, where it takes others.
    tokens: inputs are ints below this number, where they are no real numbers.
    own_counts: the space has counts `params` and `flops`.
    exact: they are those of the network for every architecture; else (a `Slim` counts the inputs
      of the layer behind it in full) for the largest.
    extra: multiply-adds that the space counts by its paper's rule, and the traced network not.
    form_counts: architectures of one canonical form have equal counts.
    slow: counting on the network takes seconds, so that only the slow tests do.
    text: a text of no architecture, for want of one that is a mistake in this notation only.
    """

    settings: dict[str, Any] = {}  # noqa: RUF012
    shape: tuple[int, ...] | None = None
    net: dict[str, Any] | None = None
    tokens: int = 0
    own_counts: bool = True
    exact: bool = True
    extra: int = 0
    form_counts: bool = True
    slow: bool = False
    text: str = "none"


IMAGE = {"classes": 3, "image": 8, "inputs": 2}
BLOCKS = {"channels": 2, "repeats": 1, "blocks": 2, **IMAGE}
CHAIN = {"layers": 3, "filters": (2, 3), "units": (4, 3), "kernels": (1, 3), "pools": ((2, 2),)}
RESIDUAL = {"depths": (1, 2), "widths": ((2, 3), (3, 4)), "kernels": (1, 3), "stem": 3}
LAYERS = {"depth": 2, "widths": (4, 6), "heads": (1, 2), "head": 2, "ratios": (1, 1.5)}
SERIES = {"length": 6, "features": 3, "classes": 3}
MOBILE = {"width": 0.25, "stages": 2, "halvings": 1, "head": 8, **IMAGE}
CASES: dict[str, Case] = {
    "amoebanet": Case(BLOCKS, (8, 8, 2), text="Genotype(normal=[], reduce=[])"),
    "enas_macro": Case({"channels": 2, "layers": 3, **IMAGE}, (8, 8, 2), text="0 0 2 0 0 0"),
    "enas_micro": Case(BLOCKS, (8, 8, 2), text="0 0 0 9"),
    "metaqnn": Case({**CHAIN, **IMAGE}, (8, 8, 2), text="[C(9,3,1), SM(3)]"),
    # Channels that vertices do not share equally go to the first ones, in any order of vertices.
    "nas_bench_101": Case({"channels": 5, "stacks": 1, "modules": 1, **IMAGE}, (8, 8, 2),
                          form_counts=False, text="ModelSpec([[0, 1]], ['input', 'output'])"),
    "nasnet": Case(BLOCKS, (8, 8, 2), text="Genotype(normal=[], reduce=[])"),
    "nats_size": Case({"widths": (2, 3, 4), **IMAGE}, (8, 8, 2), extra=3, text="2:2:2:2:9"),
    "pnas": Case(BLOCKS, (8, 8, 2), text="Genotype(normal=[])"),
    "resnet": Case({**RESIDUAL, **IMAGE}, (8, 8, 2),
                   text="block=basic depth=[1,1] kernel=[1,1] width=[2,9]"),
    "autoformer": Case({**LAYERS, "least": 1, "patch": 4, **IMAGE}, (8, 8, 2), slow=True,
                       text="depth=1 heads=[1,1] ratio=[1,3] width=4"),
    "series": Case({**LAYERS, "kernels": (1, 3), **SERIES}, (6, 3), slow=True,
                   text="block=[gru,rnn] heads=[1,1] kernel=[1,1] ratio=[1,1] depth=1 width=4"),
    "tc_resnet": Case({"channels": (4, 6), **SERIES}, (6, 3), slow=True,
                      text="blocks=[3] kernel=[3] width=[1,1]"),
    "transformer": Case({**LAYERS, "kernels": (1, 3), "length": 6, "vocabulary": 9}, (6,), tokens=9,
                        text="depth=1 norm=pre"),
    "efficientnet": Case(MOBILE, (8, 8, 2), exact=False, slow=True, text="EfficientNet-B9"),
    "fbnet": Case({**MOBILE, "stages": 3}, (8, 8, 2), exact=False, slow=True, text="FBNet-Z"),
    "mnasnet": Case(MOBILE, (8, 8, 2), exact=False, slow=True, text="MnasNet-Z9"),
    "mobile_network": Case({"name": "mobilenet_v3_small", **IMAGE, "image": 32}, (32, 32, 2),
                           slow=True, text="network=vgg"),
    "mobilenet_v2": Case(MOBILE, (8, 8, 2), exact=False, slow=True, text="MobileNetV9"),
    # Of these two tests/test_mobile_nets.py counts the network of each architecture by itself.
    "mobilenet_v3": Case(MOBILE, (8, 8, 2), own_counts=False, text="MobileNetV9"),
    "ofa": Case({**MOBILE, "resolutions": (6, 8)}, (8, 8, 2), own_counts=False, text="ofa"),
    "proxylessnas": Case(MOBILE, (8, 8, 2), exact=False, slow=True, text="ProxylessNAS-TPU"),
    "dense": Case({"channels": 4, "levels": 2, "widths": (2, 6), **IMAGE}, (8, 8, 2),
                  text="operation=[conv_7x7]"),
    "darts": Case({"channels": 2, "layers": 3, **IMAGE}, (8, 8, 2), text="Genotype(normal=[])"),
    "darts_supernet": Case({}, (8, 8, 2), net={"channels": 2, "layers": 3, **IMAGE},
                           own_counts=False),
    "mlp": Case({"depth": 2, "widths": (2, 3, 5), **IMAGE}, (8, 8, 2),
                text="activation=[relu,relu] width=[2,4]"),
    "nas_bench_201": Case({"channels": 2, "cells": 1, **IMAGE}, (8, 8, 2), extra=3,
                          form_counts=False, text="|none~0|+|none~0|none~1|"),
}  # fmt: skip
