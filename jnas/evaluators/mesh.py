"""The mesh of a population: `pop` spreads candidates over devices, `data` splits their batches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnas.base import InputError
from jnas.nets import dispatch


def make_mesh(pop: int = 1, data: int = 1) -> Mesh | None:
    """The devices as a grid of `pop` times `data`.

    Neighbours along `data` sit side by side in `jax.devices()`, so that they share a host where
    they can.

    Args:
      pop: over how many groups of devices the candidates are spread; 0 is all that are left.
      data: over how many devices the batch of one candidate is split.

    Returns:
      The mesh, or None where one device of one process does all.

    Raises:
      InputError: the numbers do not fit the devices there are. With several processes the mesh
        has to take all devices, so that every process has its part.
    """
    here = jax.devices()
    for name, value, least in (("pop", pop, 0), ("data", data, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"mesh.{name}={value!r}: it has to be a whole number from {least} up")
    if data > len(here) or (not pop and len(here) % data):
        raise InputError(f"mesh.data={data}: it has to divide the {len(here)} devices there are")
    pop = pop or len(here) // data
    if pop * data > len(here):
        raise InputError(
            f"mesh.pop={pop}, mesh.data={data}: their product has to be at most the {len(here)} "
            "devices there are; mesh.pop=0 takes all that are left"
        )
    if jax.process_count() > 1 and pop * data < len(here):
        raise InputError(
            f"mesh.pop={pop}, mesh.data={data}: several processes need a mesh of all "
            f"{len(here)} devices; mesh.pop=0 takes all that are left"
        )
    if len(here) == 1 or pop * data == 1:
        return None
    return Mesh(np.asarray(here[: pop * data]).reshape(pop, data), ("pop", "data"))


def spread(
    every: Callable[[Any], Any],
    mesh: Mesh | None,
    cost: Callable[[Any], jax.Array] | None = None,
) -> Callable[[Any], Any]:
    """Runs a function of a batch on a mesh, each group of devices with its share of the rows.

    A batch that does not fill the groups is padded with copies of its last row. The results are
    gathered on all devices, so that every process holds them all. Only `pop` is divided by hand:
    along `data` the compiler does, following `split_batch`.

    Args:
      every: a function of a pytree with leaves `[n, ...]` to the same, row by row.
      mesh: of `make_mesh`.
      cost: what each row of the batch costs, f32[n], in any unit. Rows are then dealt out from the
        dearest to the cheapest, to and fro, so that the groups end at about the same time.

    Returns:
      The function, to be called inside `jax.jit`.
    """
    if mesh is None:
        return every
    groups, rows = mesh.shape["pop"], PartitionSpec("pop")
    by_hand = {"pop"} if mesh.shape["data"] > 1 else {"pop", "data"}
    share = jax.shard_map(
        every, mesh=mesh, in_specs=rows, out_specs=rows, axis_names=by_hand, check_vma=False
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    gather = lambda x: jax.lax.with_sharding_constraint(x, everywhere)

    def run(batch: Any) -> Any:
        n = jax.tree.leaves(batch)[0].shape[0]
        of_group = deal(n, groups)
        order = jnp.arange(n) if cost is None else jnp.argsort(-cost(batch), stable=True)
        dealt = order[of_group]
        place = jnp.zeros(n, jnp.int32).at[dealt].set(jnp.arange(of_group.size, dtype=jnp.int32))
        found = share(jax.tree.map(lambda x: jnp.asarray(x)[dealt], batch))
        return jax.tree.map(lambda x: gather(x)[place], found)

    return run


def deal(n: int, groups: int) -> np.ndarray:
    """The ranks that each group gets when `n` rows are dealt out to and fro, group by group.

    Args:
      n: rows, ranked from the dearest.
      groups: how many share them.

    Returns:
      int[groups * rounds], group after group; where the last round is not full, its places repeat
      the cheapest rank.
    """
    rounds = -(-n // groups)
    ranks = np.minimum(np.arange(rounds * groups), n - 1).reshape(rounds, groups)
    ranks[1::2] = ranks[1::2, ::-1]
    return ranks.T.ravel()


def split_batch(batch: Any) -> Any:
    """Splits a batch of examples over the axis `data` of the mesh that is at work, if any.

    What is computed from it is computed in parts, and the compiler adds them up: a mean over the
    batch, of losses or of batch statistics, stays that of the whole batch.

    Args:
      batch: a pytree with leaves `[B, ...]`; left as it is where `data` does not divide `B`.
    """
    parts = jax.sharding.get_abstract_mesh().shape.get("data", 1)
    rows = PartitionSpec("data")
    split = lambda x: x if x.shape[0] % parts else jax.lax.with_sharding_constraint(x, rows)
    return batch if parts == 1 else jax.tree.map(split, batch)


def one_by_one(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Runs a function for one row of a batch after another, each on the same compiled loop body.

    As `jax.lax.map`, but the compiler is kept from seeing how many rows there are: it would unroll
    a loop over a single row and round differently, and then a candidate's numbers would depend on
    how many devices share the batch.
    """

    def run(batch: Any) -> Any:
        traced_once = jax.jit(one)
        leaves, tree = jax.tree.flatten(batch)
        # Random keys as plain data: JAX's check for reused keys takes those of a loop for used.
        parts = [dispatch.unwrapped(leaf) for leaf in leaves]
        row = lambda i: jax.tree.unflatten(tree, [wrap(jnp.asarray(x)[i]) for x, wrap in parts])
        n = jax.tree.leaves(batch)[0].shape[0]
        shapes = jax.eval_shape(lambda: traced_once(row(0)))
        empty = jax.tree.map(lambda s: jnp.zeros((n, *s.shape), s.dtype), shapes)
        put = lambda i, found: jax.tree.map(lambda y, v: y.at[i].set(v), found, traced_once(row(i)))
        return jax.lax.fori_loop(0, jax.lax.optimization_barrier(jnp.int32(n)), put, empty)

    return run
