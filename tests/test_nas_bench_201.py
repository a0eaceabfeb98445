"""NAS-Bench-201 against its official table: numbering, text, isomorphism, parameters, FLOPs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas import nets, spaces
from jnas.base import InputError, from_index, index, size
from jnas.nets import count_flops, count_params
from jnas.spaces.nas_bench_201 import EDGES, OPERATIONS, all_cells, representatives

SETTINGS = ({"classes": 10}, {"classes": 100}, {"classes": 120, "image": 16})  # as in the table
SPACE = spaces.nas_bench_201()


def test_the_operations_and_edges_are_the_official_ones(nb201: dict[str, np.ndarray]) -> None:
    assert tuple(nb201["op_names"]) == OPERATIONS
    assert tuple(map(tuple, nb201["edges"])) == EDGES


def test_all_cells_stand_in_the_official_order(nb201: dict[str, np.ndarray]) -> None:
    assert size(SPACE) == 15_625
    np.testing.assert_array_equal(all_cells(), nb201["ops"])
    np.testing.assert_array_equal(from_index(SPACE, jnp.arange(15_625)), nb201["ops"])
    np.testing.assert_array_equal(index(SPACE, jnp.asarray(nb201["ops"], jnp.int32)), range(15_625))


def test_all_cells_have_the_official_text_and_read_back(nb201: dict[str, np.ndarray]) -> None:
    for cell, text in zip(nb201["ops"], nb201["arch_str"].tolist(), strict=True):
        assert SPACE.describe(cell) == text
        np.testing.assert_array_equal(SPACE.parse(text), cell)


def test_isomorphic_cells_have_the_official_representative(nb201: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(representatives(), nb201["iso_rep"])
    cells = jnp.asarray(nb201["ops"], jnp.int32)
    canonical = jax.jit(jax.vmap(SPACE.canonical))(cells)
    np.testing.assert_array_equal(canonical, nb201["ops"][nb201["iso_rep"]])
    np.testing.assert_array_equal(SPACE.canonical(canonical), canonical)


def test_there_are_6466_classes_as_published() -> None:
    assert np.unique(representatives()).size == 6_466


@pytest.mark.parametrize("column", range(3), ids=["cifar10", "cifar100", "ImageNet16-120"])
def test_parameters_and_flops_are_the_official_ones(
    column: int, nb201: dict[str, np.ndarray]
) -> None:
    counts = spaces.nas_bench_201(**SETTINGS[column]).counts
    cells = jnp.asarray(nb201["ops"], jnp.int32)
    for name in ("params", "flops"):
        np.testing.assert_array_equal(jax.vmap(counts[name])(cells), nb201[name][:, column])


@pytest.mark.parametrize("column", range(3), ids=["cifar10", "cifar100", "ImageNet16-120"])
def test_the_network_itself_has_the_official_number_of_parameters(
    column: int, nb201: dict[str, np.ndarray]
) -> None:
    net = nets.nas_bench_201(16, 5, **SETTINGS[column])
    counted = jax.jit(jax.vmap(lambda cell: count_params(net, cell)))
    cells = jnp.asarray(nb201["ops"], jnp.int32)
    np.testing.assert_array_equal(counted(cells), nb201["params"][:, column])


@pytest.mark.parametrize("column", [0, 2], ids=["cifar10", "ImageNet16-120"])
def test_the_traced_network_has_the_official_flops(
    column: int, nb201: dict[str, np.ndarray]
) -> None:
    setting = SETTINGS[column]
    net, image = nets.nas_bench_201(16, 5, **setting), setting.get("image", 32)
    for i in (0, 11, 6111):
        traced = count_flops(net, nb201["ops"][i].astype(np.int32), (image, image, 3))
        bias = setting["classes"]  # the official rule counts the classifier's bias
        assert traced + bias == nb201["flops"][i, column]


@pytest.mark.parametrize(
    "setting",
    [
        {"channels": 4, "cells": 1, "classes": 7, "image": 8, "inputs": 1},
        {"channels": 6, "cells": 3, "classes": 2, "image": 12, "inputs": 3},
        {"channels": 5, "cells": 2, "classes": 3, "image": 7, "inputs": 2, "stages": 1},
        {"channels": 3, "cells": 1, "classes": 4, "image": 8, "inputs": 1, "stages": 4},
    ],
)
def test_counts_hold_for_other_widths_depths_and_images(setting: dict) -> None:
    space, net = spaces.nas_bench_201(**setting), nets.nas_bench_201(**setting)
    shape = (setting["image"], setting["image"], setting["inputs"])
    for cell in ([0, 1, 2, 3, 4, 2], [3, 3, 3, 3, 3, 3]):
        arch = np.asarray(cell, np.int32)
        assert int(space.counts["params"](arch)) == int(count_params(net, arch))
        flops = count_flops(net, arch, shape) + setting["classes"]
        assert int(space.counts["flops"](arch)) == flops


GOOD = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace("nor_conv_1x1", "nor_conv_5x5"), "unknown operation 'nor_conv_5x5'; allowed"),
        (GOOD.replace("~2", "~1"), "should end in ~2"),
        (GOOD[:-1], "the form is"),
        (GOOD + "|none~0|", "the form is"),
        (GOOD.rsplit("+", 1)[0], "the form is"),
        (GOOD.replace("+", ""), "unknown operation"),
        ("", "unknown operation|the form is"),
        ("|", "unknown operation|the form is"),
    ],
)
def test_a_wrong_text_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30) | st.text("|~+012none", max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(InputError) as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


def test_the_drawing_of_a_cell_has_its_six_labelled_edges() -> None:
    assert SPACE.edges is not None
    drawn = SPACE.edges(SPACE.parse(GOOD))
    assert drawn[0] == ("in", "1", "nor_conv_3x3") and drawn[-1] == ("2", "out", "nor_conv_1x1")
    assert len(drawn) == 6


def test_a_network_of_one_stage_has_the_counts_of_a_hand_count() -> None:
    space = spaces.nas_bench_201(channels=2, cells=3, classes=5, image=7, inputs=1, stages=1)
    cell = np.asarray([3, 0, 1, 2, 4, 2], np.int32)  # a 3x3 and two 1x1 convolutions
    stem, convolutions, head = 9 * 2, 9 * 4 + 4 + 4, 2 * 5
    norms = 2 * 2 * (1 + 3 * 3 + 1)  # of the stem, of three convolutions in three cells, the last
    assert int(space.counts["params"](cell)) == stem + 3 * convolutions + norms + head + 5
    assert int(space.counts["flops"](cell)) == 49 * (stem + 3 * convolutions) + head + 5


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"image": 30}, "image size 30: .* a multiple of 4"),
        ({"image": 7, "stages": 2}, "image size 7: .* a multiple of 2"),
        ({"image": 1, "stages": 1}, "image size 1: .* images, not vectors"),
        ({"stages": 0}, "stages=0: .* at least 1"),
    ],
)
def test_a_network_that_cannot_be_is_refused(setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        spaces.nas_bench_201(**setting)
