"""A figure of one-shot searches: how good the derived cell is, and what it has no weights on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jnas.analysis.figures import COLOURS


def collapse_figure(
    found: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    *,
    levels: Sequence[tuple[float, str]] = (),
    accuracy: str = "test accuracy of the cell, %",
    title: str = "",
) -> Figure:
    """Accuracy, skips and edges without weights of the derived cell over time: mean over the seeds.

    Args:
      found: for every method the parts of the search in % `[t]`, accuracies `[seeds, t]`, numbers
        of skip connections `[seeds, t]` and of edges without weights `[seeds, t]`, which the skips
        are among. A method that derives only once has one time, drawn as a point; several such
        points stand side by side.
      levels: accuracies to compare with, dashed, with a word for each.
      accuracy: the label of the upper axis.
      title: a line above.
    """
    figure = Figure(figsize=(7.2, 8.0), layout="constrained")
    above, middle, below = figure.subplots(3, 1, sharex=True)
    right = max(parts[-1] for parts, *_ in found.values())
    once = [name for name, (parts, *_) in found.items() if len(parts) == 1]
    for i, (name, (parts, *rows)) in enumerate(found.items()):
        colour = COLOURS[i % len(COLOURS)]
        for axes, values in zip((above, middle, below), rows, strict=True):
            mean, low, high = values.mean(0), values.min(0), values.max(0)
            if len(parts) == 1:
                bar = [mean - low, high - mean]
                at = np.asarray(parts) + 0.02 * right * once.index(name)
                axes.errorbar(at, mean, bar, color=colour, fmt="o", capsize=3, label=name)
            else:
                axes.plot(parts, mean, color=colour, linewidth=1.6, label=name)
                axes.fill_between(parts, low, high, color=colour, alpha=0.12, linewidth=0)
    for value, word in levels:
        above.axhline(value, color="#222222", linestyle="--", linewidth=0.8)
        beside: Any = {"transform": above.get_yaxis_transform(), "ha": "left", "va": "center"}
        above.text(1.01, value, word, fontsize=8, color="#222222", **beside)
    above.set_ylabel(accuracy)
    middle.set_ylabel("skip connections in it")
    below.set_ylabel("edges without weights")
    below.set_xlabel("part of the search, %")
    for axes in (above, middle, below):
        axes.grid(color="#E6E6E6", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
