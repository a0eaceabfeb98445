"""The user's cache folder: compiled programs and measured plans."""

import os
from pathlib import Path


def folder() -> Path:
    """`JNAS_CACHE`, or `jnas` in the user's cache folder."""
    named = os.environ.get("JNAS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jnas"
