"""Text by its bytes: a corpus for a language model, and pairs for sequence to sequence."""

import hashlib
import sysconfig
from pathlib import Path

import numpy as np

from jnas.base import InputError
from jnas.data.contents import Contents, Source, decoded, lines_of, numbers, pixels

PAD, BEGIN, END = 0, 1, 2  # as in jnas.evaluators.tasks
BYTES, TOKENS = 256, 259  # a byte b of a pair is the token b + 3


def corpus(path: str = "") -> tuple[list[str], bytes]:
    """The names and the bytes of a file, of all files in a folder, or of Python's own sources.

    Args:
      path: of a file or a folder; by default the modules at the top of Python's standard library,
        which every machine has: their bytes depend on its version.
    """
    if path:
        place = Path(path).expanduser()
        files = sorted(f for f in place.rglob("*") if f.is_file()) if place.is_dir() else [place]
    else:
        place = Path(sysconfig.get_paths()["stdlib"])
        files = sorted(place.glob("*.py"))
    if not files or not all(f.is_file() for f in files):
        raise InputError(f"data set 'text': {str(place)!r} is not a file, nor a folder of files")
    return [str(f) for f in files], b"".join(f.read_bytes() for f in files)


def text(path: str = "", length: int = 64, most: int = 1_000_000) -> Source:
    """Text as bytes, in pieces: what comes next? By default Python's standard library.

    The last tenth of the bytes is for the test. The result of a run has their SHA-256.

    Args:
      path: a file, or a folder whose files are put one after another by name.
      length: bytes in a piece, of which each is to be told from those before it.
      most: bytes to take, from the beginning; 0 for all.
    """
    if most < 0:
        raise InputError(f"data.most={most}: a number of bytes is needed, or 0 for all")
    _, raw = corpus(path)
    raw = raw[: most or None]
    pieces = len(raw) // (length + 1) if length > 0 else 0
    if pieces < 10:
        raise InputError(
            f"data set 'text': data.length={length} of {len(raw)} bytes: at least 10 pieces needed"
        )
    code = hashlib.sha256(raw).hexdigest()

    def make() -> Contents:
        rows = np.frombuffer(raw, np.uint8)[: pieces * (length + 1)].reshape(pieces, length + 1)
        cut = pieces - pieces // 10
        return Contents(
            about=f"{len(raw)} bytes of {path or 'the standard library of Python'}.",
            features={"text": pixels(length + 1)},
            keys=("text", "text"),
            splits={"train": {"text": rows[:cut]}, "test": {"text": rows[cut:]}},
            facts={
                "task": "language_model",
                "vocabulary": BYTES,
                "sha256": code,
                "bytes": len(raw),
            },
        )

    return Source("1.0.0", f"{code[:16]}-{length}", make)


def encode(words: str, length: int) -> np.ndarray:
    """Bytes as tokens, then END, then PAD: int32[length]."""
    tokens = [b + 3 for b in words.encode()] + [END]
    return np.asarray(tokens + [PAD] * (length - len(tokens)), np.int32)


def decode(tokens: np.ndarray) -> str:
    """The text of tokens up to END or PAD.

    >>> decode(encode("24 März", 12))
    '24 März'
    """
    ends = [i for i, token in enumerate(tokens) if token in (PAD, END)]
    body = np.asarray(tokens)[: ends[0]] if ends else np.asarray(tokens)
    return bytes(int(token) - 3 for token in body if token > END).decode(errors="replace")


def pairs_contents(about: str, pairs: list[tuple[str, str]], test: int) -> Contents:
    """Pairs of texts, the last `test` of them for the test."""
    lengths = [max(len(pair[i].encode()) + 1 for pair in pairs) for i in (0, 1)]
    sides = [np.stack([encode(pair[i], lengths[i]) for pair in pairs]) for i in (0, 1)]
    cut = len(pairs) - test
    rows = {"train": slice(0, cut), "test": slice(cut, None)}
    return Contents(
        about=about,
        features={
            "source": numbers(lengths[0], dtype=np.int32),
            "target": numbers(lengths[1], dtype=np.int32),
        },
        keys=("source", "target"),
        splits={k: {"source": sides[0][at], "target": sides[1][at]} for k, at in rows.items()},
        facts={"task": "sequence_to_sequence", "vocabulary": TOKENS},
    )


def pairs(path: str = "") -> Source:
    """Pairs of texts in a file of two columns apart by a tab: sequence to sequence.

    Every fifth pair, of an order drawn once, is for the test.

    Args:
      path: the file, of UTF-8.
    """
    file = Path(path).expanduser() if path else Path()
    if not file.is_file():
        raise InputError(f"data set 'pairs': data.path {path!r} is not a file")
    raw = file.read_bytes()

    def make() -> Contents:
        lines = lines_of(decoded(raw, file))
        rows = [tuple(line.split("\t")) for _, line in lines]
        for (i, _), row in zip(lines, rows, strict=True):
            if len(row) != 2:
                told = f"line {i} has {len(row) - 1} tabs"
                raise InputError(f"{path!r}: every line needs two texts, a tab between; {told}")
        if len(rows) < 10:
            raise InputError(f"{path!r} has {len(rows)} lines: at least 10 are needed")
        order = np.random.RandomState(0).permutation(len(rows))
        return pairs_contents(f"Pairs of {path}.", [rows[i] for i in order], len(rows) // 5)

    return Source("1.0.0", hashlib.sha256(raw).hexdigest()[:16], make)
