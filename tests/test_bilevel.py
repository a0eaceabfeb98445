"""Bilevel search: gradients against finite differences, plain references and exact inverses."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick import QUICK, doubled

import jnas
from jnas import links, nets
from jnas.base import InputError, Trials, chain, one_hot, propose, sample
from jnas.evaluators import Examples, Training, bilevel
from jnas.evaluators import hypergradients as ways
from jnas.evaluators.perturbation import Perturbation, perturbed
from jnas.evaluators.plans import population

CLASSES = 3
RATE, MOMENTUM, DECAY = 0.2, 0.9, 0.01


def examples(seed: int, n: int, shape: tuple) -> Examples:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n).astype(np.int32)
    x = rng.normal(size=(n, *shape)) + 0.8 * y.reshape(-1, *([1] * len(shape)))
    return Examples(x.astype(np.float32), y)


MLP = nets.mlp(1, (2, 4), ("tanh", "sigmoid"), CLASSES, image=1, inputs=5)
FIT, HELD_OUT = examples(0, 24, (5,)), examples(1, 24, (5,))
CELL = nets.nas_bench_201(channels=2, cells=1, classes=CLASSES, image=4, inputs=1, stages=1)
CELL_FIT, CELL_HELD_OUT = examples(2, 12, (4, 4, 1)), examples(3, 12, (4, 4, 1))


def sgd(steps: int = 20) -> optax.GradientTransformation:
    """As published: L2 decay inside of momentum, and a cosine."""
    rate = optax.cosine_decay_schedule(RATE, steps, 0.04)
    return optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(rate, momentum=MOMENTUM))


# The batch is all examples, so that any order of them gives the same losses.
WHOLE = Training(sgd(), steps=20, batch_size=24)


def make(net: nets.Net = MLP, **options: Any) -> Any:
    data = (FIT, HELD_OUT) if net is MLP else (CELL_FIT, CELL_HELD_OUT)
    return bilevel(net, WHOLE, *data, **options)


def simplices(net: nets.Net, seed: int, n: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    corner = one_hot(net.space, jnas.base.template(net.space))
    draw = lambda x: rng.dirichlet(np.ones(x.shape[-1]), (n, *x.shape[:-1]))
    return jax.tree.map(lambda x: jnp.asarray(draw(x)), corner)


def first_row(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)


def reference_loss(net: nets.Net, state: Any, data: Examples) -> Callable:
    """`(params, arch) -> loss`, written out; float64 where they are."""

    def f(params: Any, arch: Any) -> jax.Array:
        logits, _ = net.apply(params, state, arch, data.x, train=True)
        log_p = logits - jax.scipy.special.logsumexp(logits, -1, keepdims=True)
        return -jnp.mean(log_p[jnp.arange(len(data.y)), data.y])

    return f


class Plain:
    """The published loop in plain Python, with momentum and decay by hand."""

    def __init__(self, net: nets.Net, params: Any, state: Any):
        data = (FIT, HELD_OUT) if net is MLP else (CELL_FIT, CELL_HELD_OUT)
        self.train, self.valid = (reference_loss(net, state, d) for d in data)
        self.params, self.steps = params, 0
        self.buffer = jax.tree.map(jnp.zeros_like, params)

    def rate(self) -> float:
        cosine = (1 + np.cos(np.pi * self.steps / 20)) / 2
        return RATE * ((1 - 0.04) * cosine + 0.04)

    def stepped(self, params: Any, buffer: Any, arch: Any, rate: float) -> tuple[Any, Any]:
        slope = jax.grad(self.train)(params, arch)
        decayed = jax.tree.map(lambda g, w: g + DECAY * w, slope, params)
        buffer = jax.tree.map(lambda b, d: MOMENTUM * b + d, buffer, decayed)
        return jax.tree.map(lambda w, b: w - rate * b, params, buffer), buffer

    def step(self, arch: Any) -> None:
        self.params, self.buffer = self.stepped(self.params, self.buffer, arch, self.rate())
        self.steps += 1

    def responding(self, arch: Any, steps: int) -> jax.Array:
        """The validation loss after so many steps of the weights under the architecture."""
        params, buffer, start = self.params, self.buffer, self.steps
        for i in range(steps):
            self.steps = start + i
            params, buffer = self.stepped(params, buffer, arch, self.rate())
        self.steps = start
        return self.valid(params, arch)


ROUNDS = 3


def after_rounds(net: nets.Net, **options: Any) -> tuple[Trials, Plain, Any]:
    """The trials of a third round in float64, the plain loop there, and its architecture."""
    evaluator = make(net, **options)
    state = doubled(evaluator.init(jax.random.key(0)))
    plain = Plain(net, state.shared.params, state.shared.state)
    run = jax.jit(evaluator.evaluate, compiler_options=QUICK)
    trials, arch = None, None
    for t in range(ROUNDS):
        archs = simplices(net, 10 + t)
        arch = first_row(archs)
        if t > 0:
            plain.step(arch)
        trials, state = run(jax.random.key(t), propose(archs), state)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        state.shared.params,
        plain.params,
    )
    return trials, plain, arch


def differences(f: Callable, arch: Any, step: float = 1e-5) -> np.ndarray:
    """The gradient by central differences, as one vector."""
    flat, back = jax.flatten_util.ravel_pytree(arch)
    ends = lambda i: jnp.stack([flat.at[i].add(step), flat.at[i].add(-step)])
    points = jnp.concatenate([ends(i) for i in range(flat.size)])
    at = jax.jit(lambda x: f(back(x)), compiler_options=QUICK)
    values = np.asarray([at(x) for x in points])
    return (values[::2] - values[1::2]) / (2 * step)


def vector(tree: Any) -> np.ndarray:
    return np.asarray(jax.flatten_util.ravel_pytree(tree)[0])


CASES = {
    "first": ("first", 0),
    "second": ("second", 1),
    "unrolled": (ways.unrolled(3), 3),
}


@pytest.mark.parametrize(
    ("name", "net"),
    [
        pytest.param("first", MLP, id="first-mlp"),
        pytest.param("second", MLP, id="second-mlp"),
        pytest.param("unrolled", MLP, id="unrolled-mlp"),
        pytest.param("second", CELL, id="second-cell", marks=pytest.mark.slow),
    ],
)
def test_gradients_equal_float64_differences_and_a_plain_reference(
    name: str, net: nets.Net
) -> None:
    order, steps = CASES[name]
    with jax.enable_x64(True):
        trials, plain, arch = after_rounds(net, order=order)
        f = lambda arch: plain.responding(arch, steps)
        exact = vector(jax.jit(jax.grad(f), compiler_options=QUICK)(arch))
        grad = vector(first_row(trials.grad))
        np.testing.assert_allclose(trials.metrics["loss"][0], f(arch), rtol=1e-9)
        np.testing.assert_allclose(trials.score, -trials.metrics["loss"])
        np.testing.assert_allclose(grad, exact, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(grad, differences(f, arch), rtol=1e-6, atol=1e-8)
        assert np.abs(grad).max() > 1e-3


@pytest.mark.slow
def test_the_response_of_the_weights_matters_and_the_finite_difference_comes_close() -> None:
    with jax.enable_x64(True):
        found = {
            name: vector(first_row(after_rounds(MLP, order=order)[0].grad))
            for name, order in (
                ("first", "first"),
                ("second", "second"),
                ("finite", "finite"),
                ("smaller", ways.finite(1e-4)),
            )
        }
        response = found["second"] - found["first"]
        off = lambda name: np.linalg.norm(found[name] - found["second"]) / np.linalg.norm(response)
        assert np.linalg.norm(response) > 1e-2 * np.linalg.norm(found["second"])
        assert off("finite") < 1e-2 and off("smaller") < 1e-6


@pytest.mark.slow
def test_the_finite_difference_is_the_published_formula() -> None:
    with jax.enable_x64(True):
        trials, plain, arch = after_rounds(MLP, order="finite")
        rate = plain.rate()
        moved, _ = plain.stepped(plain.params, plain.buffer, arch, rate)
        by_weights, by_arch = jax.grad(plain.valid, (0, 1))(moved, arch)
        epsilon = 0.01 / np.linalg.norm(vector(by_weights))
        at = lambda s: jax.tree.map(lambda w, g: w + s * epsilon * g, plain.params, by_weights)
        plus, minus = (vector(jax.grad(plain.train, 1)(at(s), arch)) for s in (1, -1))
        published = vector(by_arch) - rate * (plus - minus) / (2 * epsilon)
        np.testing.assert_allclose(vector(first_row(trials.grad)), published, rtol=1e-8, atol=1e-10)


# --------------------------------------------------------------------------------- implicit


def quadratic(seed: int = 0) -> tuple[ways.Problem, jax.Array, Callable]:
    """`w*(a) = argmin` in closed form: the training loss is a quadratic of the weights."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(5, 5))
    h = jnp.asarray(root @ root.T / 5 + 0.3 * np.eye(5))
    m, b, c = (jnp.asarray(rng.normal(size=s)) for s in ((5, 4), (5,), (5,)))
    response = lambda a: jnp.linalg.solve(h, m @ jnp.sin(a) + b)
    inner = lambda w, a, batch: w @ h @ w / 2 - w @ (m @ jnp.sin(a) + b)
    outer = lambda w, a, batch: (jnp.sum((w - c) ** 2) + jnp.sum(a**3), jnp.float32(0))
    arch = jnp.asarray(rng.normal(size=4))
    rule = optax.sgd(0.1)
    w = response(arch)
    problem = ways.Problem(inner, outer, rule, w, rule.init(w), jnp.zeros((1, 1)), ())
    return problem, arch, lambda a: outer(response(a), a, ())[0]


