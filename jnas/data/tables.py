"""Tables of numbers, to be regressed or classified: those of scikit-learn, and CSV files."""

from pathlib import Path

import numpy as np

from jnas.base import InputError
from jnas.data.contents import Contents, Source, fingerprint, label, numbers, stamp
from jnas.data.digits import mixed_order


def _table(name: str) -> Source:
    def make() -> Contents:
        from sklearn import datasets

        made = getattr(datasets, f"load_{name}")()
        x, y = made.data.astype(np.float32), made.target
        whole = y.dtype.kind in "iu" and name != "diabetes"
        order = mixed_order(y) if whole else np.random.RandomState(0).permutation(len(y))
        cut = len(y) - len(y) // 5
        y = y.astype(np.int64) if whole else y.astype(np.float32)[:, None]
        kind = label([str(k) for k in made.target_names]) if whole else numbers(1)
        return Contents(
            about=f"{name}, from scikit-learn.",
            features={"features": numbers(x.shape[1]), "target": kind},
            keys=("features", "target"),
            splits={
                k: {"features": x[rows], "target": y[rows]}
                for k, rows in (("train", order[:cut]), ("test", order[cut:]))
            },
            facts={"task": "classification" if whole else "regression"},
        )

    return Source("1.0.0", "", make)


def diabetes() -> Source:
    """A table of 442 patients, 10 numbers each: how does diabetes go on? A task for regression.

    Efron et al. 2004, Least angle regression. Comes with scikit-learn.
    """
    return _table("diabetes")


def breast_cancer() -> Source:
    """A table of 569 tumours, 30 numbers each, in 2 classes. Comes with scikit-learn."""
    return _table("breast_cancer")


def wine() -> Source:
    """A table of 178 wines, 13 numbers each, in 3 classes. Comes with scikit-learn."""
    return _table("wine")


def csv(path: str = "", target: str = "", classes: bool = False) -> Source:
    """A table of numbers with a header, to be regressed or classified.

    Every fifth row, of an order drawn once, is for the test.

    Args:
      path: the file, apart by commas.
      target: the name of the column to predict; by default the last one.
      classes: the target names classes; else it is a number.
    """
    file = Path(path).expanduser() if path else Path()
    if not file.is_file():
        raise InputError(f"data set 'csv': data.path {path!r} is not a file")

    def make() -> Contents:
        import csv as reader

        with open(file, newline="") as f:
            header, *rows = [row for row in reader.reader(f) if row]
        if target and target not in header:
            raise InputError(f"{path!r} has no column {target!r}; it has {', '.join(header)}")
        if not rows or any(len(row) != len(header) for row in rows):
            raise InputError(f"{path!r}: every row needs {len(header)} columns, and there are some")
        at = header.index(target) if target else len(header) - 1
        labels = [row[at] for row in rows]
        try:
            x = np.asarray([row[:at] + row[at + 1 :] for row in rows], np.float32)
            y = None if classes else np.asarray(labels, np.float32)[:, None]
        except ValueError as e:
            raise InputError(f"{path!r} is not a table of numbers: {e}") from None
        names = sorted(set(labels))
        if y is None:
            y = np.asarray([names.index(k) for k in labels])
        order = mixed_order(y) if classes else np.random.RandomState(0).permutation(len(y))
        cut = len(y) - len(y) // 5
        return Contents(
            about=f"The table {path}.",
            features={
                "features": numbers(x.shape[1]),
                "target": label(names) if classes else numbers(1),
            },
            keys=("features", "target"),
            splits={
                k: {"features": x[part], "target": y[part]}
                for k, part in (("train", order[:cut]), ("test", order[cut:]))
            },
            facts={"task": "classification" if classes else "regression"},
        )

    return Source("1.0.0", fingerprint(stamp([file]), target, classes), make)
