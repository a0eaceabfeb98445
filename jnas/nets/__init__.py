"""Searchable networks: the pieces, the blocks and the ready networks of the spaces."""

from collections.abc import Callable

from jnas.nets.autoformer import autoformer
from jnas.nets.blocks import amoebanet, enas_micro, nasnet, pnas
from jnas.nets.cells import nas_bench_201
from jnas.nets.choices import OneOf, Repeat, Slim
from jnas.nets.counting import count_flops, count_params
from jnas.nets.darts import darts
from jnas.nets.darts_supernet import darts_supernet
from jnas.nets.dense import dense
from jnas.nets.enas_macro import enas_macro
from jnas.nets.functional import Net, functional
from jnas.nets.metaqnn import metaqnn
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
from jnas.nets.nas_bench_101 import nas_bench_101
from jnas.nets.nats_size import nats_size
from jnas.nets.resnet import resnet
from jnas.nets.series import series
from jnas.nets.tc_resnet import tc_resnet
from jnas.nets.transformer import transformer

NETS: dict[str, Callable[..., Net]] = {
    "amoebanet": amoebanet,
    "autoformer": autoformer,
    "darts": darts,
    "darts_supernet": darts_supernet,
    "enas_macro": enas_macro,
    "enas_micro": enas_micro,
    "metaqnn": metaqnn,
    "dense": dense,
    "mlp": mlp,
    "nas_bench_101": nas_bench_101,
    "nas_bench_201": nas_bench_201,
    "nasnet": nasnet,
    "nats_size": nats_size,
    "pnas": pnas,
    "resnet": resnet,
    "efficientnet": efficientnet,
    "fbnet": fbnet,
    "mnasnet": mnasnet,
    "mobile_network": mobile_network,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "ofa": ofa,
    "proxylessnas": proxylessnas,
    "series": series,
    "tc_resnet": tc_resnet,
    "transformer": transformer,
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
    "amoebanet",
    "autoformer",
    "count_flops",
    "count_params",
    "darts",
    "darts_supernet",
    "dense",
    "efficientnet",
    "enas_macro",
    "enas_micro",
    "fbnet",
    "functional",
    "metaqnn",
    "mlp",
    "mnasnet",
    "mobile_network",
    "mobilenet_v2",
    "mobilenet_v3",
    "nas_bench_101",
    "nas_bench_201",
    "nasnet",
    "nats_size",
    "ofa",
    "pnas",
    "proxylessnas",
    "resnet",
    "series",
    "tc_resnet",
    "transformer",
]
