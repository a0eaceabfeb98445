"""The user's cache folder: compiled programs and measured plans."""

import os
from pathlib import Path

import jax


def folder() -> Path:
    """`JNAS_CACHE`, or `jnas` in the user's cache folder."""
    named = os.environ.get("JNAS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jnas"


def keep_programs() -> None:
    """Keeps compiled programs on disk, so that the next run of the same command starts at once.

    Where the user has set JAX's own cache, it stays as it is.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(folder() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
