"""The networks of the cell, chain and macro spaces: counted as traced, and one under all plans."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import QUICK, doubled

from jnas import nets
from jnas.base import InputError, one_hot, sample
from jnas.evaluators.plans import population
from jnas.nets import count_flops, count_params, forms
from jnas.nets.usage import used_params

CLASSES, BATCH = 3, 8
SMALL = {"channels": 4, "repeats": 1, "classes": CLASSES, "image": 8, "inputs": 1, "blocks": 2}
MAKERS: dict[str, Callable[[], nets.Net]] = {
    "nas_bench_101": lambda: nets.nas_bench_101(7, 1, 2, CLASSES, 8, 1),
    "nats_size": lambda: nets.nats_size((2, 4, 5), CLASSES, 8, 1),
    "nasnet": lambda: nets.nasnet(**SMALL, keep={"normal": [0], "reduce": [2]}),
    "pnas": lambda: nets.pnas(**SMALL),
    "enas_macro": lambda: nets.enas_macro(4, 3, CLASSES, 8, 1),
    "metaqnn": lambda: nets.metaqnn(
        *(3, (2, 4), (4, 3), (1, 3), ((2, 2), (3, 2))), classes=CLASSES, image=8, inputs=1
    ),
    "resnet": lambda: nets.resnet(
        *((1, 3), ((2, 4), (3, 5)), (3, 5)), stem=4, classes=CLASSES, image=8, inputs=1
    ),
    "mlp": lambda: nets.mlp(
        *(3, (2, 4), ("relu", "gelu"), CLASSES, 8, 1, 1, ("none", "batch", "layer"), True)
    ),
}
COUNTED = MAKERS | {  # that differ from one above in what the counts have to know
    "amoebanet": lambda: nets.amoebanet(**SMALL | {"channels": 8}, keep={"reduce": [2, 3]}),
    "enas_micro": lambda: nets.enas_micro(**SMALL),
    "enas_final": lambda: nets.enas_macro(4, 4, CLASSES, 8, 1, doubling=True, separable=False),
}
BIAS = {"nats_size": CLASSES}  # whose official rule counts the classifier's bias as multiply-adds
made: dict[str, nets.Net] = {}


def _all_but(*slow: str, names: Iterable[str] = MAKERS) -> pytest.MarkDecorator:
    """A test for each network; for these, that take long to compile, a slow one."""
    mark = lambda name: pytest.param(name, marks=pytest.mark.slow) if name in slow else name
    return pytest.mark.parametrize("name", [mark(name) for name in names])


def _net(name: str) -> nets.Net:
    """The network, made once for all tests."""
    if name not in made:
        made[name] = COUNTED[name]()
    return made[name]


def _archs(net: nets.Net, n: int) -> Any:
    return sample(net.space, jax.random.key(7), n)


def _one(archs: Any, i: int) -> Any:
    """An architecture of NumPy ints, known at compile time."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], archs)


@_all_but("nasnet", "pnas", "nas_bench_101", "amoebanet", "enas_micro", names=COUNTED)
def test_parameters_of_random_architectures_are_those_of_the_network(name: str) -> None:
    net = _net(name)
    archs = _archs(net, 30)
    assert jnp.all(jax.vmap(net.space.is_valid)(archs))
    counted = jax.jit(jax.vmap(lambda arch: count_params(net, arch)))(archs)
    np.testing.assert_array_equal(net.space.counts["params"](archs), counted)
    assert len(np.unique(counted)) > 1


@_all_but("nasnet", "pnas", "nas_bench_101", "amoebanet", "enas_micro", names=COUNTED)
def test_multiply_adds_of_random_architectures_are_those_traced(name: str) -> None:
    net = _net(name)
    archs = _archs(net, 30)
    for i in range(3):
        arch = _one(archs, i)
        with forms.using(depthwise="lax"):
            traced = count_flops(net, arch, (8, 8, 1))
        assert int(net.space.counts["flops"](arch)) == traced + BIAS.get(name, 0)


def _loss(net: nets.Net) -> Callable[[Any, Any], jax.Array]:
    params, state = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (BATCH, 8, 8, 1))
    weights = jnp.cos(jnp.arange(BATCH * CLASSES, dtype=jnp.float32)).reshape(BATCH, CLASSES)
    loss = lambda p, arch: jnp.sum(weights * net.apply(p, state, arch, x, train=True)[0])
    return lambda arch, p=params: loss(p, arch)


@pytest.mark.slow
@_all_but(*MAKERS.keys() - {"mlp", "nats_size"})
def test_a_known_architecture_is_the_same_network_as_one_that_is_data(name: str) -> None:
    net = _net(name)
    archs, loss = _archs(net, 3), _loss(net)
    together = jax.jit(jax.vmap(loss))(archs)
    alone = jax.jit(lambda: loss(_one(archs, 0)))()
    np.testing.assert_allclose(together[0], alone, rtol=1e-4, atol=1e-4)
    assert len(np.unique(together)) > 1


@functools.cache
def _slopes(name: str) -> tuple[Callable[[Any], Any], Any, list[Any]]:
    """The gradient by an architecture in double precision; three, and theirs if known."""
    net = _net(name)
    archs = _archs(net, 3)
    params, state = doubled(net.init(jax.random.key(0)))
    x = jax.random.normal(jax.random.key(1), (BATCH, 8, 8, 1), jnp.float64)
    loss = lambda p, arch: jnp.sum(jnp.sin(net.apply(p, state, arch, x, train=True)[0]))
    slope = lambda arch: jax.grad(loss)(params, arch)
    known = lambda i: jax.jit(lambda: slope(_one(archs, i)), compiler_options=QUICK)()
    return slope, archs, [known(i) for i in range(3)]


