"""Which weights of a supernet an architecture uses, and which of its statistics are its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.base import Architecture
from jnas.nets.choices import OneOf, Repeat, Searchable, Slim, relaxed
from jnas.nets.functional import Net


class _Above(NamedTuple):
    """What encloses a module."""

    used: Any  # bool, `[*stack]` or what broadcasts to it: whether it runs
    path: tuple = ()
    shared: tuple[bool, ...] = ()  # of every Repeat around: its blocks have one choice
    channels: Any = None  # bool[*stack, widest], those that a `Slim` keeps


def used_params(net: Net) -> Callable[[Architecture], Any]:
    """A function of an architecture that says which parameters it uses, jittable.

    A parameter is used where every `OneOf` above it chose its branch, every `Repeat` above it runs
    its block, and every `Slim` above it keeps its channel: the rule of `count_params`. Of a
    relaxed architecture, what has a weight above 0 is used.

    Args:
      net: the network.

    Returns:
      `arch -> tree` like the parameters, with booleans that broadcast to them.
    """
    module = net.module()
    place = _numbered(module, jax.eval_shape(net.init, jax.random.key(0))[0])

    def used(arch: Architecture) -> Any:
        found: dict[int, Any] = {}
        _visit(module, _Above(jnp.bool_(True)), net.bind(arch), found)
        return jax.tree.map(found.__getitem__, place)

    return used


def _numbered(module: nnx.Module, values: Any) -> Any:
    """The identity of the variable behind each leaf of a pure dict of a module's variables."""
    known = {
        tuple(map(str, path)): id(leaf)
        for path, leaf in nnx.iter_graph(module)
        if isinstance(leaf, nnx.Variable)
    }
    of = lambda path, _: known[tuple(str(step.key) for step in path)]
    return jax.tree_util.tree_map_with_path(of, values)


def _visit(module: nnx.Module, above: _Above, values: dict, found: dict[int, Any]) -> None:
    """Notes for the parameters of a module, by their identity, where they are used."""
    lead = len(above.shared)
    parts = list(nnx.iter_children(module))
    own = module.used(values) if hasattr(module, "used") else {}
    for key, part in parts:
        if isinstance(part, nnx.Param):
            rank = len(part.shape)
            mask = above.used.reshape(*above.used.shape, *(1,) * (rank - above.used.ndim))
            if above.channels is not None and rank > lead:
                kept = above.channels
                if kept.shape[-1] == part.shape[-1]:
                    between = (1,) * (rank - kept.ndim)
                    mask = mask & kept.reshape(*kept.shape[:-1], *between, kept.shape[-1])
            for axis, kept in enumerate(reversed(own.get(str(key), ()))):
                if kept is not None:
                    places = jnp.asarray(kept) > 0
                    between = (1,) * (rank - places.ndim - axis)
                    shape = (*places.shape[:-1], *between, places.shape[-1], *(1,) * axis)
                    mask = mask & places.reshape(shape)
            before = found.get(id(part))  # a module may stand at two places
            found[id(part)] = mask if before is None else before | mask
    taken = None
    if isinstance(module, OneOf | Repeat | Slim) and len(module.labels) > 1:
        taken = _taken(module, above, values)
    if isinstance(module, OneOf):
        for i, option in enumerate(module.options):
            mine = above.used if taken is None else above.used & taken[..., i]
            place = (*above.path, "options", i)
            _visit(option, above._replace(used=mine, path=place), values, found)
        return
    if isinstance(module, Repeat):
        runs = np.arange(module.most) < np.arange(module.least, module.most + 1)[:, None]
        each = jnp.asarray(runs[0])
        if taken is not None:
            each = jnp.any(taken[..., None] & runs, -2)  # [*stack, most]
        inside = above._replace(
            used=above.used[..., None] & each,
            path=(*above.path, "block"),
            shared=(*above.shared, module.shared),
            channels=None if above.channels is None else above.channels[..., None, :],
        )
        _visit(module.block, inside, values, found)
        return
    if isinstance(module, Slim) and taken is not None:
        kept = np.arange(max(module.widths)) < np.asarray(module.widths)[:, None]
        above = above._replace(channels=jnp.any(taken[..., None] & kept, -2))
    for key, child in parts:
        if not isinstance(child, nnx.Variable):
            _visit(child, above._replace(path=(*above.path, key)), values, found)


def _taken(part: Searchable, above: _Above, values: dict) -> jax.Array:
    """Which choices are taken: bool[*stack, K], with 1 for the axes of repeats that share."""
    value = jnp.asarray(values[part.name or ".".join(map(str, above.path))])
    many = len(part.labels)
    hot = value > 0 if relaxed(value) else value[..., None] == np.arange(many)
    sizes = iter(hot.shape[:-1])
    return hot.reshape(*(1 if shared else next(sizes) for shared in above.shared), many)


def momenta(net: Net) -> Any:
    """How slowly each batch statistic follows: a tree like the state, of floats.

    After a batch of statistics `b`, a running one is `momentum * old + (1 - momentum) * b`.

    Args:
      net: the network, with layers that have their statistics as `nnx.BatchStat` and a `momentum`,
        as those of jnas and Flax do.

    Returns:
      The momenta; NaN for what is not a statistic, such as counters of random keys.
    """
    module = net.module()
    known = {
        id(child): float(part.momentum)
        for _, part in nnx.iter_modules(module)
        for _, child in nnx.iter_children(part)
        if isinstance(child, nnx.BatchStat) and hasattr(part, "momentum")
    }
    place = _numbered(module, jax.eval_shape(net.init, jax.random.key(0))[1])
    return jax.tree.map(lambda number: known.get(number, np.nan), place)
