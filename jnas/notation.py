"""The text form of architectures in spaces that have no notation of their own.

A scalar choice is `name=label`, an array `name=[label,label]`, or `[110111]` where the choices
have no labels and are single digits; the places of a space stand side by side.
"""

from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from jnas.errors import InputError


class Place(NamedTuple):
    """A leaf of a space."""

    name: str  # its path, empty where the space is a single array
    counts: np.ndarray  # choices at each entry
    labels: tuple[tuple[str, ...], ...]  # of every entry, a word for each of its choices
    digits: bool  # written without commas

    @property
    def common(self) -> tuple[str, ...]:
        """The words that all entries have, some of them perhaps the first few only; else none."""
        longest = max(self.labels, key=len)
        return longest if all(longest[: len(w)] == w for w in self.labels) else ()


def derived(_: Any) -> NoReturn:
    """Stands for the functions that a space derives from its places."""
    raise NotImplementedError


def places(num_choices: Any, labels: Any) -> list[Place]:
    """The leaves of a space, with their labels where it has some.

    Args:
      num_choices: of the space.
      labels: of the space. A leaf is None, or a row of words, or such a row for each of its places.

    Raises:
      InputError: a label that cannot be told from what is around it, or too few of them.
    """
    leaves = jax.tree_util.tree_leaves_with_path(num_choices)
    named: list[Any] = [None] * len(leaves)
    if labels is not None:
        named = jax.tree.leaves(labels, is_leaf=lambda x: x is None or isinstance(x, tuple | list))
    made = []
    for (path, counts), words in zip(leaves, named, strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if any(c.isspace() or c in "=,()[]" for c in name):
            told = "a name is a word without space, comma, = or brackets"
            raise InputError(f"choice {name!r}: {told}")
        many = np.ravel(counts).tolist()
        apart = bool(words) and isinstance(words[0], tuple | list)
        rows = words if apart else [words or range(max(many))] * len(many)
        if len(rows) != len(many) or any(len(r) < n for r, n in zip(rows, many, strict=True)):
            raise InputError(f"labels {words!r}: {name or 'the space'} has {counts} choices")
        fixed = tuple(tuple(map(str, row[:n])) for row, n in zip(rows, many, strict=True))
        odd = [w for row in fixed for w in row if not w or any(c in w for c in " ,[]")]
        if odd:
            raise InputError(f"label {odd[0]!r}: a label is a word without space, comma or bracket")
        made.append(Place(name, counts, fixed, not words and max(many) <= 10))
    return made


def words(text: str) -> list[str]:
    """The parts of a text between spaces that are in no brackets.

    Raises:
      InputError: the brackets do not match.
    """
    parts, deep = [""], 0
    for letter in text.strip():
        deep += (letter == "(") - (letter == ")")
        if deep < 0:
            break
        if letter.isspace() and deep == 0:
            parts.append("")
        else:
            parts[-1] += letter
    if deep:
        raise InputError(f"architecture {text!r}: its brackets do not match")
    return [part for part in parts if part]


def rows(text: str) -> list[tuple[str, str]]:
    """Name and value of every choice in a text, for drawing; what is in brackets comes apart.

    >>> rows("depth=2 block=(kernel=3 act=relu) [110]")
    [('depth', '2'), ('block.kernel', '3'), ('block.act', 'relu'), ('', '[110]')]
    """
    found = []
    for word in words(text):
        name, equals, value = word.partition("=")
        if not equals:
            found.append(("", word))
        elif value.startswith("(") and value.endswith(")") and "=" in value:
            found += [(f"{name}.{inner}" if inner else name, v) for inner, v in rows(value[1:-1])]
        else:
            found.append((name, value))
    return found


def describe(places: list[Place], leaves: list[Any]) -> str:
    """An architecture as text."""
    parts = []
    for place, leaf in zip(places, leaves, strict=True):
        chosen = np.ravel(np.asarray(leaf)).tolist()
        words = [labels[i] for labels, i in zip(place.labels, chosen, strict=True)]
        text = f"[{('' if place.digits else ',').join(words)}]" if place.counts.ndim else words[0]
        parts.append(f"{place.name}={text}" if place.name else text)
    return " ".join(parts)


def parse(places: list[Place], text: str) -> list[np.ndarray]:
    """The leaves of an architecture given as text: the inverse of `describe`.

    Raises:
      InputError: another form, or an unknown choice.
    """
    words = text.split()
    form = " ".join(
        (f"{p.name}=" if p.name else "") + ("[...]" if p.counts.ndim else "...") for p in places
    )
    if len(words) != len(places):
        raise InputError(f"architecture {text!r}: the form is {form}")
    leaves = []
    for place, word in zip(places, words, strict=True):
        prefix = f"{place.name}=" if place.name else ""
        body = word.removeprefix(prefix)  # a label may hold another "="
        items = [body]
        if place.counts.ndim:
            bare = body.removeprefix("[").removesuffix("]")
            items = list(bare) if place.digits else bare.split(",")
        if not word.startswith(prefix) or len(items) != place.counts.size:
            raise InputError(f"architecture {text!r}: {word!r} does not fit the form {form}")
        codes = []
        for item, labels in zip(items, place.labels, strict=True):
            if item not in labels:
                raise InputError(
                    f"architecture {text!r}: unknown choice {item!r}; allowed: {', '.join(labels)}"
                )
            codes.append(labels.index(item))
        leaves.append(np.asarray(codes, np.int32).reshape(place.counts.shape))
    return leaves
