"""Networks over series: published counts, naive references, padding, small networks inside one."""

from typing import Any

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from scipy.special import expit

from jnas import nets, spaces
from jnas.base import InputError, sample, template
from jnas.nets import count_flops, count_params
from jnas.nets.inherit import inherit
from jnas.nets.recurrent import Recurrent
from jnas.nets.sizes import Pick, Size, fixed
from jnas.spaces.tc_resnet import published

SMALL: dict[str, Any] = {
    "depth": 3,
    "widths": (4, 6),
    "kernels": (1, 3, 5),
    "heads": (1, 2),
    "head": 4,
    "ratios": (1, 1.5),
    "classes": 3,
    "length": 7,
    "features": 5,
}
SETTINGS: dict[str, dict] = {
    "series": SMALL,
    "series_batch": {**SMALL, "norm": "batch", "output": "ctc"},
    "subsample": {**SMALL, "stem": "subsample", "residual": False},
    "deep_speech": {**SMALL, "stem": "deep_speech", "output": "ctc"},
    "tc_resnet": {
        **{k: SMALL[k] for k in ("classes", "length", "features")},
        "channels": (4, 6, 8),
        "multiples": (0.5, 1),
        "kernels": (3, 5),
        "blocks": (1, 2, 3),
    },
}


def made(name: str, **more: Any) -> nets.Net:
    make = nets.tc_resnet if name == "tc_resnet" else nets.series
    return make(**{**SETTINGS[name], **more})


def row(archs: Any, i: int) -> Any:
    return jax.tree.map(lambda x: np.asarray(x[i]), archs)


def drawn(net: nets.Net) -> tuple[Any, Any]:
    """Parameters and statistics at random; variances are positive."""
    rng = np.random.default_rng(0)
    draw = lambda s: rng.normal(0, 0.4, s.shape).astype(np.float32)
    params, state = jax.eval_shape(net.init, jax.random.key(0))
    return jax.tree.map(draw, params), jax.tree.map(lambda s: np.abs(draw(s)) + 0.1, state)


X = np.random.default_rng(1).normal(size=(2, 7, 5)).astype(np.float32)


def total(net: nets.Net) -> list[int]:
    """The parameters and the running statistics of a network, by their shapes."""
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    return [sum(x.size for x in jax.tree.leaves(part)) for part in shapes]


# ------------------------------------------------------------------------- published networks


PUBLISHED = {
    "TC-ResNet8": (66, 3.0),
    "TC-ResNet8-1.5": (145, 6.6),
    "TC-ResNet14": (137, 6.1),
    "TC-ResNet14-1.5": (305, 13.4),
}


def test_tc_resnets_have_their_published_sizes() -> None:
    """Published parameters count running statistics too, and operations two for a product."""
    for name, (thousands, millions) in PUBLISHED.items():
        settings, arch = published(name)
        space = spaces.tc_resnet(**settings)
        params, flops = (int(space.counts[k](arch)) for k in ("params", "flops"))
        widths = _normalised(arch)
        assert round((params + 2 * widths) / 1000) == thousands
        assert round(2 * flops / 1e6, 1) == millions


