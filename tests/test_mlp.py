"""Perceptrons: counts by hand, masked widths against small networks, one program for all."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from scipy.special import expit

from jnas import data, nets, spaces
from jnas.base import InputError, from_index, propose, sample, size, to_vector
from jnas.configs import network_of
from jnas.evaluators import Examples, Training, train
from jnas.nets import count_flops, count_params
from jnas.nets.mlp import activate

SMALL: dict[str, Any] = {"widths": (2, 3, 7), "classes": 4, "image": 1, "inputs": 5}
SPACE, NET = spaces.mlp(**SMALL), nets.mlp(**SMALL)
PLAIN = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "sigmoid": expit}


def _arch(activations: tuple[int, ...], widths: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"activation": np.asarray(activations, np.int32), "width": np.asarray(widths, np.int32)}


ARCHS = [_arch((0, 1), (0, 2)), _arch((2, 0), (1, 1)), _arch((1, 2), (2, 0)), _arch((0, 0), (2, 2))]


def test_the_space_is_two_layers_of_eight_widths_and_three_activations() -> None:
    space = spaces.mlp()
    assert size(space) == (8 * 3) ** 2 and size(spaces.mlp(depth=3)) == (8 * 3) ** 3
    text = "activation=[relu,sigmoid] width=[8,64]"
    arch = space.parse(text)
    assert to_vector(space, arch).tolist() == [0, 2, 0, 7] and space.describe(arch) == text


def test_every_architecture_reads_back_from_its_text() -> None:
    for i in range(size(SPACE)):
        arch = jax.device_get(from_index(SPACE, jnp.int32(i)))
        jax.tree.map(np.testing.assert_array_equal, SPACE.parse(SPACE.describe(arch)), arch)


@pytest.mark.slow
def test_parameters_and_flops_are_those_of_networks_counted_by_hand() -> None:
    counts = spaces.mlp().counts
    arch = spaces.mlp().parse("activation=[relu,tanh] width=[16,40]")
    assert int(counts["params"](arch)) == 65 * 16 + 17 * 40 + 41 * 10
    assert int(counts["flops"](arch)) == 64 * 16 + 16 * 40 + 40 * 10
    many = jax.tree.map(lambda *rows: np.stack(rows), *ARCHS)
    params = [6 * a + (a + 1) * b + (b + 1) * 4 for a, b in ((2, 7), (3, 3), (7, 2), (7, 7))]
    assert jax.vmap(SPACE.counts["params"])(many).tolist() == params


def test_the_widest_network_has_its_counts_as_it_is_traced() -> None:
    widest = ARCHS[3]
    assert int(SPACE.counts["params"](widest)) == int(count_params(NET, widest))
    assert int(SPACE.counts["flops"](widest)) == count_flops(NET, widest, (5,))


def _layers(params: Any, arch: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of every layer of the network with the chosen units alone."""
    into, made = 5, []
    linear = [hidden["layer"]["linear"] for hidden in params["hidden"].values()]
    outs = [*(SMALL["widths"][int(w)] for w in arch["width"]), 4]
    for layer, out in zip([*linear, params["classifier"]], outs, strict=True):
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        made.append((kernel[:into, :out], bias[:out]))
        into = out
    return made


def _forward(layers: Any, arch: Any, x: Any, plain: Any = PLAIN) -> Any:
    for (kernel, bias), kind in zip(layers[:-1], arch["activation"], strict=True):
        x = plain[spaces.mlp().labels["activation"][int(kind)]](x @ kernel + bias)
    return x @ layers[-1][0] + layers[-1][1]


@pytest.fixture(scope="module")
def params() -> Any:
    stir = lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    return jax.tree.map(stir, NET.init(jax.random.key(0))[0])