@pytest.mark.parametrize(
    "way",
    [ways.implicit(400, 0.3), ways.implicit(5, solver="cg")],
    ids=["neumann", "conjugate gradients"],
)
def test_implicit_differentiation_equals_the_exact_inverse(way: ways.Hypergradient) -> None:
    with jax.enable_x64(True):
        problem, arch, value = quadratic()
        (loss, _), grad = jax.jit(lambda a: way.grad(problem, a))(arch)
        np.testing.assert_allclose(loss, value(arch))
        np.testing.assert_allclose(grad, jax.grad(value)(arch), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_short_neumann_series_is_the_sum_that_it_stands_for() -> None:
    with jax.enable_x64(True):
        problem, arch, _ = quadratic(1)
        h = jax.hessian(problem.inner)(problem.params, arch, ()) + 0.1 * jnp.eye(5)
        by_weights = jax.grad(lambda w: problem.outer(w, arch, ())[0])(problem.params)
        series = sum(jnp.linalg.matrix_power(jnp.eye(5) - 0.2 * h, j) for j in range(4))
        mixed = jax.jacobian(jax.grad(problem.inner), 1)(problem.params, arch, ())
        by_arch = jax.grad(lambda a: problem.outer(problem.params, a, ())[0])(arch)
        expected = by_arch - mixed.T @ (0.2 * series @ by_weights)
        _, grad = ways.implicit(3, 0.2, damping=0.1).grad(problem, arch)
        np.testing.assert_allclose(grad, expected, rtol=1e-9)


@pytest.mark.slow
def test_the_implicit_gradient_of_a_network_is_that_of_its_hessian() -> None:
    with jax.enable_x64(True):
        way = ways.implicit(2, 0.05, damping=DECAY)
        trials, plain, arch = after_rounds(MLP, order=way)
        flat, back = jax.flatten_util.ravel_pytree(plain.params)
        train = lambda w, a: plain.train(back(w), a)
        h = jax.jit(jax.hessian(train))(flat, arch) + DECAY * jnp.eye(flat.size)
        v, by_arch = jax.grad(lambda w, a: plain.valid(back(w), a), (0, 1))(flat, arch)
        p = 0.05 * sum(
            jnp.linalg.matrix_power(jnp.eye(flat.size) - 0.05 * h, j) @ v for j in (0, 1, 2)
        )
        mixed = jax.grad(lambda a: jax.grad(train)(flat, a) @ p)(arch)
        expected = vector(by_arch) - vector(mixed)
        np.testing.assert_allclose(vector(first_row(trials.grad)), expected, rtol=1e-8, atol=1e-10)


def test_the_single_level_descends_the_training_loss() -> None:
    with jax.enable_x64(True):
        trials, plain, arch = after_rounds(MLP, order="single")
        value, grad = jax.value_and_grad(plain.train, 1)(plain.params, arch)
        np.testing.assert_allclose(trials.metrics["loss"][0], value, rtol=1e-9)
        np.testing.assert_allclose(vector(first_row(trials.grad)), vector(grad), rtol=1e-8)


# ----------------------------------------------------------------------- rows, paths, failures


def test_several_rows_get_their_own_gradients_and_share_a_mean_step() -> None:
    with jax.enable_x64(True):
        evaluator = make()
        run = jax.jit(evaluator.evaluate, compiler_options=QUICK)
        state = doubled(evaluator.init(jax.random.key(0)))
        plain = Plain(MLP, state.shared.params, state.shared.state)
        _, state = run(jax.random.key(0), propose(simplices(MLP, 0, 3)), state)
        archs, weight = simplices(MLP, 1, 3), jnp.asarray([1.0, 0.0, 3.0])
        trials, state = run(jax.random.key(1), propose(archs)._replace(weight=weight), state)
        rows = [jax.tree.map(lambda x, k=k: x[k], archs) for k in range(3)]
        mean = lambda w, _: (plain_train(w, rows[0]) + 3 * plain_train(w, rows[2])) / 4
        plain_train, plain.train = plain.train, mean
        plain.step(rows[0])
        close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)
        jax.tree.map(close, state.shared.params, plain.params)
        for k, arch in enumerate(rows):
            exact = jax.grad(plain.valid, 1)(state.shared.params, arch)
            jax.tree.map(lambda a, b, k=k: close(a[k], b), trials.grad, exact)
        np.testing.assert_array_equal(trials.weight, weight)


