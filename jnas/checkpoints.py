"""The guard of a run's checkpoints: checksums that show damage, and the way back from it.

Beside checkpoint `checkpoints/N/` stands its seal `checkpoints/N.json`, written last: the SHA-256
of every file of the checkpoint, and the length and SHA-256 of the history at that moment. The
history is kept twice, as `history.csv` and as `checkpoints/history.csv`.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from jnas.faults import warn
from jnas.files import write_whole

KEEP = 2  # sealed checkpoints


def histories(run: Path) -> tuple[Path, Path]:
    """The history of a run and its copy."""
    return run / "history.csv", run / "checkpoints" / "history.csv"


def append(run: Path, data: bytes) -> None:
    """Appends to the history and to its copy, down to the disk."""
    for file in histories(run):
        with open(file, "ab") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())


def seal(run: Path, step: int, length: int, digest: str) -> None:
    """Declares checkpoint `step` whole, together with the first `length` bytes of the history.

    Only then the oldest are deleted, so that at any moment there are two to go back to.

    Args:
      run: the folder of the run.
      step: the number of the checkpoint, which is on disk.
      length: the length of the history in bytes.
      digest: its SHA-256.
    """
    folder = run / "checkpoints"
    marks = {"files": _sums(folder / str(step)), "bytes": length, "sha256": digest}
    write_whole(folder / f"{step}.json", json.dumps(marks).encode())
    for old in _steps(folder)[:-KEEP]:
        (folder / f"{old}.json").unlink(missing_ok=True)
        shutil.rmtree(folder / str(old), ignore_errors=True)


def recover(run: Path) -> int:
    """Brings a run's folder back to its newest sound checkpoint.

    Checkpoints that are damaged, or were never finished, are deleted; the history and its copy
    are cut to the length that the checkpoint knows, and one that is damaged is written anew from
    the other. Damage is told in one line on standard error.

    Args:
      run: the folder of the run.

    Returns:
      The number of the checkpoint, 0 where the run starts over.
    """
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    texts = [f.read_bytes() if f.exists() else b"" for f in histories(run)]
    steps = _steps(folder)
    sound = [step for step in steps if _is_sound(folder, step, texts)]
    best = sound[-1] if sound else 0
    lost = [str(step) for step in steps if step > best]
    if lost:
        on = f"going on from checkpoint {best}" if best else "none is left, so the run starts over"
        warn(f"workdir {run}: unfinished or damaged checkpoint {', '.join(lost)}; {on}")
    keep = {histories(run)[1].name, *(n for step in sound for n in (f"{step}", f"{step}.json"))}
    for entry in folder.iterdir():
        if entry.name not in keep:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    _restore_histories(run, texts, _read_seal(folder, best) if best else None)
    return best


def _restore_histories(run: Path, texts: list[bytes], marks: dict[str, Any] | None) -> None:
    """Cuts both histories to the mark; a damaged one is written anew from the other."""
    if marks is None:
        for file in histories(run):
            file.write_bytes(b"")
        return
    fine = [_has(text, marks) for text in texts]
    good = texts[fine.index(True)][: marks["bytes"]]
    for file, text, ok in zip(histories(run), texts, fine, strict=True):
        if not ok:
            write_whole(file, good)
            warn(f"workdir {run}: {file.relative_to(run)} was damaged, it is taken from its copy")
        elif len(text) > len(good):
            os.truncate(file, len(good))


def _steps(folder: Path) -> list[int]:
    """The numbers of the checkpoints that there are or were, damaged ones too, in their order."""
    names = (f.name.removesuffix(".json") for f in folder.iterdir())
    return sorted({int(name) for name in names if name.isdigit()})


def _is_sound(folder: Path, step: int, texts: list[bytes]) -> bool:
    """Whether a checkpoint is as it was sealed, and the history too, in one of its copies."""
    try:
        marks = _read_seal(folder, step)
        files = _sums(folder / str(step))
        return marks["files"] == files and any(_has(text, marks) for text in texts)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_seal(folder: Path, step: int) -> dict[str, Any]:
    return json.loads((folder / f"{step}.json").read_bytes())


def _has(text: bytes, marks: dict[str, Any]) -> bool:
    part = text[: marks["bytes"]]
    return len(part) == marks["bytes"] and hashlib.sha256(part).hexdigest() == marks["sha256"]


def _sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by relative name."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    digest = lambda file: hashlib.sha256(file.read_bytes()).hexdigest()
    return {file.relative_to(folder).as_posix(): digest(file) for file in files}
