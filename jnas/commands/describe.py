"""`jnas describe`: a space in numbers, words and a picture."""

import ast
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jnas.base import InputError, Space
from jnas.commands.flags import quiet

OWN = ("arch", "picture", "seed")  # flags that are no settings of the space


def describe(args: list[str]) -> None:
    """Prints the size and the choices of a space and an example, and draws the example.

    Raises:
      InputError: no such space or setting, or an architecture that it does not have.
    """
    quiet()
    name, settings, flags = _arguments(args)
    space = space_of(name, settings)
    arch = _example(space, flags)
    file = _draw(space, arch, flags.get("picture"))
    print("\n".join([*lines(space, arch), f"{'picture':16s}{file}"]))


def space_of(name: str, settings: dict[str, Any]) -> Space:
    """The space of this name, or one of the user's own given as `module:function`.

    That is a space, or what makes one with these settings: a function that gives a space or a
    network, or one that calls `choice`.

    Raises:
      InputError: there is none, or it does not take the settings.
    """
    from jnas.settings import failed, resolve
    from jnas.spaces import SPACES

    if ":" in name and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = resolve("space", name, SPACES)
    if not isinstance(found, Space):
        if not callable(found):
            raise InputError(f"space {name!r} is no space and no function, but {found!r}")
        try:
            found = _made(name, found, settings)
        except InputError:
            raise
        except Exception as e:
            if name in SPACES:
                raise
            raise failed(f"space {name!r}", e) from e
        found = getattr(found, "space", found)  # of a network
    elif settings:
        raise InputError(f"--{next(iter(settings))}: space {name!r} is made already")
    if not isinstance(found, Space):
        raise InputError(f"space {name!r} gave {found!r}: a space or a network is needed")
    return found


def _made(name: str, make: Callable, settings: dict[str, Any]) -> Any:
    """What a function gives with these settings, or the space of one that calls `choice`."""
    from jnas.settings import call
    from jnas.spaces import own
    from jnas.spaces.tracing import OutsideError

    try:
        return call("space", make, **settings)
    except OutsideError:
        return own(lambda: make(**settings), name=name.partition(":")[2])


def lines(space: Space, arch: Any) -> list[str]:
    """What is printed about a space and an example of it."""
    from jnas.base import choice_counts, places, size
    from jnas.spaces import different

    count = different(space)
    rows = [
        ("space", space.name),
        ("architectures", _number(size(space))),
        ("that differ", "not counted" if count is None else _number(count)),
        ("choices", str(choice_counts(space).size)),
    ]
    for place in places(space):
        many = place.counts.ravel()
        each = f"{many.min()}" if (many == many[0]).all() else f"{many.min()} to {many.max()}"
        times = f"{'x'.join(map(str, place.counts.shape))} times " if place.counts.ndim else ""
        kinds = [place.common] if place.common else list(dict.fromkeys(place.labels))
        said = _some([", ".join(_some(words, 12)) for words in kinds], 6)
        rows.append((f"  {place.name or 'choice'}", f"{times}one of {each}: {'; '.join(said)}"))
    rows.append(("example", space.describe(arch)))
    rows += [(f"  {name}", _number(count(arch))) for name, count in space.counts.items()]
    return [f"{a:16s}{b}" if len(a) < 16 else f"{a}  {b}" for a, b in rows]


def _some(words: Sequence[str], most: int) -> Sequence[str]:
    """The words, or the first and the last of them where they are too many."""
    return words if len(words) <= most else (*words[: most // 2 - 1], "...", words[-1])


def _number(n: Any) -> str:
    n = n if isinstance(n, int) else float(n)
    if not math.isfinite(n):
        return str(n)
    whole = int(n)
    if whole != n:
        return f"{float(n):.6g}"
    return f"{whole:,}" if whole < 10**15 else f"{whole:.3e}".replace("e+", " x 10^")


def _arguments(args: list[str]) -> tuple[str, dict[str, Any], dict[str, str]]:
    """The name of the space, its settings, and the flags of the command itself."""
    from jnas.spaces import SPACES

    names = [a for a in args if not a.startswith("-")]
    if len(names) != 1:
        allowed = ", ".join(sorted(SPACES))
        what = f"unexpected argument {names[1]!r}" if names else "which space? allowed: " + allowed
        raise InputError(f"jnas describe: {what}")
    settings: dict[str, Any] = {}
    flags: dict[str, str] = {}
    for arg in args:
        if not arg.startswith("-"):
            continue
        key, equals, value = arg.removeprefix("--").partition("=")
        if not arg.startswith("--") or not equals or not key.isidentifier():
            raise InputError(f"jnas describe: {arg!r}: settings have the form --name=value")
        if key in OWN:
            flags[key] = value
        else:
            settings[key] = _literal(value)
    return names[0], settings, flags


def _literal(text: str) -> Any:
    """A number, a tuple and so on as Python writes them; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _example(space: Space, flags: dict[str, str]) -> Any:
    import jax
    import numpy as np

    from jnas.base import sample

    if "arch" in flags:
        return space.parse(flags["arch"])
    seed = flags.get("seed", "0")
    if not seed.isdecimal() or int(seed) >= 2**32:
        raise InputError(f"--seed={seed}: a whole number from 0 to 2^32 - 1 is needed")
    return jax.tree.map(lambda x: np.asarray(x[0]), sample(space, jax.random.key(int(seed)), 1))


def _draw(space: Space, arch: Any, path: str | None) -> Path:
    from jnas import notation
    from jnas.analysis import figures
    from jnas.faults import disk_error

    file = Path(path or f"{''.join(c if c.isalnum() else '_' for c in space.name)}.png")
    if not file.parent.is_dir():
        raise InputError(f"--picture={path}: there is no folder {str(file.parent)!r}")
    if file.suffix != ".png" or os.path.isdir(file):
        raise InputError(f"--picture={path}: the name of a file that ends in .png is needed")
    if space.edges is not None:
        drawing = figures.draw_cell(space.edges(arch), title=space.name)
    else:
        drawing = figures.draw_choices(notation.rows(space.describe(arch)), title=space.name)
    try:
        figures.save(drawing, file)
    except OSError as e:
        if disk_error(e):
            raise
        raise InputError(f"--picture={path}: {e.strerror}") from None
    return file
