"""One's own spaces: a plain Python function that calls `choice`, as an architecture of ints."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import (
    Architecture,
    InputError,
    Space,
    choice_counts,
    from_vector,
    repairs,
    size,
    to_vector,
)
from jnas.spaces import constraints
from jnas.spaces.tracing import Question, Way, answering, ways

CHECKED = 200  # random architectures whose choices are compared with those of a plain run


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
    questions, found = ways(function, who)
    form = _Form(questions, found)
    own_rules = constraints.rules_of(form, rules, who)
    space = Own(
        name=who,
        num_choices=form.num_choices,
        is_valid=own_rules.is_valid,
        canonical=form.canonical,
        describe=form.describe,
        parse=lambda text: form.parse(text, who),
        labels=form.labels,
        counts={k: lambda arch, f=f: f(form.numbers(arch)) for k, f in (counts or {}).items()},
        ordered=form.ordered,
        values=form.values,
        build=lambda arch: form.run(function, arch),
        numbers=form.numbers,
        active=form.active,
        form=form,
        **({} if own_rules.repair is None else {"repair": own_rules.repair}),
    )
    _check(space, form, function)
    return dataclasses.replace(space, distinct=_distinct(space, form))


class Place(NamedTuple):
    """Where the ints of a choice stand in an architecture's vector."""

    start: int
    stop: int


class _Form:
    """What follows from the choices of a function and the ways through it."""

    def __init__(self, questions: dict[str, Question], found: list[Way]):
        self.questions, self.ways = questions, found
        leaf = lambda q: np.int32(len(q.labels)) if q.space is None else q.space.num_choices
        none = lambda space: jax.tree.map(lambda c: None, space.num_choices)
        labels = lambda q: q.labels if q.space is None else q.space.labels or none(q.space)
        self.num_choices: dict[str, Any] = {n: leaf(q) for n, q in questions.items()}
        self.labels = {n: labels(q) for n, q in questions.items()}
        self.ordered = {n: _ordered(q) for n, q in questions.items()}
        self.places: dict[str, Place] = {}
        start = 0
        for n in sorted(questions):  # as trees are flattened
            many = sum(np.size(c) for c in jax.tree.leaves(self.num_choices[n]))
            self.places[n] = Place(start, start + many)
            start += many
        self.length = start
        self.bare = Space("own", self.num_choices, describe=str, parse=str)
        self._tree()

    def _tree(self) -> None:
        """The forks as a table: `child[node, option]` is a node, or a way as `-1 - way`."""
        nodes: dict[tuple, int] = {}
        widest = max(2, *(len(q.labels) for q in self.questions.values()))
        child: list[np.ndarray] = []
        fork: list[int] = []
        self.root, self.depth = -1, 0
        for i, way in enumerate(self.ways):
            self.depth = max(self.depth, len(way.decided))
            where: tuple[int, int] | None = None
            for n, (name, option) in enumerate(way.decided):
                node = nodes.setdefault(way.decided[:n], len(child))
                if node == len(child):
                    child.append(np.zeros(widest, np.int32))
                    fork.append(self.places[name].start)
                    if where is not None:
                        child[where[0]][where[1]] = node
                where = node, option
            if where is not None:
                self.root = 0
                child[where[0]][where[1]] = -1 - i
        self.child, self.fork = np.asarray(child, np.int32), np.asarray(fork, np.int32)
        self.has = np.zeros((len(self.ways), self.length), bool)  # places, by way
        for i, way in enumerate(self.ways):
            for name in way.asked:
                self.has[i, slice(*self.places[name])] = True

    def tree(self, vector: np.ndarray) -> Architecture:
        """An architecture of NumPy ints from its vector int32[L]."""
        leaves, tree = jax.tree.flatten(self.num_choices)
        parts = np.split(vector, np.cumsum([np.size(c) for c in leaves])[:-1])
        shaped = zip(parts, leaves, strict=True)
        return jax.tree.unflatten(tree, [p.reshape(np.shape(c)) for p, c in shaped])

    # ------------------------------------------------------------------ on arrays, jittable

    def way(self, vector: jax.Array) -> jax.Array:
        """The way of one architecture int32[L]: int32[]."""
        if self.root < 0:
            return jnp.int32(0)
        child, fork = jnp.asarray(self.child), jnp.asarray(self.fork)

        def step(_: Any, node: jax.Array) -> jax.Array:
            at = jnp.maximum(node, 0)
            return jnp.where(node < 0, node, child[at, vector[fork[at]]])

        return -1 - jax.lax.fori_loop(0, self.depth, step, jnp.int32(self.root))

    def _parts(self) -> list[Question]:
        return [q for q in self.questions.values() if q.space is not None]

    def here(self, vector: jax.Array) -> jax.Array:
        """Which places belong to choices on the way of int32[L]: bool[L]."""
        return jnp.asarray(self.has)[self.way(vector)]

    def active(self, arch: Architecture) -> Any:
        """Which places of one architecture make a difference."""
        found = dict(from_vector(self.bare, self.here(to_vector(self.bare, arch))))
        for q in self._parts():
            if isinstance(q.space, Own):
                inside = q.space.active(arch[q.name])
                found[q.name] = jax.tree.map(jnp.logical_and, found[q.name], inside)
        return found

    def canonical(self, arch: Architecture) -> Architecture:
        """The same with 0 for choices that the architecture does not have."""
        whole = dict(arch)
        for q in self._parts():
            assert q.space is not None
            whole[q.name] = q.space.canonical(arch[q.name])
        x = to_vector(self.bare, whole)
        return from_vector(self.bare, jnp.where(self.here(x), x, 0))

    def numbers(self, arch: Architecture) -> dict[str, Any]:
        """See `Own`."""
        here = from_vector(self.bare, self.here(to_vector(self.bare, arch)))
        found: dict[str, Any] = {}
        for name, q in self.questions.items():
            if q.space is None:
                found[name] = constraints.known(q, jnp.where(here[name], arch[name], 0))
            else:
                on = here[name]
                part = jax.tree.map(lambda yes, x: jnp.where(yes, x, 0), on, arch[name])
                found[name] = q.space.numbers(part) if isinstance(q.space, Own) else part
        return found

    # ------------------------------------------------------------------ on one, plain Python

    def way_of(self, arch: Architecture) -> Way:
        """The way of one architecture of concrete ints."""
        node = self.root
        if node >= 0:
            x = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(arch)])
            while node >= 0:
                node = int(self.child[node, x[self.fork[node]]])
        return self.ways[-1 - node]

    def values(self, arch: Architecture) -> dict[str, Any]:
        """See `Own`."""
        part = lambda q: q.space.values if isinstance(q.space, Own) else (lambda arch: arch)
        each = lambda q: q.options[int(arch[q.name])] if q.space is None else part(q)(arch[q.name])
        return {name: each(self.questions[name]) for name in self.way_of(arch).asked}

    def run(self, function: Callable[[], Any], arch: Architecture) -> Any:
        """What the function returns for an architecture."""
        return self.asked(function, arch)[0]

    def asked(self, function: Callable[[], Any], arch: Architecture) -> tuple[Any, set[str]]:
        """That, and what it asked for."""
        names = set()

        def answer(q: Question) -> Any:
            names.add(q.name)
            known = self.questions.get(q.name)
            if known is None or not known.same(q):
                raise _unlike(q.name)
            if q.space is None:
                return q.options[int(arch[q.name])]
            return q.space.build(arch[q.name]) if isinstance(q.space, Own) else arch[q.name]

        with answering(answer):
            return function(), names

    def describe(self, arch: Architecture) -> str:
        """See `own`."""
        words = []
        for name in self.way_of(arch).asked:
            q = self.questions[name]
            one = q.labels[int(arch[name])] if q.space is None else f"({q.space.describe(arch[name])})"
            words.append(f"{name}={one}")
        return " ".join(words)

    def parse(self, text: str, who: str) -> Architecture:
        """The inverse of `describe`, with 0 for what the text leaves out."""
        given = _read(text)
        arch = jax.tree.map(lambda c: np.zeros(np.shape(c), np.int32), self.num_choices)
        for name, word in given.items():
            q = self.questions.get(name)
            if q is None:
                allowed = ", ".join(self.questions)
                raise InputError(f"architecture {text!r}: {who} has no {name!r}; allowed: {allowed}")
            if q.space is not None:
                if not (word.startswith("(") and word.endswith(")")):
                    raise InputError(f"architecture {text!r}: the form is {name}=(...)")
                arch[name] = q.space.parse(word[1:-1])
            elif word not in q.labels:
                allowed = ", ".join(q.labels)
                raise InputError(
                    f"architecture {text!r}: unknown {name}={word!r}; allowed: {allowed}"
                )
            else:
                arch[name] = np.int32(q.labels.index(word))
        asked = self.way_of(arch).asked
        for name in asked:
            if name not in given:
                raise InputError(f"architecture {text!r}: {name}=... is missing")
        for name in given:
            if name not in asked:
                raise InputError(
                    f"architecture {text!r}: there is no {name!r} where the others are so"
                )
        return arch


