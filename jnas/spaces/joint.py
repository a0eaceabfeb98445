"""Architectures and the hyperparameters of their training, searched together as one space."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space, repairs, size


@dataclasses.dataclass(frozen=True)
class Joint(Space):
    """A space made by `joint`.

    Attributes:
      values: the values that every hyperparameter may have, by name.
    """

    values: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


def joint(space: Space, **values: Sequence[float]) -> Joint:
    """Joins a space with hyperparameters, so that one search decides on both.

    An architecture is `{"architecture": ..., "hyperparameters": {name: int32}}`. It is written as
    that of `space` with the values behind it; what is valid, isomorphic, counted and drawn is the
    matter of `space` alone.

    Args:
      space: the space of the architectures.
      **values: the values that each hyperparameter may have.

    Returns:
      The joint space.

    Raises:
      InputError: a hyperparameter without values, with equal ones or one that is not a number.

    >>> import jnas
    >>> cells = jnas.spaces.nas_bench_201()
    >>> both = joint(cells, learning_rate=(0.01, 0.1), weight_decay=(0, 5e-4))
    >>> jnas.base.size(both) == 4 * jnas.base.size(cells)
    True
    >>> print(both.describe(jnas.base.template(both)))
    |none~0|+|none~0|none~1|+|none~0|none~1|none~2| learning_rate=0.01 weight_decay=0
    """
    if not values:
        raise InputError("a joint space needs at least one hyperparameter with its values")
    fixed = {name: _numbers(name, values[name]) for name in sorted(values)}
    words = {name: tuple(f"{v:.12g}" for v in fixed[name]) for name in fixed}
    rest = Space("hyperparameters", {n: np.int32(len(v)) for n, v in fixed.items()}, labels=words)
    of_net: Callable[[Architecture], Architecture] = lambda arch: arch["architecture"]

    def describe(arch: Architecture) -> str:
        return f"{space.describe(of_net(arch))} {rest.describe(arch['hyperparameters'])}"

    def parse(text: str) -> Architecture:
        parts = text.split()
        first, last = parts[: -len(fixed)], parts[-len(fixed) :]
        if not first or any("=" not in word for word in last):
            form = " ".join(f"{name}=..." for name in fixed)
            raise InputError(
                f"architecture {text!r}: the form is that of {space.name}, then {form}"
            )
        found = space.parse(" ".join(first))
        return {"architecture": found, "hyperparameters": rest.parse(" ".join(last))}

    def lift(f: Callable) -> Callable:
        return lambda arch: f(of_net(arch))

    many, order = size(rest), space.order
    if order is not None:
        order = (order[:, None] * many + np.arange(many)).ravel().astype(np.int32)
    mended: dict[str, Any] = {}
    if repairs(space):
        mend = lambda arch: {**arch, "architecture": space.repair(of_net(arch))}
        mended = {"repair": mend}
    named = space.labels
    if named is None:
        named = jax.tree.map(lambda c: None, space.num_choices)
    return Joint(
        name=f"{space.name} with {', '.join(fixed)}",
        num_choices={"architecture": space.num_choices, "hyperparameters": rest.num_choices},
        is_valid=lift(space.is_valid),
        canonical=lambda arch: {**arch, "architecture": space.canonical(of_net(arch))},
        describe=describe,
        parse=parse,
        labels={"architecture": named, "hyperparameters": words},
        order=order,
        counts={name: lift(count) for name, count in space.counts.items()},
        edges=None if space.edges is None else lift(space.edges),
        graph=space.graph,  # the places of the architecture come first
        values=fixed,
        **mended,
    )


def hyperparameters(space: Space, arch: Architecture) -> dict[str, Any]:
    """The values that an architecture has, f32 and batched like it; empty where none are searched.

    A relaxed architecture has the expected values.
    """
    if not isinstance(space, Joint):
        return {}

    def value(name: str) -> jax.Array:
        known, i = jnp.asarray(space.values[name], jnp.float32), arch["hyperparameters"][name]
        return i @ known if jnp.issubdtype(jnp.asarray(i).dtype, jnp.floating) else known[i]

    return {name: value(name) for name in space.values}


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    fine = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not fine or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise InputError(f"{name}={values!r}: a tuple of at least one number is needed")
    if not all(map(math.isfinite, values)) or len({f"{v:.12g}" for v in values}) < len(values):
        raise InputError(f"{name}={values!r}: finite numbers, no two of them equal, are needed")
    return tuple(float(v) for v in values)
