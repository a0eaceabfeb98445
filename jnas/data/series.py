"""Series of numbers: `.ts` files, the speech of JapaneseVowels, MNIST-1D."""

from pathlib import Path

import numpy as np

from jnas.base import InputError
from jnas.data.contents import (
    Contents,
    Source,
    fingerprint,
    label,
    numbers,
    packaged,
    stamp,
)
from jnas.data.digits import mixed_order


def padded(series: list[np.ndarray], length: int, features: int) -> np.ndarray:
    """Series `[T_i, F]` as one array `[N, length, F]` with NaN after the end of each."""
    whole = np.full((len(series), length, features), np.nan, np.float32)
    for row, each in zip(whole, series, strict=True):
        row[: len(each)] = each[:length]
    return whole


def classified(about: str, splits: dict, classes: list[str] | int, homepage: str = "") -> Contents:
    """Series `{split: ([series], [class])}` with one class each."""
    every = [s for rows, _ in splits.values() for s in rows]
    length, features = max(len(s) for s in every), every[0].shape[1]
    return Contents(
        about=about,
        features={"series": numbers(length, features), "label": label(classes)},
        keys=("series", "label"),
        splits={
            name: {"series": padded(rows, length, features), "label": np.asarray(y, np.int64)}
            for name, (rows, y) in splits.items()
        },
        facts={"task": "classification"},
        homepage=homepage,
    )


def read_ts(file: Path) -> tuple[list[np.ndarray], list[str]]:
    """Series and class labels of a `.ts` file, the format of the UCR and UEA archives.

    After a header of lines `@key value`, every line is a series: its dimensions apart by `:`, the
    values of each by `,`, and the class last. `?` is a missing value, which the mean of the
    dimension's others in the series replaces.

    Returns:
      `([f32[T, F]], [class])`.

    Raises:
      InputError: the file is not one with classes and without time stamps.
    """
    series, labels, body = [], [], False
    text = file.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{str(file)!r}, line {number}"
        if not body:
            key, _, value = line.lower().partition(" ")
            if key == "@timestamps" and value.strip() == "true":
                raise InputError(f"{where}: series with time stamps are not read")
            if key == "@targetlabel" and value.strip().startswith("true"):
                raise InputError(f"{where}: its series have numbers to predict; classes are needed")
            if key == "@classlabel" and not value.strip().startswith("true"):
                raise InputError(f"{where}: the series have no classes")
            body = key == "@data"
            continue
        *dimensions, name = line.split(":")
        try:
            table = [
                [np.nan if v.strip() == "?" else float(v) for v in d.split(",")] for d in dimensions
            ]
        except ValueError as e:
            raise InputError(f"{where}: {e}") from None
        if not table or len({len(d) for d in table}) > 1:
            raise InputError(f"{where}: its dimensions differ in length")
        found = np.asarray(table, np.float32).T
        if np.isinf(found).any():
            raise InputError(f"{where}: a value is infinite")
        if not name.strip():
            raise InputError(f"{where}: there is no class")
        gaps = np.isnan(found)
        if gaps.any():
            total = np.nansum(found, 0) / np.maximum((~gaps).sum(0), 1)
            found = np.where(gaps, total, found)
        series.append(found)
        labels.append(name.strip())
    if not series:
        raise InputError(f"{str(file)!r} is not a .ts file with series after a line @data")
    return series, labels


def _ts_source(train: Path, test: Path | None, about: str, homepage: str = "") -> Source:
    files = [f for f in (train, test) if f is not None]

    def make() -> Contents:
        parts = {"train": read_ts(train)} | ({} if test is None else {"test": read_ts(test)})
        classes = sorted({k for _, labels in parts.values() for k in labels})
        splits = {}
        for name, (series, labels) in parts.items():
            y = np.asarray([classes.index(k) for k in labels])
            order = mixed_order(y)  # the files are sorted by class
            splits[name] = ([series[i] for i in order], y[order])
        if len({s.shape[1] for rows, _ in splits.values() for s in rows}) > 1:
            raise InputError(f"{str(train)!r}: its series differ in dimensions")
        return classified(about, splits, classes, homepage)

    return Source("1.0.0", fingerprint(stamp(files)), make)


