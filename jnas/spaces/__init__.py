"""Search spaces: which architectures there are, how they are written, numbered and compared."""

from collections.abc import Callable

from jnas.base import Space
from jnas.spaces.darts import darts, darts_supernet
from jnas.spaces.joint import Joint, joint
from jnas.spaces.mlp import mlp
from jnas.spaces.nas_bench_201 import nas_bench_201
from jnas.spaces.nesting import alternatives, product, sequence
from jnas.spaces.own import Own, different, own
from jnas.spaces.tracing import choice

SPACES: dict[str, Callable[..., Space]] = {
    "darts": darts,
    "darts_supernet": darts_supernet,
    "mlp": mlp,
    "nas_bench_201": nas_bench_201,
}

__all__ = [
    "SPACES",
    "Joint",
    "Own",
    "alternatives",
    "choice",
    "darts",
    "darts_supernet",
    "different",
    "joint",
    "mlp",
    "nas_bench_201",
    "own",
    "product",
    "sequence",
]
