"""Data sets made here: digits in mosaics and lines, shapes to segment, dates to write anew."""

import datetime

import numpy as np

from jnas.base import InputError
from jnas.data.contents import Contents, Source, numbers, pixels
from jnas.data.digits import NUM_TRAIN, mixed_order
from jnas.data.text import pairs_contents

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The two splits of the digits: images uint8 `[N, 8, 8]` and labels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = np.round(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    order = mixed_order(y)
    parts = {"train": order[:NUM_TRAIN], "test": order[NUM_TRAIN:]}
    return {k: (x[rows], y[rows]) for k, rows in parts.items()}


def digit_mosaics() -> Source:
    """Images of 16 x 16 with one to four handwritten digits: which ones? Several labels each."""

    def make() -> Contents:
        splits = {}
        for name, (x, y) in _digits().items():
            n = 4000 if name == "train" else 1000
            rng = np.random.RandomState(len(y))
            image, labels = np.zeros((n, 16, 16, 1), np.uint8), np.zeros((n, 10), np.uint8)
            for i in range(n):
                for corner in rng.permutation(4)[: rng.randint(1, 5)]:
                    k = rng.randint(len(y))
                    top, left = 8 * (corner // 2), 8 * (corner % 2)
                    image[i, top : top + 8, left : left + 8, 0] = x[k]
                    labels[i, y[k]] = 1
            splits[name] = {"image": image, "labels": labels}
        return Contents(
            about="One to four of scikit-learn's digits in an image of 16 x 16.",
            features={"image": pixels(16, 16, 1), "labels": pixels(10)},
            keys=("image", "labels"),
            splits=splits,
            facts={"task": "multi_label"},
        )

    return Source("1.0.0", "", make)


def digit_lines(most: int = 4) -> Source:
    """Lines of one to `most` handwritten digits, column by column: which digits? A task for CTC.

    Digits of 8 x 8 pixels stand beside each other with 0 to 2 empty columns between them. A frame
    of the series is a column of 8 pixels.

    Args:
      most: digits in a line, at most.
    """
    if not 1 <= most <= 20:
        raise InputError(f"data.most={most}: from 1 to 20 digits in a line")

    def make() -> Contents:
        long, splits = 10 * most, {}
        for name, (x, y) in _digits().items():
            n = 3000 if name == "train" else 600
            rng = np.random.RandomState(len(y))
            series = np.full((n, long, 8), np.nan, np.float32)
            labels = np.zeros((n, most), np.int32)
            for i in range(n):
                at = 0
                for j in range(rng.randint(1, most + 1)):
                    k, gap = rng.randint(len(y)), rng.randint(3)
                    series[i, at : at + 8] = x[k].T / 255
                    series[i, at + 8 : at + 8 + gap] = 0
                    at += 8 + gap
                    labels[i, j] = y[k] + 1
            splits[name] = {"series": series, "labels": labels}
        return Contents(
            about="Lines of scikit-learn's digits, as series of columns.",
            features={"series": numbers(long, 8), "labels": numbers(most, dtype=np.int32)},
            keys=("series", "labels"),
            splits=splits,
            facts={"task": "ctc", "vocabulary": 11},
        )

    return Source("1.0.0", str(most), make)


def shapes(size: int = 32, rows: int = 1200) -> Source:
    """Discs, squares and triangles over a noisy background, to be told apart pixel by pixel.

    Every image has one to four shapes of 6 to 14 pixels, in random colours, later ones in front;
    classes are 0 for the background, 1 for discs, 2 for squares, 3 for triangles.

    Args:
      size: height and width.
      rows: images; a sixth is the test split.
    """
    if size < 16 or rows < 12:
        raise InputError(f"data.size={size}, data.rows={rows}: at least 16 and 12 are needed")

    def make() -> Contents:
        rng = np.random.RandomState(0)
        i, j = np.mgrid[:size, :size]
        image = np.zeros((rows, size, size, 3), np.uint8)
        mask = np.zeros((rows, size, size), np.uint8)
        for n in range(rows):
            canvas = rng.uniform(0, 255, 3) * np.ones((size, size, 1))
            for _ in range(rng.randint(1, 5)):
                kind, half = rng.randint(1, 4), rng.uniform(3, 7)
                y, x = rng.uniform(half, size - half, 2)
                dy, dx = i - y, j - x
                inside = [
                    dy**2 + dx**2 <= half**2,
                    np.maximum(abs(dy), abs(dx)) <= half * 0.9,
                    (dy <= half) & (2 * abs(dx) <= dy + half),
                ][kind - 1]
                canvas[inside] = rng.uniform(0, 255, 3)
                mask[n][inside] = kind
            noisy = canvas + rng.normal(0, 25, canvas.shape)
            image[n] = np.clip(np.round(noisy), 0, 255)
        cut = rows - rows // 6
        return Contents(
            about="Generated: discs, squares and triangles, with a mask of classes.",
            features={"image": pixels(size, size, 3), "mask": pixels(size, size)},
            keys=("image", "mask"),
            splits={
                "train": {"image": image[:cut], "mask": mask[:cut]},
                "test": {"image": image[cut:], "mask": mask[cut:]},
            },
            facts={"task": "segmentation", "classes": 4},
        )

    return Source("1.0.0", f"{size}-{rows}", make)


def dates(rows: int = 12000) -> Source:
    """Dates in ten ways of writing, to be written as 2015-03-24: sequence to sequence.

    Days from 1950 to 2049, none twice, so that those of the test are new. A sixth is the test.

    Args:
      rows: dates.
    """
    first, last = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
    many = (last - first).days + 1
    if not 12 <= rows <= many:
        raise InputError(f"data.rows={rows}: from 12 to {many} dates")

    def make() -> Contents:
        rng = np.random.RandomState(0)
        pairs = []
        for number in rng.permutation(many)[:rows]:
            day = first + datetime.timedelta(int(number))
            pairs.append((written(day, rng.randint(10)), day.isoformat()))
        return pairs_contents("Dates, generated.", pairs, rows // 6)

    return Source("1.0.0", str(rows), make)


def written(day: datetime.date, way: int) -> str:
    """A date in one of ten ways of writing.

    >>> written(datetime.date(2015, 3, 24), 0)
    'Tuesday, March 24, 2015'
    """
    month, name = MONTHS[day.month - 1], DAYS[day.weekday()]
    d, m, y = day.day, day.month, day.year
    ending = "th" if 11 <= d <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    return (
        f"{name}, {month} {d}, {y}",
        f"{d} {month} {y}",
        f"{month[:3]} {d}, {y}",
        f"{d}.{m}.{y}",
        f"{d:02}/{m:02}/{y}",
        f"{name[:3]} {d} {month[:3]} {y}",
        f"{month.upper()} {d} {y}",
        f"{y} {month.lower()} {d}",
        f"{d}-{month[:3].upper()}-{y}",
        f"the {d}{ending} of {month}, {y}",
    )[way]