def test_rows_of_weight_0_move_no_weights() -> None:
    evaluator = make()
    run = jax.jit(evaluator.evaluate, compiler_options=QUICK)
    archs = propose(simplices(MLP, 0))
    _, state = run(jax.random.key(0), archs, evaluator.init(jax.random.key(0)))
    _, new = run(jax.random.key(1), archs._replace(weight=jnp.zeros(1)), state)
    jax.tree.map(np.testing.assert_array_equal, new.shared.params, state.shared.params)
    assert new.shared.step == 0 and new.shared.judged == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "choices"),
    [
        pytest.param(MLP, {"activation": [[1]], "width": [[0]]}, id="mlp"),
        pytest.param(CELL, [[1, 2, 3, 3, 4, 2]], id="cell", marks=pytest.mark.slow),
    ],
)
def test_gdas_runs_one_path_and_differentiates_its_weight_alone(
    net: nets.Net, choices: Any
) -> None:
    plain = lambda x: isinstance(x, list)
    archs = one_hot(net.space, jax.tree.map(jnp.asarray, choices, is_leaf=plain))
    jit, found = functools.partial(jax.jit, compiler_options=QUICK), {}
    for sparse in (True, False):
        evaluator = make(net, sparse=sparse)
        state = evaluator.init(jax.random.key(0))
        found[sparse], _ = jit(evaluator.evaluate)(jax.random.key(1), propose(archs), state)
    one, all_ = (vector(found[sparse].grad) for sparse in (True, False))
    chosen = vector(archs)
    np.testing.assert_allclose(found[True].score, found[False].score, rtol=1e-5)
    np.testing.assert_allclose(one, all_ * chosen, rtol=1e-3, atol=1e-6)
    assert (np.abs(all_ * (1 - chosen)) > 1e-4).any() and np.abs(one).max() > 1e-4