def _unlike(name: str) -> InputError:
    return InputError(
        f"a space's function decides by something that its stand-ins cannot show, and so the choice "
        f"{name!r} comes unforeseen: compare choices with ==, not `is`, and let the function depend "
        "on them alone"
    )


def _ordered(q: Question) -> Any:
    if q.space is None:
        return q.ordered
    if q.space.ordered is not None:
        return q.space.ordered
    return jax.tree.map(lambda c: np.zeros(c.shape, bool), q.space.num_choices)


def _read(text: str) -> dict[str, str]:
    """`name=word name=(...)` as a dict."""
    given: dict[str, str] = {}
    words, deep = [""], 0
    for letter in text.strip():
        deep += (letter == "(") - (letter == ")")
        if deep < 0:
            break
        if letter.isspace() and deep == 0:
            words.append("")
        else:
            words[-1] += letter
    if deep:
        raise InputError(f"architecture {text!r}: its brackets do not match")
    for word in filter(None, words):
        name, equals, label = word.partition("=")
        if not equals or name in given:
            what = "comes twice" if equals else "is not of the form name=label"
            raise InputError(f"architecture {text!r}: {word!r} {what}")
        given[name] = label
    return given


def _check(space: Own, form: _Form, function: Callable[[], Any]) -> None:
    """Raises `InputError` unless plain runs ask for what the stand-ins foretold."""
    counts = choice_counts(space)
    random = np.random.default_rng(0).integers(0, counts, (CHECKED, counts.size))
    corners = np.minimum(np.arange(counts.max())[:, None], counts - 1)
    for x in np.concatenate([corners, random]).astype(np.int32):
        arch = form.tree(x)
        asked, foretold = form.asked(function, arch)[1], set(form.way_of(arch).asked)
        if asked != foretold:
            raise _unlike(sorted(asked ^ foretold)[0])


def different(space: Space) -> int | None:
    """How many valid architectures differ, where that is known or can be counted."""
    if space.distinct is not None:
        return space.distinct
    if space.canonical is Space.canonical and not repairs(space):
        return size(space)
    return constraints.count(space) if size(space) <= constraints.FEW else None


def _distinct(space: Own, form: _Form) -> int | None:
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
