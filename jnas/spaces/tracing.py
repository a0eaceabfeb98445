"""What a plain Python function chooses: running it on stand-ins for the values of its choices.

A function that calls `choice` is run once for every way through it. A choice that it only passes on
stays open; one that it looks at (compares, counts to, computes with) is a fork, and each of its
options is tried. So the cost is the number of ways, not of architectures.
"""

import contextlib
import contextvars
import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jnas.base import InputError, Space, choice_counts

MOST = 10_000  # ways through a function


class Question(NamedTuple):
    """A choice: among options, or (`space`) an architecture of a space within this one."""

    name: str
    labels: tuple[str, ...]
    options: tuple[Any, ...]
    ordered: bool
    space: Any = None  # a Space

    def same(self, other: "Question") -> bool:
        """Whether both may go by one name."""
        if self.space is None or other.space is None or self.space is other.space:
            alike = (self.labels, self.ordered) == (other.labels, other.ordered)
            return alike and self.space is other.space and self._equal(other)
        a, b = self.space, other.space  # made anew in every run of a function
        counts = [choice_counts(x).tolist() for x in (a, b)]
        return (a.name, a.labels, counts[0]) == (b.name, b.labels, counts[1])

    def _equal(self, other: "Question") -> bool:
        """Whether plain options are the same; others, as functions, are made anew in every run."""
        plain = (bool, int, float, str, type(None))
        pairs = zip(self.options, other.options, strict=True)
        return all(a == b for a, b in pairs if isinstance(a, plain) and isinstance(b, plain))


class Way(NamedTuple):
    """One way through a function."""

    decided: tuple[tuple[str, int], ...]  # the forks and the options taken there, in their order
    asked: tuple[str, ...]  # all choices on the way


Answer = Callable[[Question], Any]
_answer: contextvars.ContextVar[Answer] = contextvars.ContextVar("answer")
_plain: contextvars.ContextVar[bool] = contextvars.ContextVar("plain", default=False)


class OutsideError(InputError):
    """A choice that belongs to no space."""


def choice(
    name: str, options: Sequence[Any] | Mapping[str, Any] | Space, ordered: bool | None = None
) -> Any:
    """One of several options, in a function that is made a space by `own`.

    Args:
      name: of the choice. Where a function asks for one name twice it gets one answer.
      options: values, or a mapping that gives them labels; or a space, of which the answer is an
        architecture (what `build` makes of it, where that space was made by `own`).
      ordered: whether the options are a scale, so that a mutation may step along it; by default
        where all are numbers and rise.

    Returns:
      One of the options.

    Raises:
      InputError: no options, options that look alike, or a choice outside of a space.
    """
    ask = _answer.get(None)
    if ask is None:
        raise OutsideError(
            f"choice({name!r}) has to be in a function that own(function) makes a space of"
        )
    return ask(_question(name, options, ordered))


def _question(name: str, options: Any, ordered: bool | None) -> Question:
    name = _value(name)
    if not isinstance(name, str) or not _is_word(name):
        raise InputError(f"choice {name!r}: a name is a word without space, comma, = or brackets")
    if isinstance(options, Space):
        return Question(name, (), (), False, options)
    if isinstance(options, str) or not isinstance(options, Sequence | Mapping) or not len(options):
        raise InputError(f"choice {name!r}: options={options!r}: a list of at least one is needed")
    values = tuple(options.values() if isinstance(options, Mapping) else options)
    if any(isinstance(v, Space) for v in values):
        raise InputError(
            f"choice {name!r}: an option is a space: alternatives(word=space, ...) chooses between "
            "spaces, and inside them"
        )
    labels = tuple(map(str, options) if isinstance(options, Mapping) else map(_label, values))
    odd = [w for w in labels if not _is_word(w)]
    if odd:
        raise InputError(
            f"choice {name!r}: label {odd[0]!r}: a label is a word without space, comma, = or "
            "brackets; {label: option} gives other labels"
        )
    if len(set(labels)) < len(labels):
        raise InputError(f"choice {name!r}: options {', '.join(labels)}: two of them look alike")
    if ordered is None:
        number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        ordered = number and all(map(operator.lt, values, values[1:]))
    return Question(name, labels, values, bool(ordered))


def _is_word(text: str) -> bool:
    return re.fullmatch(r"[^\s=,()\[\]]+", text) is not None


def _label(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.12g}"
    named = callable(value) and hasattr(value, "__name__")
    return value.__name__ if named else str(value)


@contextlib.contextmanager
def answering(answer: Answer, plain: bool = False) -> Iterator[None]:
    """Calls of `choice` inside are answered by this function, with plain values or stand-ins."""
    tokens = _answer.set(answer), _plain.set(plain)
    try:
        yield
    finally:
        _answer.reset(tokens[0])
        _plain.reset(tokens[1])


def is_plain() -> bool:
    """Whether this is a run with plain values: all was looked at in those with stand-ins."""
    return _plain.get()


# ----------------------------------------------------------------------------------- all ways


