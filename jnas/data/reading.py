"""Reads a classification data set into memory, split for a search."""

import math
import os
from typing import Any, NamedTuple

import numpy as np

from jnas.base import InputError
from jnas.data.builders import explained, open_builder, quiet

_CHUNK = 1024  # rows that are made float at a time


class Split(NamedTuple):
    """Rows in the fixed order of the files."""

    x: np.ndarray  # [N, ...] as stored: uint8 for images
    y: np.ndarray  # int32[N], 0 <= y < num_classes


class Dataset(NamedTuple):
    """What a search may see of a data set."""

    name: str
    train: Split
    validation: Split
    num_classes: int
    shape: tuple[int, ...]  # of one input, such as (8, 8, 1)
    mean: np.ndarray  # f32[C] over train.x as stored, where C is the last axis of shape
    std: np.ndarray  # f32[C]; 0 where a channel is constant


class _Range(NamedTuple):
    """The rows `start <= i < stop` of a split."""

    split: str
    start: int
    stop: int


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    train: str = "train",
    validation: str = "",
    validation_fraction: float = 0.25,
    input_key: str = "",
    label_key: str = "",
) -> Dataset:
    """Loads the training and validation rows of a classification data set.

    Every load gives the same rows in the same order, bit for bit. Specs are those of TFDS, such as
    `train[:50%]` or `train[:1000]+train[2000:]`. A spec that touches a test split is refused.

    Args:
      name: a name of `names()`, a TFDS name (`cifar10`, `mnist:3.0.1`, `name/config`), or the path
        of a prepared TFDS folder.
      data_dir: where prepared data sets live; `$JNAS_DATA_DIR`, else `$TFDS_DATA_DIR`, else
        `~/tensorflow_datasets` by default.
      download: let TFDS download and prepare a data set that is not in `data_dir`.
      train: the spec of the training rows.
      validation: the spec of the validation rows. By default the split `validation` where there is
        one, else the end of the training rows, which then leaves them.
      validation_fraction: the share of the training rows to cut off in that last case, between 0
        and 1; rounded to whole rows.
      input_key: the feature to learn from; by default what the data set names as supervised.
      label_key: the feature to predict, likewise.

    Returns:
      The data set.

    Raises:
      InputError: the data set is unknown, not prepared, damaged or not one for classification; a
        spec is wrong or empty, or touches a test split; training and validation rows overlap.
    """
    if not 0 < validation_fraction < 1:
        raise InputError(
            f"validation_fraction {validation_fraction!r}: it must be greater than 0, less than 1"
        )
    for spec in (train, validation):
        _refuse_test(spec)
    builder = open_builder(name, data_dir, download)
    if not validation and "validation" in builder.info.splits:
        validation = "validation"
    train_rows = _resolve(builder, train)
    if validation:
        validation_rows = _resolve(builder, validation)
    else:
        count = _count(train_rows)
        cut = round(count * (1 - validation_fraction))
        if not 0 < cut < count:
            raise InputError(
                f"validation_fraction {validation_fraction} of the {count} rows of split "
                f"{train!r} leaves no rows to train on or none to validate on"
            )
        train_rows, validation_rows = _cut(train_rows, cut)
    _refuse_overlap(train_rows, validation_rows)

    features = _Features(builder, input_key, label_key)
    rows = _read(builder, features, train_rows)
    mean, std = _moments(rows.x)
    return Dataset(
        name=builder.name,
        train=rows,
        validation=_read(builder, features, validation_rows),
        num_classes=features.num_classes,
        shape=features.shape,
        mean=mean,
        std=std,
    )


def load_test(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    input_key: str = "",
    label_key: str = "",
) -> Split:
    """Loads the test rows of a data set: for the one measurement after a search.

    Args:
      name: as in `load`.
      data_dir: as in `load`.
      download: as in `load`.
      input_key: as in `load`.
      label_key: as in `load`.

    Returns:
      The rows of the split `test`.

    Raises:
      InputError: there is no test split, or one without labels; else as in `load`.
    """
    builder = open_builder(name, data_dir, download)
    if "test" not in builder.info.splits:
        found = ", ".join(builder.info.splits)
        raise InputError(f"data set {builder.name!r} has no split 'test': it has {found}")
    return _read(builder, _Features(builder, input_key, label_key), _resolve(builder, "test"))


# ------------------------------------------------------------------------------------ splits


def _refuse_test(spec: str) -> None:
    for part in spec.split("+"):
        split = part.split("[")[0].strip()
        if _is_test(split) or split.lower() == "all":
            raise InputError(
                f"split {spec!r} touches the test split by {split!r}: a search may see only other "
                "splits, such as 'train' or 'train[:80%]'"
            )


def _is_test(split: str) -> bool:
    return split.lower().startswith("test")


def _resolve(builder: Any, spec: str) -> list[_Range]:
    """The rows of a TFDS split spec."""
    import tensorflow_datasets as tfds

    splits = builder.info.splits
    with explained(
        f"split {spec!r} of data set {builder.name!r}: allowed are "
        f"{', '.join(s for s in splits if not _is_test(s))}, slices such as 'train[:50%]', and "
        "sums of these"
    ):
        parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(splits)
        rows = [
            _Range(p.splitname, p.from_ or 0, splits[p.splitname].num_examples)
            if p.to is None
            else _Range(p.splitname, p.from_ or 0, p.to)
            for p in parts
        ]
    rows = [r for r in rows if r.start < r.stop]
    if not rows:
        raise InputError(f"split {spec!r} of data set {builder.name!r} has no rows")
    return rows


