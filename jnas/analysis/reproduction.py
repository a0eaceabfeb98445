"""A figure of reproduced searches beside the published ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jnas.analysis.figures import COLOURS

DASHES = ("-", ":", "--", "-.")  # of the first, second ... variant of a method


def curves(
    found: Mapping[str, tuple[np.ndarray, np.ndarray]],
    published: Sequence[tuple[float, str, Sequence[float]]],
    datasets: Sequence[str],
    optimum: Sequence[float],
) -> Figure:
    """Mean test accuracy of the best cell so far against simulated seconds.

    Args:
      found: for every method its times `[t]` and accuracies `[data sets, t]`. Methods whose names
        agree up to a comma have one colour, and dashes of their own.
      published: `(seconds, method, accuracies)`, drawn as points in the colour of the first method
        of `found` that begins with the same name.
      datasets: the names of the data sets, a panel each.
      optimum: the best accuracy of each data set, a dashed line.
    """
    figure = Figure(figsize=(4.2 * len(datasets), 4.2), layout="constrained")
    colour: dict[str, str] = {}
    variants: dict[str, list[str]] = {}
    for label in found:
        name = label.partition(",")[0]
        colour.setdefault(name, COLOURS[len(colour) % len(COLOURS)])
        variants.setdefault(name, []).append(label)
    dash = {v: DASHES[k % len(DASHES)] for same in variants.values() for k, v in enumerate(same)}
    for d, axes in enumerate(figure.subplots(1, len(datasets), squeeze=False)[0]):
        for label, (times, accuracy) in found.items():
            style: dict[str, Any] = {"color": colour[label.partition(",")[0]], "linewidth": 1.5}
            axes.plot(times, accuracy[d], dash[label], label=label, **style)
        for seconds, name, values in published:
            if name in colour:
                axes.plot(seconds, values[d], "D", color=colour[name], markersize=5.5)
        axes.axhline(optimum[d], color="#222222", linestyle="--", linewidth=0.8)
        lines = [a[d] for _, a in found.values()]
        start = np.mean([a[len(a) // 8] for a in lines])
        room = optimum[d] - start
        axes.set_ylim(start - 0.3 * room, optimum[d] + 0.1 * room)
        axes.set_title(datasets[d])
        axes.set_xlabel("simulated seconds")
        axes.grid(color="#E6E6E6", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if d == 0:
            axes.set_ylabel("test accuracy, %")
            handles, labels = axes.get_legend_handles_labels()
    handles += [
        Line2D([], [], color="#666666", marker="D", linestyle="", markersize=5.5),
        Line2D([], [], color="#222222", linestyle="--", linewidth=0.8),
    ]
    labels += ["published", "optimum"]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
