"""Search spaces: which architectures there are, how they are written, numbered and compared."""

from collections.abc import Callable

from jnas.base import Space
from jnas.spaces.darts import darts, darts_supernet
from jnas.spaces.joint import Joint, joint
from jnas.spaces.mlp import mlp
from jnas.spaces.mobile_registry import (
    efficientnet,
    fbnet,
    mnasnet,
    mobile_network,
    mobilenet_v2,
    mobilenet_v3,
    ofa,
    proxylessnas,
)
from jnas.spaces.nas_bench_201 import nas_bench_201

SPACES: dict[str, Callable[..., Space]] = {
    "darts": darts,
    "darts_supernet": darts_supernet,
    "efficientnet": efficientnet,
    "fbnet": fbnet,
    "mlp": mlp,
    "mnasnet": mnasnet,
    "mobile_network": mobile_network,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "nas_bench_201": nas_bench_201,
    "ofa": ofa,
    "proxylessnas": proxylessnas,
}

__all__ = [
    "SPACES",
    "Joint",
    "darts",
    "darts_supernet",
    "efficientnet",
    "fbnet",
    "joint",
    "mlp",
    "mnasnet",
    "mobile_network",
    "mobilenet_v2",
    "mobilenet_v3",
    "nas_bench_201",
    "ofa",
    "proxylessnas",
]
