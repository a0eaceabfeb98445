"""Reads a data set into memory, split for a search."""

import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jnas.base import InputError
from jnas.data.builders import explained, open_builder, quiet
from jnas.data.kinds import KINDS, Columns, Split

_CHUNK = 1024  # rows that are made float at a time
TOKENS = ("language_model", "sequence_to_sequence")  # tasks whose inputs are tokens


class Dataset(NamedTuple):
    """What a search may see of a data set.

    Attributes:
      name: of the data set.
      train: its rows.
      validation: likewise.
      num_classes: the classes, or the outputs for each place: columns to regress, channels of an
        image, labels of CTC with the blank, tokens of a vocabulary.
      shape: of one input, such as (8, 8, 1); of the source for sequence to sequence.
      mean: f32[C] over train.x as stored, where C is the last axis of shape; None for tokens.
      std: f32[C]; 0 where a channel is constant.
      task: what is to be learned, a name of `jnas.data.kinds.KINDS`.
      facts: what else is known: `vocabulary`, `target_length`, `target_mean`, `sha256`, ...
      splits: that the data set has.
    """

    name: str
    train: Split
    validation: Split
    num_classes: int
    shape: tuple[int, ...]
    mean: Any
    std: Any
    task: str = "classification"
    facts: Mapping[str, Any] = {}
    splits: tuple[str, ...] = ()


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
    task: str = "",
    classes: int = 0,
    factor: int = 2,
    mask: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Loads the training and validation rows of a data set.

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
      task: what is to be learned, a name of `jnas.data.kinds.KINDS`; by default what the data set
        is for, of TFDS classification.
      classes: of the masks of a segmentation, where the data set does not say.
      factor: of a super-resolution: how much coarser than the images the inputs are.
      mask: of padded series: adds a channel that is 1 where there is a frame, 0 in the padding.
      options: of a data set of `names()`, such as the `path` of its files.

    Returns:
      The data set. Padding of series is the mean of the training rows, so 0 when scaled.

    Raises:
      InputError: the data set is unknown, not prepared, damaged or not one for the task; a spec is
        wrong or empty, or touches a test split; training and validation rows overlap.
    """
    if not 0 < validation_fraction < 1:
        raise InputError(
            f"validation_fraction {validation_fraction!r}: it must be greater than 0, less than 1"
        )
    for spec in (train, validation):
        _refuse_test(spec)
    builder = open_builder(name, data_dir, download, options)
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

    settings = {"classes": classes, "factor": factor, "mask": mask}
    features = _Features(builder, input_key, label_key, task, settings)
    if mask and (len(features.shape) != 2 or features.dtype.kind != "f"):
        raise InputError(
            f"data.mask={mask}: data set {builder.name!r} has no padding: its inputs are "
            f"{features.dtype} {features.shape}, and series of numbers have some"
        )
    rows = _read(builder, features, train_rows)
    held_out = _read(builder, features, validation_rows)
    mean, std, shape = None, None, features.shape
    if features.task not in TOKENS:
        mean, std = _moments(rows.x)
        rows, held_out = (_filled(split, mean, mask) for split in (rows, held_out))
        if mask:
            mean, std = np.append(mean, np.float32(0)), np.append(std, np.float32(1))
            shape = (*shape[:-1], shape[-1] + 1)
    if features.task == "language_model":
        shape = (shape[0] - 1,)
    return Dataset(
        name=builder.name,
        train=rows,
        validation=held_out,
        num_classes=features.num_classes,
        shape=shape,
        mean=mean,
        std=std,
        task=features.task,
        facts=_facts(features, rows),
        splits=tuple(builder.info.splits),
    )


def load_test(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    input_key: str = "",
    label_key: str = "",
    like: Dataset | None = None,
    task: str = "",
    classes: int = 0,
    factor: int = 2,
    mask: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Split:
    """Loads the test rows of a data set: for the one measurement after a search.

    Args:
      name: as in `load`.
      data_dir: as in `load`.
      download: as in `load`.
      input_key: as in `load`.
      label_key: as in `load`.
      like: the data set that was loaded, for the padding of series; without it they hold NaN there.
      task: as in `load`.
      classes: as in `load`.
      factor: as in `load`.
      mask: as in `load`.
      options: as in `load`.

    Returns:
      The rows of the split `test`.

    Raises:
      InputError: there is no test split, or one without labels; else as in `load`.
    """
    builder = open_builder(name, data_dir, download, options)
    check_test(builder.name, tuple(builder.info.splits))
    settings = {"classes": classes, "factor": factor, "mask": mask}
    features = _Features(builder, input_key, label_key, task, settings)
    split = _read(builder, features, _resolve(builder, "test"))
    if like is None or features.task in TOKENS:
        return split
    return _filled(split, like.mean[: features.shape[-1]] if mask else like.mean, mask)


def check_test(name: str, splits: tuple[str, ...]) -> None:
    """Raises `InputError` where a data set has no test split."""
    if "test" not in splits:
        raise InputError(f"data set {name!r} has no split 'test': it has {', '.join(splits)}")


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

    def __init__(
        self, builder: Any, input_key: str, label_key: str, task: str, settings: dict[str, Any]
    ):
        import tensorflow_datasets as tfds

        known = dict(builder.info.metadata or {})
        self.task = task or known.get("task", "classification")
        if self.task not in KINDS:
            raise InputError(f"data.task {self.task!r}: allowed are {', '.join(KINDS)}")
        self.facts = {**known, **{k: v for k, v in settings.items() if v or k not in known}}

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

        if self.task == "super_resolution":
            label_key = input_key
        x, y = found[input_key], found[label_key]
        classes = isinstance(y, tfds.features.ClassLabel) and y.num_classes
        if self.task == "classification" and not classes:
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
        self.several = 0  # classes, where a row has a list of them
        if self.task == "multi_label" and isinstance(y, tfds.features.Sequence):
            self.several = int(getattr(y.feature, "num_classes", None) or 0)
        self.y_shape = (self.several,) if self.several else y.shape
        if not isinstance(self.y_shape, tuple) or None in self.y_shape:
            raise InputError(
                f"{what}: what is to be learned has a variable size: feature {label_key!r} has "
                f"shape {y.shape}"
            )
        self.y_dtype = np.dtype(np.int32 if classes else np.uint8 if self.several else y.np_dtype)
        if self.y_dtype.kind not in "buif":
            raise InputError(f"{what}: feature {label_key!r} is {type(y).__name__}, no numbers")
        outputs = {
            "classification": lambda: y.num_classes,
            "segmentation": lambda: self.facts["classes"],
            "super_resolution": lambda: self.shape[-1],
        }
        last = lambda: self.facts.get("vocabulary") or (self.y_shape or (1,))[-1]
        self.num_classes = int(outputs.get(self.task, last)())


def _read(builder: Any, features: _Features, rows: list[_Range]) -> Split:
    """Decodes rows into memory, in their order, as the task takes them."""
    n = _count(rows)
    x = np.empty((n, *features.shape), features.dtype)
    y = np.empty((n, *features.y_shape), features.y_dtype)
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
                x[at] = value
                if features.several:
                    y[at] = 0
                    y[at, np.asarray(example[features.label_key], int)] = 1
                else:
                    y[at] = example[features.label_key]
                at += 1
    classifies = features.task == "classification"
    if classifies and (y.min() < 0 or y.max() >= features.num_classes):
        splits = ", ".join(sorted({r.split for r in rows}))
        raise InputError(
            f"data set {builder.name!r} has unlabelled rows in {splits}: labels from {y.min()} to "
            f"{y.max()}, allowed are 0 to {features.num_classes - 1}"
        )
    return KINDS[features.task](Columns(x, y, features.facts, builder.name))


def _filled(split: Split, mean: np.ndarray, mask: bool) -> Split:
    """Series with the mean in place of their padding, NaN; with a channel that says where it is."""
    x = split.x
    if x.dtype.kind != "f":
        return split
    there = ~np.isnan(x[..., :1])
    x = np.where(there, x, mean).astype(x.dtype)
    return split._replace(x=np.concatenate([x, there.astype(x.dtype)], -1) if mask else x)


def _facts(features: _Features, rows: Split) -> dict[str, Any]:
    """What a task and a network have to know, besides shapes."""
    facts = {k: v for k, v in features.facts.items() if v and k not in ("task", "classes")}
    if features.task != "super_resolution":
        facts.pop("factor", None)
    if features.task == "regression":
        facts |= {"target_mean": rows.y.mean(0), "target_std": rows.y.std(0)}
    if features.task == "sequence_to_sequence":
        facts |= {"target_length": rows.y.shape[1]}
    return facts


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over all but the last axis of one input; f32[C] each.

    Two passes in float64, a chunk at a time, so that a big uint8 array is never a float array. NaN
    is padding and does not count.
    """
    if x.dtype.kind == "f" and np.isnan(x).any():
        wide, axes = x.astype(np.float64), tuple(range(x.ndim - 1))
        return np.nanmean(wide, axes).astype(np.float32), np.nanstd(wide, axes).astype(np.float32)
    axes = (0, *range(1, x.ndim - 1))
    count = math.prod(x.shape[a] for a in axes)
    chunks = range(0, len(x), _CHUNK)
    mean = sum(x[i : i + _CHUNK].sum(axes, dtype=np.float64) for i in chunks) / count
    squares = sum(np.square(x[i : i + _CHUNK] - mean).sum(axes) for i in chunks)
    return np.asarray(mean, np.float32), np.asarray(np.sqrt(squares / count), np.float32)