@pytest.mark.parametrize("arch", ARCHS, ids=SPACE.describe)
def test_it_equals_the_small_network_of_its_units(arch: Any, params: Any) -> None:
    x = jax.random.normal(jax.random.key(1), (6, 5))
    expected = _forward(_layers(params, arch), arch, np.asarray(x, np.float64))
    hot = {k: jax.nn.one_hot(v, 3) for k, v in arch.items()}
    for given in (arch, jax.tree.map(jnp.asarray, arch), hot):
        y = jax.jit(lambda a: NET.apply(params, {}, a, x)[0])(given) if given is not arch else (
            NET.apply(params, {}, given, x)[0])  # fmt: skip
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_training_a_population_equals_training_each_small_network_alone(params: Any) -> None:
    """Adam, by the plan of one program for all, against sliced weights trained in a plain loop."""
    x = jax.random.normal(jax.random.key(2), (16, 5))
    y = jnp.arange(16) % 4
    loss = lambda z: optax.softmax_cross_entropy_with_integer_labels(z, y).mean()
    adam, steps = optax.adam(0.05), 5
    many = jax.tree.map(lambda *rows: jnp.stack(rows), *ARCHS)

    @jax.jit
    @jax.vmap
    def together(arch: Any) -> Any:
        def step(now: Any, _: Any) -> Any:
            params, opt = now
            grads = jax.grad(lambda p: loss(NET.apply(p, {}, arch, x)[0]))(params)
            updates, opt = adam.update(grads, opt)
            return (optax.apply_updates(params, updates), opt), None

        return jax.lax.scan(step, (params, adam.init(params)), None, steps)[0][0]

    found = together(many)
    plain = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
    for i, arch in enumerate(ARCHS):
        small = _layers(params, arch)
        opt = adam.init(small)
        for _ in range(steps):
            grads = jax.grad(lambda p, arch=arch: loss(_forward(p, arch, x, plain)))(small)
            updates, opt = adam.update(grads, opt)
            small = optax.apply_updates(small, updates)
        row = _layers(jax.tree.map(lambda leaf, i=i: leaf[i], found), arch)
        same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
        jax.tree.map(same, row, small)


@pytest.mark.parametrize("kind", range(3))
def test_an_activation_and_its_slope_are_those_of_the_plain_function(kind: int) -> None:
    x = jnp.concatenate([jnp.linspace(-30, 30, 301) + 0.01, jnp.array([-1e4, 1e4])])
    name = spaces.mlp().labels["activation"][kind]
    y, pull = jax.vjp(lambda x: activate(jnp.int32(kind), x), x)
    np.testing.assert_allclose(y, PLAIN[name](np.asarray(x, np.float64)), rtol=1e-5, atol=2e-7)
    plain = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[name]
    slope = jax.vmap(jax.grad(plain))(x)
    np.testing.assert_allclose(pull(jnp.ones_like(x))[0], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_population_learns_digits_from_a_config(tmp_path: Any) -> None:
    config = ConfigDict(
        {"space": "mlp", "net": {"widths": [8, 64], "activations": ["relu", "tanh"]}}
    )
    config.data = ConfigDict({"name": "digits", "data_dir": str(tmp_path)})
    net, dataset = network_of(config)
    assert size(net.space) == 16 and isinstance(dataset, data.Dataset)
    fit_on, score_on = (
        Examples(*s, dataset.mean, dataset.std) for s in (dataset.train, dataset.validation)
    )
    evaluator = train(
        net, Training(optax.adam(0.01), 80), fit_on, score_on, classes=10, plan="vmap"
    )
    trials = propose(sample(net.space, jax.random.key(0), 5))
    done = jax.jit(lambda key: evaluator.evaluate(key, trials, ())[0])(jax.random.key(1))
    assert (done.score > 0.7).all() and (done.metrics["params"] > 600).all()


@pytest.mark.parametrize(("shape", "parameters"), [((13,), 13), ((4, 4, 3), 48)])
def test_a_config_takes_vectors_and_images(
    shape: tuple[int, ...], parameters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = data.Split(np.zeros((1, *shape), np.float32), np.zeros(1, np.int32))
    found = data.Dataset("made", none, none, 2, shape, np.float32(0), np.float32(1))
    found = found._replace(splits=("train", "test"))
    monkeypatch.setattr(data, "load", lambda name: found)
    config = ConfigDict({"space": "mlp", "net": {"depth": 1, "widths": [3]}})
    net, _ = network_of(config)
    params, state = net.init(jax.random.key(0))
    kernel = params["hidden"][0]["layer"]["linear"]["kernel"]
    assert kernel.shape == (parameters, 3)
    y, _ = net.apply(params, state, {"activation": np.int32([0]), "width": np.int32([0])}, none.x)
    assert y.shape == (1, 2)
    if len(shape) == 1:
        config.space, config.net = "nas_bench_201", ConfigDict({"stages": 1})
        with pytest.raises(InputError, match="images, not vectors"):
            network_of(config)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"depth": 0}, "depth=0: .* at least 1"),
        ({"widths": ()}, r"widths=\[\]: at least one"),
        ({"widths": (8, 8)}, r"widths=\[8, 8\]: .* rising order"),
        ({"widths": (0, 8)}, r"widths=\[0, 8\]: .* positive"),
        ({"activations": ("relu", "swish")}, r"'swish'\]: .* relu, tanh, sigmoid"),
        ({"activations": ("relu", "relu")}, r"activations=.* each once"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        nets.mlp(**setting)
    assert "\n" not in str(caught.value)
