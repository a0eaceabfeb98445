"""Figures: the numbers behind them, the texts in them, and the bytes on disk."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from jnas.analysis import cell_layout, figures

NAS_BENCH_201 = [
    ("in", "1", "nor_conv_3x3"),
    ("in", "2", "nor_conv_1x1"),
    ("1", "2", "avg_pool_3x3"),
    ("in", "out", "skip_connect"),
    ("1", "out", "none"),
    ("2", "out", "nor_conv_3x3"),
]
DARTS = [
    ("c_{k-2}", "0", "sep_conv_3x3"),
    ("c_{k-1}", "0", "sep_conv_3x3"),
    ("c_{k-2}", "1", "sep_conv_3x3"),
    ("c_{k-1}", "1", "dil_conv_5x5"),
    ("c_{k-1}", "2", "skip_connect"),
    ("0", "2", "sep_conv_5x5"),
    ("c_{k-2}", "3", "skip_connect"),
    ("2", "3", "dil_conv_3x3"),
    *((str(node), "c_{k}", "") for node in range(4)),
]


def random_history(seeds: int, n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seeds * n)
    return {
        "seed": np.repeat(np.arange(seeds) + 7, n),
        "evaluation": np.tile(np.arange(1, n + 1), seeds),
        "score": rng.random(seeds * n),
        "weight": (rng.random(seeds * n) > 0.2).astype(float),
    }


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose drawn boxes intersect."""
    figure.draw_without_rendering()
    boxes = [(t.get_text(), t.get_window_extent()) for t in figure.axes[0].texts]
    return [(s, t) for (s, a), (t, b) in itertools.combinations(boxes, 2) if a.overlaps(b)]


def test_cells_that_share_no_node_are_drawn_apart() -> None:
    other = [(f"{a}'", f"{b}'", op) for a, b, op in DARTS]
    both = figures.draw_cell([*DARTS, *other])
    one = figures.draw_cell(DARTS)
    assert not overlapping(both)
    assert sorted(texts(both)) == sorted([*texts(one), *texts(figures.draw_cell(other))])
    assert both.get_figheight() == pytest.approx(2 * one.get_figheight())


# -------------------------------------------------------------------------------- best so far

score_or_nan = st.floats(-10, 10) | st.just(np.nan)


@given(st.lists(st.tuples(score_or_nan, st.sampled_from([0.0, 0.5, 1.0])), min_size=1))
def test_best_so_far_equals_a_loop(trials):
    score, weight = np.array(trials).T
    expected, best = [], np.nan
    for value, counts in trials:
        if counts > 0 and not np.isnan(value) and not best >= value:
            best = value
        expected.append(best)
    both = figures.best_so_far(np.stack([score, score]), np.stack([weight, 0 * weight]))
    np.testing.assert_array_equal(both[0], expected)
    assert np.isnan(both[1]).all(), "failed trials have no best"


def test_best_so_far_refuses_scores_without_their_weights():
    with pytest.raises(ValueError, match="one weight for each score"):
        figures.best_so_far(np.ones((2, 3)), np.ones(3))


# ------------------------------------------------------------------------------- search curve


def test_the_best_of_one_seed_is_labelled_and_a_failed_higher_score_is_not():
    history = random_history(1, 30)
    history["score"][3], history["weight"][3] = 99.0, 0.0
    best = history["score"][history["weight"] > 0].max()
    found = texts(figures.search_curve(history, score_name="accuracy (%)", title="A title"))
    assert f"{best:.4g}" in found
    assert "99" not in found
    assert {"accuracy (%)", "evaluations", "A title", "failed", "best so far"} <= set(found)


def test_many_seeds_are_labelled_with_their_mean_and_deviation_at_the_end():
    history = random_history(25, 40)
    scores = np.where(history["weight"] > 0, history["score"], -1).reshape(25, 40).max(axis=1)
    found = texts(figures.search_curve(history))
    assert f"{scores.mean():.4g} ± {scores.std():.2g} after 40" in found
    assert {"mean of 25 seeds", "5th and 95th percentile"} <= set(found)
    assert "each seed" in texts(figures.search_curve(random_history(3, 10)))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_negated_score_is_written_without_its_sign_and_its_best_is_at_the_top(seeds):
    history = random_history(seeds, 9)
    plain = figures.search_curve(history)
    minus = figures.search_curve({**history, "score": history["score"] - 1}, negated=True)
    best = np.nanmax if seeds == 1 else np.mean
    last = figures.best_so_far(*figures._by_seed(history))[:, -1]
    assert any(text.startswith(f"{best(last):.4g}") for text in texts(plain))
    assert any(text.startswith(f"{1 - best(last):.4g}") for text in texts(minus))
    (axes,) = minus.axes
    assert axes.yaxis.get_major_formatter()(0.0, 0) == "0"
    assert axes.get_ylim()[0] < axes.get_ylim()[1] <= 0.2
    assert axes.yaxis.get_major_formatter()(-0.25, 0) == "0.25"


