"""Search spaces: which architectures there are, how they are written, numbered and compared."""

from collections.abc import Callable

from jnas.base import Space
from jnas.spaces.autoformer import autoformer
from jnas.spaces.darts import darts, darts_supernet
from jnas.spaces.dense import dense
from jnas.spaces.enas_macro import enas_macro
from jnas.spaces.joint import Joint, joint
from jnas.spaces.metaqnn import metaqnn
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
from jnas.spaces.nas_bench_101 import nas_bench_101
from jnas.spaces.nas_bench_201 import nas_bench_201
from jnas.spaces.nasnet import amoebanet, enas_micro, nasnet, pnas
from jnas.spaces.nats_size import nats_size
from jnas.spaces.nesting import alternatives, product, sequence
from jnas.spaces.own import Own, different, own
from jnas.spaces.resnet import resnet
from jnas.spaces.series import series
from jnas.spaces.tc_resnet import tc_resnet
from jnas.spaces.tracing import choice
from jnas.spaces.transformer import transformer

SPACES: dict[str, Callable[..., Space]] = {
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

__all__ = [
    "SPACES",
    "Joint",
    "Own",
    "alternatives",
    "amoebanet",
    "autoformer",
    "choice",
    "darts",
    "darts_supernet",
    "dense",
    "different",
    "efficientnet",
    "enas_macro",
    "enas_micro",
    "fbnet",
    "joint",
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
    "own",
    "pnas",
    "product",
    "proxylessnas",
    "resnet",
    "sequence",
    "series",
    "tc_resnet",
    "transformer",
]
