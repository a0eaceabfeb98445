"""Searchable networks: the pieces, the blocks and the ready networks of the spaces."""

from collections.abc import Callable

from jnas.nets.cells import nas_bench_201
from jnas.nets.choices import OneOf, Repeat, Slim
from jnas.nets.counting import count_flops, count_params
from jnas.nets.darts import darts
from jnas.nets.darts_supernet import darts_supernet
from jnas.nets.functional import Net, functional
from jnas.nets.mlp import mlp
from jnas.nets.mobile import (
    efficientnet,
    fbnet,
    mnasnet,
    mobile_network,
    mobilenet_v2,
    mobilenet_v3,
    ofa,
    proxylessnas,
)

NETS: dict[str, Callable[..., Net]] = {
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
# Of the spaces whose own networks do not take relaxed architectures.
SUPERNETS: dict[str, Callable[..., Net]] = {"darts": darts_supernet}

__all__ = [
    "NETS",
    "SUPERNETS",
    "Net",
    "OneOf",
    "Repeat",
    "Slim",
    "count_flops",
    "count_params",
    "darts",
    "darts_supernet",
    "efficientnet",
    "fbnet",
    "functional",
    "mlp",
    "mnasnet",
    "mobile_network",
    "mobilenet_v2",
    "mobilenet_v3",
    "nas_bench_201",
    "ofa",
    "proxylessnas",
]