def test_the_order_of_rows_does_not_matter(tmp_path):
    history = random_history(12, 20)
    shuffle = np.random.default_rng(0).permutation(240)
    shuffled = {name: column[shuffle] for name, column in history.items()}
    for name, rows in (("a.png", history), ("b.png", shuffled)):
        figures.save(figures.search_curve(rows), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_search_in_which_everything_failed_says_so(seeds):
    history = random_history(seeds, 5)
    history["weight"] *= 0
    assert "no trial succeeded" in texts(figures.search_curve(history))


def test_a_history_that_cannot_be_drawn_is_refused_with_the_reason():
    history = random_history(1, 4)
    with pytest.raises(ValueError, match="weight"):
        figures.search_curve({k: v for k, v in history.items() if k != "weight"})
    with pytest.raises(ValueError, match="no trials"):
        figures.search_curve({name: column[:0] for name, column in history.items()})
    with pytest.raises(ValueError, match="counts from 1"):
        figures.search_curve(history | {"evaluation": np.arange(4)})


# -------------------------------------------------------------------------- cells and choices


@pytest.mark.parametrize("edges", [NAS_BENCH_201, DARTS], ids=["nas_bench_201", "darts"])
def test_a_cell_shows_every_node_and_operation_and_no_text_covers_another(edges):
    figure = figures.draw_cell(edges, title="A cell")
    operations = sorted(operation for _, _, operation in edges if operation)
    nodes = sorted({node for edge in edges for node in edge[:2]})
    assert sorted(texts(figure)) == sorted([*operations, *nodes, "A cell"])
    assert overlapping(figure) == []


dags = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda e: e[0] < e[1]),
    min_size=1,
    max_size=16,
)


@given(dags)
def test_edges_run_left_to_right_and_never_lie_on_each_other(pairs):
    nodes, spans, level, ports = cell_layout.lay_out([(str(a), str(b)) for a, b in pairs])
    assert sorted(nodes) == sorted({str(node) for pair in pairs for node in pair})
    for (a, b), (start, end) in zip(pairs, spans, strict=True):
        assert (nodes[start], nodes[end]) == (str(a), str(b))
        assert start < end
    rows = list(zip(spans, level, ports, strict=True))
    for ((a, b), row, port), ((c, d), other, beside) in itertools.combinations(rows, 2):
        assert row != other or b <= c or d <= a, "two edges share a row"
        if row * other > 0:
            assert (a, port[0]) != (c, beside[0]), "two edges leave a node at one place"
            assert (b, port[1]) != (d, beside[1]), "two edges reach a node at one place"
    for (start, end), row, _ in rows:
        assert row or end - start == 1, "a straight edge would run through a node"


def test_a_complete_cell_of_four_nodes_has_no_crossings():
    spans, level = cell_layout.lay_out([edge[:2] for edge in NAS_BENCH_201])[1:3]
    for ((a, b), row), ((c, d), other) in itertools.permutations(zip(spans, level, strict=True), 2):
        assert not (a < c < b < d and row * other > 0)


def test_different_operations_have_different_colours():
    operations = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "mine"]
    assert len(set(figures.operation_colours(operations).values())) == len(operations)


def test_a_cell_that_is_no_dag_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        figures.draw_cell([("a", "b", "conv"), ("b", "a", "conv")])
    with pytest.raises(ValueError, match="empty"):
        figures.draw_cell([])


@pytest.mark.parametrize("n", [1, 5, 30])
def test_choices_show_every_name_and_value_apart(n):
    choices = [(f"layer {k} operation", f"mbconv_e6_k{k}") for k in range(n)]
    figure = figures.draw_choices(choices)
    assert sorted(texts(figure)) == sorted(text for choice in choices for text in choice)
    assert overlapping(figure) == []


# ------------------------------------------------------------------------------------ on disk


def test_the_same_data_gives_the_same_bytes_and_leaves_nothing_else(tmp_path):
    for name in ("a.png", "b.png"):
        figures.save(figures.draw_cell(NAS_BENCH_201), tmp_path / name)
    first = (tmp_path / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert first == (tmp_path / "b.png").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_long_names_and_values_lie_apart_and_dollars_and_foreign_words_are_drawn(tmp_path):
    rows = [("a_long_name_of_a_choice_" * 2, "b" * 60), ("price", "$\\frac$"), ("漢字", "漢字")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.draw_choices(rows)
        figures.save(figure, tmp_path / "a.png")
        warnings.simplefilter("ignore")
        assert texts(figure) == [word for row in rows for word in row]
        assert overlapping(figure) == []


def test_a_failed_save_keeps_the_old_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    figure = figures.draw_choices([("depth", "3")])
    figure.text(0.5, 0.5, "$\\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        figures.save(figure, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
