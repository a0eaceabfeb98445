"""What stands behind a command: `--config=FILE --config.key=value` and plain flags."""

import os
from collections.abc import Sequence
from typing import Any


def config_flags(
    args: list[str],
    needed: Sequence[str],
    optional: Sequence[str] = (),
    switches: Sequence[str] = (),
) -> Any:
    """Parses `--config=FILE --config.key=value`, string flags and switches."""
    from absl import flags
    from ml_collections import config_flags as of_config

    from jnas.base import InputError
    from jnas.configs import read

    given = [a for a in args if a.startswith("--config=")]
    if not given:
        raise InputError("--config=FILE is missing")
    file = given[-1].partition("=")[2]
    config = read(file)
    _known_keys(config, args)
    argv = ["jnas", *(a for a in args if a not in given)]
    values = flags.FlagValues()
    of_config.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    for name in (*needed, *optional):
        flags.DEFINE_string(name, None, "", flag_values=values)
    for name in switches:
        flags.DEFINE_bool(name, False, "", flag_values=values)
    parse_flags(values, argv)
    for name in needed:
        if values[name].value is None:
            raise InputError(f"--{name}=... is missing")
    return values


def parse_flags(values: Any, argv: Sequence[str]) -> None:
    """Reads arguments into flags, and nothing but flags."""
    from absl import flags

    from jnas.base import InputError

    try:
        rest = values(argv)[1:]
    except (flags.Error, TypeError, ValueError) as e:
        raise InputError(str(e)) from None
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; flags have the form --name=value")


def _known_keys(config: Any, args: list[str]) -> None:
    """Raises `InputError` for an override of a key that the config does not have."""
    from ml_collections import ConfigDict

    from jnas.base import InputError

    for arg in args:
        if not arg.startswith("--config."):
            continue
        here, path = config, arg.partition("=")[0].removeprefix("--config.").split(".")
        for i, key in enumerate(path):
            if not isinstance(here, ConfigDict) or key not in here:
                inside = f"{'.'.join(path[:i])}." if i else ""
                keys = [inside + k for k in here] if isinstance(here, ConfigDict) else []
                raise InputError(
                    f"config key {'.'.join(path)!r} does not exist; "
                    f"allowed: {', '.join(sorted(keys)) or 'nothing below ' + inside[:-1]}"
                )
            here = here[key]


def quiet() -> None:
    """Keeps the libraries' own log lines off the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from absl import logging

    logging.set_verbosity(logging.ERROR)
