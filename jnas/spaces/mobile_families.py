"""The mobile spaces of the papers: MnasNet, MobileNetV2 and V3, ProxylessNAS, FBNet, once-for-all.

Each function makes a specification (`jnas.spaces.mobile_stages.Mobile`); the spaces and networks of
the same names are made from it. All of them can be had small: fewer stages, fewer channels, fewer
halvings of the image.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

from jnas.base import InputError
from jnas.errors import positive
from jnas.spaces.mobile_blocks import Family, divisible
from jnas.spaces.mobile_stages import Mobile, Stage

MOBILENET_V2 = (  # Sandler et al. 2018, table 2: expansion, channels, layers, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
RATIOS = (0.75, 1.0, 1.25)  # of the base's channels: MnasNet, section 4.1
HARD: dict[str, Any] = {  # squeeze and excitation of MobileNetV3
    "squeeze": "hidden",
    "gate": "hard_sigmoid",
    "eps": 1e-3,
}


def small(
    spec: Mobile,
    *,
    image: int | None = None,
    inputs: int = 3,
    classes: int = 1000,
    resolutions: Sequence[int] = (),
    stages: int | None = None,
    halvings: int | None = None,
    head: int | None = None,
) -> Mobile:
    """A specification for given data, and its small versions.

    Args:
      spec: the paper's.
      image: height and width of the images, by default those of the paper.
      inputs: the channels of the images.
      classes: the outputs.
      resolutions: sizes to choose from, to which the images are resized; by default their own.
      stages: how many are kept, the first ones, of the published networks too.
      halvings: how many strides of 2 are kept, the last ones, the stem's among them.
      head: channels of the last convolution.

    Raises:
      InputError: numbers that there cannot be.
    """
    given = {"stages": stages, "head": head}
    positive(**{name: value for name, value in given.items() if value is not None})
    if stages is not None and stages > len(spec.stages):
        raise InputError(f"stages={stages}: {spec.name} has {len(spec.stages)}")
    kept = spec.stages[:stages]
    strides = [spec.stem_stride, *(stage.stride for stage in kept)]
    if halvings is not None:
        found = [i for i, stride in enumerate(strides) if stride == 2]
        if not 0 <= halvings <= len(found):
            raise InputError(f"halvings={halvings}: allowed are 0 to {len(found)}")
        for i in found[: len(found) - halvings]:
            strides[i] = 1
    image = spec.images[-1] if image is None else image
    images = tuple(sorted(set(resolutions))) or (image,)
    if max(images) > image or min(images) < 1:
        raise InputError(f"resolutions={list(images)}: from 1 to the image's own, {image}")
    family = spec.family
    return spec._replace(
        family=family if head is None else family._replace(head=head),
        stages=tuple(s._replace(stride=n) for s, n in zip(kept, strides[1:], strict=True)),
        images=images,
        inputs=inputs,
        classes=classes,
        stem_stride=strides[0],
        points={k: " ".join(text.split()[:stages]) for k, text in spec.points.items()},
    )


def scaled(channels: int, width: float) -> int:
    """Channels times a multiplier, as a multiple of 8; as they are where it is 1."""
    return channels if width == 1 else divisible(channels * width)


def scaled_family(family: Family, width: float) -> Family:
    """Stem and head times a multiplier."""
    head, stem = scaled(family.head, width), scaled(family.stem, width)
    features = scaled(family.features, width) if family.features else 0
    return family._replace(stem=stem, head=head, features=features)


def positive_width(width: float) -> None:
    """Raises `InputError` for a multiplier that is not above 0, or makes numbers overflow."""
    if not 0 < width <= 1000:
        raise InputError(f"width={width}: it has to be above 0, and at most 1000")


def about(base: int, more: Sequence[int] = ()) -> tuple[int, ...]:
    """0.75, 1 and 1.25 times a number of channels as multiples of 4, of 8 from 64, and others."""
    ratios = [divisible(base * r, 8 if base >= 64 else 4) for r in RATIOS]
    return tuple(sorted({*ratios, base, *more}))


def around(depth: int) -> tuple[int, ...]:
    """One layer less, as many, and one more, at least 1."""
    return tuple(range(max(1, depth - 1), depth + 2))


# ------------------------------------------------------------------- alike within a stage

CELLS = {  # of MnasNet: 4 operations x 2 x 2 x 3, section 4.1
    "op": ("sep", "mb3", "mb6", "conv"),
    "kernel": ("k3", "k5"),
    "se": ("se0", "se0.25"),
    "skip": ("noskip", "id", "pool"),
}


def mnasnet(width: float = 1.0, **data: Any) -> Mobile:
    """MnasNet's factorised hierarchical space (Tan et al. 2019, arXiv 1807.11626, section 4.1).

    The layers of a stage are alike. A stage chooses a convolution, a separable one, MBConv3 or
    MBConv6; kernel 3 or 5; squeeze and excitation of 0 or a quarter; no skip, identity or pooling;
    0.75, 1 or 1.25 times MobileNetV2's channels; one layer less, as many or one more: 432 choices.
    Widths of the published networks that are none of these are choices too: 112 and 192. The head
    has 1,280 channels whatever the multiplier, as in torchvision's networks.
    """
    positive_width(width)
    extra = {96: (112,), 160: (192,)}
    widths = [about(c, extra.get(c, ())) for _, c, _, _ in MOBILENET_V2]
    stages = [
        Stage(tuple(sorted({scaled(w, width) for w in wide})), around(n), s, CELLS, CELLS)
        for wide, (_, _, n, s) in zip(widths, MOBILENET_V2, strict=True)
    ]
    points = {
        "MnasNet-A1": (
            "sep_k3_se0_noskip_c16_r1 mb6_k3_se0_id_c24_r2 mb3_k5_se0.25_id_c40_r3 "
            "mb6_k3_se0_id_c80_r4 mb6_k3_se0.25_id_c112_r2 mb6_k5_se0.25_id_c160_r3 "
            "mb6_k3_se0_id_c320_r1"
        ),
        "MnasNet-B1": (
            "sep_k3_se0_noskip_c16_r1 mb3_k3_se0_id_c24_r3 mb3_k5_se0_id_c40_r3 "
            "mb6_k5_se0_id_c80_r3 mb6_k3_se0_id_c96_r2 mb6_k5_se0_id_c192_r4 "
            "mb6_k3_se0_id_c320_r1"
        ),
    }
    channels = lambda match: f"_c{scaled(int(match[1]), width)}"
    points = {name: re.sub(r"_c(\d+)", channels, text) for name, text in points.items()}
    family = Family("mnasnet", scaled(32, width), 1280, "re", eps=1e-3)
    return small(Mobile("mnasnet", family, tuple(stages), (224,), points=points), **data)


def mobilenet_v2(width: float = 1.0, **data: Any) -> Mobile:
    """The space around MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2).

    The layers of a stage are alike. A stage chooses to expand 3 or 6 times, kernel 3, 5 or 7, 0.75,
    1 or 1.25 times the channels, and one layer less, as many or one more. The first stage does not
    expand. The head does not shrink with a multiplier below 1, as in the paper.
    """
    positive_width(width)
    stages, words = [], []
    for i, (_, c, n, s) in enumerate(MOBILENET_V2):
        base = scaled(c, width)
        options = {"op": ("mb3", "mb6") if i else ("sep",), "kernel": ("k3", "k5", "k7")}
        stages.append(Stage(about(base), around(n), s, options, options))
        words.append(f"{'mb6' if i else 'sep'}_k3_c{base}_r{n}")
    family = Family("mobilenet_v2", scaled(32, width), scaled(1280, max(1.0, width)), "r6")
    points = {"MobileNetV2": " ".join(words)}
    return small(Mobile("mobilenet_v2", family, tuple(stages), (224,), points=points), **data)


# -------------------------------------------------------------------- each layer for itself

V3: dict[str, Any] = {  # Howard et al. 2019, tables 1 and 2; of every layer: hidden channels
    "large": {
        "family": Family("mobilenet_v3", 16, 960, "hs", 1280, **HARD),
        # channels, stride, activation, squeezed, kernel, hidden of every layer
        "stages": (
            (16, 1, "re", False, 3, (16,)),
            (24, 2, "re", False, 3, (64, 72)),
            (40, 2, "re", True, 5, (72, 120, 120)),
            (80, 2, "hs", False, 3, (240, 200, 184, 184)),
            (112, 1, "hs", True, 3, (480, 672)),
            (160, 2, "hs", True, 5, (672, 960, 960)),
        ),
    },
    "small": {
        "family": Family("mobilenet_v3", 16, 576, "hs", 1024, **HARD),
        "stages": (
            (16, 2, "re", True, 3, (16,)),
            (24, 2, "re", False, 3, (72, 88)),
            (40, 2, "hs", True, 5, (96, 240, 240)),
            (48, 1, "hs", True, 5, (120, 144)),
            (96, 2, "hs", True, 5, (288, 576, 576)),
        ),
    },
}


def mobilenet_v3(size: str = "large", width: float = 1.0, **data: Any) -> Mobile:
    """The space around MobileNetV3, large or small (Howard et al. 2019, arXiv 1905.02244).

    Every layer chooses kernel 3 or 5, squeeze and excitation or none, and its expansion: 3, 4 or 6
    times, or as in the published network, where NetAdapt shrank it (tables 1 and 2). A stage has
    one layer less, as many or one more. Layers share the weights of their kernels and expansions.
    """
    positive_width(width)
    if size not in V3:
        raise InputError(f"size={size!r}: allowed are {', '.join(V3)}")
    family = scaled_family(V3[size]["family"], width)
    stages, words, before = [], [], family.stem
    for i, (c, stride, activation, squeezed, kernel, hidden) in enumerate(V3[size]["stages"]):
        c, hidden = scaled(c, width), [scaled(h, width) for h in hidden]
        own = {"kernel": ("k3", "k5"), "se": ("se0", "se0.25")}
        ratios = lambda n, known: tuple(f"h{h}" for h in sorted({3 * n, 4 * n, 6 * n, *known}))
        first = {"op": ratios(before, hidden[:1]) if i else ("sep",), **own}
        rest = {"op": ratios(c, hidden[1:]), **own}
        depths = around(len(hidden)) if i else (1,)
        stages.append(Stage((c,), depths, stride, first, rest, True, activation))
        suffix = f"_k{kernel}_se{0.25 if squeezed else 0}"
        layers = [(f"h{h}" if i else "sep") + suffix for h in hidden]
        words.append(f"c{c}_r{len(hidden)}:{','.join(layers)}")
        before = c
    points = {f"MobileNetV3-{size.capitalize()}": " ".join(words)}
    made = Mobile("mobilenet_v3", family, tuple(stages), (224,), elastic=True, points=points)
    return small(made, **data)


def ofa(width: float = 1.0, **data: Any) -> Mobile:
    """The space of once-for-all networks (Cai et al. 2020, arXiv 1908.09791, section 3.2).

    Every layer chooses kernel 3, 5 or 7 and to expand 3, 4 or 6 times, every one of 5 stages 2, 3
    or 4 layers; the skeleton is MobileNetV3's. That is (9^2 + 9^3 + 9^4)^5, about 2e19 networks,
    for each resolution: give `resolutions=range(128, 225, 4)` for the paper's 25. Layers share the
    weights of their kernels, by kernel transformation (section 3.3), and expansions.
    """
    positive_width(width)
    family = Family("ofa", 16, 960, "hs", 1280, feature_bias=False, **HARD | {"eps": 1e-5})
    shape = ((24, 2, "re", 0), (40, 2, "re", 1), (80, 2, "hs", 0), (112, 1, "hs", 1))
    first: dict[str, tuple[str, ...]] = {"op": ("sep",), "kernel": ("k3",), "se": ("se0",)}
    stages = [Stage((scaled(16, width),), (1,), 1, first, first, activation="re")]
    for c, stride, activation, se in (*shape, (160, 2, "hs", 1)):
        own = {
            "op": ("mb3", "mb4", "mb6"),
            "kernel": ("k3", "k5", "k7"),
            "se": (f"se{0.25 * se:g}",),
        }
        stages.append(Stage((scaled(c, width),), (2, 3, 4), stride, own, own, True, activation))
    family = scaled_family(family, width)
    return small(Mobile("ofa", family, tuple(stages), (224,), elastic=True), **data)


PROXYLESS: dict[str, Any] = {  # mit-han-lab/proxylessnas: stem, widths, head, and every layer
    "mobile": (
        (32, (16, 32, 40, 80, 96, 192, 320), 1280),
        "35 33 - -|37 33 35 35|67 35 35 35|65 35 35 35|67 67 37 37|67",
    ),
    "mobile_14": (
        (48, (24, 40, 56, 112, 136, 256, 448), 1792),
        "35 33 - -|37 33 35 35|67 35 35 35|65 35 35 35|67 67 37 37|67",
    ),
    "gpu": (
        (40, (24, 32, 56, 112, 128, 256, 432), 1728),
        "35 - - -|37 - - 33|67 - - 35|65 - 33 35|67 67 67 65|67",
    ),
    "cpu": (
        (40, (24, 32, 48, 88, 104, 216, 360), 1432),
        "63 33 33 33|63 33 33 35|63 - - 33|65 33 33 33|65 35 35 33|65",
    ),
    "search": ((32, (16, 24, 40, 80, 96, 192, 320), 1280), ""),
}


def proxylessnas(target: str = "mobile", width: float = 1.0, **data: Any) -> Mobile:
    """The space of ProxylessNAS (Cai, Zhu and Han 2019, arXiv 1812.00332, section 4.2).

    Each of 21 layers chooses MBConv with kernel 3, 5 or 7 that expands 3 or 6 times; those that
    keep the shape may be skipped instead, which is the choice of depth.

    Args:
      target: whose channels, `mobile`, `mobile_14`, `gpu` or `cpu` of the published networks, or
        `search`, those of MobileNetV2's kind that the search ran with.
      width: multiplies all channels.
      **data: see `small`.
    """
    positive_width(width)
    if target not in PROXYLESS:
        raise InputError(f"target={target!r}: allowed are {', '.join(PROXYLESS)}")
    (stem, widths, head), text = PROXYLESS[target]
    ops = tuple(f"mb{e}_k{k}" for e, k in itertools.product((3, 6), (3, 5, 7)))
    many, strides = (4, 4, 4, 4, 4, 1), (2, 2, 2, 1, 2, 1)
    still: dict[str, tuple[str, ...]] = {"op": ("sep_k3",)}
    stages = [Stage((scaled(widths[0], width),), (1,), 1, still, still)]
    for c, n, s in zip(widths[1:], many, strides, strict=True):
        first, rest = {"op": ops}, {"op": (*ops, "skip")}
        stages.append(Stage((scaled(c, width),), (n,), s, first, rest, True))
    points = {}
    if text and width == 1:
        words = [f"sep_k3_c{widths[0]}_r1"]
        for c, row in zip(widths[1:], text.split("|"), strict=True):
            layers = ["skip" if w == "-" else f"mb{w[0]}_k{w[1]}" for w in row.split()]
            words.append(f"c{c}_r{len(layers)}:{','.join(layers)}")
        name = {"cpu": "CPU", "gpu": "GPU", "mobile": "Mobile", "mobile_14": "Mobile-14"}[target]
        points[f"ProxylessNAS-{name}"] = " ".join(words)
    family = Family(
        "proxylessnas", scaled(stem, width), scaled(head, max(1.0, width)), "r6", eps=1e-3
    )
    return small(Mobile("proxylessnas", family, tuple(stages), (224,), points=points), **data)


FBNET = {  # facebookresearch/mobile-vision, mobile_cv: expansion, kernel, groups
    "FBNet-A": "-|33 13 - -|65 33 15 33|65 35 15g 65|63 15g 35 13g|65 65 35 65|65",
    "FBNet-B": "13|63 15 13 13|65 35 63 65|65 15 - 35|65 13 15 35|65 15 65 65|63",
    "FBNet-C": "13|63 - 13 13|65 35 65 63|65 35 65 65|65 65 65 35|65 65 65 65|63",
}


def fbnet(width: float = 1.0, **data: Any) -> Mobile:
    """The space of FBNet (Wu et al. 2019, arXiv 1812.03443, tables 1 and 2).

    Each of 22 layers chooses among 9 blocks: expansion 1, 3 or 6 with kernel 3 or 5, expansion 1
    with 2 groups in the 1x1 convolutions, whose channels are then shuffled, and a skip, which at a
    change of shape is a 1x1 convolution. The head has 1,984 channels; that of FBNet-A 1,504.
    """
    positive_width(width)
    shape = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
    kinds = ("mb1_k3", "mb1_k3_g2", "mb3_k3", "mb6_k3", "mb1_k5", "mb1_k5_g2", "mb3_k5", "mb6_k5")
    ops = {"op": (*kinds, "skip")}
    stages = [Stage((scaled(c, width),), (n,), s, ops, ops, True) for c, n, s in shape]
    points = {}
    for name, text in FBNET.items():
        words = []
        for (c, n, _), row in zip(shape, text.split("|"), strict=True):
            read = lambda w: "skip" if w == "-" else f"mb{w[0]}_k{w[1]}" + "_g2" * (w[-1] == "g")
            words.append(f"c{c}_r{n}:{','.join(read(w) for w in row.split())}")
        points[name] = " ".join(words)
    family = scaled_family(Family("fbnet", 16, 1984, "re"), width)
    kept = points if width == 1 else {}
    return small(Mobile("fbnet", family, tuple(stages), (224,), points=kept), **data)


FAMILIES: dict[str, Callable[..., Mobile]] = {
    "fbnet": fbnet,
    "mnasnet": mnasnet,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "ofa": ofa,
    "proxylessnas": proxylessnas,
}
