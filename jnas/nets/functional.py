"""The adapter between Flax NNX modules and pure functions of pytrees."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.base import Architecture, InputError, Space
from jnas.nets import conditions
from jnas.nets.choices import Choice, Repeat, Searchable, Slim, split
from jnas.nets.initial import pooled


class Net(NamedTuple):
    """A searchable network as pure functions.

    init: `key -> (params, state)`; state holds batch statistics and the like.
    apply: `(params, state, arch, x, train=False, sparse=False) -> (y, state)`, for an int
      architecture or a relaxed one. An architecture of concrete NumPy ints is compiled into a
      network of its own. With `sparse`, of every simplex only the choice of the largest weight
      runs, times its weight, as in GDAS (Dong and Yang 2019, arXiv 1910.04465).
    space: what there is to choose.
    module: `() -> nnx.Module`, the abstract network (shapes only).
    bind: `arch -> {name: choice}`.
    alone: of a network that masks what an architecture does not use: `arch -> Net` of the small
      network by itself, for an architecture of concrete ints. Its space has a single architecture.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[..., tuple[Any, Any]]
    space: Space
    module: Callable[[], nnx.Module]
    bind: Callable[[Architecture], dict[str, Any]]
    alone: Callable[[Architecture], "Net"] | None = None


def functional(
    make: Callable[[nnx.Rngs], nnx.Module],
    *,
    space: Space | None = None,
    bind: Callable[[Architecture], dict[str, Any]] | None = None,
    name: str = "net",
) -> Net:
    """Turns a network of `OneOf`, `Repeat` and `Slim` pieces into a pure `Net`.

    Args:
      make: `rngs -> module`, where `module(x)` runs the network.
      space: the space, where it has a notation of its own; by default it is read off the network:
        a dict with a leaf for each choice. Choices that have no effect, in a branch of `OneOf`
        that is not taken or a block of `Repeat` that does not run, are 0 in canonical form.
      bind: turns an architecture of that space into `{name of choice: value}`.
      name: the name of a space that is read off.

    Returns:
      The net. It can be vmapped, over parameters as over architectures.
    """
    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    places = searchables(abstract)
    if space is None:
        space = _read_space(name, places, abstract)
    names = {path: label for path, label, _ in places}
    bind = bind or (lambda arch: arch)

    graphs = {}
    for train, sparse in itertools.product((True, False), repeat=2):
        abstract.train() if train else abstract.eval()
        for _, _, part in places:
            part.sparse = sparse
        graphs[train, sparse] = split(abstract, nnx.Param, Choice, ...)

    def init(key: jax.Array) -> tuple[Any, Any]:
        _, params, _, state = split(pooled(make, key), nnx.Param, Choice, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(state)

    def apply(
        params: Any,
        state: Any,
        arch: Architecture,
        x: Any,
        train: bool = False,
        sparse: bool = False,
    ) -> tuple[Any, Any]:
        graph, shape_p, shape_c, shape_s = graphs[train, sparse]
        values = bind(arch)
        filled = [_filled(shape_p, params), _filled(shape_s, state)]
        decide = lambda path, v: v.replace(
            values[names[path[:-1]]] if path[:-1] in names else jnp.zeros(v.shape, v.dtype)
        )
        decided = nnx.map_state(decide, shape_c)
        module = nnx.merge(graph, filled[0], decided, filled[1])
        y = module(x)
        return y, nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Any(nnx.Param, Choice))))

    return Net(init, apply, space, lambda: nnx.merge(*graphs[False, False]), bind)


def _filled(shapes: nnx.State, values: Any) -> nnx.State:
    state = jax.tree.map(lambda v: v, shapes)
    nnx.replace_by_pure_dict(state, values)
    return state


def searchables(module: nnx.Module) -> list[tuple[tuple, str, Searchable]]:
    """(path, name of the choice, module) of every searchable with something to choose."""
    found = []
    for path, part in nnx.iter_modules(module):
        if isinstance(part, Searchable) and len(part.labels) > 1:
            found.append((path, part.name or ".".join(map(str, path)), part))
    return sorted(found, key=lambda place: tuple(map(str, place[0])))


def _read_space(
    name: str, places: list[tuple[tuple, str, Searchable]], module: nnx.Module
) -> Space:
    counts: dict[str, np.ndarray] = {}
    labels: dict[str, tuple[str, ...]] = {}
    for _, label, part in places:
        count = np.full(part.choice.shape, len(part.labels))
        if label in labels and (labels[label], counts[label].shape) != (part.labels, count.shape):
            raise InputError(
                f"two choices are named {label!r} but differ: {labels[label]} and {part.labels}"
            )
        counts[label], labels[label] = count, part.labels
    if not counts:
        raise InputError(f"net {name!r} has nothing to choose: use OneOf, Repeat or Slim in it.")
    space = Space(
        name,
        counts,
        labels=labels,
        ordered={label: isinstance(part, Repeat | Slim) for _, label, part in places},
        distinct=conditions.distinct(module, places),
    )
    clear = conditions.canonical(module, places)
    return space if clear is None else dataclasses.replace(space, canonical=clear)
