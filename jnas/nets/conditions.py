"""Which choices of a network have an effect: those in branches that are taken, blocks that run."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.base import Architecture
from jnas.nets.choices import OneOf, Repeat, Searchable, Slim

Place = tuple[tuple, str, Searchable]  # path, name of the choice, module
Condition = Callable[[Architecture], Any]  # -> bool[*stack], of the repeats around it


def canonical(
    module: nnx.Module, places: list[Place]
) -> Callable[[Architecture], Architecture] | None:
    """Sets choices without an effect to 0, where a network can have such; jittable.

    A choice of a name that comes more than once has an effect where one of them has.
    """
    names = {path: name for path, name, _ in places}
    parts = dict(nnx.iter_modules(module))
    uses: dict[str, list[list[Condition]]] = {}
    for path, name, _ in places:
        above = [path[:i] for i in range(len(path)) if path[:i] in parts]
        steps = [(parts[a], names.get(a), path[len(a) :]) for a in above]
        uses.setdefault(name, []).append([c for s in steps if (c := _condition(*s)) is not None])
    hidden = {name: every for name, every in uses.items() if all(every)}
    if not hidden:
        return None

    def clear(arch: Architecture) -> Architecture:
        found = dict(arch)
        for name, every in hidden.items():
            x = jnp.asarray(arch[name])
            on = jnp.zeros(x.shape, bool)
            for conditions in every:
                here = jnp.ones(x.shape, bool)
                for condition in conditions:
                    met = condition(arch)
                    here &= jnp.reshape(met, (*met.shape, *(1,) * (x.ndim - met.ndim)))
                on |= here
            found[name] = jnp.where(on, x, 0)
        return found

    return clear


def _condition(part: nnx.Module, name: str | None, path: tuple) -> Condition | None:
    """When what stands at a path below a module runs; None where it always does."""
    if name is None:
        return None
    if isinstance(part, OneOf) and path[0] == "options":
        return lambda arch: jnp.asarray(arch[name]) == path[1]
    if isinstance(part, Repeat) and path[0] == "block":
        least, turns = part.least, np.arange(part.most)
        if part.shared:
            return lambda arch: jnp.asarray(arch[name]) + least > 0
        return lambda arch: turns < jnp.asarray(arch[name])[..., None] + least
    return None


def distinct(module: nnx.Module, places: list[Place]) -> int | None:
    """How many networks there are that differ in choices with an effect; None if names recur."""
    if max(Counter(name for _, name, _ in places).values(), default=1) > 1:
        return None
    seen: list[Searchable] = []

    def count(part: nnx.Module) -> int:
        if isinstance(part, Searchable) and len(part.labels) > 1:
            seen.append(part)
        if isinstance(part, OneOf):
            return sum(count(option) for option in part.options)
        if isinstance(part, Repeat):
            inner = count(part.block)
            power = (lambda d: min(d, 1)) if part.shared else (lambda d: d)
            return sum(inner ** power(d) for d in range(part.least, part.most + 1))
        inside = (p for _, p in nnx.iter_children(part) if isinstance(p, nnx.Module))
        own = len(part.labels) if isinstance(part, Slim) else 1
        return own * math.prod(map(count, inside))

    total = count(module)
    return total if len(seen) == len(places) else None
