"""One's own spaces: a plain Python function that calls `choice`, as an architecture of ints."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jnas.base import (
    Architecture,
    InputError,
    Space,
    choice_counts,
    repairs,
    size,
)
from jnas.spaces import constraints
from jnas.spaces.own_form import Form, unlike
from jnas.spaces.tracing import is_plain, ways

CHECKED = 100  # random architectures whose choices are compared with those of a plain run


@dataclasses.dataclass(frozen=True)
class Own(Space):
    """A space made by `own`.

    Attributes:
      values: `arch -> {name: value}` of one architecture: the choices that it has, in the order in
        which the function asks for them, with plain Python values. A part is a dict of its own, or
        an architecture where its space was not made by `own`.
      build: `arch -> what the function returns` for one architecture.
      numbers: `arch -> {name: array}`, jittable: choices of numbers as numbers, others as something
        that can be compared with == and !=; choices that an architecture does not have are as
        their first option.
      active: `arch -> tree of booleans`, jittable: which places an architecture has.
    """

    values: Callable[[Architecture], dict[str, Any]] = None  # type: ignore[assignment]
    build: Callable[[Architecture], Any] = None  # type: ignore[assignment]
    numbers: Callable[[Architecture], dict[str, Any]] = None  # type: ignore[assignment]
    active: Callable[[Architecture], Any] = None  # type: ignore[assignment]
    form: Any = None  # what the rules of a space around this one need to know


def own(
    function: Callable[[], Any],
    *rules: Callable[[Mapping[str, Any]], Any],
    name: str = "",
    counts: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None,
) -> Own:
    """Makes a space of a function that asks for choices.

    The function takes no arguments and calls `choice(name, options)` as often as it likes; it may
    ask for some choices only where others came out in a certain way. It is run once for every way
    through it, with stand-ins for the values: a choice that it only passes on costs nothing, one
    that it looks at is a fork. Two limits follow. There may be 10,000 ways at most: a block that
    comes often, with forks inside, is a space of its own, `choice("block_1", own(block))`. And a
    stand-in cannot answer `is`: compare with `==`. Both are an error here and never found out
    later.

    An architecture is `{name: int32}`, with a tree in place of a part. Choices that it does not
    have make no difference: `canonical` sets them to 0, and the text leaves them out. The text is
    `name=label name=label part=(...)`.

    Args:
      function: what asks, and returns anything; `build` gives that.
      *rules: `values -> bool`, what holds for valid architectures, on the choices that they have
        (`values.get("width")` for those that some do not). A rule over choices of up to 20,000
        combinations may be any Python and is tabulated here; one over more has to be written for
        arrays, with `&` and `|`, on what `numbers` gives.
      name: of the space; by default that of the function.
      counts: of the space, `numbers -> number` by name, jittable.

    Returns:
      The space.

    Raises:
      InputError: choices that do not go together, too many ways, or rules that no architecture, or
        no table, meets.

    >>> from jnas.spaces import choice
    >>> def network():
    ...     depth = choice("depth", [1, 2])
    ...     return [choice(f"width_{i}", [16, 32, 64]) for i in range(depth)]
    >>> space = own(network)
    >>> arch = space.parse("depth=2 width_0=32 width_1=64")
    >>> space.values(arch), space.build(arch)
    ({'depth': 2, 'width_0': 32, 'width_1': 64}, [32, 64])
    >>> space.distinct
    12
    """
    who = name or getattr(function, "__name__", "own").strip("<>")
    if not callable(function):
        raise InputError(f"own({function!r}): a function is needed")
    asks = inspect.signature(function).parameters.values()
    if any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in asks):
        raise InputError(f"own({who}): the function takes {', '.join(map(str, asks))}: no argument "
                         "may be needed")  # fmt: skip
    if not isinstance(counts or {}, Mapping) or not all(map(callable, (counts or {}).values())):
        raise InputError(f"space {who!r}: counts={counts!r}: functions by name are needed")
    questions, found = ways(function, who)
    form = Form(questions, found)
    own_rules = constraints.rules_of(form, rules, who)
    space = Own(
        name=who,
        num_choices=form.num_choices,
        is_valid=own_rules.is_valid,
        canonical=form.canonical,
        repair=own_rules.repair,
        describe=form.describe,
        parse=form.parse,
        labels=form.labels,
        counts={k: lambda arch, f=f: f(form.numbers(arch)) for k, f in (counts or {}).items()},
        ordered=form.ordered,
        values=form.values,
        build=lambda arch: form.run(function, arch),
        numbers=form.numbers,
        active=form.active,
        form=form,
    )
    if not is_plain():  # a part that is made in every run
        _check(space, form, function)
    return dataclasses.replace(space, distinct=_distinct(space, form))


def _check(space: Own, form: Form, function: Callable[[], Any]) -> None:
    """Raises `InputError` unless plain runs ask for what the stand-ins foretold."""
    counts = choice_counts(space)
    random = np.random.default_rng(0).integers(0, counts, (CHECKED, counts.size))
    corners = np.minimum(np.arange(counts.max())[:, None], counts - 1)
    for x in np.concatenate([corners, random]).astype(np.int32):
        arch = form.tree(x)
        asked, foretold = form.asked(function, arch)[1], set(form.way_of(arch).asked)
        if asked != foretold:
            raise unlike(sorted(asked ^ foretold)[0])


def different(space: Space) -> int | None:
    """How many valid architectures differ, where that is known or can be counted."""
    if space.distinct is not None:
        return space.distinct
    if space.canonical is Space.canonical and not repairs(space):
        return size(space)
    return constraints.count(space) if size(space) <= constraints.FEW else None


def _distinct(space: Own, form: Form) -> int | None:
    """That, without the work of counting: None where there are rules."""
    if repairs(space):
        return None
    many = {n: len(q.labels) for n, q in form.questions.items()}
    for q in form.questions.values():
        if q.space is not None:
            found = different(q.space)
            if found is None:
                return None
            many[q.name] = found
    free = lambda way: (n for n in way.asked if n not in dict(way.decided))
    return sum(math.prod(many[n] for n in free(way)) for way in form.ways)