@_all_but(*MAKERS)
@pytest.mark.parametrize("plan", ["map", "vmap", "grouped"])
@jax.enable_x64(True)  # in single precision a rounding that moves a kink shows in the gradients
def test_every_plan_has_the_gradients_of_known_architectures(name: str, plan: str) -> None:
    slope, archs, known = _slopes(name)
    found = jax.jit(population(slope, plan), compiler_options=QUICK)(archs)

    def close(a: jax.Array, b: jax.Array) -> None:
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * (1 + float(jnp.abs(b).max())))

    for i, expected in enumerate(known):
        jax.tree.map(lambda a, b, i=i: close(a[i], b), found, expected)


@_all_but(*MAKERS)
def test_no_gradient_flows_to_parameters_that_do_not_count(name: str) -> None:
    net = _net(name)
    archs = _archs(net, 4)
    params, state = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (BATCH, 8, 8, 1))
    loss = lambda p, arch: jnp.sum(jnp.sin(net.apply(p, state, arch, x, train=True)[0]))
    slopes = jax.jit(lambda a: jax.lax.map(lambda a: jax.grad(loss)(params, a), a))(archs)
    used = used_params(net)
    for i in range(4):
        masks = used(jax.tree.map(lambda leaf, i=i: leaf[i], archs))
        outside = lambda g, mask, i=i: float(jnp.max(jnp.abs(jnp.where(mask, 0, g[i]))))
        assert max(jax.tree.leaves(jax.tree.map(outside, slopes, masks))) == 0
        inside = lambda p, mask: jnp.sum(jnp.broadcast_to(mask, p.shape))
        total = sum(jax.tree.leaves(jax.tree.map(inside, params, masks)))
        assert int(total) == int(count_params(net, _one(archs, i)))


def _conv(x: jax.Array, kernel: jax.Array, groups: int = 1, stride: int = 1) -> jax.Array:
    reach = [(n // 2, n // 2) for n in kernel.shape[:2]]
    numbers = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(
        x, kernel, strides, reach, dimension_numbers=numbers, feature_group_count=groups
    )


def _norm(x: jax.Array) -> jax.Array:
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5)


@pytest.mark.parametrize("separable", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_macro_network_of_enas_is_wired_as_its_text_says(separable: bool) -> None:
    """Bit i of a layer reads the i-th of what there is: the stem, the first layer, the second..."""
    net = nets.enas_macro(2, 4, CLASSES, 8, 1, doubling=True, separable=separable)
    text = "0 1 1 4 0 1 3 1 0 1"  # layer 3 reads layer 1, layer 4 reads the stem and layer 2
    params, state = jax.jit(net.init, compiler_options=QUICK)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (BATCH, 8, 8, 1))

    def layer(i: int, op: int, x: jax.Array, reads: list[jax.Array]) -> jax.Array:
        p = params["layers"][i]
        y = jax.nn.relu(_norm(_conv(x, p["enter"]["conv"]["kernel"])))
        if op == 4:
            window = lambda y: jax.lax.reduce_window(
                y, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"
            )
            y = window(y) / window(jnp.ones_like(y))
        else:
            q = p["op"]["options"][op]
            if op in (1, 3) and separable:
                y = _conv(y, q["depthwise"]["kernel"][:, :, None], y.shape[-1])
                y = _conv(y, q["pointwise"]["kernel"])
            else:
                y = _conv(y, q["conv"]["kernel"])
            y = jax.nn.relu(_norm(y))
        if i == 0:
            return y
        kernel, width = p["join"]["conv"]["kernel"], y.shape[-1]
        own, *rest = jnp.split(kernel[0, 0], kernel.shape[2] // width)
        taken = [jax.nn.relu(a) @ b for a, b in zip(reads, rest, strict=True)]
        return _norm(sum(taken, jax.nn.relu(y) @ own))

    def halved(i: int, made: list[jax.Array]) -> list[jax.Array]:
        ps = params["reductions"][i].values()
        both = [
            (_conv(y, p["first"]["kernel"], 1, 2), _conv(y[:, 1:, 1:], p["second"]["kernel"], 1, 2))
            for y, p in zip(made, ps, strict=True)
        ]
        return [_norm(jnp.concatenate(parts, -1)) for parts in both]

    zero = jnp.zeros_like
    made = [_norm(_conv(x, params["stem"]["kernel"]))]
    made = halved(0, [*made, layer(0, 0, made[0], [])])
    made = halved(1, [*made, layer(1, 1, made[1], made[:1])])
    made = [*made, layer(2, 4, made[2], [zero(made[0]), made[1]])]
    last = layer(3, 3, made[3], [made[0], zero(made[1]), made[2]])
    head = params["classifier"]
    expected = last.mean((1, 2)) @ head["kernel"] + head["bias"]
    run = lambda arch: net.apply(params, state, arch, x, train=True)[0]
    found = jax.jit(run, compiler_options=QUICK)(net.space.parse(text))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["nas_bench_101", "metaqnn", "resnet"])
def test_relaxed_architectures_are_refused_where_they_mean_nothing(name: str) -> None:
    if name == "nas_bench_101":
        net = nets.nas_bench_101(5, 1, 1, CLASSES, 8, 1)
    else:
        net = _net(name)
    relaxed = one_hot(net.space, jax.tree.map(lambda leaf: leaf[0], _archs(net, 1)))
    params, state = jax.eval_shape(net.init, jax.random.key(0))
    with pytest.raises(InputError, match=f"{name}: "):
        net.apply(params, state, relaxed, jnp.zeros((1, 8, 8, 1)))
