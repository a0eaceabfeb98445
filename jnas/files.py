"""Files that are written whole or not at all, and whose damage shows."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: a reader sees the old one or the new one."""
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all, and its checksum into a hidden file beside it."""
    text = dump(value)
    _sum_file(path).unlink(missing_ok=True)  # an old sum never stands beside a new file
    write_whole(path, text)
    line = f"{hashlib.sha256(text).hexdigest()}  {path.name}\n"
    write_whole(_sum_file(path), line.encode())


def dump(value: Any) -> bytes:
    """The text that `write_json` writes."""
    return (json.dumps(value, indent=2) + "\n").encode()


def read_json(path: Path) -> Any:
    """What a file of `write_json` holds; None where it does not exist or is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def recorded_sum(path: Path) -> str | None:
    """The checksum that `write_json` left of a file; None where it left none."""
    try:
        return _sum_file(path).read_text().split()[0]
    except (FileNotFoundError, ValueError, IndexError):
        return None


def intact(path: Path) -> bool:
    """Whether a file of `write_json` is as it was written, as far as can be known."""
    recorded = recorded_sum(path)
    return path.exists() and recorded in (None, hashlib.sha256(path.read_bytes()).hexdigest())


def _sum_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")
