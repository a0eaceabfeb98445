"""Rules that the architectures of one's own space keep, and the repair of those that do not."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import (
    Architecture,
    InputError,
    Space,
    choice_counts,
    from_index,
    from_vector,
    repairs,
    size,
    to_vector,
)
from jnas.spaces.tracing import Question

TABLE = 20_000  # combinations of choices that a rule is tabulated over
TRIED = 2**17  # random architectures among which a valid one has to be
FEW = 20_000  # architectures that are counted one by one
BATCH = 2**12
ANCHORS = 128  # valid architectures that a repair may lead to

Valid = Callable[[Architecture], jax.Array]


class Rules(NamedTuple):
    """What is valid, and the repair."""

    is_valid: Valid
    repair: Callable[[Architecture], Architecture]


def rules_of(form: Any, rules: Sequence[Callable], who: str) -> Rules:
    """The rules of a space with this form (`jnas.spaces.own`), its parts' own among them."""
    parts = [q for q in form.questions.values() if q.space is not None and repairs(q.space)]
    tests = [_test(form, rule, who) for rule in rules]
    if not tests and not parts:
        return Rules(Space.is_valid, Space.repair)

    starts = [form.places[q.name].start for q in parts]

    def is_valid(arch: Architecture) -> jax.Array:
        fine = [test(arch) for test in tests]
        here: Any = form.here(to_vector(form.bare, arch)) if parts else None
        for q, start in zip(parts, starts, strict=True):
            fine.append(~here[start] | q.space.is_valid(arch[q.name]))
        return jnp.all(jnp.stack(fine))

    def mended(arch: Architecture) -> Architecture:
        """With valid parts."""
        whole = dict(arch)
        here: Any = form.here(to_vector(form.bare, arch)) if parts else None
        for q, start in zip(parts, starts, strict=True):
            keep = functools.partial(jnp.where, here[start])
            whole[q.name] = jax.tree.map(keep, q.space.repair(arch[q.name]), arch[q.name])
        return whole

    if not tests:
        return Rules(is_valid, mended)
    return Rules(is_valid, _repair(form.bare, is_valid, mended, who))


# ------------------------------------------------------------------------------- one rule


def _test(form: Any, rule: Callable, who: str) -> Valid:
    """A rule as a jittable function of an architecture."""
    said = f"space {who!r}: rule {getattr(rule, '__name__', rule)!r}"
    counts = choice_counts(form.bare)
    places: list[int] = []
    while True:
        many = math.prod(int(counts[p]) for p in places)
        if many > TABLE:
            return _on_arrays(form, rule, f"{said} is about {many} combinations of choices")
        seen: set[tuple] = set()
        table = np.zeros(many, bool)
        for i, combination in enumerate(itertools.product(*(range(counts[p]) for p in places))):
            x = np.zeros(counts.size, np.int32)
            x[places] = combination
            try:
                table[i] = bool(rule(_Watched(form.values(form.tree(x)), (), seen)))
            except KeyError as e:
                raise InputError(
                    f"{said} looks at {e}, which not all architectures have: "
                    f"values.get({e}) is None there"
                ) from None
            except Exception as e:  # the rule is the user's code: whatever it raises is theirs
                raise InputError(f"{said}: {type(e).__name__}: {e}") from None
        needs = sorted(set().union(*(_needs(form, path) for path in seen)))
        if set(needs) <= set(places):
            break
        places = sorted({*places, *needs})
    shape = [int(counts[p]) for p in places]
    strides = np.cumprod([1, *shape[:0:-1]])[::-1] if shape else np.zeros(0, int)

    def test(arch: Architecture) -> jax.Array:
        x = to_vector(form.bare, arch)[np.asarray(places, int)]
        return jnp.asarray(table)[jnp.sum(x * strides.astype(np.int32))]

    return test


def _on_arrays(form: Any, rule: Callable, said: str) -> Valid:
    def test(arch: Architecture) -> jax.Array:
        return jnp.asarray(rule(form.numbers(arch)))

    zero = jax.tree.map(lambda c: jnp.zeros(c.shape, jnp.int32), form.bare.num_choices)
    why = "it has to give one bool"
    try:
        made = jax.eval_shape(test, zero)
    except Exception as e:  # again the user's code
        made, why = None, str(e).split("\n")[0]
    if made is None or made.shape != () or made.dtype != jnp.bool_:
        raise InputError(
            f"{said}, too many for a table, and cannot be worked out on arrays: {why}; "
            "use & and |, jnp.where and sums over the numbers, no `and`, `or` and `if`"
        )
    return test


class _Watched(Mapping):
    """Values that note what is looked at."""

    def __init__(self, values: dict[str, Any], path: tuple, seen: set[tuple]):
        self._values, self._path, self._seen = values, path, seen

    def __getitem__(self, name: str) -> Any:
        path = (*self._path, name)
        self._seen.add(path)
        value = self._values[name]
        return _Watched(value, path, self._seen) if type(value) is dict else value

    def __iter__(self) -> Iterator[str]:
        self._seen.add((*self._path, None))
        return iter(self._values)

    def __len__(self) -> int:
        self._seen.add((*self._path, None))
        return len(self._values)


def _needs(form: Any, path: tuple) -> set[int]:
    """The places of the vector that decide what is found at a path of names."""
    name, *rest = path
    forks = {form.places[f].start for way in form.ways for f, _ in way.decided}
    if name not in form.questions:
        return forks if name is None else set()
    always = all(name in way.asked for way in form.ways)
    found = set() if always else forks
    q, place = form.questions[name], form.places[name]
    inner = getattr(q.space, "form", None)
    if inner is None:
        return found | set(range(place.start, place.stop))
    if rest:
        found |= {place.start + p for p in _needs(inner, tuple(rest))}
    return found


