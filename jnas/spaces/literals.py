"""Texts in the form of a Python call, read without running any of it."""

import ast
import itertools
import warnings
from typing import Any

from jnas.base import InputError


def call_of(text: str, name: str, longest: int, wrong: InputError) -> ast.Call:
    """The call of a name that a text is.

    Args:
      text: such as `Genotype(normal=[...])`.
      name: that is called.
      longest: the most characters that are read.
      wrong: what is raised for anything else.
    """
    if len(text) > longest:
        raise wrong
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes
            call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    if not isinstance(call, ast.Call) or not _calls(call, name):
        raise wrong
    return call


def items_of(node: ast.expr, wrong: InputError) -> list:
    """A list of literals, or `range` of ints as a list; anything else raises `wrong`."""
    try:
        if isinstance(node, ast.Call) and _calls(node, "range") and not node.keywords:
            ends = [ast.literal_eval(arg) for arg in node.args]
            return list(itertools.islice(range(*ends), 100))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise wrong from None
    items = literal_of(node, wrong)
    if not isinstance(items, list | tuple):
        raise wrong
    return list(items)


def literal_of(node: ast.expr, wrong: InputError) -> Any:
    """A literal; anything else raises `wrong`."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise wrong from None


def _calls(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == name
