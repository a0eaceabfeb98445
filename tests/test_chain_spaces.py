"""NATS-Bench size, ENAS macro, chains and residual networks: numbers, limits, texts, repairs."""

import bz2
import itertools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED_DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas import links, spaces
from jnas.base import InputError, from_index, index, sample, size
from jnas.spaces.metaqnn import CONV, DENSE, END, POOL

same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
CLASSES = {"cifar10-valid": 10, "cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}


class _Plain(pickle.Unpickler):
    """Reads records of the benchmark, which hold NumPy scalars and ordered dicts besides."""

    allowed = frozenset(
        [
            ("collections", "OrderedDict"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "scalar"),
        ]
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def _record(name: str) -> Any:
    folder = SHARED_DATA / "nats_bench_raw_sample" / "NATS-sss-v1_0-50262-simple"
    path = folder / f"{name}.pickle.pbz2"
    if not path.exists():
        pytest.skip(f"the data file {path.name} is not here")
    with bz2.open(path) as stream:
        return _Plain(stream).load()


# ------------------------------------------------------------------------------ NATS-Bench size


@pytest.mark.parametrize("number", [0, 11, 284])
def test_real_records_have_their_number_parameters_and_flops(number: int) -> None:
    runs = _record(f"{number:06d}")["90"]["all_results"]
    assert {name for name, _ in runs} == set(CLASSES)
    for (name, _), run in runs.items():
        image = 16 if name == "ImageNet16-120" else 32
        space = spaces.nats_size(classes=CLASSES[name], image=image)
        arch = space.parse(run["arch_config"]["channels"])
        assert int(index(space, arch)) == number
        assert int(space.counts["params"](arch)) == round(run["params"] * 1e6)
        assert int(space.counts["flops"](arch)) == round(run["flop"] * 1e6)


def test_all_sizes_stand_in_the_official_order() -> None:
    official = _record("meta")["meta_archs"]
    space = spaces.nats_size()
    archs = np.asarray(from_index(space, jnp.arange(8**5)))
    assert size(space) == len(official) == 8**5
    assert [space.describe(arch) for arch in archs[::37]] == official[::37]


@pytest.mark.parametrize("text", ["8:8:8:8", "8:8:8:8:9", "", "8:8:8:8:8:8", "a:b:c:d:e"])
def test_a_wrong_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"the form is|allowed: 8, 16"):
        spaces.nats_size().parse(text)


# ---------------------------------------------------------------------------------- ENAS macro

# The published network of the macro search (arXiv 1802.03268, figure 7), by its script: 24 layers,
# of which the first 12.
MACRO = (
    "0 3 0 0 1 0 2 0 0 1 2 0 0 0 0 3 1 1 0 1 0 2 0 0 0 0 0 1 2 0 1 1 0 1 1 1 1 0 1 1 1 0 1 0 1 "
    "0 0 0 0 0 0 0 0 0 0 2 0 0 0 0 0 1 0 0 0 0 0 1 0 0 1 1 0 0 0 0 1 1"
)


def test_the_macro_space_has_the_published_size_and_notation() -> None:
    space = spaces.enas_macro()
    assert size(space) == 6**12 * 2**66 and f"{size(space):.1e}" == "1.6e+29"
    arch = space.parse(MACRO)
    assert space.describe(arch) == MACRO
    assert arch["ops"].tolist() == [0, 3, 0, 2, 2, 3, 2, 2, 1, 0, 2, 0]
    many = jax.device_get(sample(space, jax.random.key(0), 10))
    for i in range(10):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        same(space.parse(space.describe(one)), one)


def _macro(channels: int, text: str) -> int:
    """The parameters of a macro network in a plain count, as ENAS' published code trains it."""
    numbers, width = [int(word) for word in text.split()], channels
    total, made = 27 * channels + 2 * channels, 1
    for layer in range(24):
        op, bits = numbers[0], numbers[1 : 1 + layer]
        numbers = numbers[1 + layer :]
        total += width**2 + 2 * width + (9, 9, 25, 25)[op] * width**2 + 2 * width
        if layer:
            total += (1 + sum(bits)) * width**2 + 2 * width
        made += 1
        if layer in (7, 15):
            total += made * (2 * width**2 + 4 * width)
            width *= 2
    return total + 10 * width


def test_the_published_macro_network_has_the_parameters_of_its_code() -> None:
    space = spaces.enas_macro(96, 24, doubling=True, separable=False)
    arch = space.parse("ENAS")
    text = space.describe(arch)
    assert text.startswith(MACRO) and len(text.split()) == 300
    assert _macro(96, text) == 42_559_392
    bias = 10  # of the classifier, which the published one has not
    assert int(space.counts["params"](arch)) == 42_559_392 + bias


@pytest.mark.parametrize(
    ("text", "told"),
    [("0 1 2", "the form is 78 digits"), ("9" + MACRO[1:], "layer 1: 9"), ("x" * 200, "the form")],
)
def test_a_wrong_macro_network_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        spaces.enas_macro().parse(text)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------- chains


def _allowed(layers: list[tuple], image: int) -> bool:
    """Whether the rules of MetaQNN's table 1 let a chain be, told one layer at a time."""
    size, before, dense, units = image, None, 0, None
    for kind, window, stride, width in layers:
        if before == END:
            if kind != END:
                return False
        elif kind == CONV:
            if dense or window > size:
                return False
        elif kind == POOL:
            if dense or window > size or before == POOL:
                return False
            size = len(range(0, size - window + 1, stride))
        elif kind == DENSE:
            if dense == 2 or (dense and width > units) or (not dense and size > 8):
                return False
            dense, units = dense + 1, width
        before = kind
    return True


SMALL = {"layers": 4, "filters": (2,), "units": (4, 3), "kernels": (3,), "pools": ((2, 2), (5, 3))}
SMALL_CHAIN = spaces.metaqnn(**SMALL, classes=3, image=11, inputs=1)
LAYERS = [(CONV, 3, 1, 2), (POOL, 2, 2, 0), (POOL, 5, 3, 0), (DENSE, 0, 1, 4), (DENSE, 0, 1, 3)]
LAYERS += [(END, 0, 1, 0)]


def test_exactly_the_chains_that_the_rules_allow_are_valid() -> None:
    every = np.asarray(list(itertools.product(range(6), repeat=4)), np.int32)
    valid = [_allowed([LAYERS[k] for k in row], 11) for row in every.tolist()]
    assert 0 < sum(valid) < len(valid)
    np.testing.assert_array_equal(jax.jit(SMALL_CHAIN.is_valid)(every), valid)


def test_a_repaired_chain_ends_before_its_first_layer_that_may_not_be_there() -> None:
    every = np.asarray(list(itertools.product(range(6), repeat=4)), np.int32)
    fixed = np.asarray(jax.jit(SMALL_CHAIN.repair)(every))
    for before, after in zip(every.tolist(), fixed.tolist(), strict=True):
        kept = max(k for k in range(5) if _allowed([LAYERS[i] for i in before[:k]], 11))
        assert after == before[:kept] + [5] * (4 - kept)


def test_edits_of_a_chain_change_a_layer_add_one_or_remove_the_last() -> None:
    environment = links.edit_environment(SMALL_CHAIN, absent=5)
    x = jnp.asarray([0, 1, 5, 5], jnp.int32)  # a convolution and a pooling
    found = np.asarray(environment.allowed(x))
    expected = np.zeros((4, 6), bool)
    expected[0, 2] = False  # two poolings may not follow each other
    expected[1, [0, 2, 5]] = True  # change the last layer, or remove it
    expected[2, [0, 3, 4]] = True  # add: no pooling after a pooling
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_a_chain_has_the_counts_of_a_hand_count() -> None:
    space = spaces.metaqnn()
    text = "[C(64,3,1), C(128,5,1), P(2,2), C(512,3,1), P(3,2), FC(512), FC(128), SM(10)]"
    arch = space.parse(text)
    assert space.describe(arch) == text and bool(jax.jit(space.is_valid)(arch))
    first, second, third = 9 * 3 * 64, 25 * 64 * 128, 9 * 128 * 512
    dense = 7 * 7 * 512 * 512, 512 * 128, 128 * 10  # 32 -> 16 -> 7
    biases = 64 + 128 + 512 + 512 + 128 + 10
    params = jax.jit(space.counts["params"])
    assert int(params(arch)) == first + second + third + sum(dense) + biases
    flops = 1024 * (first + second) + 256 * third + sum(dense)
    assert int(jax.jit(space.counts["flops"])(arch)) == flops
    assert int(params(space.parse("[SM(10)]"))) == 3 * 10 + 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[C(64,3,1)]", "the form is"),
        ("[C(64,3,1), SM(11)]", "the form is"),
        ("[C(65,3,1), SM(10)]", r"unknown layer 'C\(65,3,1\)'; allowed: C\(64,1,1\)"),
        ("[" + "P(2,2), " * 13 + "SM(10)]", "13 layers; there can be 12"),
        ("SM(10)", "the form is"),
        ("", "the form is"),
    ],
)
def test_a_wrong_chain_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        spaces.metaqnn().parse(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30) | st.text("[]CPFSM(), 1230", max_size=60))
def test_no_text_breaks_a_parser(text: str) -> None:
    for space in (spaces.metaqnn(classes=11), spaces.enas_macro(), spaces.resnet()):
        with pytest.raises(InputError):
            space.parse(text)


