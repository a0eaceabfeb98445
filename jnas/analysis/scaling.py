"""The figure of a search for compound scaling coefficients."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

BLUE, RED, GREY, INK = "#0072B2", "#D55E00", "#666666", "#222222"


def scaling_figure(
    rows: Sequence[Mapping[str, Any]],
    family: Sequence[Mapping[str, Any]],
    baseline: Mapping[str, Any] | None = None,
) -> Figure:
    """The accuracy of every (alpha, beta, gamma), and what the networks of the best one cost.

    Args:
      rows: with `alpha`, `beta`, `gamma` and, where they were trained, `accuracy` (the mean) and
        `std`; without any accuracy, multiply-adds take its place.
      family: with `phi` and `flops`, from phi = 0.
      baseline: with `accuracy`, a line to compare with.

    Returns:
      The figure.
    """
    trained = all(row.get("accuracy") is not None for row in rows)
    key = "accuracy" if trained else "flops"
    ranked = sorted(rows, key=lambda row: row[key])
    height = max(3.2, 0.24 * len(ranked) + 1.2)
    figure = Figure(figsize=(9.6, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    places = range(len(ranked))
    values = [row[key] for row in ranked]
    spread = [row.get("std") or 0.0 for row in ranked] if trained else None
    left.errorbar(values, places, xerr=spread, fmt="o", color=BLUE, markersize=4, elinewidth=1)
    if trained:
        best = len(ranked) - 1
        left.plot(values[best], best, "o", color=RED, markersize=6, label="best", zorder=3)
        if baseline is not None:
            line = baseline["accuracy"]
            left.axvline(line, color=GREY, linestyle=":", label=f"baseline {line:.4f}")
        left.legend(loc="lower right", frameon=False)
    words = [f"α {r['alpha']:g}   β {r['beta']:g}   γ {r['gamma']:g}" for r in ranked]
    left.set_yticks(list(places), words, fontsize=8)
    left.set_title("depth α, width β, resolution γ", fontsize=10)
    left.set_xlabel("validation accuracy" if trained else "multiply-adds")
    if not trained:
        left.xaxis.set_major_formatter(lambda value, _: _short(value))
    phi, flops = [r["phi"] for r in family], [r["flops"] for r in family]
    right.plot(phi, flops, "o-", color=BLUE, label="networks")
    doubled = [flops[0] * 2 ** (p - phi[0]) for p in phi]
    right.plot(phi, doubled, color=GREY, linestyle=":", label="twice as much each time")
    right.set_yscale("log")
    low, high = min(*flops, *doubled), max(*flops, *doubled)
    marks = [m * 10**e for e in range(1, 13) for m in (1, 2, 5) if low <= m * 10**e <= high]
    if len(marks) > 6:
        marks = [m for m in marks if str(m)[0] == "1"]
    right.yaxis.set_major_locator(FixedLocator(marks or [flops[0]]))
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(lambda value, _: _short(value))
    right.set_title("scaled up by φ", fontsize=10)
    right.set_xticks(phi)
    right.set_xlabel("φ")
    right.set_ylabel("multiply-adds")
    right.legend(loc="upper left", frameon=False)
    for axes in (left, right):
        axes.grid(color="#E6E6E6", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _short(value: float) -> str:
    """A number in thousands, millions or billions."""
    for unit, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{word}"
    return f"{value:g}"
