"""A figure of one-shot searches: how good the derived cell is, and how many skips it has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jnas.analysis.figures import COLOURS


def collapse_figure(
    found: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    levels: Sequence[tuple[float, str]] = (),
    accuracy: str = "test accuracy of the derived cell, %",
    title: str = "",
) -> Figure:
    """Test accuracy and skip connections of the derived cell against steps: mean over the seeds.

    Args:
      found: for every method its steps `[t]`, accuracies `[seeds, t]` and numbers of skip
        connections `[seeds, t]`. A method that derives only once has one step, drawn as a point;
        several such points of one step stand side by side.
      levels: accuracies to compare with, dashed, with a word for each.
      accuracy: the label of the upper axis.
      title: a line above.
    """
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    right = max(steps[-1] for steps, *_ in found.values())
    once = [name for name, (steps, *_) in found.items() if len(steps) == 1]
    for i, (name, (steps, *rows)) in enumerate(found.items()):
        colour = COLOURS[i % len(COLOURS)]
        for axes, values in zip((above, below), rows, strict=True):
            mean, low, high = values.mean(0), values.min(0), values.max(0)
            if len(steps) == 1:
                bar = [mean - low, high - mean]
                at = np.asarray(steps) + 0.02 * right * once.index(name)
                axes.errorbar(at, mean, bar, color=colour, fmt="o", capsize=3, label=name)
            else:
                axes.plot(steps, mean, color=colour, linewidth=1.6, label=name)
                axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
    for value, word in levels:
        above.axhline(value, color="#222222", linestyle="--", linewidth=0.8)
        beside: Any = {"transform": above.get_yaxis_transform(), "ha": "left", "va": "center"}
        above.text(1.01, value, word, fontsize=8, color="#222222", **beside)
    above.set_ylabel(accuracy)
    below.set_ylabel("skip connections in it")
    below.set_xlabel("steps of the search")
    for axes in (above, below):
        axes.grid(color="#E6E6E6", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
