"""Figures of a search, drawn from its history: the search curve, a cell, the chosen values.

Every function returns a new `Figure` and touches no global state. `save` writes it, and the same
data gives the same bytes.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from jnas.analysis.cell_layout import Layout, lay_out, parts

# The colours of Okabe and Ito, told apart under every common colour blindness
# (Wong, Points of view: Color blindness, Nature Methods 8, 441, 2011); its yellow is too pale here.
_BLUE, _ORANGE, _GREEN, _RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
_SKY, _PINK, _BLACK = "#56B4E9", "#CC79A7", "#000000"
_INK, _GREY, _FAINT = "#222222", "#666666", "#B5B5B5"
COLOURS = (_BLUE, _ORANGE, _GREEN, _RED, _PINK, _SKY, _BLACK)  # of lines, in this order

# The usual operations keep their colours from figure to figure; others take what is left.
_OPERATION_COLOURS = {
    "nor_conv_3x3": _BLUE,
    "nor_conv_1x1": _SKY,
    "sep_conv_3x3": _BLUE,
    "sep_conv_5x5": _SKY,
    "dil_conv_3x3": _PINK,
    "dil_conv_5x5": _BLACK,
    "avg_pool_3x3": _ORANGE,
    "max_pool_3x3": _RED,
    "skip_connect": _GREEN,
    "none": _FAINT,
    "": _GREY,
}

_MANY_SEEDS = 10  # above this, percentiles replace one line for each seed


# ----------------------------------------------------------------------------- search curve


def best_so_far(score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The best score among the first `i` trials, for every `i`.

    Args:
      score: `[seeds, n]`, higher is better; NaN is read as a failed trial.
      weight: `[seeds, n]`, 0 where the trial failed and its score means nothing.

    Returns:
      `[seeds, n]`, the running maximum; NaN before the first valid trial.

    Raises:
      ValueError: `score` and `weight` differ in shape.

    >>> best_so_far(np.array([[9.0, 1.0, 3.0, 2.0]]), np.array([[0.0, 1.0, 1.0, 1.0]]))
    array([[nan,  1.,  3.,  3.]])
    """
    score, weight = np.asarray(score, float), np.asarray(weight)
    if score.shape != weight.shape:
        raise ValueError(
            f"score has shape {score.shape}, weight {weight.shape}: give one weight for each score"
        )
    valid = (weight > 0) & ~np.isnan(score)
    running = np.maximum.accumulate(np.where(valid, score, -np.inf), axis=-1)
    return np.where(np.logical_or.accumulate(valid, axis=-1), running, np.nan)


