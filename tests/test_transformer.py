"""Transformers: published counts, a naive reference in NumPy, small networks inside one program."""

from typing import Any

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from scipy.special import erf, expit

from jnas import nets, spaces
from jnas.base import InputError, sample, template
from jnas.nets import count_flops, count_params
from jnas.nets.inherit import inherit
from jnas.nets.transformer import BERT_BASE, GPT2_SMALL

KINDS = ("encoder", "decoder", "encoder_decoder")
SMALL: dict[str, Any] = {
    "depth": 3,
    "widths": (4, 6),
    "heads": (1, 2),
    "head": 4,
    "ratios": (1, 1.5),
    "kernels": (1, 3, 5),
    "vocabulary": 11,
    "length": 6,
    "classes": 3,
}
SOURCE = np.int32([[3, 5, 1, 9, 0, 0], [4, 4, 10, 2, 7, 1]])
TARGET = np.int32([[1, 6, 2, 8, 3, 0], [9, 9, 4, 2, 1, 5]])


def made(kind: str, **more: Any) -> nets.Net:
    return nets.transformer(kind=kind, **{**SMALL, **more})


def total(net: nets.Net) -> int:
    """The parameters of a network, by the shapes that it starts with."""
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0))[0]))


def inputs(kind: str) -> Any:
    return {"source": SOURCE, "target": TARGET} if kind == "encoder_decoder" else SOURCE


def row(archs: Any, i: int) -> Any:
    return jax.tree.map(lambda x: np.asarray(x[i]), archs)


def drawn(net: nets.Net, seed: int = 0) -> Any:
    """Parameters at random, biases and scales too."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(net.init, jax.random.key(0))[0]
    return jax.tree.map(lambda s: rng.normal(0, 0.4, s.shape).astype(np.float32), shapes)


# ------------------------------------------------------------------------- published networks


POINTS = [(BERT_BASE, 109_482_240), (GPT2_SMALL, 124_439_808)]


@pytest.mark.parametrize(("setting", "params"), POINTS)
def test_bert_and_gpt_2_are_points_with_their_parameters(setting: dict, params: int) -> None:
    space = spaces.transformer(**setting)
    assert int(space.counts["params"](jax.tree.map(np.asarray, template(space)))) == params


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "params"), POINTS)
def test_bert_and_gpt_2_are_made_with_their_parameters(setting: dict, params: int) -> None:
    assert total(nets.transformer(**setting)) == params


def test_multiply_adds_beyond_an_int32_are_exact_for_ints_and_close_when_traced() -> None:
    space = spaces.transformer(**BERT_BASE)
    arch = jax.tree.map(np.asarray, template(space))
    t, w = 512, 768
    each = 4 * w * w + 8 * w * w  # of a token: attention's products and the feed-forward
    assert space.counts["flops"](arch) == 12 * (t * each + 2 * t * t * w) + w * w
    traced = jax.jit(space.counts["flops"])(jax.tree.map(jnp.asarray, arch))
    np.testing.assert_allclose(traced, space.counts["flops"](arch), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_the_small_network_that_is_traced(kind: str) -> None:
    net = made(kind, target_vocabulary=7 if kind == "encoder_decoder" else 0, pool="first")
    archs = sample(net.space, jax.random.key(3), 4)
    shape: Any = jax.ShapeDtypeStruct((6,), jnp.int32)
    if kind == "encoder_decoder":
        shape = {"source": shape, "target": shape}
    both = lambda a: [net.space.counts[k](a) for k in ("params", "flops")] + [count_params(net, a)]
    params, flops, counted = jax.jit(jax.vmap(both))(archs)
    for i in range(4):
        arch = row(archs, i)
        assert total(net.alone(arch)) == params[i] == counted[i]
        assert int(net.space.counts["params"](arch)) == params[i]
        assert count_flops(net, arch, shape) == flops[i]


# ------------------------------------------------------------------------- a naive reference


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x * expit(x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


def _stack(p: Any, words: Any, x: Any, live: Any, causal: bool, prefix: str, memory: Any) -> Any:
    """The layers over one example; `words` are the choices by name."""
    length, width = x.shape
    if words["position"] == "learned":
        x = x + p["position"]["table"]["table"][:length]
    if words["position"] == "sinusoidal":
        for t in range(length):
            for i in range(width):
                angle = t / 10_000 ** (2 * (i // 2) / width)
                x[t, i] += (np.sin(angle) if i % 2 == 0 else np.cos(angle)) / np.sqrt(width)
    turn, pre = words["position"] == "rotary", words["norm"] == "pre"
    x = x if pre else naive.norm(p["first"], x)
    for i in range(int(words[prefix + "depth"])):
        q = naive.layer(p["layers"], i)
        residual = lambda n, x, f, q=q: (
            x + f(naive.norm(q[n]["norm"], x)) if pre else naive.norm(q[n]["norm"], x + f(x))
        )
        if words[prefix + "block"][i] == "attention":
            mix = lambda y, q=q: naive.attention(q["mixer"], y, y, live, causal, turn)
        else:
            mix = lambda y, q=q: naive.separable(q["mixer"], y, live, causal)
        x = residual("mixing", x, mix)
        if memory is not None:
            cross = lambda y, q=q: naive.attention(q["cross"], y, *memory, False, False)
            x = residual("crossing", x, cross)
        act = ACTIVATIONS[words[prefix + "activation"][i]]
        into, out = q["feed"]["into"], q["feed"]["out"]
        feed = lambda y, i=into, o=out, act=act: naive.dense(o, act(naive.dense(i, y)))
        x = residual("feeding", x, feed)
    return naive.norm(p["last"], x) if pre else x


def reference(kind: str, p: Any, words: dict, x: Any) -> Any:
    """A small network with weights `p`, example by example, in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p)
    table, out = p["embedding"]["table"], []
    rows = zip(x["source"], x["target"]) if kind == "encoder_decoder" else [(r, r) for r in x]  # noqa: B905
    for source, target in rows:
        live = source != 0
        if kind == "decoder":
            every = np.ones(len(source))
            y = _stack(p["stack"], words, table[source], every, True, "", None)
            out.append(y @ table.T)
            continue
        y = _stack(p["stack"], words, table[source], live, False, "", None)
        if kind == "encoder":
            out.append(naive.dense(p["classifier"], y[live].mean(0)))
            continue
        every = np.ones(len(target))
        memory = (y, live)
        z = _stack(p["decoder"], words, table[target], every, True, "decoder_", memory)
        out.append(z @ table.T)
    return np.stack(out)


