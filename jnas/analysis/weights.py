"""The weights of a relaxed architecture over a gradient search: columns and a figure."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jnas.analysis import figures

PREFIX = "weight/"


def column(place: str, choice: str) -> str:
    """The name of a column of a history: the weight of a choice at a place."""
    return f"{PREFIX}{place}/{choice}"


def of_history(history: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """`{place: {choice: weights}}` of a history with such columns, in their order."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, values in history.items():
        if name.startswith(PREFIX):
            place, _, choice = name.removeprefix(PREFIX).rpartition("/")
            found.setdefault(place, {})[choice] = np.asarray(values, float)
    return found


def weights_figure(
    history: Mapping[str, np.ndarray],
    *,
    title: str = "",
    label: str = "weight",
    steps_label: str = "rounds",
    across: int = 7,
) -> Figure:
    """The weight of every choice against the steps of the search: a panel for each place.

    Several seeds are drawn as their mean.

    Args:
      history: columns `seed`, `evaluation` and those of `column`, one row for each look.
      title: a line above the figure.
      label: of the vertical axes.
      steps_label: of the horizontal ones.
      across: panels in a row, at most.

    Raises:
      ValueError: the history has no such columns.
    """
    places = of_history(history)
    if not places:
        raise ValueError(f"history has no columns {PREFIX}...: it is not that of a gradient search")
    words = list(dict.fromkeys(choice for choices in places.values() for choice in choices))
    colours = figures.operation_colours(words)
    steps, mean = _by_step(history)
    columns = min(across, len(places))
    rows = math.ceil(len(places) / columns)
    figure = Figure(figsize=(1.0 + 1.45 * columns, 1.1 + 1.25 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    top = 1.05 * max(np.max(mean @ x) for choices in places.values() for x in choices.values())
    handles: dict[str, Any] = {}
    for axes, (place, choices) in zip(grid.flat, places.items(), strict=False):
        for choice, values in choices.items():
            (line,) = axes.plot(steps, mean @ values, color=colours[choice], linewidth=1.4)
            handles.setdefault(choice, line)
        axes.set_title(place, fontsize=8, pad=3)
        axes.tick_params(labelsize=7)
        axes.set_ylim(0, top)
        axes.spines[["top", "right"]].set_visible(False)
        axes.locator_params(axis="x", nbins=3)
    for axes in list(grid.flat)[len(places) :]:
        axes.set_visible(False)
    figure.supxlabel(steps_label, fontsize=9)
    figure.supylabel(label, fontsize=9)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=_that_fit(list(handles), figure.get_figwidth()),
        frameon=False,
        fontsize=8,
        title=title or None,
    )
    return figure


def _that_fit(words: list[str], inches: float) -> int:
    """How many columns a legend of these words may have, which it fills one after another."""
    for rows in range(1, len(words)):
        parts = [words[i : i + rows] for i in range(0, len(words), rows)]
        # Of 8 points: a handle and its spaces take 0.53 inches, a letter at most 0.07.
        if sum(0.53 + 0.07 * max(map(len, part)) for part in parts) <= inches:
            return len(parts)
    return 1


def _by_step(history: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The steps, and the matrix that takes the mean over the seeds of each."""
    steps, row = np.unique(np.asarray(history["evaluation"]), return_inverse=True)
    mean = np.eye(len(steps))[row].T
    return steps, mean / mean.sum(1, keepdims=True)
