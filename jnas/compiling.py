"""How programs are compiled: options for each backend, and the cache on disk."""

from collections.abc import Callable
from typing import Any

import jax

from jnas import cache

# LLVM's third level makes the loops of a training slower, by a sixth as measured, and takes longer.
# Without the fusions of XLA's library of kernels, a cell of DARTS' supernet compiles in a third of
# the time, and runs as fast or up to a third faster.
_OPTIONS: dict[str, dict[str, int | str]] = {
    "cpu": {"xla_backend_optimization_level": 2, "xla_cpu_experimental_ynn_fusion_type": ""}
}


def options() -> dict[str, int | str]:
    """The compiler options for the backend of now, as `jax.jit(..., compiler_options=...)`."""
    return _OPTIONS.get(jax.default_backend(), {})


def jit(f: Callable, **how: Any) -> Any:
    """`jax.jit` with these options."""
    return jax.jit(f, compiler_options=options(), **how)


def keep_programs() -> None:
    """Keeps compiled programs on disk, so that the next run of the same command starts at once.

    Where the user has set JAX's own cache, it stays as it is.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache.folder() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