class Word:
    """One of several options that are no numbers, known by an int array; compare it with them."""

    def __init__(self, options: tuple[Any, ...], i: jax.Array):
        self.options, self.i = options, i

    def __eq__(self, other: object) -> Any:
        return self.i == (self.options.index(other) if other in self.options else -1)

    def __ne__(self, other: object) -> Any:
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]


def known(q: Question, i: jax.Array) -> Any:
    """The option with number `i`, an int array: as an array where all options are numbers."""
    if all(isinstance(v, bool) for v in q.options):
        return jnp.asarray(q.options)[i]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in q.options):
        whole = all(isinstance(v, int) and -(2**31) <= v < 2**31 for v in q.options)
        return jnp.asarray(q.options, jnp.int32 if whole else jnp.float32)[i]
    return Word(q.options, i)


# --------------------------------------------------------------------------------- repair


def _repair(
    bare: Space, is_valid: Valid, mended: Callable[[Architecture], Architecture], who: str
) -> Callable[[Architecture], Architecture]:
    """The nearest architecture that is valid, of those that a short search meets.

    After the architecture itself come those that differ in one choice, small steps first, and then
    mixtures with one known to be valid, which end with that one itself.
    """
    counts = choice_counts(bare)
    length, far = counts.size, int(counts.max()) - 1
    anchors = _anchors(bare, is_valid, mended, who)
    near = 2 * far * length
    primes = np.asarray([(2 * p + 1) * 7919 % 104_729 for p in range(length)], np.int32)

    def candidate(x: jax.Array, turn: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Number `i` of them, int32[L], and whether there is one of that number."""
        place = (i + turn) % length
        step = (i // length) // 2 + 1
        value = x[place] + jnp.where((i // length) % 2 == 0, step, -step)
        inside = (value >= 0) & (value < jnp.asarray(counts)[place])
        moved = x.at[place].set(jnp.where(inside, value, x[place]))
        mixed = jnp.where(
            (jnp.arange(length) - turn) % length <= i - near,
            jnp.asarray(anchors)[turn % len(anchors)],
            x,
        )
        found = jnp.where(i < 0, x, jnp.where(i < near, moved, mixed))
        return found, inside | (i < 0) | (i >= near)

    def repair(arch: Architecture) -> Architecture:
        x = to_vector(bare, arch)
        start = jnp.where(is_valid(arch), x, to_vector(bare, mended(arch)))
        turn = jnp.sum(start * primes) % (length * len(anchors))

        def off(carry: tuple) -> jax.Array:
            _, x, there = carry
            return ~(there & is_valid(from_vector(bare, x)))

        def on(carry: tuple) -> tuple:
            i = carry[0] + 1
            return (i, *candidate(start, turn, i))

        first = jnp.int32(-1), start, jnp.bool_(True)
        return from_vector(bare, jax.lax.while_loop(off, on, first)[1])

    return repair


def _anchors(
    bare: Space, is_valid: Valid, mended: Callable[[Architecture], Architecture], who: str
) -> np.ndarray:
    """Some valid architectures, int32[A, L]."""
    counts, random = choice_counts(bare), np.random.default_rng(0)
    draw = lambda n: random.integers(0, counts, (n, counts.size)).astype(np.int32)

    @jax.jit
    def valid(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        arch = jax.vmap(mended)(from_vector(bare, x))
        return to_vector(bare, arch), jax.vmap(is_valid)(arch)

    whole = size(bare) <= BATCH
    for _ in range(1 if whole else TRIED // BATCH):
        x = draw(BATCH)
        if whole:
            x[: size(bare)] = np.stack(np.unravel_index(np.arange(size(bare)), counts), -1)
        x[-2:] = [np.zeros(counts.size), counts - 1]
        found, fine = map(np.asarray, valid(x))
        if fine.any():
            break
    else:
        tried = size(bare) if whole else TRIED
        raise InputError(f"space {who!r}: none of {tried} architectures meets its rules")
    kept = np.unique(found[fine], axis=0)
    if whole or len(kept) >= ANCHORS:
        return random.permutation(kept)[:ANCHORS]
    # Few are valid: walks among them, by one or two choices at a time, lead to others.
    walkers = kept[np.arange(ANCHORS) % len(kept)]
    tries = BATCH // ANCHORS
    for _ in range(4 * counts.size):
        x = np.repeat(walkers, tries, 0)
        hit = random.integers(0, counts.size, (BATCH, 2))
        np.put_along_axis(x, hit, np.take_along_axis(draw(BATCH), hit, 1), 1)
        found, fine = (np.asarray(y).reshape(ANCHORS, tries, -1) for y in valid(x))
        first = np.argmax(fine[..., 0], 1)
        moved = found[np.arange(ANCHORS), first]
        walkers = np.where(fine[np.arange(ANCHORS), first], moved, walkers)
    return np.unique(walkers, axis=0)


def count(space: Space) -> int:
    """How many valid architectures differ, one by one: for spaces of few."""

    @jax.jit
    def look(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        arch = from_index(space, i)
        canonical = jax.vmap(space.canonical)(arch)
        return to_vector(space, canonical), jax.vmap(space.is_valid)(arch)

    vectors, fine = map(np.asarray, look(np.arange(size(space))))
    return len(np.unique(vectors[fine], axis=0))
