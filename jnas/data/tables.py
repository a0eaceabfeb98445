"""Tables of numbers, to be regressed or classified: those of scikit-learn, and CSV files."""

import io
from pathlib import Path

import numpy as np

from jnas.base import InputError
from jnas.data.contents import Contents, Source, decoded, fingerprint, label, numbers, stamp
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


def _rows(file: Path, path: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the rows, each with the number of its line."""
    import csv as reader

    lines = reader.reader(io.StringIO(decoded(file.read_bytes(), file), newline=""))
    rows = [(lines.line_num, row) for row in lines if row]
    if len(rows) < 6 or len(rows[0][1]) < 2:
        raise InputError(f"{path!r}: a row of names, 2 columns and 5 rows at least are needed")
    (_, header), *rows = rows
    if None not in map(_finite, header):
        raise InputError(f"{path!r}: its first row has to name the columns; it is numbers")
    for i, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path!r}, line {i}: {len(row)} columns; there are {len(header)}")
    return header, rows


def _finite(word: str) -> float | None:
    """The number that a word is, if it is a finite one of float32."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if abs(value) <= float(np.finfo(np.float32).max) else None


def _number(word: str, where: str) -> float:
    value = _finite(word)
    if value is None:
        raise InputError(f"{where}={word!r}: a finite number is needed")
    return value


def csv(path: str = "", target: str = "", classes: bool = False) -> Source:
    """A table of finite numbers with a header, to be regressed or classified.

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
        header, rows = _rows(file, path)
        if target and target not in header:
            raise InputError(f"{path!r} has no column {target!r}; it has {', '.join(header)}")
        at = header.index(target) if target else len(header) - 1
        labels = [row[at].strip() for _, row in rows]
        if classes and "" in labels:
            raise InputError(f"{path!r}, line {rows[labels.index('')][0]}: there is no class")
        table = [
            [
                np.nan if classes and k == at else _number(word, f"{path!r}, line {i}: {header[k]}")
                for k, word in enumerate(row)
            ]
            for i, row in rows
        ]
        whole = np.asarray(table, np.float32)
        x, names = np.delete(whole, at, 1), sorted(set(labels))
        y = np.asarray([names.index(k) for k in labels]) if classes else whole[:, at : at + 1]
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
