"""How tests compile where compiling is most of their time, and how they avoid rounding."""

from typing import Any

import jax
import jax.numpy as jnp

QUICK = {"xla_backend_optimization_level": 0}


def doubled(tree: Any) -> Any:
    """In float64, where float at all."""
    real = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
    return jax.tree.map(lambda x: x.astype(jnp.float64) if real(x) else x, tree)
