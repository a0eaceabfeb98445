"""In which form an operation is computed: a choice that changes speed, not numbers.

A form is read while a program is traced. Which one is fast depends on the backend and on whether
one network or a population of them runs: `jnas.evaluators.tuning` measures it.
"""

import contextlib
from collections.abc import Iterator

import jax

from jnas.base import InputError

FORMS = {
    # One convolution: matrix products over copies shifted along rows, XLA's own, or a matrix
    # product over copies shifted in both directions.
    "conv": ("rows", "lax", "columns"),
    # A population of them, each with its own kernel; `lax` is a grouped convolution.
    "convs": ("rows", "columns", "lax"),
    # One kernel for each channel: a sum of shifted copies, or XLA's grouped convolution.
    "depthwise": ("shifts", "lax"),
}
_chosen: dict[str, str] = {}
_watchers: list[set[str]] = []


def default(operation: str) -> str:
    """The form of an operation where none is chosen, from what was measured on each backend.

    On CPU XLA's grouped convolution is 20 to 100 times slower than the other forms.
    """
    if operation in ("conv", "depthwise") and jax.default_backend() != "cpu":
        return "lax"
    return FORMS[operation][0]


def form(operation: str) -> str:
    """The form of an operation now."""
    for asked in _watchers:
        asked.add(operation)
    return _chosen.get(operation) or default(operation)


@contextlib.contextmanager
def using(**forms: str) -> Iterator[None]:
    """Programs traced inside use these forms, such as `using(conv="columns")`.

    Raises:
      InputError: an unknown operation or form.
    """
    for operation, name in forms.items():
        if operation not in FORMS:
            raise InputError(f"operation {operation!r}: allowed are {', '.join(FORMS)}")
        if name not in FORMS[operation]:
            allowed = ", ".join(FORMS[operation])
            raise InputError(f"form {name!r} of {operation}: allowed are {allowed}")
    before = dict(_chosen)
    _chosen.update(forms)
    try:
        yield
    finally:
        _chosen.clear()
        _chosen.update(before)


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
    """The operations whose form is asked for inside."""
    _watchers.append(set())
    try:
        yield _watchers[-1]
    finally:
        _watchers.pop()
