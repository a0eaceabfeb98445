"""Search spaces: which architectures there are, how they are written, numbered and compared."""

from collections.abc import Callable

from jnas.base import Space
from jnas.spaces.autoformer import autoformer
from jnas.spaces.darts import darts, darts_supernet
from jnas.spaces.dense import dense
from jnas.spaces.joint import Joint, joint
from jnas.spaces.mlp import mlp
from jnas.spaces.nas_bench_101 import nas_bench_101
from jnas.spaces.nas_bench_201 import nas_bench_201
from jnas.spaces.sequence import sequence
from jnas.spaces.tc_resnet import tc_resnet
from jnas.spaces.transformer import transformer

SPACES: dict[str, Callable[..., Space]] = {
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

__all__ = [
    "SPACES",
    "Joint",
    "autoformer",
    "darts",
    "darts_supernet",
    "dense",
    "joint",
    "mlp",
    "nas_bench_101",
    "nas_bench_201",
    "sequence",
    "tc_resnet",
    "transformer",
]
