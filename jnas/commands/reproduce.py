"""`jnas reproduce`."""

import sys
from pathlib import Path

from jnas.commands.flags import parse_flags, quiet


def reproduce(args: list[str]) -> None:
    """Runs a published experiment again and prints its figures beside the published ones."""
    from absl import flags

    from jnas.base import InputError

    quiet()
    from jnas import compiling
    from jnas import reproduce as reproductions

    names = ", ".join(reproductions.REPRODUCTIONS)
    if not args or args[0].startswith("-"):
        raise InputError(f"jnas reproduce: which experiment? allowed: {names}")
    if args[0] not in reproductions.REPRODUCTIONS:
        raise InputError(f"jnas reproduce {args[0]}: no such experiment; allowed: {names}")
    values = flags.FlagValues()
    flags.DEFINE_string("table", None, "", flag_values=values)
    flags.DEFINE_string("workdir", f"runs/reproduce_{args[0]}", "", flag_values=values)
    flags.DEFINE_integer("seeds", 500, "", flag_values=values, lower_bound=1)
    flags.DEFINE_integer("seed", 0, "", flag_values=values, lower_bound=0)
    parse_flags(values, ["jnas", *args[1:]])
    if values["table"].value is None:
        raise InputError("--table=FILE is missing: an .npz with val_acc_12 and test_acc_200")
    compiling.keep_programs()
    folder = Path(values["workdir"].value or ".")
    rows = reproductions.REPRODUCTIONS[args[0]](
        values["table"].value,
        seeds=values["seeds"].value,
        seed=values["seed"].value,
        workdir=folder,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(reproductions.summary(rows))
    print(f"{folder / 'results.csv'}  {folder / 'curves.png'}")
