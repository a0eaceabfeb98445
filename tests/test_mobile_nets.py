"""Networks of the mobile spaces: each architecture computes what a network of it alone does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from documented import examples, run
from flax import nnx

import jnas
from jnas import nets
from jnas.base import one_hot, propose, sample
from jnas.evaluators import Examples, Training, train
from jnas.nets import Net, count_flops, count_params, forms
from jnas.nets.elastic import ElasticDepthwise, resize
from jnas.nets.subnets import subnet
from jnas.recipes import once_for_all
from jnas.spaces.mobile_registry import SPECIFICATIONS

TINY: dict[str, Any] = {
    "image": 8,
    "inputs": 1,
    "classes": 4,
    "width": 0.25,
    "stages": 2,
    "halvings": 1,
    "head": 8,
}
SLOW = ("efficientnet", "fbnet", "mnasnet", "mobilenet_v2", "mobilenet_v3", "proxylessnas")
every = pytest.mark.parametrize(
    "name", ["ofa", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
MORE: dict[str, Any] = {"ofa": {"resolutions": (6, 8)}, "fbnet": {"stages": 3}}


def _stirred(net: Net, seed: int) -> tuple[Any, Any]:
    """Parameters and statistics that all matter."""
    params, state = jax.jit(net.init)(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    move = lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32)
    grow = lambda x: x * rng.uniform(0.8, 1.2, x.shape).astype(np.float32)
    return jax.tree.map(move, params), jax.tree.map(grow, jax.tree.map(np.asarray, state))


def _rows(space: Any, seed: int, n: int) -> list[Any]:
    many = jax.device_get(sample(space, jax.random.key(seed), n))
    return [jax.tree.map(lambda x, i=i: x[i], many) for i in range(n)]


@every
def test_every_architecture_computes_what_its_own_network_does(name: str) -> None:
    """Masked channels, unused branches, skipped layers, against weights that are cut out."""
    settings = {**TINY, **MORE.get(name, {})}
    spec, net = SPECIFICATIONS[name](**settings), getattr(nets, name)(**settings)
    params, state = _stirred(net, 0)
    x = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
    run = jax.jit(lambda a, training: net.apply(params, state, a, x, training)[0], static_argnums=1)
    for i, arch in enumerate(_rows(net.space, 2, 2 if name == "ofa" else 4)):
        training = bool(i % 2)
        alone, own_params, own_state = subnet(spec, arch, params, state)
        given = resize(x, spec.images[int(arch.get("image", 0))])
        expected = _outputs(alone, own_params, own_state, given, training)
        assert float(jnp.std(expected)) > 1e-3
        np.testing.assert_allclose(run(arch, training), expected, rtol=2e-4, atol=2e-4)


def _outputs(net: Net, params: Any, state: Any, x: Any, training: bool) -> Any:
    """Of a network that has nothing to choose."""
    run = jax.jit(lambda p, s, x: net.apply(p, s, {"network": np.int32(0)}, x, training)[0])
    return run(params, state, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fbnet", "proxylessnas"])
def test_without_chosen_widths_the_network_itself_counts_exactly(name: str) -> None:
    net = getattr(nets, name)(**{**TINY, "width": 1.0})
    point = {"fbnet": "FBNet-A", "proxylessnas": "ProxylessNAS-Mobile"}[name]  # with skips
    for arch in [*_rows(net.space, 0, 1), net.space.parse(point)]:
        assert int(count_params(net, arch)) == int(net.space.counts["params"](arch))
        with forms.using(depthwise="lax"):
            assert count_flops(net, arch, (8, 8, 1)) == int(net.space.counts["flops"](arch))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ofa", pytest.param("mnasnet", marks=pytest.mark.slow)])
def test_a_relaxed_corner_is_its_architecture(name: str) -> None:
    net = getattr(nets, name)(**TINY)
    params, state = _stirred(net, 0)
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    arch = _rows(net.space, 5, 1)[0]
    run = jax.jit(lambda a: net.apply(params, state, a, x)[0])
    expected = jax.jit(lambda x: net.apply(params, state, arch, x)[0])(x)
    np.testing.assert_allclose(run(one_hot(net.space, arch)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_smaller_kernel_is_the_transformed_middle_of_the_larger(stride: int) -> None:
    layer = ElasticDepthwise(3, (3, 5, 7), stride, True, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for matrix in layer.transforms:
        matrix[...] = jnp.asarray(rng.normal(size=matrix.shape), jnp.float32)
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 3))
    big = np.asarray(layer.kernel[...], np.float64)
    to_three, to_five = (np.asarray(matrix[...], np.float64) for matrix in layer.transforms)
    five, three = np.zeros((5, 5, 3)), np.zeros((3, 3, 3))
    for c in range(3):
        five[:, :, c] = (to_five @ big[1:6, 1:6, c].ravel()).reshape(5, 5)
        three[:, :, c] = (to_three @ five[1:4, 1:4, c].ravel()).reshape(3, 3)
    graph, place, rest = nnx.split(layer, type(layer.choice), ...)

    def run(value: Any) -> Any:
        return nnx.merge(graph, jax.tree.map(lambda _: value, place), rest)(x)

    ways = lambda i, k, hot: (run(np.int32(i)), run(k), run(hot))  # known, as data, relaxed
    every = jax.jit(lambda ks, hots: [ways(i, ks[i], hots[i]) for i in range(3)])
    found = every(jnp.arange(3), jnp.eye(3))
    for kernel, outputs in zip((three, five, big), found, strict=True):
        expected = jax.lax.conv_general_dilated(
            x, jnp.asarray(kernel[:, :, None], jnp.float32), (stride, stride),
            [(len(kernel) // 2,) * 2] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3,
        )  # fmt: skip
        for y in outputs:
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)


def test_images_are_resized_between_the_centres_of_their_pixels() -> None:
    ramp = jnp.broadcast_to(jnp.arange(8.0)[:, None, None], (1, 8, 8, 1))
    half = resize(ramp, 4)[0, :, 0, 0]
    np.testing.assert_allclose(half, [0.5, 2.5, 4.5, 6.5])
    same = resize(ramp, 8)
    np.testing.assert_array_equal(same, ramp)
    up = resize(ramp, 16)[0, :, 3, 0]
    np.testing.assert_allclose(up[1:-1], np.arange(1, 15) / 2 - 0.25)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnasnet", "ofa", "fbnet"])
def test_all_plans_train_a_population_to_the_same_scores(name: str) -> None:
    net = getattr(nets, name)(**{**TINY, **MORE.get(name, {})})
    x = np.asarray(jax.random.normal(jax.random.key(0), (32, 8, 8, 1)))
    data = Examples(x, (np.arange(32) % 4).astype(np.int32))
    training = Training(optax.sgd(0.05), steps=3, batch_size=8)
    archs = sample(net.space, jax.random.key(1), 4)
    found = {}
    for plan in ("map", "vmap", "grouped"):
        evaluator = train(net, training, data, data, classes=4, plan=plan, score="loss")
        run = jax.jit(lambda key, t, e=evaluator: e.evaluate(key, t, e.init(key))[0].score)
        found[plan] = run(jax.random.key(2), propose(archs))
    assert np.std(found["map"]) > 1e-4
    for plan in ("vmap", "grouped"):
        np.testing.assert_allclose(found[plan], found["map"], rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_once_for_all_trains_its_space_by_sandwiches_and_cuts_out_what_it_finds() -> None:
    """At toy size, on digits: better than guessing, and the network cut out says the same."""
    digits = jnas.data.load("digits")
    fit_on, score_on = (
        Examples(*part, digits.mean, digits.std) for part in (digits.train, digits.validation)
    )
    settings = {**TINY, "classes": 10, "head": 16}
    spec, net = SPECIFICATIONS["ofa"](**settings), nets.ofa(**settings)
    method = once_for_all(net.space, 150, population=4, generations=2, parents=2)
    rule = Training(optax.adam(0.01), 150, batch_size=32)
    found = jax.jit(
        lambda key: jnas.one_shot(
            key, method, net, lambda steps: rule._replace(steps=steps), fit_on, score_on, classes=10
        )
    )(jax.random.key(0))
    assert float(found.score) > 0.5
    best = jax.device_get(found.best)
    alone, params, state = subnet(spec, best, found.shared.params, found.shared.state)
    x, y = score_on.inputs(np.arange(len(score_on.y))), np.asarray(score_on.y)
    whole = jax.jit(lambda x: net.apply(found.shared.params, found.shared.state, best, x, True)[0])
    logits = _outputs(alone, params, state, x, True)
    np.testing.assert_allclose(logits, whole(x), rtol=1e-3, atol=1e-3)
    assert np.mean(np.argmax(logits, -1) == y) > 0.5


@pytest.mark.slow
def test_the_example_of_the_docs_cuts_out_a_network() -> None:
    (example,) = examples("mobile.md")
    names = run(example, "mobile.md")
    params = sum(x.size for x in jax.tree.leaves(names["own_params"]))
    assert params == int(names["net"].space.counts["params"](names["arch"]))