def ts(path: str = "") -> Source:
    """Series in `.ts` files, such as those of the UCR and UEA archives.

    Args:
      path: the file `NAME_TRAIN.ts`, which `NAME_TEST.ts` may stand beside, or their folder.
    """
    place = Path(path).expanduser() if path else Path()
    found = [place] if place.is_file() else sorted(place.glob("*_TRAIN.ts")) if path else []
    if len(found) != 1:
        raise InputError(
            f"data set 'ts': set data.path to one file NAME_TRAIN.ts, or its folder; {path!r} "
            f"holds {len(found)}"
        )
    test = found[0].with_name(found[0].name.replace("_TRAIN", "_TEST"))
    test_file = test if test.is_file() and test != found[0] else None
    return _ts_source(found[0], test_file, f"Series of {path}.")


def japanese_vowels() -> Source:
    """Real speech of 9 men saying /ae/: who speaks? 12 LPC cepstra a frame, 7 to 29 frames.

    270 utterances to train on and 370 for the test. Kudo, Toyama and Shimbo 1999, Multidimensional
    curve classification using passing-through regions. Comes with the package aeon.
    """
    place = "datasets/data/JapaneseVowels/JapaneseVowels_{}.ts"
    train, test = (packaged("aeon", place.format(k), "japanese_vowels") for k in ("TRAIN", "TEST"))
    about = "JapaneseVowels: LPC cepstra of 9 speakers, from aeon."
    source = _ts_source(train, test, about, "https://doi.org/10.24432/C5NS47")
    return source._replace(variant="")


def speakers_in_turn(most: int = 4) -> Source:
    """Utterances of JapaneseVowels one after another: who speaks when? A task for CTC.

    Args:
      most: utterances in a row, at most; each is of another speaker than the one before.
    """
    if not 1 <= most <= 10:
        raise InputError(f"data.most={most}: from 1 to 10 utterances in a row")
    vowels = japanese_vowels()

    def make() -> Contents:
        base, splits = vowels.make().splits, {}
        for name, columns in base.items():
            x, y = columns["series"], columns["label"]
            n = 2000 if name == "train" else 500
            rng = np.random.RandomState(len(y))
            rows, labels = [], np.zeros((n, most), np.int32)
            for i in range(n):
                said: list[np.ndarray] = []
                for j in range(rng.randint(1, most + 1)):
                    k = rng.choice(np.flatnonzero(y + 1 != (labels[i, j - 1] if j else 0)))
                    said.append(x[k][~np.isnan(x[k][:, 0])])
                    labels[i, j] = y[k] + 1
                rows.append(np.concatenate(said))
            splits[name] = (rows, labels)
        length = max(len(s) for rows, _ in splits.values() for s in rows)
        return Contents(
            about="Utterances of JapaneseVowels in a row.",
            features={"series": numbers(length, 12), "labels": numbers(most, dtype=np.int32)},
            keys=("series", "labels"),
            splits={
                k: {"series": padded(rows, length, 12), "labels": y}
                for k, (rows, y) in splits.items()
            },
            facts={"task": "ctc", "vocabulary": 10},
        )

    return Source("1.0.0", str(most), make)


def mnist_1d() -> Source:
    """MNIST-1D: 5,000 series of 40 numbers in 10 classes, made by the package mnist1d.

    4,000 to train on and 1,000 for the test. Greydanus and Kobak 2024, arXiv 2011.14439.
    """
    packaged("mnist1d", "data.py", "mnist_1d")

    def make() -> Contents:
        from mnist1d.data import get_dataset_args, make_dataset

        state = np.random.get_state()
        try:
            made = make_dataset(get_dataset_args())
        finally:
            np.random.set_state(state)
        splits = {
            name: (list(np.asarray(made[x], np.float32)[..., None]), np.asarray(made[y]))
            for name, x, y in (("train", "x", "y"), ("test", "x_test", "y_test"))
        }
        return classified("MNIST-1D, generated.", splits, 10, "https://arxiv.org/abs/2011.14439")

    return Source("1.0.0", "", make)
