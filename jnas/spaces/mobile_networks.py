"""Published mobile networks: points of the mobile spaces, with the figures of their papers."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jnas.base import InputError
from jnas.spaces.compound import VARIANTS, efficientnet
from jnas.spaces.mobile_blocks import Network
from jnas.spaces.mobile_families import FAMILIES
from jnas.spaces.mobile_stages import Mobile, check, decide
from jnas.spaces.mobile_text import parse


class Published(NamedTuple):
    """A published network.

    Attributes:
      space: the space that it is a point of.
      settings: of that space.
      point: its name there.
      params: exact parameters at 1,000 classes, as counted on an implementation; None where there
        is only the paper's rounded figure.
      source: of these.
      paper_params: in millions, as the paper has them.
      paper_adds: multiply-adds in millions, as the paper has them.
      paper: where the paper has them.
    """

    space: str
    settings: dict[str, Any]
    point: str
    params: int | None
    source: str
    paper_params: float
    paper_adds: float
    paper: str


_TV, _TIMM, _CLS = "torchvision", "timm", "imgclsmob"
_EFFICIENT = (  # exact parameters; parameters and multiply-adds of arXiv 1905.11946, table 2
    (5_288_548, 5.3, 390),
    (7_794_184, 7.8, 700),
    (9_109_994, 9.2, 1000),
    (12_233_232, 12, 1800),
    (19_341_616, 19, 4200),
    (30_389_784, 30, 9900),
    (43_040_704, 43, 19000),
    (66_347_960, 66, 37000),
)

NETWORKS: dict[str, Published] = {
    **{
        f"efficientnet_{v}": Published(
            "efficientnet",
            {"variant": v},
            f"EfficientNet-{v.upper()}",
            params,
            _TV,
            millions,
            adds,
            "arXiv 1905.11946, table 2",
        )
        for v, (params, millions, adds) in zip(VARIANTS, _EFFICIENT, strict=True)
    },
    "mobilenet_v2": Published(
        "mobilenet_v2", {}, "MobileNetV2", 3_504_872, _TV, 3.4, 300, "arXiv 1801.04381, table 4"
    ),
    "mobilenet_v2_140": Published(
        "mobilenet_v2",
        {"width": 1.4},
        "MobileNetV2",
        6_108_776,
        _TIMM,
        6.9,
        585,
        "arXiv 1801.04381, table 4",
    ),
    "mobilenet_v3_large": Published(
        "mobilenet_v3",
        {"size": "large"},
        "MobileNetV3-Large",
        5_483_032,
        _TV,
        5.4,
        219,
        "arXiv 1905.02244, table 3",
    ),
    "mobilenet_v3_small": Published(
        "mobilenet_v3",
        {"size": "small"},
        "MobileNetV3-Small",
        2_542_856,
        _TV,
        2.5,
        56,
        "arXiv 1905.02244, table 3",
    ),
    "mnasnet_a1": Published(
        "mnasnet", {}, "MnasNet-A1", 3_887_038, _TIMM, 3.9, 312, "arXiv 1807.11626, table 1"
    ),
    "mnasnet_b1": Published(
        "mnasnet", {}, "MnasNet-B1", 4_383_312, _TV, 4.4, 315, "tensorflow/tpu, mnasnet"
    ),
    "proxylessnas_mobile": Published(
        "proxylessnas",
        {"target": "mobile"},
        "ProxylessNAS-Mobile",
        4_080_512,
        _CLS,
        4.1,
        320,
        "mit-han-lab/proxylessnas",
    ),
    "proxylessnas_mobile_14": Published(
        "proxylessnas",
        {"target": "mobile_14"},
        "ProxylessNAS-Mobile-14",
        6_857_568,
        _CLS,
        6.9,
        581,
        "mit-han-lab/proxylessnas",
    ),
    "proxylessnas_gpu": Published(
        "proxylessnas",
        {"target": "gpu"},
        "ProxylessNAS-GPU",
        7_119_848,
        _CLS,
        7.1,
        465,
        "mit-han-lab/proxylessnas",
    ),
    "proxylessnas_cpu": Published(
        "proxylessnas",
        {"target": "cpu"},
        "ProxylessNAS-CPU",
        4_361_648,
        _CLS,
        4.4,
        439,
        "mit-han-lab/proxylessnas",
    ),
    "fbnet_a": Published(
        "fbnet", {"head": 1504}, "FBNet-A", None, "", 4.3, 249, "arXiv 1812.03443, table 3"
    ),
    "fbnet_b": Published("fbnet", {}, "FBNet-B", None, "", 4.5, 295, "arXiv 1812.03443, table 3"),
    "fbnet_c": Published(
        "fbnet", {}, "FBNet-C", 5_572_200, _TIMM, 5.5, 375, "arXiv 1812.03443, table 3"
    ),
}


def specification(name: str, **data: Any) -> tuple[Mobile, str]:
    """The space that a published network is a point of, and the name of the point.

    Args:
      name: of `NETWORKS`.
      **data: see `jnas.spaces.mobile_families.small`.

    Raises:
      InputError: an unknown name, or sizes that there cannot be.
    """
    if name not in NETWORKS:
        raise InputError(f"unknown network {name!r}; allowed: {', '.join(NETWORKS)}")
    found = NETWORKS[name]
    make: Callable[..., Mobile]
    make = efficientnet if found.space == "efficientnet" else FAMILIES[found.space]
    return make(**{**found.settings, **data}), found.point


def published(name: str, eps: float | None = None, **data: Any) -> Network:
    """A published network with everything decided.

    Args:
      name: of `NETWORKS`, such as `efficientnet_b0`.
      eps: of batch normalisation, instead of the paper's.
      **data: `image`, `inputs` and `classes`, by default those of ImageNet.

    Raises:
      InputError: an unknown name, or sizes that there cannot be.

    >>> from jnas.spaces.mobile_blocks import costs
    >>> costs(published("mobilenet_v2"))
    (3504872, 300774272)
    """
    spec, point = specification(name, **data)
    check(spec)
    network = decide(spec, parse(spec, spec.points[point]))
    if eps is not None:
        if not eps > 0:
            raise InputError(f"eps={eps}: it has to be above 0")
        network = network._replace(family=network.family._replace(eps=eps))
    return network
