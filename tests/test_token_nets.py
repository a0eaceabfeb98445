"""Transformers and networks over series: every plan of a population, and that they learn."""

import functools
import sysconfig
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnas import nets
from jnas.base import sample
from jnas.evaluators.plans import population
from jnas.nets.usage import used_params

TOKENS: dict[str, Any] = {"vocabulary": 9, "length": 5, "widths": (4, 6), "depth": 2, "head": 4}
SERIES: dict[str, Any] = {"length": 6, "features": 4, "classes": 3}
NETS: dict[str, tuple] = {
    "encoder": (nets.transformer, {**TOKENS, "classes": 3}),
    "translation": (nets.transformer, {**TOKENS, "kind": "encoder_decoder"}),
    "images": (nets.autoformer, {"image": 4, "widths": (4, 6), "head": 4, "depth": 2, "least": 1}),
    "series": (nets.series, {**SERIES, "widths": (4, 6), "depth": 2, "head": 4, "norm": "batch"}),
    "keywords": (nets.tc_resnet, {**SERIES, "channels": (4, 6)}),
}
ROWS = 3


def _input(name: str) -> Any:
    rng = np.random.default_rng(0)
    tokens = lambda: rng.integers(0, 9, (3, 5)).astype(np.int32)
    if name == "translation":
        return {"source": tokens(), "target": tokens()}
    shapes = {"images": (3, 4, 4, 1), "series": (3, 6, 4), "keywords": (3, 6, 4)}
    if name in shapes:
        return rng.normal(size=shapes[name]).astype(np.float32)
    return tokens()


