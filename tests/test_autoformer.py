"""AutoFormer: the published networks, a naive reference, small networks inside one program."""

from typing import Any

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest

from jnas import nets, spaces
from jnas.base import InputError, sample, template
from jnas.nets import count_flops, count_params
from jnas.nets.inherit import inherit
from jnas.spaces.autoformer import published

SMALL: dict[str, Any] = {
    "depth": 3,
    "least": 1,
    "widths": (4, 6),
    "heads": (1, 2),
    "head": 4,
    "ratios": (1, 1.5),
    "patch": 2,
    "relative": 1,
    "classes": 3,
    "image": 6,
    "inputs": 2,
}
X = np.random.default_rng(1).normal(size=(2, 6, 6, 2)).astype(np.float32)
PUBLISHED = {  # parameters; those of the paper in millions, and of its multiply-adds in 1e9
    "AutoFormer-T": (5_867_944, 5.7, 1.3),
    "AutoFormer-S": (22_891_432, 22.9, 5.1),
    "AutoFormer-B": (53_691_688, 53.7, 11),
}


def row(archs: Any, i: int) -> Any:
    return jax.tree.map(lambda x: np.asarray(x[i]), archs)


def drawn(net: nets.Net) -> Any:
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))[0]
    return jax.tree.map(lambda s: rng.normal(0, 0.4, s.shape).astype(np.float32), shapes)


def total(net: nets.Net) -> int:
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0))[0]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_are_points(name: str) -> None:
    """S and B are as published. T, as the authors' repository has it, is 3% larger than it says."""
    settings, arch = published(name)
    space = spaces.autoformer(**settings)
    params, millions, billions = PUBLISHED[name]
    assert space.counts["params"](arch) == params
    if name != "AutoFormer-T":
        assert round(params / 1e6, 1) == millions
    np.testing.assert_allclose(params / 1e6, millions, rtol=0.031)
    np.testing.assert_allclose(space.counts["flops"](arch) / 1e9, billions, rtol=0.15)
    assert space.parse(space.describe(arch))["width"] == arch["width"]


@pytest.mark.slow
def test_the_published_tiny_network_is_made_with_its_parameters() -> None:
    settings, arch = published("AutoFormer-T")
    net = nets.autoformer(**settings)
    assert total(net.alone(arch)) == 5_867_944 == int(count_params(net, arch))
    flops = count_flops(net, arch, (224, 224, 3))
    assert flops == int(net.space.counts["flops"](arch))


@pytest.mark.slow
@pytest.mark.parametrize("relative", [0, 1])
def test_counts_are_those_of_the_small_network_that_is_traced(relative: int) -> None:
    net = nets.autoformer(**{**SMALL, "relative": relative})
    archs = sample(net.space, jax.random.key(3), 4)
    for i in range(4):
        arch = row(archs, i)
        params, flops = (int(net.space.counts[k](arch)) for k in ("params", "flops"))
        assert total(net.alone(arch)) == params == int(count_params(net, arch))
        assert count_flops(net, arch, (6, 6, 2)) == flops


def _attention(p: Any, x: Any) -> Any:
    """Head by head and query by query; distances of patches are looked up one by one."""
    q, k, v = (naive.dense(p[n], x) for n in ("query", "key", "value"))
    out, side, most = np.zeros_like(q), 3, SMALL["relative"]

    def vector(tables: Any, t: int, s: int) -> Any:
        if t == 0 or s == 0:
            return tables["down"][0] + tables["along"][0]
        down = (s - 1) // side - (t - 1) // side
        along = (s - 1) % side - (t - 1) % side
        at = lambda d: 1 + most + max(-most, min(most, d))
        return tables["down"][at(down)] + tables["along"][at(along)]

    many = range(len(x))
    for h in range(q.shape[-1] // 4):
        own = slice(4 * h, 4 * h + 4)
        for t in many:
            keys = [k[s, own] + vector(p["keys"], t, s) for s in many]
            score = np.asarray([q[t, own] @ key / 2 for key in keys])
            weight = np.exp(score - score.max())
            values = np.stack([v[s, own] + vector(p["values"], t, s) for s in many])
            out[t, own] = (weight / weight.sum()) @ values
    return naive.dense(p["out"], out)


def reference(p: Any, depth: int, image: Any) -> Any:
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p)
    gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    patches = [image[i : i + 2, j : j + 2].ravel() for i in (0, 2, 4) for j in (0, 2, 4)]
    x = np.stack([naive.dense(p["embedding"], patch) for patch in patches])
    x = np.concatenate([p["token"]["token"][None], x]) + p["position"]["table"]["table"]
    for i in range(depth):
        q = naive.layer(p["layers"], i)
        x = x + _attention(q["attention"], naive.norm(q["first"], x))
        hidden = gelu(naive.dense(q["feed"]["into"], naive.norm(q["second"], x)))
        x = x + naive.dense(q["feed"]["out"], hidden)
    return naive.dense(p["classifier"], naive.norm(p["norm"], x)[1:].mean(0))


def test_it_equals_a_naive_reference_with_the_weights_of_the_small_network() -> None:
    net = nets.autoformer(**SMALL)
    params = drawn(net)
    run = jax.jit(lambda a: net.apply(params, {}, a, X)[0])
    archs = sample(net.space, jax.random.key(2), 3)
    archs["width"] = jnp.int32([0, 1, 0])
    for i in range(3):
        arch = row(archs, i)
        small, _ = inherit(net, params, {}, arch)
        expected = np.stack([reference(small, int(arch["depth"]) + 1, x) for x in X])
        np.testing.assert_allclose(run(arch), expected, rtol=1e-5, atol=1e-5)
    alone = net.alone(arch)
    y = jax.jit(lambda: alone.apply(small, {}, template(alone.space), X)[0])()
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_canonical_takes_away_what_lies_past_the_depth() -> None:
    space = spaces.autoformer(**SMALL)
    archs = sample(space, jax.random.key(8), 100)
    fixed = jax.jit(jax.vmap(space.canonical))(archs)
    counts = jax.jit(jax.vmap(lambda a: {name: f(a) for name, f in space.counts.items()}))
    jax.tree.map(np.testing.assert_array_equal, counts(archs), counts(fixed))
    past = np.arange(3) > fixed["depth"][:, None]
    assert not fixed["heads"][past].any() and not fixed["ratio"][past].any()
    assert (fixed["heads"] != archs["heads"]).any()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"image": 9, "patch": 2}, "image size 9: patches of 2 need a multiple of 2"),
        ({"least": 5}, "least=5: .* at most depth=4"),
        ({"widths": ()}, r"widths=\[\]: at least one"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        nets.autoformer(**setting)
    assert "\n" not in str(caught.value)


def test_an_unknown_published_network_is_told() -> None:
    with pytest.raises(InputError, match="'AutoFormer-X': published are AutoFormer-T"):
        published("AutoFormer-X")