def test_a_loss_that_is_not_finite_is_a_row_of_weight_0() -> None:
    evaluator = make()
    state = evaluator.init(jax.random.key(0))
    archs = jax.tree.map(lambda x: x.at[1].set(jnp.nan), simplices(MLP, 0, 2))
    trials, _ = jax.jit(evaluator.evaluate)(jax.random.key(0), propose(archs), state)
    np.testing.assert_array_equal(trials.weight, [1, 0])
    assert np.isfinite(trials.score).all() and np.isfinite(trials.metrics["loss"]).all()


# ------------------------------------------------------------------------------ perturbation


def test_the_adversary_raises_the_loss_more_than_chance_within_its_box() -> None:
    arch = first_row(simplices(CELL, 3)).astype(jnp.float32)
    tilt = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)
    loss = lambda a: jnp.sum(a * tilt) + jnp.sum((a - 0.2) ** 2)
    rise = {}
    for kind in ("random", "adversarial"):
        p = Perturbation(kind, radius=lambda count: 0.05 * count)
        found = jnp.stack(
            [perturbed(p, jax.random.key(i), arch, jnp.int32(2), loss) for i in range(5)]
        )
        assert found.min() >= 0 and found.max() <= 1
        assert 0.09 < np.abs(found - arch).max() <= 0.1 + 1e-6
        rise[kind] = np.asarray(jax.vmap(loss)(found) - loss(arch))
    best = loss(jnp.clip(arch + 0.1 * jnp.sign(tilt), 0, 1)) - loss(arch)
    assert rise["adversarial"].min() > max(rise["random"].max(), 0.9 * best)


