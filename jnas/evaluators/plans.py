"""Execution plans: how a program for one candidate becomes a program for a population."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jnas.base import InputError

PLANS = ("map", "vmap")
BLOCK = 8  # rows that `vmap` runs at once on a CPU, so that their weights stay in its cache


def population(one: Callable[[Any], Any], plan: str = "map", devices: int = 1) -> Callable:
    """Runs `one` for every row of a batch.

    Args:
      one: a function of one row.
      plan: `map` runs one row after another, so that a branch on data is a real branch and a
        candidate pays only for the operations that it has; `vmap` runs all rows at once, with
        every branch computed and masked (on a CPU in blocks of `BLOCK`).
      devices: over how many devices the rows are spread, along a mesh axis `pop`; 0 is all there
        are. A batch that does not fill them is padded with its last row.

    Returns:
      A function of a pytree with leaves `[n, ...]`, to the same of the results. The numbers do
      not depend on plan and devices, to float tolerance.

    Raises:
      InputError: an unknown plan, or more devices than there are.
    """
    if plan not in PLANS:
        raise InputError(f"plan {plan!r}: allowed are {', '.join(PLANS)}")
    here = jax.devices()
    if not 0 <= devices <= len(here):
        raise InputError(f"devices={devices}: allowed are 1 to {len(here)}, or 0 for all here")
    devices = devices or len(here)
    at_once = _in_blocks(one) if here[0].platform == "cpu" else jax.vmap(one)
    every = at_once if plan == "vmap" else lambda batch: jax.lax.map(one, batch)
    if devices == 1:
        return every
    mesh, rows = Mesh(np.asarray(here[:devices]), ("pop",)), PartitionSpec("pop")
    spread = jax.shard_map(every, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)

    def run(batch: Any) -> Any:
        n = jax.tree.leaves(batch)[0].shape[0]
        full = -(-n // devices) * devices
        padded = jax.tree.map(lambda x: x[jnp.minimum(jnp.arange(full), n - 1)], batch)
        return jax.tree.map(lambda x: x[:n], spread(padded))

    return run


def _in_blocks(one: Callable[[Any], Any]) -> Callable:
    """`vmap` by equal blocks of at most `BLOCK` rows; the last row fills the last block."""

    def run(batch: Any) -> Any:
        n = jax.tree.leaves(batch)[0].shape[0]
        many = -(-n // BLOCK)
        size = -(-n // many)
        rows = jnp.minimum(jnp.arange(many * size), n - 1).reshape(many, size)
        found = jax.lax.map(jax.vmap(one), jax.tree.map(lambda x: x[rows], batch))
        return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:n], found)

    return run
