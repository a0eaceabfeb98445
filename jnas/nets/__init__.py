"""Searchable networks: the pieces, the blocks and the ready networks of the spaces."""

from collections.abc import Callable

from jnas.nets.autoformer import autoformer
from jnas.nets.cells import nas_bench_201
from jnas.nets.choices import OneOf, Repeat, Slim
from jnas.nets.counting import count_flops, count_params
from jnas.nets.darts import darts
from jnas.nets.darts_supernet import darts_supernet
from jnas.nets.dense import dense
from jnas.nets.functional import Net, functional
from jnas.nets.mlp import mlp
from jnas.nets.nas_bench_101 import nas_bench_101
from jnas.nets.sequence import sequence
from jnas.nets.tc_resnet import tc_resnet
from jnas.nets.transformer import transformer

NETS: dict[str, Callable[..., Net]] = {
    "autoformer": autoformer,
    "darts": darts,
    "darts_supernet": darts_supernet,
    "dense": dense,
    "mlp": mlp,
    "nas_bench_101": nas_bench_101,
    "nas_bench_201": nas_bench_201,
    "sequence": sequence,
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
    "autoformer",
    "count_flops",
    "count_params",
    "darts",
    "darts_supernet",
    "dense",
    "functional",
    "mlp",
    "nas_bench_101",
    "nas_bench_201",
    "sequence",
    "tc_resnet",
    "transformer",
]
