"""Sections of a config, and factories called with their keys."""

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from ml_collections import ConfigDict
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

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
        except Exception as e:
            raise failed(f"{kind} {name!r}", e) from e
    allowed = ", ".join(sorted(registry))
    raise InputError(f"unknown {kind} {name!r}; allowed: {allowed}, or your own as module:function")


def failed(who: str, e: Exception) -> InputError:
    """That a user's own code failed, with the place."""
    frames = traceback.extract_tb(e.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return InputError(
        f"{who}: {type(e).__name__}: {e}{'' if isinstance(e, SyntaxError) else place}"
    )


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
    for name, value in kwargs.items():
        if not _fits(value, takes[name].annotation):
            try:
                f(*args, **kwargs)
            except InputError:
                raise  # the factory says more than its signature
            except Exception:
                pass
            told = _told(takes[name].annotation)
            raise InputError(f"{kind}.{name}={value!r}: {told}") from None
    return f(*args, **kwargs)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; True and False are no numbers."""
    if isinstance(hint, str) or hint is inspect.Parameter.empty:
        return True
    kinds = {hint, *get_args(hint)}
    if isinstance(value, bool) and bool not in kinds and {int, float} & kinds:
        return False
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


def _told(hint: Any) -> str:
    """What has to be given, by a type as Python writes it, without its modules."""
    if hint is bool:
        return "allowed are True and False"
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return re.sub(r"\b(?:\w+\.)+", "", text) + " is needed"


def section(config: ConfigDict, name: str) -> dict[str, Any]:
    """A section of a config as a dict; empty where it is missing."""
    found = config.get(name)
    return {} if found is None else dict(found.to_dict())
