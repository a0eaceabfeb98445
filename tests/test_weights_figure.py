"""The figure of a relaxed architecture's weights shows what the history holds."""

import numpy as np
import pytest

from jnas.analysis import figures
from jnas.analysis.weights import column, of_history, weights_figure


def _history(seeds: int) -> dict[str, np.ndarray]:
    steps = np.tile([10, 20, 30], seeds)
    part = np.concatenate(
        [np.asarray([0.2, 0.5, 0.9]) * (1 if s == 0 else 0.5) for s in range(seeds)]
    )
    history = {"seed": np.repeat(np.arange(seeds), 3), "evaluation": steps, "score": 0 * part}
    for place in ("0→1", "a/b"):
        history[column(place, "none")] = part
        history[column(place, "skip_connect")] = 1 - part
    return history


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_panel_for_each_place_and_a_line_for_each_choice(seeds, tmp_path):
    history = _history(seeds)
    assert list(of_history(history)) == ["0→1", "a/b"]
    figure = weights_figure(history, title="DARTS")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["0→1", "a/b"]
    line, other = panels[1].get_lines()
    scale = 1 if seeds == 1 else 0.75
    np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30])
    np.testing.assert_allclose(line.get_ydata(), np.asarray([0.2, 0.5, 0.9]) * scale)
    np.testing.assert_allclose(other.get_ydata(), 1 - line.get_ydata())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["none", "skip_connect"]
    figures.save(figure, tmp_path / "weights.png")
    assert (tmp_path / "weights.png").stat().st_size > 1000


def test_a_history_of_another_search_is_told_apart():
    with pytest.raises(ValueError, match="no columns weight/"):
        weights_figure({"seed": np.zeros(1), "evaluation": np.ones(1)})


@pytest.mark.parametrize(("places", "words"), [(7, 13), (7, 8), (2, 5), (1, 3), (7, 40)])
def test_the_legend_lies_within_the_figure(places, words):
    history = {"seed": np.zeros(2), "evaluation": np.arange(2), "score": np.zeros(2)}
    for i in range(places):
        for j in range(words):
            history[column(f"normal {i}→9", f"sep_conv_{j}x{j}")] = np.full(2, 1 / words)
    figure = weights_figure(history, title="pc_darts")
    figure.draw_without_rendering()
    assert len(figure.legends[0].get_texts()) == words
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.x0 <= legend.x0 and legend.x1 <= whole.x1
