"""What the networks of spaces with many settings share."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from flax import nnx

from jnas.base import Space
from jnas.nets.functional import Net, functional

F = TypeVar("F", bound=Callable[..., Any])


def takes(other: Callable) -> Callable[[F], F]:
    """Gives a function `f(**settings)` the parameters of another in its signature."""

    def decorate(f: F) -> F:
        own = inspect.signature(f).return_annotation
        shown = inspect.signature(other).replace(return_annotation=own)
        vars(f)["__signature__"] = shown
        return f

    return decorate


def filled(f: Callable, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a call of `f`, with its defaults where there are none."""
    bound = inspect.signature(f).bind(**settings)
    bound.apply_defaults()
    return dict(bound.arguments)


def single(make: Callable[[nnx.Rngs], nnx.Module], name: str) -> Net:
    """A network with nothing to choose, over a space of one architecture."""
    space = Space(name, {"only": np.asarray(1)})
    return functional(make, space=space, bind=lambda arch: {})
