"""Mobile spaces: published figures, texts, canonical forms, and counts against real networks."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas import spaces
from jnas.base import InputError, Space, from_vector, sample, size, template, to_vector
from jnas.nets import count_flops, count_params, forms
from jnas.nets.mobile import decided_network
from jnas.spaces.compound import VARIANTS, compound, efficientnet, scaled_baseline, scales
from jnas.spaces.mobile_blocks import costs, divisible
from jnas.spaces.mobile_networks import NETWORKS, published, specification
from jnas.spaces.mobile_registry import SPECIFICATIONS
from jnas.spaces.mobile_stages import decide

TINY: dict[str, Any] = {
    "image": 9,
    "inputs": 2,
    "classes": 5,
    "width": 0.25,
    "stages": 3,
    "halvings": 2,
    "head": 12,
}
NAMES = sorted(SPECIFICATIONS)
every = pytest.mark.parametrize("name", NAMES)
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def _space(name: str, **more: Any) -> Space:
    return getattr(spaces, name)(**TINY, **more)


def _rows(space: Space, seed: int, n: int) -> list[Any]:
    many = jax.device_get(sample(space, jax.random.key(seed), n))
    return [jax.tree.map(lambda x, i=i: x[i], many) for i in range(n)]


def _stacked(rows: list[Any]) -> Any:
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def _counted(space: Space, rows: list[Any]) -> Any:
    """Parameters and multiply-adds of all rows."""
    run = jax.jit(lambda a: jnp.stack([space.counts[k](a) for k in ("params", "flops")], -1))
    return np.asarray(run(_stacked(rows))).tolist()


# --------------------------------------------------------------------------- published figures

PARAMS = {  # exact, at 224x224 (EfficientNets at their own size) and 1,000 classes
    **dict(
        zip(
            (f"efficientnet_b{i}" for i in range(8)),
            (5288548, 7794184, 9109994, 12233232, 19341616, 30389784, 43040704, 66347960),
            strict=True,
        )
    ),
    "mobilenet_v2": 3504872,
    "mobilenet_v2_140": 6108776,
    "mobilenet_v3_large": 5483032,
    "mobilenet_v3_small": 2542856,
    "mnasnet_a1": 3887038,
    "mnasnet_b1": 4383312,
    "proxylessnas_mobile": 4080512,
    "proxylessnas_mobile_14": 6857568,
    "proxylessnas_gpu": 7119848,
    "proxylessnas_cpu": 4361648,
    "fbnet_c": 5572200,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks_have_their_published_figures(name: str) -> None:
    paper, (params, adds) = NETWORKS[name], costs(published(name))
    assert params == PARAMS.get(name, params) == (paper.params or params)
    assert adds / 1e6 == pytest.approx(paper.paper_adds, rel=0.05)
    # The papers' own numbers of parameters are rounded, and some count other heads.
    loose = {"mobilenet_v2_140": 0.12, "fbnet_b": 0.08}
    assert params / 1e6 == pytest.approx(paper.paper_params, rel=loose.get(name, 0.04))


@pytest.mark.parametrize("name", ["efficientnet_b7", "mobilenet_v3_large", "mnasnet_a1", "fbnet_a"])
def test_a_real_network_has_as_many_parameters_as_are_published(name: str) -> None:
    made = published(name)
    net = decided_network(made, name)
    assert int(count_params(net, {"network": np.int32(0)})) == costs(made)[0] == _init_params(net)


def _init_params(net: Any) -> int:
    shapes, _ = jax.eval_shape(net.init, jax.random.key(0))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def test_published_networks_are_points_whose_counts_are_theirs() -> None:
    for name in ("mobilenet_v3_large", "mnasnet_a1"):
        spec, point = specification(name)
        space = getattr(spaces, spec.name)(**NETWORKS[name].settings)
        arch = space.parse(point)
        assert _counted(space, [arch])[0] == pytest.approx(costs(published(name)), rel=1e-6)
        same(space.parse(space.describe(arch)), arch)


def test_spaces_are_as_large_as_their_papers_say() -> None:
    assert size(spaces.fbnet()) == 9**22  # about 10^21, section 3.1
    assert size(spaces.proxylessnas()) == 6**6 * 7**15
    # Of a stage of MnasNet, section 4.1: 432 = 4 operations, 2 kernels, 2 ratios, 3 skips, 3 x 3.
    counts = jax.tree.map(lambda c: c[2], spaces.mnasnet().num_choices)
    assert math.prod(int(c) for c in counts.values()) == 432
    ofa = spaces.ofa()
    assert int(ofa.num_choices["op"].size) == 20
    assert size(spaces.ofa(resolutions=range(128, 225, 4))) == 25 * size(ofa)


@pytest.mark.parametrize(
    ("name", "stages", "found"),
    [("fbnet", 2, 9 * 9 * 585), ("mnasnet", 1, None), ("mobilenet_v2", 2, None),
     ("mobilenet_v3", 2, None), ("ofa", 2, 7371), ("proxylessnas", 2, 6 * 259)],
)  # fmt: skip
def test_as_many_differ_as_have_a_canonical_form_of_their_own(
    name: str, stages: int, found: int | None
) -> None:
    space = getattr(spaces, name)(stages=stages)
    assert size(space) < 100_000
    axes = [range(c) for leaf in jax.tree.leaves(space.num_choices) for c in np.ravel(leaf)]
    every = jnp.asarray(list(itertools.product(*axes)), jnp.int32)
    form = lambda v: to_vector(space, space.canonical(from_vector(space, v)))
    assert space.distinct == len(np.unique(jax.jit(jax.vmap(form))(every), axis=0))
    assert found is None or space.distinct == found


def test_once_for_all_has_its_two_times_ten_to_the_nineteen_networks() -> None:
    found = spaces.ofa().distinct
    assert found == (9**2 + 9**3 + 9**4) ** 5 == pytest.approx(2e19, rel=0.1)
    assert spaces.ofa(resolutions=range(128, 225, 4)).distinct == 25 * found


# ----------------------------------------------------------------------------- counts, texts


@pytest.mark.slow
@every
def test_counts_are_those_of_real_networks_on_random_architectures(name: str) -> None:
    """Against the parameters and the traced program of a network with nothing to choose."""
    space, one = _space(name), {"network": np.int32(0)}
    rows = _rows(space, 0, 2)
    for arch, (p, f) in zip(rows, _counted(space, rows), strict=True):
        made = decide(SPECIFICATIONS[name](**TINY), arch)
        net = decided_network(made, "one")
        assert int(p) == int(count_params(net, one)) == costs(made)[0]
        with forms.using(depthwise="lax"):  # sums of shifted copies are no products
            assert int(f) == count_flops(net, one, (9, 9, 2)) == costs(made)[1]


@pytest.mark.slow
def test_counts_at_a_chosen_resolution_are_those_of_a_space_of_that_size() -> None:
    more = {"resolutions": (5, 6, 9)}
    space = _space("ofa", **more)
    for i, side in enumerate((5, 6, 9)):
        alone = spaces.ofa(**{**TINY, "image": side})
        rows = _rows(alone, i, 3)
        chosen = [{**arch, "image": np.int32(i)} for arch in rows]
        assert _counted(space, chosen) == _counted(alone, rows)
        for arch, with_size in zip(rows, chosen, strict=True):
            text = space.describe(with_size)
            assert text == f"{side}px {alone.describe(arch)}"
            same(space.parse(text), with_size)


@every
def test_every_text_reads_back(name: str) -> None:
    for space in (_space(name), getattr(spaces, name)()):
        for arch in [*_rows(space, 1, 10), jax.device_get(template(space))]:
            text = space.describe(arch)
            same(space.parse(text), arch)
            assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("mnasnet", "MnasNet-C1", "7 words are needed, as in 'sep_k3_se0_noskip_c12_r1 "),
        ("mnasnet", "MnasNet-C1", "or a name of MnasNet-A1, MnasNet-B1"),
        ("mnasnet", "A1:sep_k7", "stage 0: 'sep_k7_se0_noskip_c16_r1'|kernel has to be one of"),
        ("mnasnet", "A1:mb5_k3", "op has to be one of sep, mb3, mb6, conv"),
        ("mnasnet", "A1:sep_k3_k3", "se has to be one of se0, se0.25"),
        ("ofa", "c16_r1", "6 words are needed"),
        ("fbnet", "c16_r1:skip,skip c24_r4:a c32_r4:a c64_r4:a c112_r4:a c184_r4:a c352_r1:a",
         "stage 0: 2 layers: 1 to 1 are needed"),
        ("fbnet", "c16_r1:skip c24_r5:a c32_r4:a c64_r4:a c112_r4:a c184_r4:a c352_r1:a",
         "stage 1: 'r5': allowed: r4"),
        ("fbnet", "c16_r1 c24_r4:a c32_r4:a c64_r4:a c112_r4:a c184_r4:a c352_r1:a",
         "the form is cWIDTH_rDEPTH:LAYER"),
        ("fbnet", "c16_r1:mb1_k3_g3 c24_r4:a c32_r4:a c64_r4:a c112_r4:a c184_r4:a c352_r1:a",
         "'g3' is too much"),
    ],
)  # fmt: skip
def test_a_wrong_text_is_refused_in_one_line(name: str, text: str, told: str) -> None:
    space = getattr(spaces, name)()
    if text.startswith("A1:"):
        text = space.describe(space.parse("MnasNet-A1")).replace("sep_k3", text[3:], 1)
    with pytest.raises(InputError, match=told) as caught:
        space.parse(text)
    assert "\n" not in str(caught.value)


ALL = {name: getattr(spaces, name)() for name in NAMES}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(NAMES), st.text(max_size=40) | st.text("cr0123456789_:, mbk", max_size=80))
def test_no_text_breaks_the_parser(name: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        ALL[name].parse(text)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------- canonical


@every
def test_the_canonical_form_is_the_same_network(name: str) -> None:
    """What is decided, skipped layers aside, stays; a form is its own form."""
    space, spec = _space(name), SPECIFICATIONS[name](**TINY)
    rows = _rows(space, 2, 40)
    canonical = jax.jit(space.canonical)
    found = canonical(_stacked(rows))
    same(canonical(found), found)
    identity = lambda b: b.kind == "skip" and b.stride == 1 and b.inputs == b.outputs
    for i, arch in enumerate(rows):
        form = jax.tree.map(lambda x, i=i: np.asarray(x[i]), found)
        before, after = (decide(spec, a) for a in (arch, form))
        kept = lambda made: [b for b in made.blocks if not identity(b)]
        assert kept(before) == kept(after)
        assert all(int(x.min()) >= 0 for x in jax.tree.leaves(form))


def test_layers_that_do_not_run_and_the_place_of_a_skip_make_no_difference() -> None:
    space = spaces.proxylessnas("gpu")
    a, b = (
        space.parse(space.describe(space.parse("ProxylessNAS-GPU")).replace(*change))
        for change in (("mb3_k7,skip,skip,mb3_k3", x) for x in
                       ("mb3_k7,skip,mb3_k3,skip", "mb3_k7,mb3_k3,skip,skip"))
    )  # fmt: skip
    assert space.describe(a) != space.describe(b)
    same(space.canonical(a), space.canonical(b))
    ofa = spaces.ofa()
    arch = jax.tree.map(np.array, jax.device_get(template(ofa)))
    other = jax.tree.map(np.array, arch)
    other["kernel"][3] = 2  # the fourth layer of a stage of two
    same(ofa.canonical(arch), ofa.canonical(other))
    other["kernel"][1] = 2
    assert not np.array_equal(ofa.canonical(other)["kernel"], ofa.canonical(arch)["kernel"])


# ------------------------------------------------------------------------- scaling, settings


def test_compound_scaling_is_the_formula_of_the_paper() -> None:
    assert compound(3) == pytest.approx((1.2**3, 1.1**3, 1.15**3))
    assert compound(1).cost == pytest.approx(1.2 * 1.1**2 * 1.15**2)
    found = scales(1, 1.4, 0.1, 2, 0.05)
    grid = itertools.product([1.0, 1.1, 1.2, 1.3, 1.4], repeat=3)
    naive = [(a, b, c) for a, b, c in grid if abs(a * (b * c) ** 2 / 2 - 1) <= 0.05]
    assert [tuple(map(float, s)) for s in found] == [pytest.approx(t) for t in naive]
    assert (1.2, 1.1, 1.15) in [tuple(s) for s in scales()]


def test_a_scaled_baseline_is_the_variant_of_its_multipliers() -> None:
    wide, deep, image = VARIANTS["b3"]
    settings = scaled_baseline(type(compound(0))(deep, wide, image / 224), 224, {"variant": "b0"})
    spec = efficientnet(**settings)
    arch = spaces.efficientnet(**settings).parse("EfficientNet")
    assert costs(decide(spec, arch)) == costs(published("efficientnet_b3"))


def test_channels_are_rounded_as_in_the_published_code() -> None:
    rounded = {
        1.1: (32, 16, 24, 48, 88, 120, 208, 352),
        1.4: (48, 24, 32, 56, 112, 160, 272, 448),
    }
    for width, expected in rounded.items():
        base = (32, 16, 24, 40, 80, 112, 192, 320)
        assert tuple(divisible(c * width) for c in base) == expected


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: spaces.mnasnet(stages=8), "stages=8: mnasnet has 7"),
        (lambda: spaces.mnasnet(stages=0), "stages=0: a whole number of at least 1"),
        (lambda: spaces.fbnet(halvings=6), "halvings=6: allowed are 0 to 5"),
        (lambda: spaces.ofa(resolutions=(256,)), "from 1 to the image's own, 224"),
        (lambda: spaces.ofa(width=0), "width=0: it has to be above 0"),
        (lambda: spaces.ofa(classes=0), "classes=0: all have to be at least 1"),
        (lambda: spaces.mobilenet_v3("medium"), "size='medium': allowed are large, small"),
        (lambda: spaces.proxylessnas("tpu"), "target='tpu': allowed are mobile"),
        (lambda: spaces.efficientnet("b9"), "variant='b9': allowed are b0"),
        (lambda: spaces.efficientnet(depth=0), "depth=0, divisor=8"),
        (lambda: spaces.mobile_network("resnet"), "unknown network 'resnet'; allowed: efficient"),
        (lambda: compound(1, alpha=0.5), "alpha=0.5: it has to be at least 1"),
        (lambda: compound(-1), "phi=-1"),
        (lambda: scales(1, 1.1), "no .alpha, beta, gamma. from 1 to 1.1"),
        (lambda: scales(0.5), "1 <= low <= high"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("width", "params"), [(0.5, 2_218_512), (0.75, 3_170_208), (1.3, 6_282_256)]
)
def test_mnasnet_of_other_widths_has_torchvision_s_parameters(width: float, params: int) -> None:
    space = spaces.mnasnet(width=width)
    assert int(space.counts["params"](space.parse("MnasNet-B1"))) == params


def test_small_versions_keep_their_last_halvings_and_first_stages() -> None:
    spec = SPECIFICATIONS["mobilenet_v2"](image=32, stages=4, halvings=2, head=64, width=0.5)
    assert [spec.stem_stride, *(s.stride for s in spec.stages)] == [1, 1, 1, 2, 2]
    assert spec.family.head == 64 and spec.stages[-1].widths == (24, 32, 40)
    made = decide(spec, spaces.mobilenet_v2(stages=4, width=0.5).parse("MobileNetV2"))
    assert [b.outputs for b in made.blocks] == [8, *[16] * 2, *[16] * 3, *[32] * 4]


def test_the_blocks_of_an_architecture_are_drawn_in_a_row() -> None:
    space = spaces.mnasnet()
    assert space.edges is not None
    drawn = space.edges(space.parse("MnasNet-A1"))
    assert drawn[0] == ("image", "stem", "") and drawn[-1] == ("7", "out", "")
    assert drawn[3] == ("2", "3", "mb_k5_c40_r3")
    assert [a for a, _, _ in drawn[1:]] == [b for _, b, _ in drawn[:-1]]


def test_a_single_network_is_a_space_of_one() -> None:
    space = spaces.mobile_network("mobilenet_v2", image=96, classes=10)
    arch = space.parse("network=mobilenet_v2")
    assert size(space) == 1 and space.describe(arch) == "network=mobilenet_v2"
    assert int(space.counts["params"](arch)) == 3504872 - 1281 * 990
    many = {"network": jnp.zeros(3, jnp.int32)}
    assert space.counts["flops"](many).shape == (3,)
