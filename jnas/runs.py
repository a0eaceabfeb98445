"""A run's folder: history, checkpoints and results that survive `kill -9` at any moment."""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from jnas import checkpoints, cluster
from jnas._version import __version__
from jnas.base import InputError
from jnas.faults import disk_error, plain_disk_errors, said_once, warn
from jnas.files import dump, intact, read_json, recorded_sum, write_json
from jnas.preemption import leave_on_sigterm, saving

TEXT = ("architecture",)
WHOLE = ("seed", "evaluation", "step")


def check(path: Path, setting: dict[str, Any]) -> bool:
    """Whether a folder holds a run, by its `config.json`.

    A damaged `config.json` is written anew where its checksum shows that the setting is the same.

    Raises:
      InputError: it holds a run with another setting, or cannot be read.
    """
    file = path / "config.json"
    try:
        recorded = recorded_sum(file)
        if not file.exists() and recorded is None:
            return False
        found, sound = read_json(file), intact(file)
    except OSError as e:
        raise InputError(f"workdir {path}: {e}") from None
    mine = json.loads(json.dumps(setting))
    if found == mine:
        return True
    if not sound and recorded == hashlib.sha256(dump(setting)).hexdigest():
        warn(f"workdir {path}: config.json was damaged, it is written anew")
        write_json(file, setting)
        return True
    if found is None or not sound:
        raise InputError(
            f"workdir {path}: config.json is damaged, and it was not the config of this command: "
            "repeat the command that began the run, or choose another workdir"
        )
    theirs, mine = _flat(found), _flat(mine)
    for key in sorted({*theirs, *mine}):
        if theirs.get(key) != mine.get(key):
            raise InputError(
                f"workdir {path} holds a run with {key}={theirs.get(key)!r}, this one has "
                f"{key}={mine.get(key)!r}: choose another workdir or the same value"
            )
    return True


def result_of(path: Path) -> dict[str, Any] | None:
    """What `result.json` in a folder says; None where it does not exist or is damaged."""
    file = path / "result.json"
    if not file.exists():
        return None
    if isinstance(found := read_json(file), dict) and intact(file):
        return found
    warn(f"{file} is damaged: it is written anew from the run")
    return None


def versions() -> dict[str, str]:
    """What a run depends on beside its config."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {name: metadata.version(name) for name in names}
    kind = f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    return {"jnas": __version__, "python": platform.python_version(), **found, "device": kind}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    inner = [_flat(v, f"{name}.{k}" if name else k) for k, v in value.items()]
    return {k: v for part in inner for k, v in part.items()}


class RunFolder:
    """The state of a resumable loop on disk, or nowhere where `path` is None.

    Rows are appended to `history.csv` before the checkpoint that counts them, so what stands
    behind the last checkpoint's mark is cut off on the way back; a damaged checkpoint gives way to
    the one before. Within the folder's `with`, SIGTERM ends the process at once or after the save
    that is running.

    Args:
      path: the folder; made where missing.
      setting: what has to be equal for a run to go on.
    """

    def __init__(self, path: str | Path | None, setting: dict[str, Any]):
        self.path = None if path is None else Path(path).resolve()
        self.setting = setting
        self._rows: list[dict[str, Any]] = []
        self._bytes, self._digest = 0, hashlib.sha256()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "RunFolder":
        if self.path is not None:
            with contextlib.ExitStack() as stack:
                self._open(self.path, stack)
                self._stack = stack.pop_all()
        return self

    def _open(self, path: Path, stack: contextlib.ExitStack) -> None:
        stack.enter_context(leave_on_sigterm())
        cluster.from_first(lambda: self._claim(path, stack))
        if not check(path, self.setting):
            raise InputError(
                f"workdir {path}: process {jax.process_index()} does not see what process 0 wrote: "
                "it has to be one folder that all of them share"
            )
        logging.set_verbosity(logging.ERROR)
        options = ocp.CheckpointManagerOptions(create=True, enable_async_checkpointing=False)
        stack.enter_context(said_once())
        self._manager = ocp.CheckpointManager(path / "checkpoints", options=options)
        stack.callback(self._manager.close)

    def _claim(self, path: Path, stack: contextlib.ExitStack) -> None:
        check(path, self.setting)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"workdir {path}: another run is using it") from None
        except OSError as e:
            if disk_error(e):
                raise
            raise InputError(f"workdir {path}: {e.strerror}") from None
        if not check(path, self.setting):  # again, now that the folder is ours
            write_json(path / "versions.json", versions())
            write_json(path / "config.json", self.setting)
        checkpoints.recover(path)

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def restore(self, state: Any) -> tuple[Any, int, float]:
        """(state, rounds done, seconds spent) of the last checkpoint, or `state`, 0 and 0."""
        if self.path is None:
            return state, 0, 0.0
        step = cluster.from_first(self._manager.latest_step)
        if step is None:
            return state, 0, 0.0
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(_plain(state, step)), marks=ocp.args.JsonRestore()
        )
        saved = self._manager.restore(step, args=args)
        marks = saved["marks"]
        data = (self.path / "history.csv").read_bytes()
        self._bytes, self._digest = len(data), hashlib.sha256(data)
        text = io.StringIO(data.decode(), newline="")
        self._rows = [_typed(row) for row in csv.DictReader(text)]
        return _like(state, saved["state"]), step, marks["seconds"]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the history as it stood at the checkpoint that was restored."""
        return self._rows

    def save(self, state: Any, done: int, seconds: float, rows: list[dict[str, Any]]) -> None:
        """Appends rows, then saves the state as checkpoint number `done`.

        Raises:
          OSError: the disk is full or fails; what was saved before stays whole.
        """
        if self.path is None:
            return
        text = io.StringIO(newline="")
        if rows:
            writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
            if not self._bytes:
                writer.writeheader()
            writer.writerows(_short(row) for row in rows)
        data = text.getvalue().encode()
        self._bytes += len(data)
        self._digest.update(data)
        with saving, plain_disk_errors(self.path):
            if cluster.is_first():
                checkpoints.append(self.path, data)
            args = ocp.args.Composite(
                state=ocp.args.StandardSave(_plain(state, done)),
                marks=ocp.args.JsonSave({"seconds": seconds}),
            )
            self._manager.save(done, args=args)
            if cluster.is_first():
                checkpoints.seal(self.path, done, self._bytes, self._digest.hexdigest())


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain(state: Any, done: int) -> list[Any]:
    """The leaves as NumPy arrays, random keys as their data; never an empty list."""
    plain = lambda x: np.asarray(jax.random.key_data(x) if _is_key(x) else x)
    return [np.asarray(done, np.int64), *map(plain, jax.tree.leaves(state))]


