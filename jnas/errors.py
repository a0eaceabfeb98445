"""What jnas raises for a user's mistake."""

import math
from numbers import Integral
from typing import Any

LONGEST = 2000  # characters of an error


class InputError(ValueError):
    """A user's mistake: one line that names the value given and what is allowed.

    Of a line that is very long, as where the value is a file by mistake, both ends are told.

    >>> len(str(InputError("architecture " + "x" * 100_000 + ": allowed are 1 and 2")))
    2000
    """

    def __init__(self, message: str):
        line, between = " ".join(message.splitlines()), " [...] "
        if len(line) > LONGEST:
            half = (LONGEST - len(between)) / 2
            line = line[: math.ceil(half)] + between + line[-math.floor(half) :]
        super().__init__(line)


def whole(*numbers: Any) -> bool:
    """Whether all are whole numbers, and none of them is True or False."""
    return all(isinstance(n, Integral) and not isinstance(n, bool) for n in numbers)


def positive(**numbers: Any) -> None:
    """Raises `InputError` for a number that is no whole one of at least 1.

    >>> positive(seeds=0)
    Traceback (most recent call last):
    jnas.errors.InputError: seeds=0: a whole number of at least 1 is needed
    """
    for name, value in numbers.items():
        if not whole(value) or value < 1:
            raise InputError(f"{name}={value!r}: a whole number of at least 1 is needed")