def _by_seed(history: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The scores and weights of a history as `[seeds, n]`, weight 0 where a row is missing."""
    columns = ("seed", "evaluation", "score", "weight")
    missing = [name for name in columns if name not in history]
    if missing:
        raise ValueError(f"history lacks {missing}: it needs the columns {list(columns)}")
    rows, evaluation, score, weight = (np.asarray(history[name]) for name in columns)
    if not len(evaluation):
        raise ValueError("history has no trials: nothing to draw")
    if evaluation.min() < 1:
        raise ValueError(f"evaluation starts at {evaluation.min()}: it counts from 1 in each seed")
    seeds, row = np.unique(rows, return_inverse=True)
    shape = len(seeds), int(evaluation.max())
    scores, weights = np.full(shape, np.nan), np.zeros(shape)
    scores[row, evaluation - 1] = score
    weights[row, evaluation - 1] = weight
    return scores, weights


def _partial(history: Mapping[str, np.ndarray], weight: np.ndarray) -> np.ndarray:
    """Where a trial had less than the largest budget that its seed reached: bool`[seeds, n]`."""
    if "budget" not in history:
        return np.zeros(weight.shape, bool)
    budget, _ = _by_seed({**history, "score": history["budget"]})
    return budget < np.max(np.where(weight > 0, budget, 0), axis=1, keepdims=True)


def search_curve(
    history: Mapping[str, np.ndarray],
    *,
    score_name: str = "validation accuracy",
    title: str = "",
    negated: bool = False,
) -> Figure:
    """Score against evaluations: every trial of one seed, or the statistics of many.

    One seed shows its trials as dots, failed ones as crosses at the bottom, and the best so far as
    a step line, the best labelled. Many seeds show the mean best so far, a band of one standard
    deviation (of the seeds, not of the mean), and one thin line for each seed, or the 5th and 95th
    percentile above 10 seeds. A seed with fewer trials than others keeps its last best.

    Args:
      history: columns with one row for each trial, in any order: `seed` int`[n]`, `evaluation`
        int`[n]`, counted from 1 in each seed, `score` float`[n]`, `weight` float`[n]`, 0 where the
        trial failed; with a column `budget`, only trials of the largest are compared.
      score_name: the label of the vertical axis, with its unit.
      title: a line above the figure.
      negated: the score is minus what `score_name` says, of which less is better: the numbers are
        written without that sign, the best still at the top.

    Raises:
      ValueError: a column is missing, or the history is empty.
    """
    score, weight = _by_seed(history)
    shown = -1 if negated else 1
    part = _partial(history, weight)
    best = best_so_far(score, np.where(part, 0, weight))
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    if np.isnan(best).all():
        _frame(axes, score.shape[1], 0, 1)
        axes.text(0.5, 0.5, "no trial succeeded", transform=axes.transAxes, ha="center", color=_INK)
    elif len(score) == 1:
        _draw_trials(axes, np.where(weight[0] > 0, score[0], np.nan), best[0], part[0], shown)
    else:
        _draw_statistics(axes, best, shown)
    if negated:
        axes.yaxis.set_major_formatter(lambda y, _: f"{0.0 - y:g}")
    axes.set_xlabel("evaluations")
    axes.set_ylabel(score_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    if title:
        axes.set_title(title)
    return figure


def _frame(axes: Axes, n: int, low: float, high: float) -> None:
    """Limits with room below for failed trials and above for the label of the best."""
    span = (high - low) or max(abs(high), 1.0) * 0.1
    axes.set_xlim(1 - 0.02 * n, n + 0.02 * n + 0.02)
    axes.set_ylim(low - 0.08 * span, high + 0.14 * span)


def _label(axes: Axes, x: float, y: float, n: int, text: str) -> None:
    """A text just above a point, turned to the side that has room."""
    side = "left" if x < n / 4 else "right" if x > 3 * n / 4 else "center"
    axes.annotate(
        text, (x, y), xytext=(0, 6), textcoords="offset points", ha=side, va="bottom", color=_INK
    )


def _draw_trials(
    axes: Axes, score: np.ndarray, best: np.ndarray, part: np.ndarray, shown: int
) -> None:
    """The trials of one seed, `[n]`; NaN for a failed one. Those of a part are drawn pale.

    A number is written times `shown`.
    """
    n = len(score)
    evaluation = np.arange(1, n + 1)
    high, usual = np.nanmax(score), np.nanpercentile(score, 10)
    low = max(np.nanmin(score), usual - 2 * (high - usual))  # a few hopeless trials hide the rest
    _frame(axes, n, low, high)
    dots: dict[str, Any] = {"color": _SKY, "markersize": 4, "markeredgewidth": 0}
    if part.any():
        pale = {**dots, "color": _FAINT, "label": "smaller budget"}
        axes.plot(evaluation[part], score[part], "o", **pale)
    axes.plot(evaluation[~part], score[~part], "o", label="trial", **dots)
    axes.step(evaluation, best, where="post", color=_BLUE, linewidth=1.6, label="best so far")
    first = int(np.nanargmax(np.where(part, np.nan, score)))
    axes.plot(first + 1, score[first], "o", color=_RED, markersize=6, label="best")
    _label(axes, first + 1, score[first], n, f"{shown * score[first]:.4g}")
    marks = (
        ("x", "failed", evaluation[np.isnan(score)], _GREY),
        (
            "v",
            f"{'below' if shown > 0 else 'above'} {shown * low:.3g}",
            evaluation[score < low],
            _SKY,
        ),
    )
    for marker, label, where, colour in marks:
        if len(where):
            style: dict[str, Any] = {"color": colour, "markersize": 4.5, "label": label}
            bottom = axes.get_xaxis_transform()
            axes.plot(where, np.full(len(where), 0.03), marker, transform=bottom, **style)


def _draw_statistics(axes: Axes, best: np.ndarray, shown: int) -> None:
    """Mean, band and spread of the best so far, `[seeds, n]`, over the seeds that have one yet.

    A number is written times `shown`.
    """
    seeds, n = best.shape
    some = ~np.isnan(best).all(axis=0)
    evaluation, best = np.arange(1, n + 1)[some], best[:, some]
    mean, deviation = np.nanmean(best, axis=0), np.nanstd(best, axis=0)
    if seeds > _MANY_SEEDS:
        lines, name = np.nanpercentile(best, [5, 95], axis=0), "5th and 95th percentile"
    else:
        lines, name = best, "each seed"
    for k, line in enumerate(lines):
        label = name if k == 0 else None
        axes.step(evaluation, line, where="post", color=_SKY, linewidth=0.9, label=label)
    band = mean - deviation, mean + deviation
    axes.fill_between(
        evaluation, *band, step="post", color=_BLUE, alpha=0.18, linewidth=0, label="±1 std"
    )
    mean_label = f"mean of {seeds} seeds"
    axes.step(evaluation, mean, where="post", color=_BLUE, linewidth=1.8, label=mean_label)
    settled = min(n // 30, len(mean) - 1)  # the first few evaluations may leave the frame
    later = [*(line[settled:] for line in lines), band[0][settled:], band[1][settled:]]
    high = np.nanmax(later)
    last = deviation[-1] if deviation[-1] > 1e-9 * abs(mean[-1]) else 0.0  # else it is rounding
    _frame(axes, n, np.nanmin(later), high)
    _label(axes, n, high, n, f"{shown * mean[-1]:.4g} ± {last:.2g} after {n}")


# ------------------------------------------------------------------- cells and choices, in inches

_SIZE = 9  # of the text, in points
_ROW = 0.36  # between two edges that run above each other
_HEIGHT = 0.36  # of a box
_MARGIN = 0.15
_PORT = 0.1  # between two edges that meet a node side by side


def _width(text: str, weight: str = "normal") -> float:
    """The width of a text in inches."""
    if not text.strip():
        return 0.0
    plain = text.replace("$", "S")  # two would enclose a formula
    font = FontProperties(weight=weight)
    return TextPath((0, 0), plain, size=_SIZE, prop=font).get_extents().width / 72


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """An empty figure whose data coordinates are inches, with a title where one is given."""
    top = 0.35 if title else 0.0
    width = max(width, _width(title) * 1.4 + 2 * _MARGIN)
    figure = Figure(figsize=(width, height + top))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(0, height + top)
    if title:
        axes.text(width / 2, height + 0.12, title, ha="center", va="center", fontsize=_SIZE + 2)
    return figure, axes


def _box(axes: Axes, x: float, y: float, width: float, fill: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - _HEIGHT / 2),
            width,
            _HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=fill,
            edgecolor=_INK,
            linewidth=1,
            zorder=3,
        )
    )


def _arrow(axes: Axes, points: Sequence[tuple[float, float]], colour: str, faint: bool) -> None:
    """An arrow along straight lines through `points`, with rounded corners."""
    corners = np.asarray(points, float)
    steps = np.diff(corners, axis=0)
    length = np.linalg.norm(steps, axis=1)
    vertices, codes = [corners[0]], [Path.MOVETO]
    for k in range(1, len(corners) - 1):
        radius = min(0.16, *(length[k - 1 : k + 1] / 2))
        vertices += [corners[k] - steps[k - 1] / length[k - 1] * radius, corners[k]]
        vertices += [corners[k] + steps[k] / length[k] * radius]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    axes.add_patch(
        FancyArrowPatch(
            path=Path([*vertices, corners[-1]], [*codes, Path.LINETO]),
            arrowstyle="-|>,head_length=4,head_width=2",
            linestyle=":" if faint else "-",
            linewidth=1.1 if faint else 1.7,
            color=colour,
            capstyle="butt",
            joinstyle="miter",
            zorder=1,
        )
    )


# -------------------------------------------------------------------------------------- cells


def operation_colours(operations: Sequence[str]) -> dict[str, str]:
    """One colour for each operation, its own where it has one."""
    colours = {name: _OPERATION_COLOURS[name] for name in operations if name in _OPERATION_COLOURS}
    palette = [_BLUE, _RED, _GREEN, _ORANGE, _PINK, _SKY, _BLACK]
    left = [colour for colour in palette if colour not in colours.values()] or palette
    others = sorted(set(operations) - set(colours))
    return colours | {name: left[k % len(left)] for k, name in enumerate(others)}


def draw_cell(edges: Sequence[tuple[str, str, str]], *, title: str = "") -> Figure:
    """A cell with its nodes from left to right and an operation on every edge.

    Neighbouring nodes are joined by a straight edge, others by one that runs above or below; no two
    edges lie on each other. Edges with the operation `none` are faint and dotted; an edge with an
    empty operation has no label, such as the concatenation at the end of a DARTS cell. Cells that
    share no node are drawn one below the other.

    Args:
      edges: `(from_node, to_node, operation)` of a directed acyclic graph; two nodes may be joined
        more than once.
      title: a line above the figure.

    Raises:
      ValueError: there are no edges, or they form a cycle.
    """
    if not edges:
        raise ValueError("edges is empty: a cell has at least one (from_node, to_node, operation)")
    operations = [operation for _, _, operation in edges]
    colours = operation_colours(operations)
    ends = [(a, b) for a, b, _ in edges]
    cells = [(lay_out([ends[k] for k in part]), part) for part in parts(ends)]

    node_width = max(0.42, *(_width(node) + 0.16 for end in ends for node in end))
    for layout, _ in cells:
        ports = max(max(leave, -arrive) for leave, arrive in layout.ports)
        node_width = max(node_width, (2 * ports + 1) * _PORT)
    spacing = node_width + max(0.4, *(_width(name) for name in operations)) + 0.36
    most = max(len(layout.nodes) for layout, _ in cells)
    clear = _HEIGHT / 2 + _MARGIN + 0.1
    heights = [2 * clear + _ROW * (_rise(layout) + _fall(layout)) for layout, _ in cells]
    width = 2 * _MARGIN + (most - 1) * spacing + node_width
    figure, axes = _canvas(width, sum(heights), title)
    bottom = sum(heights)
    for (layout, part), height in zip(cells, heights, strict=True):
        bottom -= height
        many = len(layout.nodes)
        x = axes.get_xlim()[1] / 2 + (np.arange(many) - (many - 1) / 2) * spacing
        middle = bottom + clear + _fall(layout) * _ROW
        own = [operations[k] for k in part]
        _draw_layout(axes, layout, own, colours, x, middle, node_width)
    return figure


def _rise(layout: Layout) -> int:
    """Rows of edges above the nodes."""
    return max(0, *layout.level)


def _fall(layout: Layout) -> int:
    """Rows of edges below the nodes."""
    return max(0, *(-row for row in layout.level))


def _draw_layout(
    axes: Axes,
    layout: Layout,
    operations: Sequence[str],
    colours: Mapping[str, str],
    x: np.ndarray,
    middle: float,
    node_width: float,
) -> None:
    """Draws one cell whose nodes have their middles at `x`, `[nodes]`, and `middle`."""
    nodes, spans = layout.nodes, layout.spans
    for (start, end), row, (leave, arrive), operation in zip(*layout[1:], operations, strict=True):
        if row:
            side = 1 if row > 0 else -1
            foot = middle + side * _HEIGHT / 2
            y = foot + row * _ROW - side * 0.06
            left, right = x[start] + leave * _PORT, x[end] + arrive * _PORT
            points = [(left, foot), (left, y), (right, y), (right, foot)]
        else:
            y = middle
            points = [(x[start] + node_width / 2, y), (x[end] - node_width / 2, y)]
        faint = operation == "none"
        _arrow(axes, points, colours[operation], faint)
        if operation:
            # Between two nodes, never above one: there the edges of that node go up.
            axes.text(
                (x[(start + end - 1) // 2] + x[(start + end + 1) // 2]) / 2,
                y,
                operation,
                ha="center",
                va="center",
                fontsize=_SIZE,
                color=_GREY if faint else _INK,
                bbox={"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none"},
                zorder=2,
            )
    for k, node in enumerate(nodes):
        inner = k in {start for start, _ in spans} & {end for _, end in spans}
        _box(axes, x[k], middle, node_width, "white" if inner else "#E3EEF6")
        axes.text(x[k], middle, node, ha="center", va="center", fontsize=_SIZE, zorder=4)


def draw_choices(choices: Sequence[tuple[str, str]], *, title: str = "") -> Figure:
    """A chain of boxes from top to bottom, a name and its value each; a long one takes columns.

    Args:
      choices: `(name, value)` in the order of the network.
      title: a line above the figure.

    Raises:
      ValueError: there are no choices.
    """
    if not choices:
        raise ValueError("choices is empty: give at least one (name, value)")
    columns = -(-len(choices) // 12)
    rows = -(-len(choices) // columns)
    names = max(_width(name) * 1.05 for name, _ in choices)
    values = max(_width(value, "bold") * 1.05 for _, value in choices)  # glyphs snap to pixels
    box = names + values + 0.55
    pitch, gap = _HEIGHT + 0.2, 0.5
    height = 2 * _MARGIN + rows * pitch - 0.2
    width = 2 * _MARGIN + columns * (box + gap) - gap
    figure, axes = _canvas(width, height, title)
    left = (axes.get_xlim()[1] - width) / 2 + _MARGIN
    for k, (name, value) in enumerate(choices):
        column, row = divmod(k, rows)
        x = left + column * (box + gap) + box / 2
        y = height - _MARGIN - _HEIGHT / 2 - row * pitch
        _box(axes, x, y, box, "white")
        text: dict[str, Any] = {"va": "center", "fontsize": _SIZE, "zorder": 4, "parse_math": False}
        axes.text(x - box / 2 + 0.14, y, name, ha="left", color=_GREY, **text)
        axes.text(x + box / 2 - 0.14, y, value, ha="right", weight="bold", color=_INK, **text)
        if row:
            points = [(x, y + pitch - _HEIGHT / 2), (x, y + _HEIGHT / 2)]
            _arrow(axes, points, _GREY, faint=False)
        elif column:
            last = y - (rows - 1) * pitch
            turn = x - box / 2 - gap / 2
            before = x - gap - box / 2
            points = [(before, last), (turn, last), (turn, y), (x - box / 2, y)]
            _arrow(axes, points, _GREY, faint=False)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a PNG of 150 dots per inch; a reader of `path` sees the old file or the new, whole.

    Raises:
      OSError: the folder does not exist or cannot be written.
    """
    target = FilePath(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as boxes
            # Software would put matplotlib's version into the file.
            figure.savefig(part, format="png", dpi=150, metadata={"Software": None})
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