def _count(rows: list[_Range]) -> int:
    return sum(r.stop - r.start for r in rows)


def _cut(rows: list[_Range], at: int) -> tuple[list[_Range], list[_Range]]:
    """The first `at` rows and the rest."""
    head, tail = [], []
    for r in rows:
        middle = min(r.start + max(at, 0), r.stop)
        head.append(r._replace(stop=middle))
        tail.append(r._replace(start=middle))
        at -= r.stop - r.start
    return [r for r in head if r.start < r.stop], [r for r in tail if r.start < r.stop]


def _refuse_overlap(train: list[_Range], validation: list[_Range]) -> None:
    for a in train:
        for b in validation:
            start, stop = max(a.start, b.start), min(a.stop, b.stop)
            if a.split == b.split and start < stop:
                raise InputError(
                    f"training and validation rows overlap in '{a.split}[{start}:{stop}]': choose "
                    "specs without common rows, such as 'train[:75%]' and 'train[75%:]'"
                )


# -------------------------------------------------------------------------------------- rows


class _Features:
    """Which features of a data set are the input and the label, and their shape and type.

    Raises:
      InputError: there is no such feature, or it is not of a kind that we read.
    """

    def __init__(self, builder: Any, input_key: str, label_key: str):
        import tensorflow_datasets as tfds

        features, keys = builder.info.features, builder.info.supervised_keys
        what = f"data set {builder.name!r}"
        found = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
        if isinstance(keys, tuple) and len(keys) >= 2 and all(isinstance(k, str) for k in keys):
            input_key, label_key = input_key or keys[0], label_key or keys[1]
        for field, key in (("input_key", input_key), ("label_key", label_key)):
            if key not in found:
                given = f"has no feature {key!r}" if key else "does not say what to learn"
                raise InputError(
                    f"{what} {given}: set {field} to one of {', '.join(sorted(found))}"
                )

        x, y = found[input_key], found[label_key]
        if not isinstance(y, tfds.features.ClassLabel) or not y.num_classes:
            raise InputError(
                f"{what} has no class labels: feature {label_key!r} is {type(y).__name__}, and "
                "ClassLabel with num_classes is needed"
            )
        if not isinstance(x.shape, tuple) or None in x.shape:
            raise InputError(
                f"{what} has inputs of variable size: feature {input_key!r} has shape {x.shape}, "
                "and a fixed shape is needed"
            )
        self.dtype = np.dtype(x.np_dtype)
        if self.dtype.kind not in "buif":
            raise InputError(
                f"{what} has no numeric inputs: feature {input_key!r} is {type(x).__name__}, and "
                "images or numbers are needed"
            )
        self.input_key, self.label_key = input_key, label_key
        self.shape: tuple[int, ...] = x.shape
        self.num_classes = int(y.num_classes)


def _read(builder: Any, features: _Features, rows: list[_Range]) -> Split:
    """Decodes rows into memory, in their order."""
    n = _count(rows)
    x = np.empty((n, *features.shape), features.dtype)
    y = np.empty(n, np.int32)
    at = 0
    for r in rows:
        # Never parquet, the other format with random access: TFDS 4.9 loses rows in it.
        with (
            quiet(),
            explained(
                f"data set {builder.name!r} in {builder.data_dir!r} has no array_record files: "
                'prepare it anew with file_format="array_record"'
            ),
        ):
            source = builder.as_data_source(r.split, file_format="array_record")
        with (
            quiet(),
            explained(
                f"data set {builder.name!r} in {builder.data_dir!r} is damaged in split "
                f"{r.split!r}: delete the folder and prepare it anew"
            ),
        ):
            for i in range(r.start, r.stop):
                example = source[i]
                value = np.asarray(example[features.input_key])
                if value.shape != features.shape:  # assignment would broadcast
                    raise ValueError(f"shape {value.shape}, expected {features.shape}")
                x[at], y[at] = value, example[features.label_key]
                at += 1
    if y.min() < 0 or y.max() >= features.num_classes:
        splits = ", ".join(sorted({r.split for r in rows}))
        raise InputError(
            f"data set {builder.name!r} has unlabelled rows in {splits}: labels from {y.min()} to "
            f"{y.max()}, allowed are 0 to {features.num_classes - 1}"
        )
    return Split(x, y)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over all but the last axis of one input; f32[C] each.

    Two passes in float64, a chunk at a time, so that a big uint8 array is never a float array.
    """
    axes = (0, *range(1, x.ndim - 1))
    count = math.prod(x.shape[a] for a in axes)
    chunks = range(0, len(x), _CHUNK)
    mean = sum(x[i : i + _CHUNK].sum(axes, dtype=np.float64) for i in chunks) / count
    squares = sum(np.square(x[i : i + _CHUNK] - mean).sum(axes) for i in chunks)
    return np.asarray(mean, np.float32), np.asarray(np.sqrt(squares / count), np.float32)