@pytest.mark.slow
def test_weights_train_under_the_perturbed_architecture_and_are_judged_without() -> None:
    kinds = {k: make(perturbation=Perturbation(k, 0.2)) for k in ("random", "adversarial")}
    kinds["none"] = make()
    archs, found = propose(simplices(MLP, 0)), {}
    for kind, evaluator in kinds.items():
        run = jax.jit(evaluator.evaluate, compiler_options=QUICK)
        start, state = run(jax.random.key(0), archs, evaluator.init(jax.random.key(0)))
        _, state = run(jax.random.key(1), archs, state)
        found[kind] = (vector(start.grad), vector(state.shared.params))
    for kind in ("random", "adversarial"):
        np.testing.assert_array_equal(found[kind][0], found["none"][0])
        assert np.abs(found[kind][1] - found["none"][1]).max() > 1e-4


# ------------------------------------------------------------------------- a whole search


def searched(key: jax.Array, net: nets.Net = MLP, steps: int = 6, **options: Any) -> Any:
    strategy = chain(
        links.descend(net.space, optax.adam(0.1, b1=0.5)),
        links.softmax(net.space, optax.linear_schedule(2.0, 1.0, steps)),
    )
    evaluator = bilevel(net, WHOLE._replace(batch_size=8), FIT, HELD_OUT, **options)
    return jnas.search(key, strategy, evaluator, net.space, steps=steps)


slow = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "order",
    [
        "second",
        *(pytest.param(o, marks=slow) for o in ways.ORDERS if o != "second"),
    ],
)
def test_several_supernets_as_one_program_equal_single_runs(order: str) -> None:
    keys = jax.random.split(jax.random.key(5), 3)
    search = functools.partial(searched, order=order)
    many = jax.jit(jax.vmap(search), compiler_options=QUICK)(keys)
    one = jax.jit(search, compiler_options=QUICK)(keys[1])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(lambda a, b: close(a[1], b), many, one)
    assert many[1].metrics["loss"].shape == (3, 6, 1)


@pytest.mark.slow
def test_seeds_spread_by_an_execution_plan_equal_single_runs() -> None:
    keys = jax.random.split(jax.random.key(5), 3)
    search = lambda key: searched(key)[1].metrics
    together = jax.jit(population(search, "vmap"))(keys)
    alone = jax.jit(search)(keys[2])
    np.testing.assert_allclose(together["loss"][2], alone["loss"], rtol=1e-3)


@pytest.mark.slow
def test_supernets_spread_over_devices_equal_single_runs() -> None:
    root = Path(__file__).parents[1]
    setting = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (root, root / "tests"))))
    setting["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    command = [sys.executable, str(root / "tests" / "bilevel_probe.py")]
    done = subprocess.run(command, env=setting, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 2 and found["seeds"] == 4
    np.testing.assert_allclose(found["spread"], found["alone"], rtol=1e-3)


@pytest.mark.slow
def test_a_search_learns_weights_and_architecture() -> None:
    (strategy, evaluator), history = jax.jit(functools.partial(searched, steps=60))(
        jax.random.key(0)
    )
    loss = history.metrics["loss"][:, 0]
    assert loss[-15:].mean() < 0.85 * loss[:5].mean()
    assert history.metrics["accuracy"][-15:].mean() > 0.55
    assert evaluator.shared.step == 59 and evaluator.shared.judged == 60
    logits = jax.tree.leaves(strategy[0].logits)
    assert max(float(jnp.abs(x).max()) for x in logits) > 0.5


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: make(order="third"), "order 'third': allowed are first, second"),
        (lambda: make(score="f1"), "score 'f1': allowed are loss, accuracy"),
        (lambda: ways.unrolled(0), "steps=0"),
        (lambda: ways.finite(0.0), "radius=0.0"),
        (lambda: ways.implicit(solver="lu"), "allowed are neumann, cg"),
        (lambda: ways.implicit(rate=0.0), "a positive rate"),
        (lambda: make(perturbation=Perturbation("worst")), "allowed are random, adversarial"),
        (lambda: make(perturbation=Perturbation(radius=0.0)), "radius=0.0"),
        (lambda: make(perturbation=Perturbation(steps=0)), "steps=0"),
    ],
)
def test_impossible_settings_are_refused_in_a_sentence(call: Callable, told: str) -> None:
    with pytest.raises(InputError, match=told):
        call()


def test_choices_instead_of_weights_are_refused_with_what_to_do() -> None:
    evaluator = make()
    state = evaluator.init(jax.random.key(0))
    trials = propose(sample(MLP.space, jax.random.key(0), 2))
    with pytest.raises(ValueError, match="end the chain in a relaxation"):
        evaluator.evaluate(jax.random.key(0), trials, state)
