"""What follows a gradient search: curvature, early stopping, selection and rank correlation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from quick import QUICK
from scipy import stats

from jnas import nets, spaces
from jnas.analysis.early_stopping import (
    darts_plus_stop,
    robust_darts_stop,
    settled_stop,
    skip_connections,
)
from jnas.analysis.rank import kendall, rank_correlation, spearman
from jnas.base import InputError, argmax, one_hot, to_vector
from jnas.evaluators import Examples, Training
from jnas.evaluators.curvature import architecture_curvature, hessian_eigenvalue
from jnas.evaluators.one_shot_selection import (
    edge_selection,
    from_weights,
    perturbation_selection,
    to_weights,
)
from jnas.evaluators.shared import descend_weights, draw_fit, start

# ------------------------------------------------------------------------- rank correlation


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlations_equal_scipy(ties: bool) -> None:
    rng = np.random.default_rng(0)
    for n in (2, 5, 40):
        a, b = rng.normal(size=(2, n))
        b = a + b
        if ties and n > 2:
            a, b = np.round(a), np.round(b)
        found = jax.jit(rank_correlation)(jnp.asarray(a), jnp.asarray(b))
        np.testing.assert_allclose(found["kendall"], stats.kendalltau(a, b)[0], atol=1e-5)
        np.testing.assert_allclose(found["spearman"], stats.spearmanr(a, b)[0], atol=1e-5)


@pytest.mark.slow
def test_rank_correlations_are_batched_by_vmap_and_undefined_for_a_constant() -> None:
    rng = np.random.default_rng(1)
    a, b = jnp.asarray(rng.normal(size=(2, 3, 20)))
    np.testing.assert_allclose(jax.vmap(kendall)(a, b)[1], kendall(a[1], b[1]), rtol=1e-6)
    assert np.isnan(kendall(jnp.ones(5), jnp.arange(5.0)))
    assert np.isnan(spearman(jnp.arange(5.0), jnp.ones(5)))
    assert kendall(jnp.arange(9), -jnp.arange(9)) == pytest.approx(-1)


# -------------------------------------------------------------------------------- curvature


@pytest.mark.parametrize("method", ["lanczos", "power"])
@pytest.mark.parametrize("signed", [1.0, -1.0])
def test_the_dominant_eigenvalue_equals_that_of_the_whole_hessian(
    method: str, signed: float
) -> None:
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.normal(size=(12, 12)), jnp.float32)
    f = lambda t: signed * jnp.sum(jnp.cosh(a @ jnp.concatenate([t["a"].ravel(), t["b"]]) / 4))
    at = {"a": jnp.asarray(rng.normal(size=(2, 4)), jnp.float32), "b": jnp.ones(4)}
    flat, back = ravel_pytree(at)
    values = jnp.linalg.eigvalsh(jax.hessian(lambda x: f(back(x)))(flat))
    run = jax.jit(lambda key: hessian_eigenvalue(f, at, key, steps=60, method=method))
    expected = values[jnp.argmax(jnp.abs(values))]
    np.testing.assert_allclose(run(jax.random.key(0)), expected, rtol=1e-3)


@pytest.mark.slow
def test_lanczos_needs_few_steps_and_ends_where_its_space_does() -> None:
    scale = jnp.concatenate([jnp.linspace(-1, 1, 199), jnp.asarray([1.2])])
    f = lambda x: jnp.sum(scale * x**2) / 2
    near = [
        float(hessian_eigenvalue(f, jnp.ones(200), jax.random.key(1), steps=15, method=m)) - 1.2
        for m in ("lanczos", "power")
    ]
    assert abs(near[0]) < 1e-3 and abs(near[0]) < abs(near[1]) / 10
    one = lambda x: 2 * jnp.sum(x**2)  # one product spans all
    assert hessian_eigenvalue(one, jnp.ones(30), jax.random.key(0)) == pytest.approx(4, rel=1e-4)


CLASSES = 3
NET = nets.nas_bench_201(channels=2, cells=1, classes=CLASSES, image=4, inputs=1, stages=1)


def examples(seed: int, n: int) -> Examples:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n).astype(np.int32)
    x = rng.normal(size=(n, 4, 4, 1)) + 0.8 * y.reshape(-1, 1, 1, 1)
    return Examples(jnp.asarray(x, jnp.float32), jnp.asarray(y))


@pytest.mark.slow
def test_the_curvature_of_a_supernet_is_that_of_its_whole_hessian_in_the_logits() -> None:
    training = Training(optax.sgd(0.1), steps=5, batch_size=16)
    data = examples(0, 16)
    shared = start(NET, training, data, data, jax.random.key(0))
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)
    relax = lambda logits: jax.nn.softmax(logits)

    def loss(logits: jax.Array) -> jax.Array:
        out, _ = NET.apply(shared.params, shared.state, relax(logits), data.x, train=True)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(out, data.y))

    hessian = np.asarray(jax.jit(jax.jacrev(jax.grad(loss)))(logits)).reshape(30, 30)
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    found = jax.jit(
        lambda key: architecture_curvature(
            NET, training, shared, data, relax, logits, key, steps=30
        )
    )(jax.random.key(1))
    np.testing.assert_allclose(found, values[np.abs(values).argmax()], rtol=1e-3)


# --------------------------------------------------------------------------- early stopping


def naive_robust_stop(x: np.ndarray, window: int, ratio: float) -> int:
    mean = [x[max(0, i - window + 1) : i + 1].mean() for i in range(len(x))]
    for i in range(window, len(x)):
        if mean[i - window] / mean[i] < ratio:
            return i - window
    return len(x) - 1


def test_robust_darts_stops_where_the_plain_rule_does() -> None:
    rng = np.random.default_rng(0)
    stopped = 0
    for _ in range(30):
        x = np.exp(np.cumsum(rng.normal(0.01, 0.06, 40)))
        expected = naive_robust_stop(x, 5, 0.75)
        assert jax.jit(robust_darts_stop)(jnp.asarray(x)) == expected
        stopped += expected < 39
    assert stopped > 5
    assert robust_darts_stop(jnp.ones(20)) == 19
    sudden = jnp.where(jnp.arange(20) < 10, 1.0, 3.0)
    assert robust_darts_stop(sudden) == 5  # at epoch 10 the mean is 1.4, five before it 1
    assert robust_darts_stop(sudden, since=12) == 7


def test_skip_connections_are_counted_and_stop_darts_plus() -> None:
    space = spaces.nas_bench_201()
    cells = jnp.asarray([[1, 1, 2, 3, 4, 0], [3, 3, 3, 3, 3, 3], [2, 1, 3, 4, 0, 0], [1] * 6])
    assert skip_connections(space, cells).tolist() == [2, 0, 1, 6]
    assert darts_plus_stop(jnp.asarray([0, 1, 1, 2, 1, 3])) == 2
    assert darts_plus_stop(jnp.asarray([0, 1, 1])) == 2
    assert darts_plus_stop(jnp.asarray([2, 2])) == 0
    with pytest.raises(InputError, match="no operation 'noise'"):
        skip_connections(space, cells, "noise")


def test_darts_plus_stops_too_when_the_order_of_the_weights_has_settled() -> None:
    orders = np.zeros((9, 2, 3), np.int32) + np.arange(3)
    orders[:3, 1] = [[2, 1, 0], [1, 2, 0], [0, 2, 1]]
    assert settled_stop(jnp.asarray(orders), 4) == 7  # the same as the one before since epoch 4
    assert settled_stop(jnp.asarray(orders), 6) == 8


# -------------------------------------------------------------------- selection by removal

MLP = nets.mlp(2, (2, 4), ("relu", "tanh", "sigmoid"), CLASSES, image=4)
FIT, HELD_OUT = examples(0, 48), examples(1, 32)
TRAINING = Training(optax.sgd(0.2), steps=50, batch_size=16)


def trained(net: nets.Net, arch: Any, steps: int = 30) -> Any:
    shared = start(net, TRAINING, FIT, HELD_OUT, jax.random.key(0))

    def step(shared: Any, _: None) -> tuple[Any, None]:
        shared, batch = draw_fit(TRAINING, FIT, jax.random.key(3), shared)
        return descend_weights(net, TRAINING, shared, arch, batch)[0], None

    return jax.jit(lambda s: jax.lax.scan(step, s, length=steps)[0], compiler_options=QUICK)(shared)


def relaxed_mlp() -> Any:
    rng = np.random.default_rng(3)
    draw = lambda *shape: jnp.asarray(rng.dirichlet(np.ones(shape[-1]), shape[:-1]), jnp.float32)
    return {"activation": draw(2, 3), "width": draw(2, 2)}


def test_matrices_of_weights_and_architectures_are_inverses() -> None:
    arch = relaxed_mlp()
    matrix = to_weights(MLP.space, arch)
    assert matrix.shape == (4, 3) and (matrix[2:, 2] == 0).all()
    jax.tree.map(np.testing.assert_array_equal, from_weights(MLP.space, matrix), arch)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["accuracy", "loss"])
def test_selection_removes_measures_and_tunes_as_a_plain_loop_does(criterion: str) -> None:
    arch = relaxed_mlp()
    shared = trained(MLP, arch)
    run = jax.jit(
        lambda key, shared: perturbation_selection(
            MLP, TRAINING, FIT, HELD_OUT, key, shared, arch, tune=3, criterion=criterion
        ),
        compiler_options=QUICK,
    )
    found = run(jax.random.key(7), shared)
    weights = np.array(to_weights(MLP.space, arch))
    forward = jax.jit(
        lambda params, state, w: MLP.apply(params, state, from_weights(MLP.space, w), HELD_OUT.x)[0]
    )
    step = jax.jit(
        lambda shared, w, batch: descend_weights(
            MLP, TRAINING, shared, from_weights(MLP.space, w), batch
        )[0]
    )
    k_batches = jax.random.key_data(jax.random.split(jax.random.key(7))[1])
    counts, chosen = [3, 3, 2, 2], np.zeros(4, int)
    for place in found.order.tolist():
        values = []
        for k in range(counts[place]):
            masked = weights.copy()
            masked[place, k] = 0
            logits = np.asarray(forward(shared.params, shared.state, masked))
            if criterion == "accuracy":
                values.append((logits.argmax(-1) == HELD_OUT.y).mean())
            else:
                shifted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
                values.append(-shifted[np.arange(32), HELD_OUT.y].mean())
        np.testing.assert_allclose(found.without[place, : counts[place]], values, rtol=1e-4)
        worst = np.argmin(values) if criterion == "accuracy" else np.argmax(values)
        chosen[place] = worst
        weights[place] = np.eye(3)[worst]
        for _ in range(3):
            shared, batch = draw_fit(TRAINING, FIT, jax.random.wrap_key_data(k_batches), shared)
            shared = step(shared, weights, batch)
    assert sorted(found.order.tolist()) == [0, 1, 2, 3]
    np.testing.assert_array_equal(to_vector(MLP.space, found.arch), chosen)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found.shared.params,
        shared.params,
    )
    assert np.isnan(found.without[2:, 2]).all()


@pytest.mark.slow
def test_selection_keeps_what_carries_the_signal_where_the_weights_point_elsewhere() -> None:
    # Every edge to the output is nearly all skip by weight, but only convolutions have learned.
    relaxed = jnp.tile(jnp.asarray([0.05, 0.5, 0.2, 0.2, 0.05]), (6, 1))
    shared = trained(NET, relaxed, 60)
    found = jax.jit(
        lambda shared: perturbation_selection(
            NET, TRAINING, FIT, HELD_OUT, jax.random.key(1), shared, relaxed, tune=5
        )
    )(shared)
    assert (argmax(NET.space, relaxed) == 1).all()
    assert found.shared.step == 60 + 6 * 5
    assert NET.space.is_valid(found.arch) and found.arch.shape == (6,)


@pytest.mark.slow
def test_edges_stay_whose_removal_costs_most_and_others_are_out_for_later_nodes() -> None:
    cell = one_hot(NET.space, jnp.asarray([3, 1, 3, 2, 4, 3]))
    shared = trained(NET, cell, 20)
    nodes = [(0,), (1, 2), (3, 4, 5)]
    run = jax.jit(
        lambda s: edge_selection(NET, TRAINING, HELD_OUT, s, cell, nodes, keep=1, criterion="loss"),
        compiler_options=QUICK,
    )
    batches = jnp.arange(32).reshape(2, 16)

    @jax.jit
    def loss(arch: jax.Array) -> jax.Array:
        def part(rows: jax.Array) -> jax.Array:
            x, y = HELD_OUT.x[rows], HELD_OUT.y[rows]
            logits, _ = NET.apply(shared.params, shared.state, arch, x, train=True)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

        return jnp.mean(jax.lax.map(part, batches))

    stays = np.ones(6, bool)
    for places in nodes[1:]:
        cost = {}
        for place in places:
            left = np.where(np.arange(6) == place, False, stays)
            cost[place] = float(loss(cell * left[:, None]))
        worst = max(cost, key=cost.__getitem__)
        for place in places:
            stays[place] = place == worst
    np.testing.assert_array_equal(run(shared), stays)
    assert stays.sum() == 3


def test_impossible_settings_are_refused_in_a_sentence() -> None:
    f = lambda x: jnp.sum(x**2)
    with pytest.raises(InputError, match="allowed are lanczos, power"):
        hessian_eigenvalue(f, jnp.ones(2), jax.random.key(0), method="qr")
    with pytest.raises(InputError, match="steps=0"):
        hessian_eigenvalue(f, jnp.ones(2), jax.random.key(0), steps=0)
    with pytest.raises(InputError, match="ratio=2"):
        robust_darts_stop(jnp.ones(9), ratio=2)
    arguments = (MLP, TRAINING, FIT, HELD_OUT, jax.random.key(0), None, relaxed_mlp())
    with pytest.raises(InputError, match="criterion 'f1'"):
        perturbation_selection(*arguments, criterion="f1")
    with pytest.raises(InputError, match="tune=-1"):
        perturbation_selection(*arguments, tune=-1)
