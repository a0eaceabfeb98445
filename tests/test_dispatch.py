"""The switch over branches: values, gradients, shared slots, and exact work in a population."""

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.nets import dispatch

N, WIDTH = 11, 5
BRANCHES = [
    lambda w, x, i, key: (jnp.sin(w[0] @ x) * jnp.tanh(x), i),
    lambda w, x, i, key: (x, i + 1),
    lambda w, x, i, key: (jnp.zeros_like(x), i),
    lambda w, x, i, key: (x * jax.random.uniform(key, x.shape) + jnp.sum(w[1]), 2 * i),
]


def _args(n: int) -> tuple:
    rng = np.random.default_rng(0)
    index = np.arange(n) % 3 * (np.arange(n) % 2) + (np.arange(n) % 5 == 0)  # branch 3 is rare
    w = rng.normal(size=(n, 2, WIDTH, WIDTH)).astype(np.float32)
    x = rng.normal(size=(n, WIDTH)).astype(np.float32)
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), n))
    return index.astype(np.int32), w, x, np.arange(n, dtype=np.int32), keys


def _loss(switch: Any) -> Any:
    def loss(w: Any, x: Any, index: Any, i: Any, key: Any) -> Any:
        y, j = switch(index, BRANCHES, w, x, i, jax.random.wrap_key_data(key))
        return jnp.sum(y**2), (y, j)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)


def _row(switch: Any) -> Any:
    return jax.jit(lambda index, w, x, i, key: _loss(switch)(w, x, index, i, key))


def _grouped(block: int) -> Any:
    def run(*args: Any) -> Any:
        with dispatch.grouped(block):
            return jax.vmap(_row(dispatch.switch))(*args)

    return jax.jit(run)


def _equal(found: Any, want: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found, want)


def _naive() -> Any:
    """JAX's own switch, row by row, its choice known."""
    rows = []
    for index, *rest in zip(*_args(N), strict=True):
        plain = lambda i, branches, *args, index=index: branches[int(index)](*args)
        rows.append(_row(plain)(index, *rest))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


@pytest.mark.slow
def test_values_and_gradients_are_those_of_the_branch():
    run, args = _row(dispatch.switch), _args(N)
    found = [run(*row) for row in zip(*args, strict=True)]
    _equal(jax.tree.map(lambda *leaves: np.stack(leaves), *found), _naive())


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 2, 4, 16])
def test_rows_in_blocks_have_the_numbers_of_rows_alone(block):
    _equal(_grouped(block)(*_args(N)), _naive())


def test_masked_rows_have_the_numbers_of_rows_alone():
    _equal(jax.jit(jax.vmap(_row(dispatch.switch)))(*_args(N)), _naive())


@pytest.mark.slow
def test_an_index_that_all_rows_share_stays_a_branch():
    def run(*args: Any) -> Any:
        with dispatch.grouped(4):
            axes = (None, 0, 0, 0, 0)
            return jax.vmap(_row(dispatch.switch), axes)(*args)

    args = (np.int32(3), *_args(N)[1:])
    found = jax.jit(run)(*args)
    want = [_row(dispatch.switch)(np.int32(3), *row) for row in zip(*args[1:], strict=True)]
    _equal(found, jax.tree.map(lambda *leaves: np.stack(leaves), *want))


def test_rows_that_share_all_but_the_index_have_the_numbers_of_rows_alone():
    index, *rest = _args(N)
    shared = [x[0] for x in rest]

    def run(index: Any) -> Any:
        with dispatch.grouped(4):
            return jax.vmap(_row(dispatch.switch), (0, *[None] * 4))(index, *shared)

    want = [_row(dispatch.switch)(i, *shared) for i in index]
    _equal(jax.jit(run)(index), jax.tree.map(lambda *leaves: np.stack(leaves), *want))


@pytest.mark.parametrize(
    "index", [[0] * 9, [2, 2, 1, 2, 0, 1, 2, 2, 2], [3, 0, 3, 0, 1, 2, 1, 0, 2]]
)
def test_a_branch_runs_for_the_rows_that_chose_it_and_for_no_others(index):
    ran: collections.Counter = collections.Counter()
    note = lambda k, x: ran.update({k: x.shape[0] if x.ndim else 1})

    def branch(k: int) -> Any:
        def run(x: jax.Array) -> jax.Array:
            return jax.pure_callback(
                lambda x: (note(k, x), np.asarray(x * (k + 1), np.float32))[1],
                jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims",
            )  # fmt: skip

        return run

    block, branches = 2, [branch(k) for k in range(4)]

    @jax.jit
    def every(index: jax.Array, x: jax.Array) -> jax.Array:
        with dispatch.grouped(block):
            return jax.vmap(lambda i, x: dispatch.switch(i, branches, x))(index, x)

    x = np.arange(1.0, 10.0, dtype=np.float32)
    np.testing.assert_array_equal(every(np.int32(index), x), x * (np.asarray(index) + 1))
    want = {k: -(-index.count(k) // block) * block for k in set(index)}
    assert ran == want  # full blocks, and nothing of a branch that nobody chose


def test_branches_share_the_slots_of_what_they_save():
    deep = lambda x: jnp.sin(jnp.sin(jnp.sin(x)))
    branches = [deep, lambda x: jnp.cos(jnp.cos(x)), lambda x: x]
    f = lambda x, i: dispatch.switch(i, branches, x)
    saved = jax.eval_shape(lambda x, i: jax.vjp(lambda x: f(x, i), x)[1], jnp.ones(7), jnp.int32(0))
    alone = jax.eval_shape(lambda x: jax.vjp(deep, x)[1], jnp.ones(7))
    count = lambda tree: sum(leaf.shape == (7,) for leaf in jax.tree.leaves(tree))
    assert count(saved) == count(alone) + 1  # and the argument itself


def test_the_switch_works_inside_a_scan_and_under_finite_differences():
    branches = [lambda x: jnp.sin(x) * x, lambda x: x * x * 0.5]

    def f(x: jax.Array) -> jax.Array:
        step = lambda x, i: (dispatch.switch(i, branches, x), None)
        return jnp.sum(jax.lax.scan(step, x, jnp.asarray([0, 1, 1, 0]))[0])

    x, eps = np.linspace(0.7, 1.5, 4), 1e-2
    slope = [(f(x + eps * e) - f(x - eps * e)) / (2 * eps) for e in np.eye(4)]
    np.testing.assert_allclose(jax.grad(f)(jnp.asarray(x)), slope, rtol=1e-2, atol=1e-5)
