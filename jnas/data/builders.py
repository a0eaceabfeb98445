"""Finds a TFDS builder by name or folder and makes sure that its files are there.

TFDS is imported inside functions: it takes 0.4 s, and listing names needs none of it.
"""

import contextlib
import difflib
import importlib
import inspect
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jnas.base import InputError

# The data sets that jnas builds itself, without a download: name -> "module:class". A new one is
# a file beside this one and a line here.
BUILDERS = {"digits": "jnas.data.digits:Digits"}
# The same for functions to a `jnas.data.contents.Source`, whose arguments are options of `load`.
SOURCES = {
    "breast_cancer": "jnas.data.tables:breast_cancer",
    "cifar100_archive": "jnas.data.images:cifar100_archive",
    "cifar10_archive": "jnas.data.images:cifar10_archive",
    "csv": "jnas.data.tables:csv",
    "dates": "jnas.data.generated:dates",
    "diabetes": "jnas.data.tables:diabetes",
    "digit_lines": "jnas.data.generated:digit_lines",
    "digit_mosaics": "jnas.data.generated:digit_mosaics",
    "fashion_mnist_idx": "jnas.data.images:fashion_mnist_idx",
    "idx": "jnas.data.images:idx",
    "image_folder": "jnas.data.images:image_folder",
    "japanese_vowels": "jnas.data.series:japanese_vowels",
    "mnist_1d": "jnas.data.series:mnist_1d",
    "mnist_5k": "jnas.data.images:mnist_5k",
    "pairs": "jnas.data.text:pairs",
    "shapes": "jnas.data.generated:shapes",
    "speakers_in_turn": "jnas.data.series:speakers_in_turn",
    "text": "jnas.data.text:text",
    "ts": "jnas.data.series:ts",
    "wav_folder": "jnas.data.sound:wav_folder",
    "wav_transcripts": "jnas.data.sound:wav_transcripts",
    "wine": "jnas.data.tables:wine",
}

# `name`, `name/config`, `name:1.2.3` or `name/config:1.2.3`, where a part of a version may be `*`.
# Namespaces (`huggingface:...`) are left out: to look one up, TFDS goes to the network.
_NAME = re.compile(r"(?P<base>\w+)(/(?P<config>[\w.-]+))?(:(?P<version>[\d*]+\.[\d*]+\.[\d*]+))?")


def names() -> tuple[str, ...]:
    """The data sets that jnas builds itself, without a download.

    >>> "digits" in names()
    True
    """
    return (*BUILDERS, *SOURCES)