def _words(net: nets.Net, arch: Any) -> dict:
    labels = net.space.labels
    look = lambda name, v: [labels[name][i] for i in v] if v.ndim else labels[name][int(v)]
    return {name: look(name, np.asarray(v)) for name, v in arch.items()}


def _archs(net: nets.Net, **changes: Any) -> list:
    """One architecture for every position and norm, its layers of all blocks, no two alike."""
    archs = []
    for i in range(4):
        arch = row(sample(net.space, jax.random.key(i), 1), 0)
        for prefix in ("", "decoder_"):
            if prefix + "block" in arch:
                arch[prefix + "block"] = np.int32([i % 3, (i + 1) % 3, (i + 2) % 3])
                arch[prefix + "depth"] = np.int32(i % 2 + 1)
                arch[prefix + "activation"] = np.int32([i % 3, (i + 2) % 3, 0])
        arch |= {"position": np.int32(i), "norm": np.int32(i % 2), "width": np.int32(i % 3 > 0)}
        archs.append(arch)
    return archs


@pytest.fixture(
    scope="module",
    params=[
        k if k == "encoder_decoder" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS
    ],
)
def network(request: pytest.FixtureRequest) -> tuple:
    """A net, its parameters, and its jitted function of the architecture and the input."""
    net = made(request.param)
    params = drawn(net)
    return request.param, net, params, jax.jit(lambda a, x: net.apply(params, {}, a, x)[0])


