"""Reads pickles of plain values; one that names any class or function is refused unrun."""

import os
import pickle
from typing import Any, NoReturn

from jnas.base import InputError


class _PlainUnpickler(pickle.Unpickler):
    """A pickle gets its callables from `find_class` alone: without it nothing can be run."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {f'{module}.{name}'!r}")


def load(path: str | os.PathLike[str]) -> Any:
    """Reads a pickle made of dicts, lists, tuples, sets, strings, bytes, numbers and None only.

    Args:
      path: the file.

    Returns:
      The value.

    Raises:
      InputError: the file is missing, is no complete pickle, or holds anything else.
    """
    file = os.fspath(path)
    try:
        with open(file, "rb") as stream:
            return _PlainUnpickler(stream).load()
    except FileNotFoundError:
        raise InputError(f"{file!r}: no such file") from None
    except Exception as error:  # hostile bytes can make the unpickler raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{file!r}: not a pickle of plain dicts, lists, strings and numbers: {reason}"
        ) from None