def _trained(net: nets.Net, x: Any, row: tuple) -> Any:
    """The loss after each of two steps, of outputs that are to be small."""
    key, arch = row
    params, state = net.init(key)

    def loss(params: Any, state: Any) -> Any:
        y, state = net.apply(params, state, arch, x, train=True)
        return jnp.mean(jnp.square(y - 1)), state

    losses = []
    for _ in range(3):
        (found, state), grads = jax.value_and_grad(loss, has_aux=True)(params, state)
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, grads)
        losses.append(found)
    return jnp.stack(losses)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_every_plan_has_the_numbers_of_small_networks_trained_alone(name: str) -> None:
    """`map`, `vmap` and `grouped`; and each architecture's own program, with nothing to choose."""
    make, setting = NETS[name]
    net, x = make(**setting), _input(name)
    archs = sample(net.space, jax.random.key(1), ROWS)
    keys = jax.random.split(jax.random.key(2), ROWS)
    one = functools.partial(_trained, net, x)
    with jax.debug_key_reuse(False):
        found = {p: jax.jit(population(one, p))((keys, archs)) for p in ("map", "vmap", "grouped")}
        fixed = [jax.tree.map(lambda v, i=i: np.asarray(v[i]), archs) for i in range(ROWS)]
        pairs = zip(keys, fixed, strict=True)
        alone = [jax.jit(lambda k, arch=arch: one((k, arch)))(key) for key, arch in pairs]
    assert (found["map"][:, -1] < found["map"][:, 0]).all()
    for plan, losses in found.items():
        np.testing.assert_allclose(losses, np.stack(alone), rtol=1e-3, atol=1e-5, err_msg=plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_only_what_an_architecture_uses_gets_a_gradient(name: str) -> None:
    """And as many parameters are marked as used as are counted."""
    make, setting = NETS[name]
    net, x = make(**setting), _input(name)
    params, state = net.init(jax.random.key(0))
    used = used_params(net)

    @jax.jit
    def grad(arch: Any) -> Any:
        f = lambda p: jnp.sum(jnp.square(net.apply(p, state, arch, x, train=True)[0]))
        return jax.grad(f)(params), used(arch)

    archs = sample(net.space, jax.random.key(3), 3)
    for i in range(3):
        arch = jax.tree.map(lambda v, i=i: np.asarray(v[i]), archs)
        grads, marks = grad(arch)
        marks = jax.tree.map(lambda m, p: np.broadcast_to(m, p.shape), marks, params)
        idle = jax.tree.map(lambda g, m: np.abs(np.where(m, 0, g)).max(), grads, marks)
        assert max(jax.tree.leaves(idle)) == 0
        total = sum(int(m.sum()) for m in jax.tree.leaves(marks))
        assert total == int(net.space.counts["params"](arch))


# ------------------------------------------------------------------------------ learning


def _fit(net: nets.Net, arch: Any, loss_of: Any, draw: Any, steps: int, rate: float) -> Any:
    """Parameters and state after Adam on batches that `draw(step)` gives."""
    params, state = net.init(jax.random.key(0))
    rule = optax.adam(rate)
    opt = rule.init(params)

    @jax.jit
    def step(params: Any, state: Any, opt: Any, batch: Any) -> tuple:
        def loss(params: Any) -> Any:
            y, new = net.apply(params, state, arch, batch[0], train=True)
            return loss_of(y, batch[1]), new

        (found, state_), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt = rule.update(grads, opt)
        return optax.apply_updates(params, updates), state_, opt, found

    losses = []
    for i in range(steps):
        params, state, opt, found = step(params, state, opt, draw(i))
        losses.append(float(found))
    return params, state, losses


def _cross_entropy(logits: Any, y: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _text() -> np.ndarray:
    """Bytes of a source file that every Python brings."""
    path = Path(sysconfig.get_paths()["stdlib"]) / "textwrap.py"
    return np.frombuffer(path.read_bytes(), np.uint8)[:8000].astype(np.int32)


@pytest.mark.slow
def test_a_decoder_learns_the_bytes_of_a_text() -> None:
    net = nets.transformer(
        "decoder", depth=2, widths=(48,), heads=(2, 4), length=32, ratios=(2,), norms=("pre",)
    )
    arch = net.space.parse(
        "activation=[gelu,gelu] block=[attention,convolution] depth=2 heads=[4,2] kernel=[3,7] "
        "norm=pre position=learned ratio=[2,2] width=48"
    )
    text, rng = _text(), np.random.default_rng(0)
    split = 7000

    def cut(starts: Any) -> tuple:
        rows = np.stack([text[s : s + 33] for s in starts])
        return rows[:, :-1], rows[:, 1:]

    draw = lambda i: cut(rng.integers(0, split - 33, 16))
    params, state, losses = _fit(net, arch, _cross_entropy, draw, 300, 3e-3)
    held = cut(np.arange(split, 8000 - 33, 33))
    y = jax.jit(lambda x: net.apply(params, state, arch, x)[0])(held[0])
    counts = np.bincount(text[:split], minlength=256) + 0.01
    frequencies = -np.log(counts / counts.sum())[held[1]].mean()  # nats of a byte by its frequency
    assert losses[0] > 5 and float(_cross_entropy(y, held[1])) < frequencies - 0.6


@pytest.mark.slow
def test_an_encoder_and_decoder_learns_to_turn_a_sequence_round() -> None:
    net = nets.transformer(
        "encoder_decoder", depth=1, widths=(32,), heads=(2,), length=6, vocabulary=10, ratios=(2,)
    )
    arch = net.space.parse(
        "activation=[relu] block=[attention] decoder_activation=[relu] decoder_block=[attention] "
        "decoder_depth=1 decoder_heads=[2] decoder_kernel=[3] decoder_ratio=[2] depth=1 heads=[2] "
        "kernel=[3] norm=pre position=learned ratio=[2] width=32"
    )
    rng = np.random.default_rng(0)

    def draw(_: int) -> tuple:
        source = rng.integers(2, 10, (64, 6)).astype(np.int32)
        answer = source[:, ::-1]
        begin = np.ones((64, 1), np.int32)
        return {"source": source, "target": np.concatenate([begin, answer[:, :-1]], 1)}, answer

    params, state, losses = _fit(net, arch, _cross_entropy, draw, 400, 5e-3)
    x, answer = draw(0)
    y = jax.jit(lambda x: net.apply(params, state, arch, x)[0])(x)
    assert losses[0] > 1.5 and (np.argmax(y, -1) == answer).mean() > 0.95


@pytest.mark.slow
def test_a_gru_learns_which_of_two_marks_came_first() -> None:
    """Marks lie anywhere in noise of several lengths; a mean over frames does not tell."""
    net = nets.series(depth=1, widths=(16,), classes=2, length=20, features=2, blocks=("gru",))
    arch = net.space.parse("block=[gru] depth=1 heads=[1] kernel=[3] ratio=[1] width=16")
    rng = np.random.default_rng(0)

    def draw(_: int) -> tuple:
        y = rng.integers(0, 2, 64)
        series = 0.1 * rng.normal(size=(64, 20, 2)).astype(np.float32)
        frames = rng.integers(12, 21, 64)
        for i in range(64):
            a, b = np.sort(rng.choice(frames[i], 2, replace=False))
            series[i, a, y[i]] += 3
            series[i, b, 1 - y[i]] += 3
        return {"series": series, "frames": frames.astype(np.int32)}, y

    params, state, _ = _fit(net, arch, _cross_entropy, draw, 300, 1e-2)
    x, y = draw(0)
    found = jax.jit(lambda x: net.apply(params, state, arch, x)[0])(x)
    assert (np.argmax(found, -1) == y).mean() > 0.95


@pytest.mark.slow
def test_a_conformer_learns_labels_that_are_not_aligned() -> None:
    """By CTC: each label lasts for two to four frames, with silence between."""
    net = nets.series(
        depth=1,
        widths=(24,),
        classes=4,
        length=24,
        features=3,
        output="ctc",
        blocks=("conformer",),
    )
    arch = net.space.parse("block=[conformer] depth=1 heads=[2] kernel=[7] ratio=[2] width=24")
    rng = np.random.default_rng(0)

    def draw(_: int) -> tuple:
        labels = rng.integers(1, 4, (32, 4)).astype(np.int32)
        series = 0.1 * rng.normal(size=(32, 24, 3)).astype(np.float32)
        for i in range(32):
            at = 0
            for label in labels[i]:
                at, long = at + rng.integers(1, 3), rng.integers(2, 5)
                series[i, at : at + long, label - 1] += 1
                at += long
        return series, labels

    def loss(logits: Any, labels: Any) -> Any:
        none = lambda x: jnp.zeros(x.shape[:2])
        return optax.ctc_loss(logits, none(logits), labels, none(labels)).mean()

    params, state, losses = _fit(net, arch, loss, draw, 250, 1e-2)
    x, labels = draw(0)
    best = np.argmax(jax.jit(lambda x: net.apply(params, state, arch, x)[0])(x), -1)
    read = [[k for t, k in enumerate(row) if k and (t == 0 or row[t - 1] != k)] for row in best]
    right = [found == want for found, want in zip(read, labels.tolist(), strict=True)]
    assert losses[0] > 5 and np.mean(right) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_half_precision_passes_through_every_layer(name: str) -> None:
    """As the training's dtype bfloat16 has it: weights and series in it, statistics in float32."""
    make, setting = NETS[name]
    net, x = make(**setting), _input(name)
    half = lambda s: jax.ShapeDtypeStruct(s.shape, jnp.bfloat16) if s.dtype == jnp.float32 else s
    params, state = jax.eval_shape(net.init, jax.random.key(0))
    arch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, net.space.num_choices))
    shapes = jax.tree.map(half, (params, jax.eval_shape(lambda: jax.tree.map(jnp.asarray, x))))
    y, after = jax.eval_shape(
        lambda p, s, a, x: net.apply(p, s, a, x, train=True), shapes[0], state, arch, shapes[1]
    )
    assert y.dtype == jnp.bfloat16
    assert jax.tree.map(lambda s: s.dtype, after) == jax.tree.map(lambda s: s.dtype, state)
