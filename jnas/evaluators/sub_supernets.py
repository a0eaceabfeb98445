"""Several supernets, each with a part of the space: few-shot neural architecture search."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jnas.base import Architecture, InputError, choice_counts, to_vector
from jnas.evaluators.shared import Shared
from jnas.nets import Net

OWN = ("params", "state", "optimizer", "fit", "step")  # what each of several supernets has


def copies(shared: Shared, count: int) -> Shared:
    """`count` equal supernets, each with an optimizer and an order of examples of its own."""
    many = lambda tree: jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), tree)
    return shared._replace(**{name: many(getattr(shared, name)) for name in OWN})


def pick(shared: Shared, number: jax.Array) -> Shared:
    """One of several supernets."""
    one = lambda tree: jax.tree.map(lambda x: x[number], tree)
    return shared._replace(**{name: one(getattr(shared, name)) for name in OWN})


def put(shared: Shared, number: jax.Array, new: Shared) -> Shared:
    """The supernets with one of them replaced."""
    write = lambda old, x: old.at[number].set(x)
    found = {name: jax.tree.map(write, getattr(shared, name), getattr(new, name)) for name in OWN}
    return shared._replace(**found)


def routes(net: Net, split: int) -> Callable[[Architecture], jax.Array]:
    """The number of the supernet of an architecture."""
    places = choice_counts(net.space).size
    if isinstance(split, bool) or not isinstance(split, int) or not 0 <= split < places:
        raise InputError(f"split={split!r}: a place of the architecture, 0 to {places - 1}")
    return lambda arch: to_vector(net.space, arch)[split]
