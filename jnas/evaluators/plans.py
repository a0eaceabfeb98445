"""Execution plans: how a program for one candidate becomes a program for a population."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from jnas.base import InputError
from jnas.evaluators.mesh import one_by_one, spread

PLANS = ("map", "vmap")


def population(
    one: Callable[[Any], Any],
    plan: str = "map",
    mesh: Mesh | None = None,
    cost: Callable[[Any], jax.Array] | None = None,
) -> Callable[[Any], Any]:
    """Runs `one` for every row of a batch.

    Args:
      one: a function of one row.
      plan: `map` runs one row after another, so that a branch on data is a real branch and a
        candidate pays only for the operations that it has; `vmap` runs all rows at once, with
        every branch computed and masked.
      mesh: the devices that the rows are spread over, of `make_mesh`; None is one device.
      cost: what each row of a batch costs, f32[n], to give the devices equal work.

    Returns:
      A function of a pytree with leaves `[n, ...]`, to the same of the results. The numbers do
      not depend on plan and mesh, to float tolerance.

    Raises:
      InputError: an unknown plan.
    """
    if plan not in PLANS:
        raise InputError(f"plan {plan!r}: allowed are {', '.join(PLANS)}")
    return spread(jax.vmap(one) if plan == "vmap" else one_by_one(one), mesh, cost)