def _normalised(arch: Any) -> int:
    """The channels of all batch normalisations: 1 of the stem, 3 of a first block, 2 of others."""
    multiple = 1 if arch["width"][0] == 2 else 1.5
    stem, *stages = (int(c * multiple) for c in (16, 24, 32, 48))
    return stem + sum(c * (3 + 2 * int(b)) for c, b in zip(stages, arch["blocks"], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_networks_that_are_made_have_the_published_sizes(name: str) -> None:
    settings, arch = published(name)
    net = nets.tc_resnet(**settings)
    params, statistics = total(net.alone(arch))
    assert params == int(net.space.counts["params"](arch))
    assert round((params + statistics) / 1000) == PUBLISHED[name][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_counts_are_those_of_the_small_network_that_is_traced(name: str) -> None:
    net = made(name)
    archs = sample(net.space, jax.random.key(3), 4)
    both = lambda a: [net.space.counts[k](a) for k in ("params", "flops")] + [count_params(net, a)]
    params, flops, counted = jax.jit(jax.vmap(both))(archs)
    for i in range(4):
        arch = row(archs, i)
        assert total(net.alone(arch))[0] == params[i] == counted[i]
        assert count_flops(net, arch, (7, 5)) == flops[i]


# ------------------------------------------------------------------------- recurrent layers


def _recurrent(kind: str, directions: int, kept: int) -> tuple[Any, Any]:
    """A layer of 5 inputs of which it takes `kept` of 4 units, and its weights for these."""
    width = Size((2, 3, 4), Pick(["2", "3", "4"], "width"))
    layer = Recurrent(kind, fixed(5), width, directions, rngs=nnx.Rngs(0))
    width.parts[0].choice.set_value(jnp.int32(kept - 2))
    rng = np.random.default_rng(2)
    weights = {}
    for name in ("kernel", "recurrent", "bias", *(("inner",) if kind == "gru" else ())):
        variable = getattr(layer, name)
        value = rng.normal(0, 0.5, variable.shape).astype(np.float32)
        variable.set_value(jnp.asarray(value))
        weights[name] = value[..., :kept].astype(np.float64)
    weights["recurrent"] = weights["recurrent"][:, :kept]
    return layer, weights


@pytest.mark.parametrize(("kind", "directions", "kept"), [("gru", 2, 3), ("lstm", 2, 4)])
def test_recurrent_layers_equal_a_plain_loop_over_the_frames(
    kind: str, directions: int, kept: int
) -> None:
    layer, weights = _recurrent(kind, directions, kept)
    keep = np.float32([[1] * 7, [1] * 4 + [0] * 3])
    y = np.asarray(jax.jit(layer)(X, keep))
    for i, n in enumerate((7, 4)):
        expected = naive.recurrent(kind, weights, X[i, :n].astype(np.float64))
        np.testing.assert_allclose(y[i, :n, :kept], expected, rtol=1e-5, atol=1e-6)
    assert not y[1, 4:].any() and not y[..., kept:].any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_layers_equal_those_of_pytorch(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="the extra package torch is not installed")
    layer, weights = _recurrent(kind, 2, 4)
    other = (torch.nn.GRU if kind == "gru" else torch.nn.LSTM)(5, 4, 1, True, True, 0.0, True)
    with torch.no_grad():
        for d, end in enumerate(("", "_reverse")):
            flat = lambda w: torch.tensor(w.reshape(len(w), -1).T, dtype=torch.float32)
            getattr(other, f"weight_ih_l0{end}").copy_(flat(weights["kernel"][d]))
            getattr(other, f"weight_hh_l0{end}").copy_(flat(weights["recurrent"][d]))
            bias = torch.tensor(weights["bias"][d].reshape(-1), dtype=torch.float32)
            getattr(other, f"bias_ih_l0{end}").copy_(bias)
            inner = torch.zeros_like(bias)
            if kind == "gru":
                inner[8:] = torch.tensor(weights["inner"][d])
            getattr(other, f"bias_hh_l0{end}").copy_(inner)
        expected = other(torch.tensor(X))[0].numpy()
    y = layer(jnp.asarray(X), jnp.ones((2, 7)))
    np.testing.assert_allclose(y, expected[..., :4] + expected[..., 4:], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------- whole networks


def _conformer(p: Any, x: Any, live: Any) -> Any:
    """Of one example without statistics."""
    swish = lambda y: y * expit(y)
    feed = lambda q, y: naive.dense(q["out"], swish(naive.dense(q["into"], y)))
    x = x + feed(p["feeds"][0], naive.norm(p["norms"][0], x)) / 2
    y = naive.norm(p["norms"][1], x)
    x = x + naive.attention(p["attention"], y, y, live, False, True)
    q, y = p["conv"], naive.norm(p["norms"][2], x)
    y = naive.dense(q["value"], y) * expit(naive.dense(q["gate"], y)) * live[:, None]
    y = naive.line(y, q["depthwise"]["kernel"]) + q["depthwise"]["bias"]
    x = x + naive.dense(q["out"], swish(naive.norm(q["norm"], y)))
    x = x + feed(p["feeds"][1], naive.norm(p["norms"][3], x)) / 2
    return naive.norm(p["norms"][4], x)


def reference(p: Any, words: dict, x: Any, n: int) -> Any:
    """A small network with layer normalisation, over the first n frames of one example."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p)
    live = np.ones(n)
    x = naive.dense(p["stem"]["dense"], x[:n].astype(np.float64))
    for i, block in enumerate(words["block"][: int(words["depth"])]):
        q = naive.layer(p["layers"], i)["block"]
        if block == "conformer":
            x = _conformer(q, x, live)
        elif block == "convolution":
            x = x + naive.line(np.maximum(naive.norm(q["norm"], x), 0), q["conv"]["kernel"])
        else:
            y = naive.norm(q["norm"], x)
            x = x + naive.recurrent(block.removeprefix("bi"), q["recurrent"], y)
    return naive.dense(p["head"]["dense"], naive.norm(p["norm"], x).mean(0))


def _words(net: nets.Net, arch: Any) -> dict:
    labels = net.space.labels
    look = lambda name, v: [labels[name][i] for i in v] if v.ndim else labels[name][int(v)]
    return {name: look(name, np.asarray(v)) for name, v in arch.items()}


def _archs(net: nets.Net) -> list:
    """Every block, in networks of two and three layers."""
    archs = [row(sample(net.space, jax.random.key(i), 1), 0) for i in range(3)]
    for i, arch in enumerate(archs):
        blocks = ((5, 0, 1), (3, 5, 2), (4, 2, 1))[i]
        arch |= {"block": np.int32(blocks), "depth": np.int32(1 + i % 2), "width": np.int32(i % 2)}
    return archs


@pytest.fixture(scope="module")
def network() -> tuple:
    """A net, its parameters, and its jitted function of the architecture and the input."""
    net = made("series")
    params, state = drawn(net)
    return net, params, jax.jit(lambda a, x: net.apply(params, state, a, x)[0])


FRAMES = np.int32([7, 5])


def test_it_equals_a_naive_reference_with_the_weights_of_the_small_network(network: tuple) -> None:
    net, params, run = network
    for arch in _archs(net):
        small, _ = inherit(net, params, {}, arch)
        y = run(arch, {"series": X, "frames": FRAMES})
        words = _words(net, arch)
        expected = [reference(small, words, x, n) for x, n in zip(X, FRAMES, strict=True)]
        np.testing.assert_allclose(y, np.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_the_small_network_by_itself_computes_and_learns_what_it_does_inside(name: str) -> None:
    """Outputs, and statistics after a batch."""
    net = made(name)
    params, state = drawn(net)
    x = {"series": X, "frames": FRAMES}
    archs = _archs(net) if "block" in net.space.num_choices else [
        row(sample(net.space, jax.random.key(i), 1), 0) for i in range(3)
    ]  # fmt: skip
    for train in (False, True):
        run = jax.jit(lambda a, train=train: net.apply(params, state, a, x, train=train))
        for arch in archs:
            alone = net.alone(arch)
            small = inherit(net, params, state, arch)
            one = lambda w, n=alone, t=train: n.apply(*w, template(n.space), x, train=t)
            y, after = jax.jit(one)(small)
            found, changed = run(arch)
            np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)
            cut = inherit(net, params, changed, arch)[1]
            same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
            jax.tree.map(same, cut, after)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_padding_has_no_effect(name: str) -> None:
    """Other values in its place, shorter series, and the three forms of input, in training too."""
    net, marked = made(name), made(name, features=6, padded=True)
    params, state = drawn(net)
    keep = np.arange(7) < FRAMES[:, None]
    other = np.where(keep[..., None], X, 9.0).astype(np.float32)
    series = {"series": X, "frames": FRAMES}
    archs = sample(net.space, jax.random.key(1), 3)
    for train in (False, True):
        apply = lambda n, a, x, t=train: n.apply(params, state, a, x, train=t)
        run = jax.jit(lambda a, x: apply(net, a, x))  # noqa: B023
        with_mask = jax.jit(lambda a, x: apply(marked, a, x))  # noqa: B023
        for i in range(3):
            arch = row(archs, i)
            y, after = run(arch, series)
            live = -(-FRAMES * y.shape[1] // 7)[:, None] > np.arange(y.shape[1])
            live = live[..., None] if y.ndim == 3 else np.bool_(True)
            masked = np.concatenate([other, keep[..., None]], -1).astype(np.float32)
            runs = [(run, {"series": other, "frames": FRAMES}), (with_mask, masked)]
            for f, x in runs:
                z, also = f(arch, x)
                np.testing.assert_allclose(z * live, y * live, rtol=1e-4, atol=1e-5)
                jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), also, after)
    one = lambda x: jax.jit(lambda a: net.apply(params, state, a, x)[0])(arch)
    short, whole = one(X[1:, :5]), one(series)
    own = short.shape[1] if short.ndim == 3 else None
    np.testing.assert_allclose(short[0], whole[1][:own], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_canonical_architectures_compute_what_theirs_do(network: tuple) -> None:
    net, _, run = network
    archs = sample(net.space, jax.random.key(9), 4)
    fixed = jax.jit(jax.vmap(net.space.canonical))(archs)
    assert (fixed["kernel"] != archs["kernel"]).any()
    x = {"series": X, "frames": FRAMES}
    for i in range(4):
        a, b = run(row(archs, i), x), run(row(fixed, i), x)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "setting", "told"),
    [
        (nets.series, {"blocks": ("rnn",)}, "blocks=.*'rnn'.* convolution, gru"),
        (nets.series, {"stem": "mel"}, "stem=.*'mel'.* frames, subsample"),
        (nets.series, {"features": 1, "padded": True}, "features=1: .* at least 2"),
        (nets.series, {"kernels": (2,)}, r"kernels=\[2\]: .* odd"),
        (nets.series, {"least": 5}, "least=5: .* at most depth=4"),
        (nets.tc_resnet, {"blocks": (2, 3)}, r"blocks=\[2, 3\]: .* without a gap"),
        (nets.tc_resnet, {"channels": (8,)}, r"channels=\[8\]: at least two"),
        (nets.tc_resnet, {"first": 4}, "first=4: .* odd"),
        (published, {"name": "TC-ResNet9"}, "'TC-ResNet9': published are TC-ResNet8"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make: Any, setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        make(**setting)
    assert "\n" not in str(caught.value)
