"""Sections of a config, and factories called with their keys."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jnas.base import InputError


def resolve(kind: str, name: str, registry: Mapping[str, Callable]) -> Callable:
    """The registered function, or one of the user's own given as `module:function`."""
    if name in registry:
        return registry[name]
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as e:
            raise InputError(f"{kind} {name!r}: {e}") from None
    allowed = ", ".join(sorted(registry))
    raise InputError(f"unknown {kind} {name!r}; allowed: {allowed}, or your own as module:function")


def call(kind: str, f: Callable, /, *args: Any, **kwargs: Any) -> Any:
    """Calls a factory with the keys of a config, checked by its signature."""
    takes = inspect.signature(f).parameters
    unknown = [k for k in kwargs if k not in takes]
    if unknown:
        allowed = ", ".join(list(takes)[len(args) :])
        raise InputError(f"{kind}.{unknown[0]}: no such setting; allowed: {allowed}")
    needed = [k for k, p in list(takes.items())[len(args) :] if p.default is p.empty]
    missing = [k for k in needed if k not in kwargs and takes[k].kind != takes[k].VAR_KEYWORD]
    if missing:
        raise InputError(f"{kind}.{missing[0]} is missing")
    return f(*args, **kwargs)


def section(config: ConfigDict, name: str) -> dict[str, Any]:
    """A section of a config as a dict; empty where it is missing."""
    found = config.get(name)
    return {} if found is None else dict(found.to_dict())