def test_it_equals_a_naive_reference_with_the_weights_of_the_small_network(network: tuple) -> None:
    kind, net, params, run = network
    for arch in _archs(net)[1 if kind == "encoder_decoder" else 0 :]:
        small, _ = inherit(net, params, {}, arch)
        x = inputs(kind)
        expected = reference(kind, small, _words(net, arch), x)
        np.testing.assert_allclose(run(arch, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_small_network_by_itself_equals_the_naive_reference(network: tuple) -> None:
    kind, net, params, _ = network
    for arch in _archs(net):
        small, _ = inherit(net, params, {}, arch)
        alone, x = net.alone(arch), inputs(kind)
        y = jax.jit(lambda x, n=alone, p=small: n.apply(p, {}, template(n.space), x)[0])(x)
        expected = reference(kind, small, _words(net, arch), x)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_simplex_of_one_choice_is_that_choice(network: tuple) -> None:
    kind, net, params, run = network
    relaxed = jax.jit(lambda a, x: net.apply(params, {}, a, x)[0])
    sparse = jax.jit(lambda a, x: net.apply(params, {}, a, x, sparse=True)[0])
    for arch in _archs(net)[:2]:
        hot = {k: jax.nn.one_hot(v, len(net.space.labels[k])) for k, v in arch.items()}
        for form in (relaxed, sparse):
            found = form(hot, inputs(kind))
            np.testing.assert_allclose(found, run(arch, inputs(kind)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_a_decoder_gives_does_not_depend_on_later_tokens(network: tuple) -> None:
    kind, net, _, run = network
    if kind == "encoder":
        pytest.skip("an encoder sees all tokens")
    later = TARGET.copy()
    later[:, 3:] = (later[:, 3:] + 4) % 11
    both = [
        {"source": SOURCE, "target": target} if kind == "encoder_decoder" else target
        for target in (TARGET, later)
    ]
    for arch in _archs(net):
        a, b = (run(arch, x) for x in both)
        np.testing.assert_allclose(a[:, :3], b[:, :3], atol=1e-6)
        assert np.abs(a[:, 3:] - b[:, 3:]).max() > 1e-5


@pytest.mark.slow
def test_padding_and_what_stands_in_its_place_have_no_effect(network: tuple) -> None:
    """Tokens beyond the padding are cut off: the same network on a shorter input."""
    kind, net, _, run = network
    if kind == "decoder":
        pytest.skip("a decoder has no padding")
    cut = lambda x: x[:1, :4]
    for arch in _archs(net)[:2]:
        whole = run(arch, inputs(kind))[:1]
        short = {"source": cut(SOURCE), "target": TARGET[:1]} if kind != "encoder" else cut(SOURCE)
        np.testing.assert_allclose(run(arch, short), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_canonical_architectures_compute_what_theirs_do(network: tuple) -> None:
    kind, net, _, run = network
    archs = sample(net.space, jax.random.key(9), 4)
    archs["position"] = jnp.full(4, 2)  # rotary, which goes where there is no attention
    archs["block"] = archs["block"].at[0].set(1)
    fixed = jax.jit(jax.vmap(net.space.canonical))(archs)
    for i in range(4):
        a, b = run(row(archs, i), inputs(kind)), run(row(fixed, i), inputs(kind))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    if kind == "encoder":
        assert fixed["position"][0] == 3


def test_gelu_is_the_tanh_form_within_a_thousandth_of_the_exact_one() -> None:
    x = np.linspace(-4, 4, 101)
    np.testing.assert_allclose(ACTIVATIONS["gelu"](x), x * (1 + erf(x / 2**0.5)) / 2, atol=1e-3)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"kind": "both"}, "kind=.*'both'.* encoder, decoder, encoder_decoder"),
        ({"depth": 2, "least": 3}, "least=3: .* at most depth=2"),
        ({"widths": (8, 4)}, r"widths=\[8, 4\]: .* rising"),
        ({"head": 3}, "head=3: .* even"),
        ({"kernels": (3, 4)}, r"kernels=\[3, 4\]: .* odd"),
        ({"blocks": ("attention", "pooling")}, "blocks=.*'pooling'.* attention, convolution"),
        ({"vocabulary": 0}, "vocabulary=0: .* at least 1"),
        ({"ratios": (0.1,), "widths": (4,)}, r"ratios=\[0.1\]: .* no hidden unit"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        nets.transformer(**setting)
    assert "\n" not in str(caught.value)
