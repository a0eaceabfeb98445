"""What follows from the choices of a space's function: forks, text, values, what is active."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import notation
from jnas.base import Architecture, InputError, Space, from_vector, to_vector
from jnas.spaces.constraints import known
from jnas.spaces.tracing import Question, Way, answering


class Place(NamedTuple):
    """Where the ints of a choice stand in an architecture's vector."""

    start: int
    stop: int


class Form:
    """Of the choices of a function and the ways through it; see `jnas.spaces.own.Own`."""

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
            if _is_own(q.space):
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
        """See `jnas.spaces.own.Own`."""
        here = from_vector(self.bare, self.here(to_vector(self.bare, arch)))
        found: dict[str, Any] = {}
        for name, q in self.questions.items():
            if q.space is None:
                found[name] = known(q, jnp.where(here[name], arch[name], 0))
            else:
                on = here[name]
                part = jax.tree.map(lambda yes, x: jnp.where(yes, x, 0), on, arch[name])
                found[name] = q.space.numbers(part) if _is_own(q.space) else part
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
        """See `jnas.spaces.own.Own`."""
        part = lambda q: q.space.values if _is_own(q.space) else (lambda arch: arch)
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
                raise unlike(q.name)
            if q.space is None:
                return q.options[int(arch[q.name])]
            return q.space.build(arch[q.name]) if _is_own(q.space) else arch[q.name]

        with answering(answer, plain=True):
            return function(), names

    def describe(self, arch: Architecture) -> str:
        """See `jnas.spaces.own.own`."""
        words = []
        for name in self.way_of(arch).asked:
            q = self.questions[name]
            inside = None if q.space is None else q.space.describe(arch[name])
            words.append(f"{name}={q.labels[int(arch[name])] if inside is None else f'({inside})'}")
        return " ".join(words)

    def parse(self, text: str) -> Architecture:
        """The inverse of `describe`, with 0 for what the text leaves out."""
        given = _read(text)
        arch = jax.tree.map(lambda c: np.zeros(np.shape(c), np.int32), self.num_choices)
        for name, word in given.items():
            q = self.questions.get(name)
            if q is None:
                allowed = ", ".join(self.questions)
                raise InputError(f"architecture {text!r}: no choice {name!r}; allowed: {allowed}")
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


def _ordered(q: Question) -> Any:
    if q.space is None:
        return q.ordered
    if q.space.ordered is not None:
        return q.space.ordered
    return jax.tree.map(lambda c: np.zeros(c.shape, bool), q.space.num_choices)


def _read(text: str) -> dict[str, str]:
    """`name=word name=(...)` as a dict."""
    given: dict[str, str] = {}
    for word in notation.words(text):
        name, equals, label = word.partition("=")
        if not equals or name in given:
            what = "comes twice" if equals else "is not of the form name=label"
            raise InputError(f"architecture {text!r}: {word!r} {what}")
        given[name] = label
    return given


def unlike(name: str) -> InputError:
    return InputError(
        f"a space's function decides by something that stand-ins cannot show, and so the choice "
        f"{name!r} comes unforeseen: compare choices with ==, not `is`, and let the function "
        "depend on them alone"
    )


def _is_own(space: Any) -> bool:
    """Whether a space was made by `own`."""
    return isinstance(getattr(space, "form", None), Form)
