"""The network of DARTS against a plain one, its published sizes, drop-path, auxiliary head."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from quick import QUICK, doubled

from jnas import nets
from jnas.base import InputError, one_hot, sample
from jnas.evaluators import Examples, Training
from jnas.evaluators.training import check, loss
from jnas.nets import count_flops, count_params, darts_ops, forms
from jnas.spaces.genotypes import GENOTYPES

FIRST = (
    "Genotype(normal=[('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 2), "
    "('sep_conv_5x5', 1), ('dil_conv_3x3', 3), ('skip_connect', 0), ('dil_conv_5x5', 4), "
    "('skip_connect', 3)], normal_concat=range(2, 6), reduce=[('sep_conv_3x3', 0), "
    "('skip_connect', 1), ('max_pool_3x3', 2), ('avg_pool_3x3', 0), ('skip_connect', 3), "
    "('dil_conv_3x3', 2), ('sep_conv_5x5', 4), ('dil_conv_5x5', 1)], reduce_concat=range(2, 6))"
)


def _edges(text: str) -> dict[str, list[tuple[str, int]]]:
    """The edges of a genotype, read by a pattern; in a node the lower input goes first."""
    found = re.findall(r"\('(\w+)', (\d)\)", text)
    pairs = [sorted(found[i : i + 2], key=lambda e: int(e[1])) for i in range(0, 16, 2)]
    flat = [(op, int(source)) for pair in pairs for op, source in pair]
    return {"normal": flat[:8], "reduce": flat[8:]}


# --------------------------------------------------------------------------- the plain network

NAMES = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5",
         "dil_conv_3x3", "dil_conv_5x5")  # fmt: skip


def _conv(x: Any, weight: Any, stride: int = 1, dilation: int = 1, groups: int = 1) -> Any:
    pad = dilation * (weight.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x, weight, (stride, stride), [(pad, pad)] * 2, rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


def _norm(p: Any, x: Any) -> Any:
    axes = tuple(range(x.ndim - 1))
    unit = (x - jnp.mean(x, axes)) / jnp.sqrt(jnp.var(x, axes) + 1e-5)
    return unit * p["scale"] + p["bias"]


def _separable(p: Any, x: Any, stride: int, dilation: int) -> Any:
    channels = x.shape[-1]
    deep = p["depthwise"]["kernel"][:, :, None]
    x = _conv(jax.nn.relu(x), deep, stride, dilation, groups=channels)
    return _norm(p["norm"], _conv(x, p["pointwise"]["kernel"]))


def _factorized(p: Any, x: Any) -> Any:
    x = jax.nn.relu(x)
    halves = [x[:, ::2, ::2] @ p["first"]["kernel"][0, 0],
              x[:, 1::2, 1::2] @ p["second"]["kernel"][0, 0]]  # fmt: skip
    return _norm(p["norm"], jnp.concatenate(halves, -1))


def _apply(name: str, p: Any, x: Any, stride: int) -> Any:
    window = lambda init, f, x: jax.lax.reduce_window(
        x, init, f, (1, 3, 3, 1), (1, stride, stride, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
    )
    if name == "max_pool_3x3":
        return window(-jnp.inf, jax.lax.max, x)
    if name == "avg_pool_3x3":
        return window(0.0, jax.lax.add, x) / window(0.0, jax.lax.add, jnp.ones_like(x))
    if name == "skip_connect":
        return x if stride == 1 else _factorized(p, x)
    if name.startswith("dil"):
        return _separable(p, x, stride, 2)
    return _separable(p["second"], _separable(p["first"], x, stride, 1), 1, 1)


def _plain(params: Any, text: str, layers: int, x: Any, masks: Any = None) -> Any:
    """The network in the mode of training: a loop over cells, nodes and edges."""
    edges = _edges(text)
    blocks = []
    for _, group in sorted(params["groups"].items()):
        many = jax.tree.leaves(group)[0].shape[0]
        blocks += [jax.tree.map(lambda leaf, i=i: leaf[i], group["block"]) for i in range(many)]
    assert len(blocks) == layers
    x = _norm(params["stem_norm"], _conv(x, params["stem"]["kernel"]))
    before = last = x
    tapped = x
    for i, block in enumerate(blocks):
        reduces = i in (layers // 3, 2 * layers // 3)
        ready = []
        for name, y in (("before", before), ("last", last)):
            p = block[name]
            if "first" in p:
                ready.append(_factorized(p, y))
            else:
                ready.append(_norm(p["norm"], _conv(jax.nn.relu(y), p["conv"]["kernel"])))
        for k in range(4):
            total = 0.0
            for e in (2 * k, 2 * k + 1):
                op, source = edges["reduce" if reduces else "normal"][e]
                strided = reduces and source < 2
                place = NAMES.index(op) + (7 if reduces and not strided else 0)
                options = block["edges"]["block"]["op"]["options"]
                p = options.get(place, {})  # poolings have no parameters
                p = jax.tree.map(lambda leaf, e=e: leaf[e], p.get("op", p))
                y = _apply(op, p, ready[source], 1 + strided)
                if masks is not None and (op != "skip_connect" or strided):
                    y = y * masks[i, e][:, None, None, None]
                total = total + y
            ready.append(total)
        before, last = last, jnp.concatenate(ready[2:], -1)
        tapped = last if i == 2 * layers // 3 else tapped
    head = lambda p, x: x @ p["kernel"] + p["bias"]
    logits = head(params["classifier"], jnp.mean(last, (1, 2)))
    if "auxiliary" not in params:
        return logits
    p = params["auxiliary"]
    n, size = tapped.shape[1], max(1, 5 * tapped.shape[1] // 8)
    at = (0, n - size)
    y = jax.nn.relu(tapped)
    y = jnp.stack([jnp.stack([y[:, a : a + size, b : b + size].mean((1, 2)) for b in at], 1)
                   for a in at], 1)  # fmt: skip
    y = jax.nn.relu(_norm(p["first_norm"], _conv(y, p["first"]["kernel"])))
    kernel = p["second"]["kernel"].reshape(2, 2, 128, 768)
    y = jnp.einsum("bhwc,hwcd->bd", y, kernel)
    return logits, head(p["classifier"], jax.nn.relu(_norm(p["second_norm"], y)))


@jax.enable_x64(True)  # in single precision a rounding that moves a kink shows in the gradients
def _compared(text: str, layers: int, options: dict, traced: bool) -> None:
    net = nets.darts(4, layers, 5, 8, 2, **options)
    made = jax.jit(net.init, compiler_options=QUICK)(jax.random.key(0))
    params, state = doubled(made)
    wave = lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    params = jax.tree.map(wave, params)
    x = jax.random.normal(jax.random.key(1), (8, 8, 8, 2))
    arch = net.space.parse(text)

    def total(found: Any) -> Any:
        return sum(
            jnp.mean(jnp.sin(y)) * w for y, w in zip(jax.tree.leaves(found), (1, 0.4), strict=False)
        )

    def both(network: Any, *data: Any) -> Any:
        """Output, and gradients of parameters and input."""

        def run(params: Any, x: Any, *data: Any) -> Any:
            def f(params: Any, x: Any) -> Any:
                y = network(params, x, *data)
                return total(y), y

            return jax.grad(f, (0, 1), has_aux=True)(params, x)

        return jax.jit(run, compiler_options=QUICK)(params, x, *data)

    apply = lambda params, x, arch=arch: net.apply(params, state, arch, x, train=True)[0]
    found = both(apply, jax.tree.map(jnp.asarray, arch)) if traced else both(apply)
    expected = both(lambda params, x: _plain(params, text, layers, x))

    def close(a: jax.Array, b: jax.Array) -> None:
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * (1 + float(jnp.abs(b).max())))

    jax.tree.map(close, found, expected)


def test_forward_and_backward_equal_a_plain_network() -> None:
    _compared(FIRST, 3, {"auxiliary": True}, traced=False)


@pytest.mark.slow
@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("text", [FIRST, GENOTYPES["PC_DARTS"]])
def test_scanned_cells_equal_a_plain_network(text: str, traced: bool) -> None:
    _compared(text, 10, {}, traced)


# ----------------------------------------------------------------------------------- counting


def _naive_params(text: str, channels: int, layers: int, classes: int, inputs: int) -> int:
    """A count in one loop, as one would do it with paper and pencil."""
    edges, c = _edges(text), channels
    total = 27 * inputs * c + 2 * 3 * c  # the stem and its norm
    before = last = 3 * c
    for i in range(layers):
        reduces = i in (layers // 3, 2 * layers // 3)
        c = c * 2 if reduces else c
        total += before * c + 2 * c + last * c + 2 * c
        for op, source in edges["reduce" if reduces else "normal"]:
            kernel = int(op[-1]) if "conv" in op else 0
            if "conv" in op:
                once = kernel * kernel * c + c * c + 2 * c
                total += 2 * once if op.startswith("sep") else once
            elif op == "skip_connect" and reduces and source < 2:
                total += c * c + 2 * c
        before, last = last, 4 * c
    return total + last * classes + classes


PUBLISHED = {  # as their code prints it, in millions
    "DARTS_V2": "3.349342",
    "P_DARTS": "3.433798",
    "DARTS_V1": "3.2",  # as the papers do from here on
    "PC_DARTS": "3.6",
    "GDAS": "3.4",
}


def test_published_genotypes_have_their_published_parameters() -> None:
    net = nets.darts(36, 20, 10, 32, 3)
    for name, text in GENOTYPES.items():
        arch = net.space.parse(name)
        exact = _naive_params(text, 36, 20, 10, 3)
        assert int(net.space.counts["params"](arch)) == exact
        if name in PUBLISHED:
            digits = len(PUBLISHED[name].partition(".")[2])
            assert f"{exact / 1e6:.{digits}f}" == PUBLISHED[name]
    assert int(count_params(net, net.space.parse("DARTS_V2"))) == 3_349_342


@pytest.mark.parametrize(
    "setting", [(4, 6, 7, 8, 1), (6, 1, 3, 8, 2), (4, 2, 3, 8, 1), (5, 4, 2, 12, 3)]
)
def test_counts_are_those_of_the_network_itself(setting: tuple) -> None:
    channels, layers, classes, image, inputs = setting
    net = nets.darts(*setting, auxiliary=True)
    archs = sample(net.space, jax.random.key(0), 4)
    for i in range(2):
        arch = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], archs)
        params = int(net.space.counts["params"](arch))
        assert params == int(count_params(net, arch))
        text = net.space.describe(arch)
        assert params == _naive_params(text, channels, layers, classes, inputs)
    with forms.using(depthwise="lax"):  # sums of shifted copies are no products
        flops = count_flops(net, arch, (image, image, inputs))
    assert flops == int(net.space.counts["flops"](arch))


def test_counts_too_large_for_int32_are_floats() -> None:
    space = nets.darts(256, 3, 10, 224, 3).space
    found = space.counts["flops"](space.parse("DRNAS"))
    assert found.dtype == jnp.float32 and found > 2.0**31


# ---------------------------------------------------------------------------- parts of training


def _tiny(**options: Any) -> tuple:
    net = nets.darts(2, 2, 3, 4, 1, **options)
    params, state = jax.jit(net.init, compiler_options=QUICK)(jax.random.key(0))
    return net, params, state, jax.random.normal(jax.random.key(1), (6, 4, 4, 1))


@pytest.mark.slow
def test_dropped_paths_are_those_drawn_and_more_of_them_as_the_training_goes_on() -> None:
    net, params, state, x = _tiny(drop_path=0.5, steps=4)
    arch = net.space.parse(FIRST)
    step = jax.jit(lambda s: net.apply(params, s, arch, x, train=True), compiler_options=QUICK)
    key = lambda: jax.random.wrap_key_data(jax.random.key_data(state["stream"]["key"]))
    for i, rate in enumerate([0.0, 0.125, 0.25, 0.375, 0.5, 0.5]):
        drawn = jax.random.fold_in(key(), i)
        kept = jax.random.bernoulli(drawn, 1 - rate, (2, 8, 6)) / (1 - rate)
        expected = _plain(params, FIRST, 2, x, kept)
        found, state = step(state)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (kept == 0).any()
    calm = jax.jit(lambda: net.apply(params, state, arch, x), compiler_options=QUICK)()
    del state["stream"], calm[1]["stream"]
    jax.tree.map(np.testing.assert_array_equal, calm[1], state)


@pytest.mark.slow
def test_the_loss_of_the_auxiliary_head_is_added_with_its_weight() -> None:
    net, params, state, x = _tiny(auxiliary=True)
    arch, batch = net.space.parse("DARTS_V2"), (x, jnp.arange(6) % 3, None)
    value = lambda weight: jax.jit(
        lambda: loss(net, Training(None, 1, auxiliary=weight))(params, state, arch, batch)[0],
        compiler_options=QUICK,
    )()
    logits, others = _plain(params, GENOTYPES["DARTS_V2"], 2, x)
    rows = lambda z: jax.nn.log_softmax(z)[np.arange(6), batch[1]]
    first, second = -rows(logits).mean(), -rows(others).mean()
    np.testing.assert_allclose(value(0.0), first, rtol=1e-5)
    np.testing.assert_allclose(value(0.4), first + 0.4 * second, rtol=1e-5)
    y = jax.jit(lambda: net.apply(params, state, arch, x)[0], compiler_options=QUICK)()
    assert y.shape == (6, 3)  # in evaluation there is one head


@pytest.mark.slow
def test_an_auxiliary_loss_needs_a_head() -> None:
    net, params, state, x = _tiny()
    batch = (x, jnp.zeros(6, jnp.int32), None)
    run = loss(net, Training(None, 1, auxiliary=0.4))
    with pytest.raises(InputError, match=r"auxiliary=0.4: .* no auxiliary head"):
        jax.eval_shape(lambda: run(params, state, net.space.parse("DARTS_V2"), batch))
    data = Examples(np.zeros((4, 4, 4, 1)), np.zeros(4, np.int32))
    with pytest.raises(InputError, match="auxiliary=-1: a number of at least 0"):
        check(Training(None, 1, auxiliary=-1), data)


@pytest.mark.slow
def test_a_corner_of_the_simplices_equals_the_architecture_and_rows_equal_single_networks() -> None:
    net, params, state, x = _tiny()
    archs = sample(net.space, jax.random.key(3), 3)
    run = lambda arch: net.apply(params, state, arch, x, train=True)[0]
    found = jax.jit(jax.vmap(run), compiler_options=QUICK)(archs)
    one = jax.jit(run, compiler_options=QUICK)
    for i in range(3):
        arch = jax.tree.map(lambda leaf, i=i: leaf[i], archs)
        np.testing.assert_allclose(found[i], one(arch), rtol=1e-4, atol=1e-5)
        text = net.space.describe(arch)
        np.testing.assert_allclose(found[i], _plain(params, text, 2, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one(one_hot(net.space, arch)), found[2], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_lines_of_seven_equal_plain_convolutions(stride: int) -> None:
    op = darts_ops.OPS["conv_7x1_1x7"](3, stride, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(2), (4, 6, 10, 3))
    numbers = ("NHWC", "HWIO", "NHWC")
    wide, high = ([(0, 0), (3, 3)], [(3, 3), (0, 0)])
    y = jax.lax.conv_general_dilated(
        jax.nn.relu(x), op.along[...][None], (1, stride), wide, dimension_numbers=numbers
    )
    y = jax.lax.conv_general_dilated(
        y, op.down[...][:, None], (stride, 1), high, dimension_numbers=numbers
    )
    plain = {"scale": jnp.ones(3), "bias": jnp.zeros(3)}
    np.testing.assert_allclose(op(x), _norm(plain, y), rtol=1e-4, atol=1e-5)
    assert darts_ops.OPS["none"](3, stride, rngs=nnx.Rngs(0))(x).shape == y.shape


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [3, 8])
def test_lines_with_a_bottleneck_equal_plain_convolutions(channels: int, stride: int) -> None:
    op = darts_ops.OPS["bottle_conv_7x1_1x7"](channels, stride, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(2), (4, 6, 10, channels))
    inner = channels // 4

    def step(y: jax.Array, kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
        reach = [(n // 2, n // 2) for n in kernel.shape[:2]]
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            jax.nn.relu(y), kernel, strides, reach, dimension_numbers=numbers
        )
        n = kernel.shape[-1]
        return _norm({"scale": jnp.ones(n), "bias": jnp.zeros(n)}, y)

    y = step(x, op.before.conv.kernel[...], (1, 1)) if inner else x
    assert y.shape[-1] == (inner or channels)
    y = step(y, op.along.kernel[...][None], (1, stride))
    y = step(y, op.down.kernel[...][:, None], (stride, 1))
    y = step(y, op.after.conv.kernel[...], (1, 1)) if inner else y
    np.testing.assert_allclose(op(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"image": 30}, "image size 30: .* a multiple of 4"),
        ({"image": 1}, "image size 1: .* a multiple of 4"),
        ({"layers": 0}, "layers=0: .* at least 1"),
        ({"channels": 0}, "channels=0: .* at least 1"),
        ({"drop_path": 1.0}, "drop_path=1.0: .* less than 1"),
    ],
)
def test_a_network_that_cannot_be_is_refused(setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        nets.darts(**setting)
