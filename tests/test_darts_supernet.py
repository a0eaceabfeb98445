"""The supernet of DARTS equals one written plainly: channels last, no loop, nothing stacked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import QUICK
from test_rows import avg, batch_norm, draw, lax_conv, pool

from jnas.base import InputError, sample
from jnas.nets import darts_cell as cells
from jnas.nets import rows
from jnas.nets.darts_supernet import darts_supernet
from jnas.spaces.darts import CANDIDATES, EDGES

BATCH, CLASSES, INPUTS = 4, 3, 2


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


# The network of the paper, plainly.


def relu_conv_norm(x, kernel):
    return batch_norm(jax.nn.relu(x) @ kernel)


def factorized_reduce(x, kernel):
    x = jax.nn.relu(x)
    return batch_norm(
        jnp.concatenate((x[:, ::2, ::2] @ kernel[0], x[:, 1::2, 1::2] @ kernel[1]), -1)
    )


def separable(x, weights, stride, dilation):
    for i in range(len(weights["depthwise"])):
        kernel = weights["depthwise"][i][:, :, None]
        x = lax_conv(jax.nn.relu(x), kernel, 1 if i else stride, dilation, x.shape[-1])
        x = batch_norm(x @ weights["pointwise"][i])
    return x


def operation(name, x, weights, stride):
    if name == "none":
        return jnp.zeros_like(x[:, ::stride, ::stride])
    if name == "skip_connect":
        return x if stride == 1 else factorized_reduce(x, weights[name])
    if name == "max_pool_3x3":
        return batch_norm(pool(x, -jnp.inf, jax.lax.max, stride))
    if name == "avg_pool_3x3":
        return batch_norm(avg(x, stride))
    return separable(x, weights[name], stride, 2 if name.startswith("dil") else 1)


@functools.partial(jax.jit, static_argnums=(3, 4))
def edge(x, weights, ops, stride, partial):
    """On the first channels; the others pass, and all are shuffled as PC-DARTS does."""
    share = x.shape[-1] // partial
    inner, rest = x[..., :share], x[..., share:]
    named = zip(ops, CANDIDATES, strict=True)
    y = sum(w * operation(name, inner, weights, stride) for w, name in named)
    if partial == 1:
        return y
    if stride == 2:
        rest = pool(rest, -jnp.inf, jax.lax.max, 2, 2, 0)
    y = jnp.concatenate((y, rest), -1)
    return y.reshape(*y.shape[:-1], partial, share).swapaxes(-1, -2).reshape(y.shape)


def cell(a, b, edges, ops, nodes, reduce, partial):
    states = [a, b, 0, 0, 0, 0]
    for i, (j, k) in enumerate(EDGES):
        stride = 2 if reduce and j < 2 else 1
        strength = 1 if nodes is None else nodes[k - 2][j]
        states[k] += strength * edge(states[j], edges[i], ops[i], stride, partial)
    return jnp.concatenate(states[2:], -1)


def at(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def edges_of(reduction):
    """The weights of the edges of a reduction cell, of which those from the inputs are apart."""
    parts = {name: iter(range(n)) for name, n in (("strided", 8), ("plain", 6))}
    kinds = ["strided" if a < 2 else "plain" for a, _ in EDGES]
    return [at(reduction[kind], next(parts[kind])) for kind in kinds]


def layer(params, layers, i):
    """Kernels for the older and the newer input of a cell, and the weights of its edges."""
    first, second = layers // 3, 2 * layers // 3
    if i in (first, second):
        part = params["reductions"][(first, second).index(i)]
        return *part["entry"], edges_of(part["cells"])
    stage = (i > first) + (i > second)
    k, part = i - (0, first + 1, second + 1)[stage], params["stages"][stage]
    edges = [at(part["cells"]["plain"], k, e) for e in range(14)]
    if k == 0:
        return *part["entry"], edges
    return (part["second"] if k == 1 else part["older"][k - 2]), part["newer"][k - 1], edges


def naive(params, arch, x, layers, partial=1):
    stem = params["stem"]
    a = b = batch_norm(lax_conv(x, stem["kernel"])) * stem["scale"] + stem["bias"]
    for i in range(layers):
        older, newer, edges = layer(params, layers, i)
        first = relu_conv_norm(a, older) if older.ndim == 2 else factorized_reduce(a, older)
        reduce = i in (layers // 3, 2 * layers // 3)
        kind = "reduce" if reduce else "normal"
        pair = first, relu_conv_norm(b, newer)
        a, b = b, cell(*pair, edges, arch[kind], arch.get(f"{kind}_edges"), reduce, partial)
    return jnp.mean(b, (1, 2)) @ params["classifier"]["kernel"] + params["classifier"]["bias"]


# What is compared.


def made(layers, partial=1, channels=4, image=8):
    net = darts_supernet(channels, layers, CLASSES, image, INPUTS, partial)
    params, state = net.init(jax.random.key(0))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    params["stem"]["scale"] += draw(3, 3 * channels) / 9
    params["stem"]["bias"] += draw(4, 3 * channels) / 9
    state = jax.tree.map(lambda s: s.astype(jnp.float64), state)
    return net, params, state, draw(1, BATCH, image, image, INPUTS)


def simplices(partial=1):
    arch = {name: jax.nn.softmax(draw(5 + i, 14, 8)) for i, name in enumerate(("normal", "reduce"))}
    if partial > 1:
        inside = jnp.arange(5) < jnp.arange(2, 6)[:, None]
        for name in tuple(arch):
            logits = jnp.where(inside, draw(7 + len(name), 4, 5), -jnp.inf)
            arch[f"{name}_edges"] = jax.nn.softmax(logits)
    return arch


def value(logits):
    return jnp.sum(jnp.sin(logits) * draw(2, *logits.shape))


def close(ours, plain, tolerance=1e-9):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "partial"), [(4, 2), (9, 1)])
def test_outputs_and_gradients_equal_the_plain_network(layers, partial):
    net, params, state, x = made(layers, partial)
    arch = simplices(partial)
    ours = lambda p, a, x: value(net.apply(p, state, a, x, train=True)[0])
    plain = lambda p, a, x: value(naive(p, a, x, layers, partial))
    ours, plain = (jax.value_and_grad(f, (0, 1, 2)) for f in (ours, plain))
    close(jax.jit(ours, compiler_options=QUICK)(params, arch, x), plain(params, arch, x), 1e-8)


# One cell: 16 images of 4x4, or of 8x8 where it reduces.


class OneCell:
    """A cell of jnas and the plain one, as functions of (weights, choices, inputs)."""

    def __init__(self, reduce, partial):
        _, params, state, _ = made(3, partial)
        self.reduce, self.partial, self.image = reduce, partial, 8 if reduce else 4
        parts = [tree["reductions" if reduce else "stages"][0]["cells"] for tree in (params, state)]
        self.params, self.state = parts if reduce else (at(part, 0) for part in parts)
        self.channels = 8 if reduce else 4
        self.inputs = [draw(10 + i, 16, self.image, self.image, self.channels) for i in (0, 1)]

    def ours(self, params, choices, inputs):
        pair = tuple(map(rows.from_images, inputs))
        how = {"image": self.image, "reduce": self.reduce, "train": True, "partial": self.partial}
        return rows.to_images(cells.cell(pair, params, self.state, choices, **how)[0], 4)

    def plain(self, params, ops, inputs, strength=None):
        edges = edges_of(params) if self.reduce else [at(params["plain"], e) for e in range(14)]
        return cell(*inputs, edges, ops, strength, self.reduce, self.partial)


@pytest.mark.slow
def test_second_derivatives_of_a_cell_equal_finite_differences():
    one, ops = OneCell(True, 1), simplices()["normal"]
    towards = jax.tree.map(lambda p: draw(p.size, *p.shape), one.params)

    def along(ops):
        """The slope of the loss towards other weights."""
        loss = lambda params: value(one.ours(params, cells.Choices(ops), one.inputs))
        slopes = jax.tree.map(jnp.vdot, jax.grad(loss)(one.params), towards)
        return sum(jax.tree.leaves(slopes))

    both = jax.jit(jax.value_and_grad(along), compiler_options=QUICK)
    grad, move = both(ops)[1], draw(6, 14, 8)
    step = 1e-8  # so short that hardly a ReLU or a maximum changes sides
    found = (both(ops + step * move)[0] - both(ops - step * move)[0]) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(grad, move), found, rtol=1e-3)


NORMAL = pytest.param(False, 1, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(("reduce", "partial"), [NORMAL, (True, 1), (False, 2)])
def test_one_path_equals_simplices_of_one_weight(reduce, partial):
    one = OneCell(reduce, partial)
    ops = np.random.default_rng(1).permutation(14) % 8
    scale, hot = 0.5 + 0.1 * draw(3, 14), jnp.asarray(np.eye(8)[ops])

    def path(params, scale, inputs):
        return value(one.ours(params, cells.Choices(jnp.asarray(ops), scale), inputs))

    def every(params, scale, inputs):
        return value(one.plain(params, hot * scale[:, None], inputs))

    paths = jax.jit(jax.value_and_grad(path, (0, 1, 2)), compiler_options=QUICK)
    args = one.params, scale, one.inputs
    close(paths(*args), jax.value_and_grad(every, (0, 1, 2))(*args), 1e-8)
    fixed = one.ours(one.params, cells.Choices(ops), one.inputs)
    close(fixed, one.plain(one.params, hot, one.inputs))


@pytest.mark.slow
def test_architectures_as_ints_and_the_largest_weights_choose_paths():
    net, params, state, x = made(3, 2)
    arch = jax.tree.map(lambda c: c[0], sample(net.space, jax.random.key(3), 1))
    soft = {}
    for name, choices in arch.items():
        many = 5 if name.endswith("edges") else 8
        soft[name] = jax.nn.softmax(3 * jax.nn.one_hot(choices, many, dtype=x.dtype))

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(arch, soft):
        chosen = net.apply(params, state, arch, x, train=True)[0]
        alike = jax.tree.map(lambda s: s / jnp.max(s), soft)
        return chosen, net.apply(params, state, alike, x, train=True, sparse=True)[0]

    chosen, sparse = run(arch, soft)
    close(chosen, sparse)
    fixed = jax.tree.map(np.asarray, arch)
    close(net.apply(params, state, fixed, x, train=True)[0], chosen)


@pytest.mark.slow
def test_running_statistics_follow_the_batches_and_serve_evaluation():
    net, params, state, x = made(3)
    arch = simplices()
    step = jax.jit(lambda s: net.apply(params, s, arch, x, train=True), compiler_options=QUICK)
    for _ in range(200):
        trained, state = step(state)
    # Running variances are unbiased, those of the batch are not; most have thousands of pixels.
    logits, same = net.apply(params, state, arch, x)
    np.testing.assert_allclose(logits, trained, atol=0.2)
    close(state, same)


@pytest.mark.slow
def test_one_path_moves_the_statistics_of_its_operations_only():
    net, params, state, x = made(3)
    arch = {"normal": jnp.full(14, 1), "reduce": jnp.zeros(14, int)}
    apply = jax.jit(functools.partial(net.apply, train=True), compiler_options=QUICK)
    _, after = apply(params, state, arch, x)
    mean = after["stages"][0]["cells"]["plain"].mean
    assert np.all(mean[0, :, 0] != 0) and np.all(mean[0, :, 1:] == 0)
    assert np.all(after["reductions"][0]["cells"]["strided"].variance == 1)


@pytest.mark.parametrize(
    "wrong", [{"layers": 2}, {"image": 10}, {"channels": 6, "partial": 4}, {"partial": 0}]
)
def test_a_network_that_cannot_be_is_an_error(wrong):
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        darts_supernet(**{"channels": 8, "layers": 3, "image": 8} | wrong)
