"""Search spaces: which architectures there are, how they are written, numbered and compared."""

from collections.abc import Callable

from jnas.base import Space
from jnas.spaces.joint import Joint, joint
from jnas.spaces.mlp import mlp
from jnas.spaces.nas_bench_201 import nas_bench_201

SPACES: dict[str, Callable[..., Space]] = {"mlp": mlp, "nas_bench_201": nas_bench_201}

__all__ = ["SPACES", "Joint", "joint", "mlp", "nas_bench_201"]
