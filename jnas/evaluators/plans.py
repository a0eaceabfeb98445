"""Execution plans: how a program for one candidate becomes a program for a population."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jnas.base import Architecture, InputError, Space
from jnas.evaluators.mesh import one_by_one, spread
from jnas.nets import dispatch, forms

PLANS = ("map", "vmap", "grouped")
BLOCK = 8  # rows of a block of the plan grouped; rows at once of the plan vmap on a CPU


class Plan(NamedTuple):
    """How a population runs. It changes speed and memory, not numbers, to float tolerance.

    name: `map` runs one row after another, so that a branch on data is a real branch and a
      candidate pays only for the operations that it has; `vmap` runs all rows at once, with every
      branch computed and masked; `grouped` runs all at once, with the rows that chose an operation
      gathered into blocks, so that they pay only for the operations that they have.
    chunk: rows that are held at once on a device, for vmap and grouped, at most; 0 for all, on a
      CPU `BLOCK` for vmap, so that the weights stay in its cache.
    forms: of operations (`jnas.nets.forms`), as (operation, form) pairs; the rest by default.
    """

    name: str = "map"
    chunk: int = 0
    forms: tuple[tuple[str, str], ...] = ()


def check(name: str) -> str:
    """The name of a plan.

    Raises:
      InputError: it is unknown.
    """
    if name not in PLANS:
        raise InputError(f"plan {name!r}: allowed are {', '.join(PLANS)}, auto")
    return name


def population(
    one: Callable[[Any], Any],
    plan: Plan | str = "map",
    mesh: Mesh | None = None,
    cost: Callable[[Any], jax.Array] | None = None,
) -> Callable[[Any], Any]:
    """Runs `one` for every row of a batch.

    Args:
      one: a function of one row.
      plan: a plan, or its name.
      mesh: the devices that the rows are spread over, of `make_mesh`; None is one device. Rows that
        do not fill devices and chunks are padded with the last one.
      cost: what each row of a batch costs, f32[n], to give the devices equal work; vmap needs none.

    Returns:
      A function of a pytree with leaves `[n, ...]`, to the same of the results.

    Raises:
      InputError: an unknown plan.
    """
    plan = Plan(plan) if isinstance(plan, str) else plan
    check(plan.name)
    equal = None if plan.name == "vmap" else cost
    return spread(lambda batch: _local(one, plan, batch), mesh, equal)


def costs(space: Space) -> Callable[[Architecture], jax.Array] | None:
    """What architectures of a batch cost beside each other, f32[n]; None where nothing is counted.

    Multiply-adds, and their mean for the memory that all candidates move: on CPU the time of
    NAS-Bench-201's network is 155 ms and 3 ms for every million multiply-adds, of which the mean
    candidate has 43.
    """
    count = space.counts.get("flops")
    if count is None:
        return None

    def cost(archs: Architecture) -> jax.Array:
        flops = jax.vmap(count)(archs)
        return flops + jnp.mean(flops)

    return cost


def live_only(one: Callable[[Any], Any]) -> Callable[[tuple[Any, jax.Array]], Any]:
    """A function of a row that costs nothing where it is not wanted, to be run by `population`.

    The plan `map` leaves every dead row out, the others the chunks in which all rows are dead.

    Args:
      one: a function of one row.

    Returns:
      A function of `(row, live)`, the same where `live` is true, zeros elsewhere.
    """

    def run(pair: tuple[Any, jax.Array]) -> Any:
        row, live = pair
        traced_once = jax.jit(one)
        shapes = jax.eval_shape(traced_once, row)
        nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        found = jax.lax.cond(_needed(live), traced_once, lambda row: nothing, row)
        return jax.tree.map(lambda x: jnp.where(live, x, jnp.zeros_like(x)), found)

    return run


@jax.custom_batching.custom_vmap
def _needed(live: jax.Array) -> jax.Array:
    """Whether there is work: one branch for all that run at once, so that nothing is copied."""
    return live


@_needed.def_vmap
def _needed_vmapped(axis_size: int, batched: list[bool], live: jax.Array) -> tuple:
    del axis_size, batched
    return _needed(jnp.any(live)), False


def _local(one: Callable, plan: Plan, batch: Any) -> Any:
    """The rows of one device."""
    n = _rows(batch)
    with forms.using(**dict(plan.forms)):
        if plan.name == "map":
            return one_by_one(one)(batch)
        every = jax.vmap(one)
        if plan.name == "grouped":
            every = lambda batch, f=every: _grouped(f, batch)
        size = chunk_of(plan, n)
        if size == n:
            return every(batch)
        return _padded(lambda batch: _in_chunks(every, batch, size), batch, size)


def chunk_of(plan: Plan, n: int) -> int:
    """How many of n rows run at once: equal chunks, so that few are padded."""
    few = plan.name == "vmap" and jax.default_backend() == "cpu"
    chunks = -(-n // (plan.chunk or (BLOCK if few else n)))
    return -(-n // chunks)


def _grouped(every: Callable, batch: Any) -> Any:
    with dispatch.grouped(BLOCK):
        return every(batch)


def _in_chunks(every: Callable, batch: Any, chunk: int) -> Any:
    cut = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), batch)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.lax.map(every, cut))


def _padded(run: Callable, batch: Any, multiple: int) -> Any:
    """`run` on a batch filled up with its last row to a multiple of a number of rows."""
    n = _rows(batch)
    full = -(-n // multiple) * multiple
    if full == n:
        return run(batch)
    filled = jax.tree.map(lambda x: x[jnp.minimum(jnp.arange(full), n - 1)], batch)
    return jax.tree.map(lambda x: x[:n], run(filled))


def _rows(batch: Any) -> int:
    return jax.tree.leaves(batch)[0].shape[0]
