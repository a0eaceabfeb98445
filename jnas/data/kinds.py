"""From the columns of a data set to what a task takes: inputs x, and y to be learned."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jnas.base import InputError


class Split(NamedTuple):
    """Rows in the fixed order of the files."""

    x: Any  # [N, ...] as stored: uint8 for images; tokens uint8 or int32; a dict of two for pairs
    y: Any  # int32[N], 0 <= y < num_classes; for other tasks see jnas.evaluators.tasks


class Columns(NamedTuple):
    """Two columns of rows, and what is known of them."""

    x: np.ndarray
    y: np.ndarray
    facts: Mapping[str, Any]
    name: str


def _fail(columns: Columns, task: str, needs: str) -> InputError:
    told = f"inputs {columns.x.dtype} {columns.x.shape[1:]}, to learn {columns.y.dtype} "
    return InputError(
        f"data set {columns.name!r} is not one for {task}, which needs {needs}: it has "
        f"{told}{columns.y.shape[1:]}"
    )


def _multi_label(c: Columns) -> Split:
    if c.y.ndim != 2 or c.y.dtype.kind not in "bui" or (c.y.size and c.y.max() > 1):
        raise _fail(c, "multi_label", "a row of 0 and 1 for each input")
    return Split(c.x, c.y.astype(np.uint8))


def _segmentation(c: Columns) -> Split:
    y = c.y[..., 0] if c.y.ndim == 4 and c.y.shape[-1] == 1 else c.y
    if c.x.ndim != 4 or y.shape != c.x.shape[:3] or y.dtype.kind not in "ui":
        raise _fail(c, "segmentation", "images, and masks of classes as high and wide")
    if y.size and int(y.max()) >= c.facts.get("classes", 0):
        raise InputError(
            f"data set {c.name!r}: a mask holds class {int(y.max())}, and data.classes is "
            f"{c.facts.get('classes', 0)}"
        )
    return Split(c.x, y.astype(np.int32))


def _super_resolution(c: Columns) -> Split:
    factor = c.facts.get("factor", 2)
    sides = c.x.shape[1:3]
    if c.x.ndim != 4 or c.x.dtype != np.uint8:
        raise _fail(c, "super_resolution", "images of uint8")
    if factor < 2 or any(side % factor for side in sides):
        raise InputError(f"data.factor={factor}: it has to divide {sides}, and be at least 2")
    return Split(coarse(c.x, factor), c.x)


def coarse(x: np.ndarray, factor: int) -> np.ndarray:
    """Images uint8 `[N, H, W, C]` whose blocks of factor x factor pixels hold their mean."""
    n, h, w, c = x.shape
    blocks = x.reshape(n, h // factor, factor, w // factor, factor, c)
    mean = np.round(blocks.mean((2, 4), dtype=np.float32)).astype(np.uint8)
    return mean.repeat(factor, 1).repeat(factor, 2)


def _regression(c: Columns) -> Split:
    y = c.y[:, None] if c.y.ndim == 1 else c.y
    if y.ndim != 2 or y.dtype.kind not in "fiu":
        raise _fail(c, "regression", "a number or a row of them for each input")
    return Split(c.x, y.astype(np.float32))


def _language_model(c: Columns) -> Split:
    if c.x.ndim != 2 or c.x.dtype.kind not in "ui":
        raise _fail(c, "language_model", "rows of tokens")
    return Split(np.ascontiguousarray(c.x[:, :-1]), c.x[:, 1:].astype(np.int32))


def _sequence_to_sequence(c: Columns) -> Split:
    if c.x.ndim != 2 or c.y.ndim != 2 or c.x.dtype.kind not in "ui" or c.y.dtype.kind not in "ui":
        raise _fail(c, "sequence_to_sequence", "two rows of tokens")
    begin = np.ones((len(c.y), 1), np.int32)
    shifted = np.where(c.y[:, :-1] == 2, 0, c.y[:, :-1])  # what comes after the end is padding
    target = np.concatenate([begin, shifted], 1, dtype=np.int32)
    return Split({"source": c.x.astype(np.int32), "target": target}, c.y.astype(np.int32))


def _ctc(c: Columns) -> Split:
    if c.x.ndim != 3 or c.x.dtype.kind != "f" or c.y.ndim != 2 or c.y.dtype.kind not in "ui":
        raise _fail(c, "ctc", "series of float rows, and rows of labels")
    frames = (~np.isnan(c.x[..., 0])).sum(1).astype(np.int32)
    return Split(c.x, {"labels": c.y.astype(np.int32), "frames": frames})


KINDS: dict[str, Callable[[Columns], Split]] = {
    "classification": lambda c: Split(c.x, c.y.astype(np.int32)),
    "ctc": _ctc,
    "language_model": _language_model,
    "multi_label": _multi_label,
    "regression": _regression,
    "segmentation": _segmentation,
    "sequence_to_sequence": _sequence_to_sequence,
    "super_resolution": _super_resolution,
}
