"""What the networks of spaces with many settings share."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from flax import nnx

from jnas.base import Space
from jnas.nets.functional import Net, functional

F = TypeVar("F", bound=Callable[..., Any])


def takes(other: Callable) -> Callable[[F], F]:
    """Gives a function `f(**settings)` the parameters of another, with its defaults."""

    def decorate(f: F) -> F:
        signature = inspect.signature(other)

        @functools.wraps(f)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return f(**bound.arguments)

        own = inspect.signature(f).return_annotation
        vars(call)["__signature__"] = signature.replace(return_annotation=own)
        return cast(F, call)

    return decorate


def single(make: Callable[[nnx.Rngs], nnx.Module], name: str) -> Net:
    """A network with nothing to choose, over a space of one architecture."""
    space = Space(name, {"only": np.asarray(1)})
    return functional(make, space=space, bind=lambda arch: {})
