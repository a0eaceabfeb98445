"""What jnas raises for a user's mistake."""

from numbers import Integral
from typing import Any


class InputError(ValueError):
    """A user's mistake: one line that names the value given and what is allowed."""


def positive(**numbers: Any) -> None:
    """Raises `InputError` for a number that is no whole one of at least 1.

    >>> positive(seeds=0)
    Traceback (most recent call last):
    jnas.errors.InputError: seeds=0: a whole number of at least 1 is needed
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name}={value!r}: a whole number of at least 1 is needed")