def made_by(name: str) -> Any:
    """The class or function behind a name of `names()`; its docstring says what it is."""
    module, attribute = {**BUILDERS, **SOURCES}[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def open_builder(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """The prepared TFDS builder of a data set.

    A data set of `names()` is prepared on first use. Of any other, the newest version in the data
    folder is taken (or the version that the name asks for), without a look at the network.

    Args:
      name: a name of `names()`, a TFDS name, or the path of a prepared TFDS folder.
      data_dir: where prepared data sets live; see `default_data_dir`.
      download: let TFDS download and prepare what is not there yet.
      options: of a data set of `names()`, such as the `path` of its files.

    Returns:
      A `tfds.core.DatasetBuilder` with its files on disk.

    Raises:
      InputError: the data set is unknown, not prepared or damaged, or the folder is unusable.
    """
    options = dict(options or {})
    if options and name not in SOURCES:
        raise InputError(f"data.{next(iter(options))}: data set {name!r} has no such option")
    if (Path(name).expanduser() / "dataset_info.json").is_file():
        return _open_folder(Path(name).expanduser())
    if name.startswith(("/", ".", "~", os.sep)):
        raise InputError(
            f"data set {name!r} is not a prepared TFDS folder: one that holds dataset_info.json, "
            "such as .../mnist/3.0.1"
        )
    root = Path(data_dir).expanduser() if data_dir else default_data_dir()
    match = _NAME.fullmatch(name)
    if match is None:
        raise _unknown(name)
    if root.exists() and not root.is_dir():
        raise InputError(f"data_dir {str(root)!r} is a file: a folder is needed")
    if name in SOURCES:
        return _open_source(name, root, options)
    if match["base"] in BUILDERS:
        return _open_own(match, root)
    return _open_tfds(match, root, download)


def default_data_dir() -> Path:
    """`$JNAS_DATA_DIR`, else `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    folder = os.environ.get("JNAS_DATA_DIR") or os.environ.get("TFDS_DATA_DIR")
    return Path(folder or "~/tensorflow_datasets").expanduser()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what TFDS logs below the level of an error."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns an error inside TFDS into an `InputError` that begins with `what`.

    Damaged files and unusable folders reach us as anything from an `AssertionError` to a protobuf
    error, so every `Exception` counts.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as e:
        raise InputError(f"{what} ({_one_line(e)})") from e


def _one_line(e: Exception) -> str:
    text = " ".join(str(e).split()) or type(e).__name__
    return text if len(text) <= 200 else text[:200] + "..."


def _unknown(name: str) -> InputError:
    import tensorflow_datasets as tfds

    known = [*names(), *tfds.list_builders(with_community_datasets=False)]
    message = (
        f"unknown data set {name!r}: allowed are {', '.join(names())}, a TFDS name such as cifar10 "
        "or mnist:3.0.1, or the path of a prepared TFDS folder"
    )
    base = re.split("[/:]", name)[0].lower()
    close = difflib.get_close_matches(base, known, n=1)
    return InputError(f"{message}; did you mean {close[0]!r}?" if close else message)


def _open_folder(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    with quiet(), explained(f"data set {str(folder)!r} is damaged: prepare it anew"):
        return tfds.builder_from_directory(folder)


def _open_source(name: str, root: Path, options: dict[str, Any]) -> Any:
    """A data set of `SOURCES`, prepared on first use with these options."""
    from jnas.data.contents import prepare

    make = made_by(name)
    allowed = inspect.signature(make).parameters
    for key, value in options.items():
        if key not in allowed:
            takes = f"its options are {', '.join(allowed)}" if allowed else "it has none"
            raise InputError(f"data.{key}: data set {name!r} has no such option; {takes}")
        usual = allowed[key].default
        kinds = (int, float) if isinstance(usual, float) else type(usual)
        if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(usual, bool):
            raise InputError(f"data.{key}={value!r}: a {type(usual).__name__} is needed")
    with quiet(), explained(f"cannot prepare data set {name!r} in {str(root)!r}"):
        folder = prepare(name, make(**options), root)
    return _open_folder(folder)


def _open_own(match: re.Match[str], root: Path) -> Any:
    """A builder of `BUILDERS`, prepared on first use.

    TFDS writes into a folder of its own and renames it at the end, so a run that is killed leaves
    no half of a data set, and of two at once the second finds the folder taken.
    """
    make, name = made_by(match["base"]), match.string
    if match["config"]:
        raise InputError(f"data set {name!r}: {match['base']} has no configs, use its bare name")
    if match["version"] not in (None, str(make.VERSION)):
        raise InputError(f"data set {name!r}: the only version is {make.VERSION}")

    with quiet(), explained(f"data set {name!r} in {str(root)!r} is damaged: delete and retry"):
        builder = make(data_dir=root)
        prepared = builder.is_prepared()
    if prepared:
        return builder

    with quiet(), explained(f"cannot prepare data set {name!r} in {str(root)!r}"):
        silence = io.StringIO()
        try:
            with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
                builder.download_and_prepare(file_format="array_record")
        except OSError:
            if not make(data_dir=root).is_prepared():
                raise
        builder = make(data_dir=root)
        if not builder.is_prepared():
            raise InputError(
                f"data set {name!r}: {builder.data_dir!r} is in the way and is not a prepared "
                "data set: delete it"
            )
        return builder


def _open_tfds(match: re.Match[str], root: Path, download: bool) -> Any:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    name, base = match.string, match["base"]
    with quiet(), explained(f"data set {name!r} in {str(root)!r} is damaged or unreadable"):
        try:
            return read_only_builder.builder_from_files(name, data_dir=root)
        except tfds.core.DatasetNotFoundError:
            known = tfds.list_builders(with_community_datasets=False)
            folders = (root / base).glob("*")
            here = sorted(p.name for p in folders if p.is_dir() and "incomplete" not in p.name)
    if base not in known and not here:
        raise _unknown(name)
    if not download or base not in known:
        message = f"data set {name!r} is not prepared in {str(root)!r}"
        if here:
            message += f" (there are {', '.join(here)})"
        remedy = "pass download=True or" if base in known else "pass"
        raise InputError(f"{message}: {remedy} another data_dir")

    with quiet(), explained(f"cannot download and prepare data set {name!r} in {str(root)!r}"):
        try:
            builder = tfds.builder(name, data_dir=root)
            config = tfds.download.DownloadConfig(try_download_gcs=False)
            builder.download_and_prepare(download_config=config, file_format="array_record")
        except ImportError as e:
            raise InputError(
                f"to prepare data set {name!r} TFDS needs {e.name or 'another package'}, once: "
                "install it and retry, or copy a folder prepared elsewhere as array_record"
            ) from e
        return read_only_builder.builder_from_files(name, data_dir=root)