# ----------------------------------------------------------------------------- residual networks


@pytest.mark.parametrize(
    ("name", "params"),
    [
        # torchvision's, at 224x224 and 1,000 classes.
        ("RESNET_18", 11_689_512),
        ("RESNET_34", 21_797_672),
        ("RESNET_50", 25_557_032),
        ("RESNET_101", 44_549_160),
        ("RESNET_152", 60_192_808),
    ],
)
def test_published_residual_networks_are_points_with_their_parameters(
    name: str, params: int
) -> None:
    space = spaces.resnet(depths=(1, 2, 3, 4, 6, 8, 23, 36))
    arch = space.parse(name)
    assert int(space.counts["params"](arch)) == params
    same(space.parse(space.describe(arch)), arch)


def test_multiply_adds_of_residual_networks_are_the_published_ones() -> None:
    space = spaces.resnet()
    found = [float(space.counts["flops"](space.parse(f"RESNET_{k}"))) for k in (18, 34, 50)]
    # torchvision: 1.814, 3.664 and 4.089 GFLOPS.
    assert [round(x / 1e9, 3) for x in found] == [1.814, 3.664, 4.089]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("RESNET_101", "unknown choice '23'"),
        (
            "block=basic depth=[2,2,2,2] kernel=[3,3,3,3] width=[64,128,256]",
            r"does not fit the form block=.* width=\[...\]; or one of RESNET_18, .*RESNET_152",
        ),
        (
            "block=basic depth=[2,2,2,2] kernel=[3,3,3,3] width=[65,128,256,512]",
            "choice '65'; allowed: 48, 64, 80",
        ),
        ("block=big depth=[2,2,2,2] kernel=[3,3,3,3] width=[64,128,256,512]", "choice 'big'"),
    ],
)
def test_a_wrong_residual_network_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        spaces.resnet().parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "setting", "told"),
    [
        (spaces.nats_size, {"widths": (8, 8)}, r"widths=\[8, 8\]"),
        (spaces.nats_size, {"image": 30}, "image size 30"),
        (spaces.enas_macro, {"layers": 2}, "layers=2: .* at least 3"),
        (spaces.enas_macro, {"image": 30}, "image size 30"),
        (spaces.metaqnn, {"kernels": (2,)}, r"kernels=\[2\]: .* odd"),
        (spaces.metaqnn, {"pools": ((2, 3),)}, "strides of at most that"),
        (spaces.metaqnn, {"units": ()}, r"units=\[\]"),
        (spaces.metaqnn, {"image": 1}, "image size 1"),
        (spaces.resnet, {"depths": ()}, r"depths=\[\]"),
        (spaces.resnet, {"widths": ((8,), (8, 16))}, "for each stage as many"),
        (spaces.resnet, {"blocks": ("big",)}, "blocks="),
        (spaces.resnet, {"image": 100}, "image size 100: .* multiple of 32"),
    ],
)
def test_a_space_that_cannot_be_is_refused(make: Any, setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        make(**setting)