def _like(state: Any, plain: list[Any]) -> Any:
    """The inverse of `_plain`, given a state of the same form."""
    leaves, tree = jax.tree.flatten(state)
    wrap = lambda x, v: (
        jax.random.wrap_key_data(v, impl=jax.random.key_impl(x)) if _is_key(x) else v
    )
    return jax.tree.unflatten(tree, [wrap(x, v) for x, v in zip(leaves, plain[1:], strict=True)])


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """The shortest text that reads back as the same float32."""
    return {k: str(np.float32(v)) if isinstance(v, float) else v for k, v in row.items()}


def _typed(row: dict[str, str]) -> dict[str, Any]:
    def value(name: str, text: str) -> Any:
        if name in TEXT:
            return text
        return int(text) if name in WHOLE else float(np.float32(text))

    return {k: value(k, v) for k, v in row.items()}


class Progress:
    """One line on standard error with the time that is left; rewritten in place on a terminal."""

    def __init__(self, what: str, total: int, done: int, seconds: float, verbose: bool = True):
        self.what, self.total, self.done, self.verbose = what, total, done, verbose
        self.spent, self.start, self.first = seconds, time.perf_counter(), done
        self.terminal, self.last = sys.stderr.isatty(), -1e9

    def show(self, done: int, note: str = "") -> None:
        """Reports that `done` of the total are done."""
        now = time.perf_counter()
        rare = not self.terminal and now - self.last < 2 and done < self.total
        if not self.verbose or rare:
            return
        self.last, passed = now, now - self.start
        left = passed / max(done - self.first, 1) * (self.total - done)
        text = (
            f"{self.what} {done}/{self.total} ({done / self.total:.0%})  {note}  "
            f"elapsed {clock(self.spent + passed)}  left {clock(left)}"
        )
        text = f"\r\x1b[K{text}" if self.terminal else f"{text}\n"
        sys.stderr.write(text)  # at once, so that a message of SIGTERM finds the line ended
        sys.stderr.flush()

    def end(self) -> None:
        """Ends the line."""
        if self.verbose and self.terminal and self.last > 0:
            print(file=sys.stderr)


def clock(seconds: float) -> str:
    """Seconds as `12 s`, `3:07` or `2:05:00`."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    minutes = f"{s // 60 % 60:02d}:{s % 60:02d}" if s >= 3600 else f"{s // 60}:{s % 60:02d}"
    return f"{s // 3600}:{minutes}" if s >= 3600 else minutes
