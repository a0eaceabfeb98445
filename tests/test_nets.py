"""Networks: operations against plain forms, choices against the branches that they choose."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jnas import nets
from jnas.base import size, template
from jnas.nets import Net, OneOf, Repeat, Slim, count_params, functional, ops
from jnas.nets.layers import BatchNorm, Conv
from jnas.spaces.nas_bench_201 import EDGES

close = lambda a, b, tol=1e-5: jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=tol, atol=tol), a, b
)
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def _normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def _lax_conv(x: jax.Array, weight: jax.Array, stride: int = 1) -> jax.Array:
    pad = weight.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, weight, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# ------------------------------------------------------------------------------- operations


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("image", [(8, 6), (7, 9)])
def test_a_convolution_and_its_gradients_are_those_of_lax(
    kernel: int, stride: int, image: tuple[int, int]
) -> None:
    x, weight = _normal(0, 2, *image, 3), _normal(1, kernel, kernel, 3, 4)
    y, pull = jax.vjp(lambda x, w: ops.conv(x, w, stride), x, weight)
    expected, expected_pull = jax.vjp(lambda x, w: _lax_conv(x, w, stride), x, weight)
    close(y, expected, 2e-5)
    grad = _normal(2, *y.shape)
    close(pull(grad), expected_pull(grad), 1e-4)


def test_average_pooling_counts_only_pixels_inside_the_image() -> None:
    x = np.asarray(_normal(0, 2, 5, 4, 3))
    expected = np.zeros_like(x)
    for i in range(5):
        for j in range(4):
            window = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            expected[:, i, j] = window.mean((1, 2))
    close(ops.avg_pool_3x3(jnp.asarray(x)), expected)


def test_pooling_over_blocks_is_the_mean_of_each_block() -> None:
    x = np.asarray(_normal(0, 1, 4, 6, 2))
    expected = [[x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in (0, 2, 4)] for i in (0, 2)]
    close(ops.avg_pool_2x2(jnp.asarray(x))[0], np.asarray(expected)[:, :, 0])


@pytest.mark.slow
def test_batch_normalisation_and_its_gradients_are_those_of_autodiff() -> None:
    x, scale, bias = 3 + 2 * _normal(0, 4, 3, 3, 5), 1 + _normal(1, 5), _normal(2, 5)

    def plain(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias

    y, pull = jax.vjp(lambda *a: ops.batch_norm(*a, 1e-5)[0], x, scale, bias)
    expected, expected_pull = jax.vjp(plain, x, scale, bias)
    close(y, expected)
    grad = _normal(3, *y.shape)
    close(pull(grad), expected_pull(grad), 1e-4)
    _, mean, variance = ops.batch_norm(x, scale, bias, 1e-5)
    close((mean, variance), (jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))))


def test_running_statistics_follow_the_batches_and_are_used_in_evaluation() -> None:
    layer, mean, variance = BatchNorm(3), np.zeros(3), np.ones(3)
    for seed in range(3):
        x = 1 + 2 * _normal(seed, 10, 3)
        layer(x)
        mean = 0.9 * mean + 0.1 * np.mean(x, 0)
        variance = 0.9 * variance + 0.1 * np.var(x, 0, ddof=1)
    close((layer.mean[...], layer.variance[...]), (mean, variance))
    layer.eval()
    close(layer(x), (np.asarray(x) - mean) / np.sqrt(variance + 1e-5))
    close(layer.mean[...], mean)


# ------------------------------------------------------------------- choices of an operation


class Mixed(nnx.Module):
    """Every piece once: an operation, a depth whose blocks choose, and a width."""

    def __init__(self, rngs: nnx.Rngs, shared: bool = False):
        class Block(nnx.Module):
            def __init__(self, rngs: nnx.Rngs):
                options = {"linear": nnx.Linear(6, 6, rngs=rngs), "norm": BatchNorm(6)}
                self.one = OneOf(options, name="inner")

            def __call__(self, x: jax.Array) -> jax.Array:
                return jnp.tanh(self.one(x))

        self.op = OneOf(
            {"skip": lambda x: x, "norm": BatchNorm(6), "linear": nnx.Linear(6, 6, rngs=rngs)},
            name="op",
        )
        self.deep = Repeat(Block, 3, shared=shared, rngs=rngs, name="depth")
        self.wide = Slim(nnx.Linear(6, 8, rngs=rngs), [2, 5, 8], name="width")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.wide(self.deep(self.op(x)))


NET, SHARED = functional(Mixed), functional(lambda rngs: Mixed(rngs, shared=True))
X = _normal(9, 4, 6)


@pytest.fixture(scope="module")
def weights() -> tuple[Any, Any]:
    params, state = NET.init(jax.random.key(0))
    stir = lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    return jax.tree.map(stir, params), state


@pytest.fixture(scope="module")
def run() -> Any:
    """(params, state, arch, x) -> (y, state), gradients of params and x: training mode."""

    def f(params: Any, state: Any, arch: Any, x: jax.Array) -> tuple:
        def loss(params: Any, x: jax.Array) -> tuple:
            y, new = NET.apply(params, state, arch, x, train=True)
            return jnp.sum(jnp.sin(y)), (y, new)

        grads, out = jax.grad(loss, (0, 1), has_aux=True)(params, x)
        return out, grads

    return jax.jit(f)


def _arch(op: int, depth: int, inner: Any, width: int) -> dict[str, jax.Array]:
    values = {"op": op, "depth": depth, "inner": inner, "width": width}
    return {k: jnp.asarray(v, jnp.int32) for k, v in values.items()}


ARCHS = [_arch(0, 0, [1, 0, 0], 0), _arch(1, 2, [0, 1, 0], 1), _arch(2, 1, [1, 1, 0], 2)]


def _corner(arch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    many = {"op": 3, "depth": 3, "inner": 2, "width": 3}
    return {k: jax.nn.one_hot(v, many[k]) for k, v in arch.items()}


def _plain(params: Any, arch: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """The net `Mixed` written as a plain loop, in training mode."""

    def linear(p: Any, x: np.ndarray) -> np.ndarray:
        return x @ np.asarray(p["kernel"]) + np.asarray(p["bias"])

    def norm(p: Any, x: np.ndarray) -> np.ndarray:
        unit = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        return unit * np.asarray(p["scale"]) + np.asarray(p["bias"])

    op = int(arch["op"])
    layers = params["op"]["options"]
    x = x if op == 0 else norm(layers[1], x) if op == 1 else linear(layers[2], x)
    for i in range(int(arch["depth"]) + 1):
        block = jax.tree.map(lambda p, i=i: p[i], params["deep"]["block"])["one"]["options"]
        inner = int(np.asarray(arch["inner"]).reshape(-1)[i if np.size(arch["inner"]) > 1 else 0])
        x = np.tanh(linear(block[0], x) if inner == 0 else norm(block[1], x))
    width = [2, 5, 8][int(arch["width"])]
    return linear(params["wide"]["layer"], x) * (np.arange(8) < width)


def test_the_space_is_read_off_the_network() -> None:
    num = {k: v.tolist() for k, v in NET.space.num_choices.items()}
    assert num == {"op": 3, "depth": 3, "inner": [2, 2, 2], "width": 3}
    assert SHARED.space.num_choices["inner"].tolist() == 2
    text = NET.space.describe(ARCHS[1])
    assert text == "depth=3 inner=[linear,norm,linear] op=norm width=5"
    same(NET.space.parse(text), ARCHS[1])
    assert size(SHARED.space) == 3 * 3 * 2 * 3


@pytest.mark.parametrize("arch", ARCHS)
def test_an_int_runs_exactly_the_chosen_pieces(arch: Any, weights: Any, run: Any) -> None:
    (y, _), _ = run(*weights, arch, X)
    close(y, _plain(weights[0], arch, np.asarray(X)))


@pytest.mark.parametrize("inner", [0, 1])
def test_a_shared_choice_holds_in_all_repeats(inner: int, weights: Any) -> None:
    arch = _arch(0, 2, inner, 2)
    y, _ = SHARED.apply(*weights, arch, X, train=True)
    close(y, _plain(weights[0], arch, np.asarray(X)))


@pytest.mark.parametrize("arch", ARCHS)
def test_a_corner_of_the_simplex_equals_the_int(arch: Any, weights: Any, run: Any) -> None:
    (y, _), grads = run(*weights, arch, X)
    (y2, _), grads2 = run(*weights, _corner(arch), X)
    close(y, y2)
    close(grads, grads2, 1e-4)


@pytest.mark.parametrize("arch", ARCHS)
def test_only_chosen_branches_change_their_statistics(arch: Any, weights: Any, run: Any) -> None:
    params, state = weights
    (_, new), _ = run(params, state, arch, X)
    changed = lambda a, b: bool((np.asarray(a) != np.asarray(b)).any())
    assert changed(new["op"]["options"][1]["mean"], state["op"]["options"][1]["mean"]) == (
        int(arch["op"]) == 1
    )
    old, after = (s["deep"]["block"]["one"]["options"][1]["mean"] for s in (state, new))
    for i in range(3):
        runs = i <= int(arch["depth"]) and int(arch["inner"][i]) == 1
        assert changed(old[i], after[i]) == runs


@pytest.mark.parametrize("arch", ARCHS)
def test_a_traced_architecture_equals_one_known_at_compile_time(
    arch: Any, weights: Any, run: Any
) -> None:
    traced, _ = run(*weights, arch, X)
    fixed = jax.tree.map(np.asarray, arch)
    static = jax.jit(lambda p, s: NET.apply(p, s, fixed, X, train=True))(*weights)
    close(traced, static)


def test_a_row_of_a_vmapped_population_equals_the_single_network(weights: Any, run: Any) -> None:
    many = jax.tree.map(lambda *rows: jnp.stack(rows), *ARCHS)
    params, state = jax.tree.map(lambda x: jnp.stack([x, 1.1 * x, 0.9 * x]), weights)
    found = jax.jit(jax.vmap(run, (0, 0, 0, None)))(params, state, many, X)
    for i, arch in enumerate(ARCHS):
        row = jax.tree.map(lambda x, i=i: x[i], (params, state))
        close(jax.tree.map(lambda x, i=i: x[i], found), run(*row, arch, X), 1e-4)


def test_the_gradient_of_a_relaxed_architecture_is_that_of_finite_differences(
    weights: Any,
) -> None:
    soft = jax.tree.map(lambda h: 0.7 * h + 0.1, _corner(ARCHS[1]))
    f = jax.jit(lambda a: jnp.sum(jnp.sin(NET.apply(*weights, a, X)[0])))
    grad = jax.jit(jax.grad(f))(soft)
    for seed in range(3):
        keys = dict(zip(soft, range(seed * 10, seed * 10 + 4), strict=True))
        step = {k: _normal(keys[k], *v.shape) for k, v in soft.items()}
        at = lambda e, step=step: f(jax.tree.map(lambda a, d: a + e * d, soft, step))
        slope = (at(2e-3) - at(-2e-3)) / 4e-3
        along = sum(jnp.sum(grad[k] * step[k]) for k in soft)
        np.testing.assert_allclose(slope, along, rtol=2e-2, atol=2e-3)


@pytest.mark.slow
def test_parameters_count_where_their_pieces_run(weights: Any) -> None:
    head = {0: 2 * 7, 1: 5 * 7, 2: 8 * 7}
    for arch in ARCHS:
        inner = [42 if int(i) == 0 else 12 for i in arch["inner"]][: int(arch["depth"]) + 1]
        expected = [0, 12, 42][int(arch["op"])] + sum(inner) + head[int(arch["width"])]
        assert int(count_params(NET, arch)) == expected
        np.testing.assert_allclose(count_params(NET, _corner(arch)), expected, rtol=1e-6)


# --------------------------------------------------------------------------- small networks


def _net(make: Any) -> Net:
    class Module(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.parts = nnx.List(make(rngs))

        def __call__(self, x: jax.Array) -> jax.Array:
            for part in self.parts:
                x = part(x)
            return x

    return functional(Module)


DOUBLE, SQUARE = (lambda x: 2 * x), (lambda x: x * x)


def test_choices_of_one_name_are_one_choice() -> None:
    net = _net(lambda rngs: [OneOf({"double": DOUBLE, "square": SQUARE}, "f") for _ in range(2)])
    assert size(net.space) == 2
    run = lambda f: float(net.apply({}, {}, {"f": jnp.int32(f)}, jnp.float32(3))[0])
    assert (run(0), run(1)) == (12, 81)


def test_choices_of_one_name_that_differ_are_refused() -> None:
    pieces = lambda rngs: [OneOf({"double": DOUBLE}), OneOf([DOUBLE, SQUARE], "f"),
                           OneOf([DOUBLE, SQUARE, DOUBLE], "f")]  # fmt: skip
    with pytest.raises(ValueError, match="named 'f' but differ"):
        _net(pieces)


def test_unnamed_choices_are_named_by_their_path() -> None:
    net = _net(lambda rngs: [OneOf({"double": DOUBLE, "square": SQUARE}) for _ in range(2)])
    assert net.space.num_choices == {"parts.0": 2, "parts.1": 2}
    arch = {"parts.0": jnp.int32(0), "parts.1": jnp.int32(1)}
    assert float(net.apply({}, {}, arch, jnp.float32(3))[0]) == 36


def test_a_network_with_nothing_to_choose_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to choose"):
        _net(lambda rngs: [nnx.Linear(2, 2, rngs=rngs)])
    with pytest.raises(ValueError, match="at least one option"):
        OneOf([])
    with pytest.raises(ValueError, match="from 3 to 2 times: whole numbers"):
        Repeat(lambda rngs: nnx.Linear(2, 2, rngs=rngs), 2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"Slim of widths \[0, 8\]: whole ones from 1"):
        Slim(jnp.sin, (0, 8))
    with pytest.raises(ValueError, match="choice 'o p': a name is a word"):
        _net(lambda rngs: [OneOf([jnp.sin, jnp.cos], "o p")])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_depth_of_zero_passes_the_input_through(depth: int) -> None:
    block = lambda rngs: nnx.Linear(3, 3, rngs=rngs)
    net = _net(lambda rngs: [Repeat(block, 2, 0, rngs=rngs, name="depth")])
    params, state = net.init(jax.random.key(0))
    x = _normal(0, 2, 3)
    expected = np.asarray(x)
    for i in range(depth):
        expected = expected @ np.asarray(params["parts"][0]["block"]["kernel"][i])
    apply = jax.jit(lambda arch: net.apply(params, state, {"depth": arch}, x)[0])
    close(apply(jnp.int32(depth)), expected)
    close(apply(jax.nn.one_hot(depth, 3)), expected)
    close(net.apply(params, state, {"depth": np.int32(depth)}, x)[0], expected)


def test_a_slim_layer_of_another_width_is_refused() -> None:
    net = _net(lambda rngs: [Slim(nnx.Linear(3, 3, rngs=rngs), [1, 2])])
    with pytest.raises(ValueError, match="largest width is the layer's own"):
        net.apply(*net.init(jax.random.key(0)), template(net.space), jnp.ones((1, 3)))


@pytest.mark.parametrize("traced", [True, False])
def test_dropout_draws_anew_at_every_step_and_rests_in_evaluation(traced: bool) -> None:
    net = _net(lambda rngs: [OneOf({"drop": nnx.Dropout(0.5, rngs=rngs), "skip": DOUBLE}, "f")])
    params, state = net.init(jax.random.key(0))
    x, arch = jnp.ones((1, 64)), {"f": np.int32(0)}
    f = lambda state, arch, train: net.apply(params, state, arch, x, train=train)
    f = jax.jit(f, static_argnums=2) if traced else f
    first, state = f(state, arch, True)
    second, state = f(state, arch, True)
    assert set(np.unique(first)) == {0.0, 2.0} and (first != second).any()
    close(f(state, arch, False)[0], x)


# ------------------------------------------------------------------------- NAS-Bench-201


def _reference(params: Any, state: Any, cell: Any, x: jax.Array, train: bool, cells: int) -> Any:
    """NAS-Bench-201's network without scans or choices, on plain convolutions."""

    def norm(p: Any, s: Any, x: jax.Array) -> jax.Array:
        mean, variance = (jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))) if train else (
            s["mean"], s["variance"])  # fmt: skip
        return (x - mean) / jnp.sqrt(variance + 1e-5) * p["scale"] + p["bias"]

    def relu_conv_bn(p: Any, s: Any, x: jax.Array, stride: int = 1) -> jax.Array:
        return norm(p["norm"], s["norm"], _lax_conv(jax.nn.relu(x), p["conv"]["kernel"], stride))

    def pool(x: jax.Array) -> jax.Array:
        add = lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1,) * 4, "SAME")
        return add(x) / add(jnp.ones_like(x))

    def cell_of(p: Any, s: Any, x: jax.Array) -> jax.Array:
        nodes = [x, 0.0, 0.0, 0.0]
        for e, ((a, b), op) in enumerate(zip(EDGES, cell, strict=True)):
            y = nodes[a]
            options = p["edges"][e]["options"], s["edges"][e]["options"]
            if op == 0:
                y = jnp.zeros_like(x)
            elif op in (2, 3):
                y = relu_conv_bn(options[0][int(op)], options[1][int(op)], y)
            elif op == 4:
                y = pool(y)
            nodes[b] = nodes[b] + y
        return nodes[3]

    x = norm(params["stem_norm"], state["stem_norm"], _lax_conv(x, params["stem"]["kernel"]))
    for stage in range(3):
        if stage:
            p, s = params["reductions"][stage - 1], state["reductions"][stage - 1]
            b, h, w, c = x.shape
            small = x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
            y = relu_conv_bn(p["second"], s["second"], relu_conv_bn(p["first"], s["first"], x, 2))
            x = _lax_conv(small, p["shortcut"]["kernel"]) + y
        for i in range(cells):
            p, s = jax.tree.map(
                lambda leaf, i=i: leaf[i],
                (params["stages"][stage]["block"], state["stages"][stage]["block"]),
            )
            x = cell_of(p, s, x)
    x = jnp.mean(jax.nn.relu(norm(params["norm"], state["norm"], x)), (1, 2))
    return x @ params["classifier"]["kernel"] + params["classifier"]["bias"]


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_the_nas_bench_201_network_equals_a_plain_one(train: bool) -> None:
    net = nets.nas_bench_201(channels=4, cells=2, classes=5, image=8)
    params, state = jax.jit(net.init)(jax.random.key(0))
    wave = lambda x: x + 0.2 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    params, state = jax.tree.map(wave, (params, state))
    x = _normal(1, 6, 8, 8, 3)
    apply = jax.jit(lambda cell: net.apply(params, state, cell, x, train=train)[0])
    for cell in ([3, 2, 4, 1, 3, 0], [1, 3, 3, 2, 4, 1], [0, 0, 0, 0, 0, 0]):
        expected = _reference(params, state, cell, x, train, 2)
        close(apply(jnp.asarray(cell, jnp.int32)), expected, 1e-4)


def test_convolutions_start_as_he_et_al_say() -> None:
    kernel = Conv(64, 64, 3, rngs=nnx.Rngs(0)).kernel[...]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 64)), rtol=0.02)