def ways(function: Callable[[], Any], who: str) -> tuple[dict[str, Question], list[Way]]:
    """All choices of a function by name, and all ways through it.

    Args:
      function: takes no arguments, and asks for the same whenever it gets the same answers.
      who: the space, for errors.

    Returns:
      The choices in the order in which they were first seen, and at least one way.

    Raises:
      InputError: no choices, too many ways, or a name of two different choices.
    """
    questions: dict[str, Question] = {}
    found: list[Way] = []
    script: list[tuple[str, int]] = []  # the options to take at the first forks
    while True:
        run = _Run(questions, script)
        try:
            with answering(run.answer):
                function()
        except RecursionError:
            raise InputError(f"space {who!r}: its function calls itself without an end") from None
        found.append(Way(tuple(run.decided.items()), tuple(run.asked)))
        script = list(run.decided.items())
        while script and script[-1][1] + 1 == len(questions[script[-1][0]].labels):
            script.pop()
        if not script:
            break
        script[-1] = (script[-1][0], script[-1][1] + 1)
        if len(found) == MOST:
            forks = ", ".join(list(run.decided)[:6])
            raise InputError(
                f"space {who!r}: its function looks at so many choices ({forks}, ...) that there "
                f"are more than {MOST} ways through it: return choices instead of looking at them, "
                "or make its parts spaces of their own, choice('part', own(part))"
            )
    if not questions:
        raise InputError(f"space {who!r}: its function calls choice(name, options) nowhere")
    return questions, found


class _Run:
    """One run of a function, which takes given options at its first forks, later the first one."""

    def __init__(self, questions: dict[str, Question], script: list[tuple[str, int]]):
        self.questions, self.script = questions, script
        self.decided: dict[str, int] = {}
        self.asked: dict[str, None] = {}

    def answer(self, question: Question) -> Any:
        known = self.questions.setdefault(question.name, question)
        if not known.same(question):
            one, two = _options(known, question)
            raise InputError(f"two choices are named {question.name!r} but differ: {one} and {two}")
        self.asked[question.name] = None
        if len(self.asked) > MOST:
            raise InputError(
                f"a space's function asks for more than {MOST} choices (the last is "
                f"{question.name!r}): does it ever end?"
            )
        if len(question.labels) == 1:
            return question.options[0]
        return _StandIn(functools.partial(self.decide, known))

    def decide(self, question: Question) -> Any:
        if question.space is not None:
            raise InputError(
                f"a function cannot look into its part {question.name!r} while it is made a space: "
                "return the part, and compute with what values() or build() gives"
            )
        name, n = question.name, len(self.decided)
        if name not in self.decided:
            planned = n < len(self.script)
            if planned and self.script[n][0] != name:
                raise InputError(
                    f"a space's function looked at {self.script[n][0]!r} in one run and at "
                    f"{name!r} in another with the same answers: it may depend on nothing else"
                )
            self.decided[name] = self.script[n][1] if planned else 0
        return question.options[self.decided[name]]


def _said(question: Question) -> str:
    return f"[{', '.join(question.labels)}]" if question.space is None else question.space.name


def _options(known: Question, other: Question) -> tuple[str, str]:
    """What differs between two choices, in words."""
    if known.labels == other.labels and known.space is other.space is None:
        return f"{list(known.options)!r}", f"{list(other.options)!r}"
    return _said(known), _said(other)


class _StandIn:
    """In place of a choice's value: whatever is done with it needs the value, which is a fork."""

    def __init__(self, force: Callable[[], Any]):
        object.__setattr__(self, "_force", force)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance looks here
        return type(object.__getattribute__(self, "_force")())

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_force")(), name)


def _forced(call: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: _StandIn, *args: Any, **kwargs: Any) -> Any:
        return call(_value(self), *map(_value, args), **kwargs)

    return method


def _value(x: Any) -> Any:
    return object.__getattribute__(x, "_force")() if type(x) is _StandIn else x


_UNARY: dict[str, Callable] = {
    "bool": bool, "hash": hash, "index": operator.index, "int": int, "float": float,
    "complex": complex, "str": str, "repr": repr, "len": len, "iter": iter, "next": next,
    "neg": operator.neg, "pos": operator.pos, "abs": abs, "invert": operator.invert,
    "round": round, "format": format, "getitem": operator.getitem, "contains": operator.contains,
    "call": lambda f, *args, **kwargs: f(*args, **kwargs),
}  # fmt: skip
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "lshift", "rshift",
           "and", "or", "xor")  # fmt: skip
for _name, _call in _UNARY.items():
    setattr(_StandIn, f"__{_name}__", _forced(_call))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(_StandIn, f"__{_name}__", _forced(getattr(operator, _name)))
for _name in _BINARY:
    _call = getattr(operator, f"__{_name}__")
    setattr(_StandIn, f"__{_name}__", _forced(_call))
    setattr(_StandIn, f"__r{_name}__", _forced(lambda a, b, f=_call: f(b, a)))
