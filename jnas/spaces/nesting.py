"""Spaces made of spaces, as a grammar's rules: one after the other, several times, or one of many.

Each of these is a function for `own`, and so is what they are made of: they nest to any depth.
"""

from typing import Any

from jnas.base import InputError, Space
from jnas.errors import whole
from jnas.spaces.own import Own, own
from jnas.spaces.tracing import choice


def product(name: str = "product", **spaces: Space) -> Own:
    """All of several spaces: an architecture has a part of each.

    >>> from jnas.spaces import mlp, nas_bench_201
    >>> both = product(body=nas_bench_201(), head=mlp(depth=1))
    >>> both.distinct == 6466 * 24
    True
    """
    _some("product", spaces)
    return own(lambda: {key: choice(key, space) for key, space in spaces.items()}, name=name)


def sequence(space: Space, most: int, least: int = 1, name: str = "sequence") -> Own:
    """Between `least` and `most` architectures of a space, one after the other.

    An architecture has a `length` (where there is a choice) and the parts `item_0`, `item_1`, ...

    Raises:
      InputError: not `0 <= least <= most`, or nothing to choose.

    >>> steps = own(lambda: choice("kernel", [3, 5]))
    >>> sequence(steps, 3).distinct
    14
    """
    if not isinstance(space, Space):
        raise InputError(f"sequence of {space!r}: that is no space")
    if not whole(least, most) or not 0 <= least <= most or most < 1:
        raise InputError(
            f"sequence from {least!r} to {most!r}: whole numbers, 0 <= least <= most and most >= 1"
        )

    def items() -> list[Any]:
        many = choice("length", range(least, most + 1)) if least < most else most
        return [choice(f"item_{i}", space) for i in range(many)]

    return own(items, name=name)


def alternatives(name: str = "alternatives", **spaces: Space | None) -> Own:
    """One of several spaces; None is an alternative with nothing to choose.

    An architecture has a `kind` and a part of the name of it. `build` gives both.

    >>> conv = own(lambda: choice("kernel", [3, 5]))
    >>> alternatives(conv=conv, skip=None).distinct
    3
    """
    _some("alternatives", spaces)

    def either() -> tuple[str, Any]:
        kind = choice("kind", list(spaces))
        inner = next(space for key, space in spaces.items() if kind == key)
        return str(kind), None if inner is None else choice(str(kind), inner)

    return own(either, name=name)


def _some(who: str, spaces: dict[str, Any]) -> None:
    odd = [k for k, s in spaces.items() if not isinstance(s, Space | None)]
    if odd or not spaces:
        what = f"{odd[0]}={spaces[odd[0]]!r} is no space" if odd else "no spaces"
        raise InputError(f"{who}(name=space, ...): {what}")
