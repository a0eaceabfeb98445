"""Pareto fronts of what a search has found: which trials are on it, its hypervolume, its figure.

Directions are "max" or "min", one for each objective. One point dominates another if it is nowhere
worse and somewhere better.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jnas.errors import InputError

_BLUE, _SKY, _INK = "#0072B2", "#56B4E9", "#222222"  # as in figures


def nondominated(values: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """Which points no other point dominates.

    Args:
      values: `[n, d]`, finite.
      directions: "max" or "min" for each of the `d` objectives.

    Returns:
      bool`[n]`. Of equal points on the front, all are on it.

    Raises:
      InputError: the shape and the directions do not fit, or there is another direction.

    >>> nondominated(np.array([[1.0, 9.0], [2.0, 3.0], [1.0, 3.0]]), ("max", "min"))
    array([False,  True, False])
    """
    points = _minimised(values, directions)
    unique, inverse = np.unique(points, axis=0, return_inverse=True)  # sorted, so best first
    front = np.zeros(len(unique), bool)
    for i, point in enumerate(unique):
        # Only an earlier point can dominate; among those of the front is one, if there is any.
        front[i] = not np.any(np.all(unique[:i][front[:i]] <= point, axis=1))
    return front[inverse.reshape(-1)]


def hypervolume(values: np.ndarray, reference: Sequence[float], directions: Sequence[str]) -> float:
    """The volume between the points and a reference point that is worse than they are.

    Zitzler and Thiele 1998, "Multiobjective optimization using evolutionary algorithms". Exact for
    any number of objectives: the last is cut into slices, each of which is a problem with one
    objective less (Knowles 2002; While et al. 2006). For d objectives and n points on the front the
    time grows as n^(d - 1).

    Args:
      values: `[n, d]`, finite.
      reference: the reference point, `[d]`. Points that are not better in all objectives add
        nothing.
      directions: "max" or "min" for each objective.

    Returns:
      The volume.

    Raises:
      InputError: the shape, the reference and the directions do not fit.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), (3.0, 3.0), ("min", "min"))
    3.0
    """
    points = _minimised(values, directions)
    if len(reference) != len(directions):
        raise InputError(
            f"reference {tuple(reference)}: it needs one number for each of the "
            f"{len(directions)} objectives"
        )
    corner = _minimised(np.asarray([reference], float), directions)[0]
    points = np.unique(points[np.all(points < corner, axis=1)], axis=0)
    return float(_volume(points, corner))


def _volume(points: np.ndarray, corner: np.ndarray) -> float:
    """The hypervolume of distinct points, all below the corner, to be minimised."""
    if not len(points):
        return 0.0
    points = points[nondominated(points, ["min"] * len(corner))]
    if len(corner) == 1:
        return float(corner[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    if len(corner) == 2:  # the first objective falls as the second grows
        above = np.append(corner[0], points[:-1, 0])
        return float(np.sum((above - points[:, 0]) * (corner[1] - points[:, 1])))
    ends = np.append(points[1:, -1], corner[-1])
    slices = (
        (end - point[-1]) * _volume(points[: i + 1, :-1], corner[:-1])
        for i, (point, end) in enumerate(zip(points, ends, strict=True))
        if end > point[-1]
    )
    return float(sum(slices))


def front_figure(
    history: Mapping[str, np.ndarray],
    objectives: Mapping[str, str],
    *,
    reference: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """All trials of a search in the plane of two objectives, and their Pareto front as a step line.

    Args:
      history: columns with one row for each trial: the objectives, and `weight`, 0 where the
        trial failed.
      objectives: two columns with the direction of each, "max" or "min": the horizontal axis first.
      reference: a point; the hypervolume to it is written into the legend.
      title: a line above the figure.

    Raises:
      InputError: there are not two objectives, a column is missing, or no trial succeeded.
    """
    if len(objectives) != 2:
        raise InputError(f"objectives {list(objectives)}: a figure shows two of them")
    missing = [name for name in (*objectives, "weight") if name not in history]
    if missing:
        raise InputError(f"history lacks {missing}; it has {sorted(history)}")
    names, directions = list(objectives), list(objectives.values())
    values = np.stack([np.asarray(history[name], float) for name in names], -1)
    values = values[(np.asarray(history["weight"]) > 0) & np.isfinite(values).all(-1)]
    if not len(values):
        raise InputError("no trial of the history succeeded: there is no front to draw")
    front = np.unique(values[nondominated(values, directions)], axis=0)
    label = f"Pareto front of {len(front)}"
    if reference is not None:
        label += f", hypervolume {hypervolume(front, reference, directions):.5g}"
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*values.T, "o", color=_SKY, markersize=4, markeredgewidth=0, label="trial")
    # Between two points of the front, all that both dominate is reached, and no more.
    where = "post" if directions[0] == "min" else "pre"
    style = {"color": _BLUE, "linewidth": 1.6, "marker": "o", "markersize": 5}
    axes.step(*front.T, where=where, label=label, **style)
    for axis, name, way in ((axes.xaxis, *i) for i in objectives.items()):
        better = {("x", "max"): "→", ("x", "min"): "←", ("y", "max"): "↑", ("y", "min"): "↓"}
        axis.set_label_text(f"{name}  ({better[axis.axis_name, way]} better)", color=_INK)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    if title:
        axes.set_title(title)
    return figure


def _minimised(values: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """The points `[n, d]` with all objectives to be minimised."""
    points = np.asarray(values, float)
    if points.ndim != 2 or points.shape[1] != len(directions):
        raise InputError(
            f"points of shape {points.shape}: [n, {len(directions)}] is needed for the directions "
            f"{tuple(directions)}"
        )
    for way in directions:
        if way not in ("max", "min"):
            raise InputError(f"direction {way!r}; allowed are 'max' and 'min'")
    if not np.isfinite(points).all():
        raise InputError("points have to be finite: leave out the trials that failed")
    return points * [1.0 if way == "min" else -1.0 for way in directions]
