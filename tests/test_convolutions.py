"""Convolutions, pools and fused layers: every form beside XLA's operations, with gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.base import InputError
from jnas.nets import convolutions, forms, ops

SIZES = [(1, 1, 1), (3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2), (3, 2, 2), (5, 1, 2)]
SHAPE = (3, 6, 9, 4)  # odd and even sides


def _draw(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _reference(x: Any, w: Any, stride: int, dilation: int, groups: int = 1) -> jax.Array:
    pad = dilation * (w.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), [(pad, pad)] * 2, rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


def _depthwise_reference(x: Any, w: Any, stride: int, dilation: int) -> jax.Array:
    return _reference(x, w[:, :, None], stride, dilation, groups=x.shape[-1])


def _with_gradients(f: Any, x: Any, w: Any) -> Any:
    """Value and gradients of a scalar in which every output has a weight of its own."""

    def total(x: Any, w: Any) -> Any:
        y = f(x, w)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape))), y

    return jax.grad(total, (0, 1), has_aux=True)(x, w)


def _close(found: Any, want: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), found, want)


@pytest.mark.parametrize("form", forms.FORMS["conv"])
@pytest.mark.parametrize("size", SIZES)
def test_a_convolution_and_its_gradients(size, form):
    kernel, stride, dilation = size
    x, w = _draw(0, *SHAPE), _draw(1, kernel, kernel, 4, 7)
    with forms.using(conv=form):
        found = _with_gradients(lambda x, w: ops.conv(x, w, stride, dilation), x, w)
    _close(found, _with_gradients(lambda x, w: _reference(x, w, stride, dilation), x, w))


@pytest.mark.parametrize("form", forms.FORMS["convs"])
@pytest.mark.parametrize("size", SIZES)
def test_a_population_of_convolutions_and_their_gradients(size, form):
    kernel, stride, dilation = size
    x, w = _draw(0, 2, *SHAPE), _draw(1, 2, kernel, kernel, 4, 7)
    one = lambda x, w: _with_gradients(lambda x, w: ops.conv(x, w, stride, dilation), x, w)
    with forms.using(convs=form):
        found = jax.jit(jax.vmap(one))(x, w)
    plain = lambda x, w: _reference(x, w, stride, dilation)
    want = [_with_gradients(plain, *row) for row in zip(x, w, strict=True)]
    _close(found, jax.tree.map(lambda *rows: np.stack(rows), *want))


def test_kernels_may_be_shared_by_a_population_of_inputs():
    x, w = _draw(0, 2, *SHAPE), _draw(1, 3, 3, 4, 7)
    found = jax.jit(jax.vmap(ops.conv, (0, None)))(x, w)
    _close(found, np.stack([_reference(row, w, 1, 1) for row in x]))


@pytest.mark.parametrize("form", forms.FORMS["depthwise"])
@pytest.mark.parametrize("size", SIZES)
def test_a_depthwise_convolution_and_its_gradients(size, form):
    kernel, stride, dilation = size
    x, w = _draw(0, *SHAPE), _draw(1, kernel, kernel, 4)
    with forms.using(depthwise=form):
        found = _with_gradients(lambda x, w: ops.depthwise(x, w, stride, dilation), x, w)
    plain = lambda x, w: _depthwise_reference(x, w, stride, dilation)
    _close(found, _with_gradients(plain, x, w))


def _pool_reference(x: Any, kind: str, stride: int) -> jax.Array:
    start, add = {"avg": (0.0, jax.lax.add), "max": (-jnp.inf, jax.lax.max)}[kind]
    window = lambda x: jax.lax.reduce_window(
        x, start, add, (1, 3, 3, 1), (1, stride, stride, 1), [(0, 0), (1, 1), (1, 1), (0, 0)]
    )
    return window(x) / window(jnp.ones_like(x)) if kind == "avg" else window(x)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_a_pool_and_its_gradient(kind, stride):
    x, none = _draw(0, *SHAPE), jnp.zeros(())
    pool = {"avg": ops.avg_pool_3x3, "max": ops.max_pool_3x3}[kind]
    found = _with_gradients(lambda x, w: pool(x, stride), x, none)
    _close(found, _with_gradients(lambda x, w: _pool_reference(x, kind, stride), x, none))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_fused_layer_equals_its_three_parts(stride, large, monkeypatch):
    if large:  # images that leave the cache go another way
        monkeypatch.setattr(convolutions, "LARGE", 0)
    x, w = _draw(0, *SHAPE), _draw(1, 3, 3, 4, 7)
    scale, bias = 1 + 0.1 * _draw(2, 7), _draw(3, 7)

    def parts(x: Any, w: Any, scale: Any, bias: Any) -> tuple:
        y = _reference(jax.nn.relu(x), w, stride, 1)
        mean, variance = jnp.mean(y, (0, 1, 2)), jnp.var(y, (0, 1, 2))
        return (y - mean) / jnp.sqrt(variance + 1e-5) * scale + bias, mean, variance

    fused = lambda *args: ops.relu_conv_norm(*args, stride, 1e-5)

    def weigh(f: Any) -> Any:
        weights = lambda y: jnp.sin(jnp.arange(y.size))
        return lambda *args: jnp.vdot(weights(f(*args)[0]), f(*args)[0])

    _close(fused(x, w, scale, bias), parts(x, w, scale, bias))
    slopes = [jax.grad(weigh(f), (0, 1, 2, 3))(x, w, scale, bias) for f in (fused, parts)]
    _close(*slopes)


def test_batch_statistics_are_float32_whatever_the_input():
    x = (_draw(0, 64, 8, 8, 4) + 100).astype(jnp.bfloat16)
    y, mean, variance = ops.batch_norm(x, jnp.ones(4), jnp.zeros(4), 1e-5)
    whole = np.asarray(x, np.float64)
    assert (y.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(mean, whole.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, whole.var((0, 1, 2)), rtol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "word"), [({"conv": "fft"}, "lax, columns"), ({"pool": "lax"}, "depthwise")]
)
def test_an_unknown_form_is_named_with_what_is_allowed(wrong, word):
    with pytest.raises(InputError, match=word), forms.using(**wrong):
        pass


def test_forms_end_with_their_context_and_are_watched():
    before = forms.form("conv")
    with forms.watched() as asked, forms.using(conv="columns"):
        assert forms.form("conv") == "columns"
    assert forms.form("conv") == before and asked == {"conv"}


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("many", [False, True], ids=["one", "population"])
def test_second_derivatives_equal_those_of_a_plain_convolution(stride, dilation, many):
    rng = np.random.default_rng(0)
    lead = (3,) if many else ()
    draw = lambda *shape: jnp.asarray(rng.normal(size=(*lead, *shape)), jnp.float32)
    x, w, dx, dw = draw(2, 6, 6, 2), draw(3, 3, 2, 3), draw(2, 6, 6, 2), draw(3, 3, 2, 3)

    def plain(x, w):
        pads = ((dilation, dilation), (dilation, dilation))
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), pads, rhs_dilation=(dilation, dilation), dimension_numbers=names
        )

    def turn(f):
        def slope(x, w, dx, dw):
            gx, gw = jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), (0, 1))(x, w)
            return jnp.sum(gx * dx) + jnp.sum(gw * dw)

        hessian = jax.grad(slope, (0, 1))
        quick = {"xla_backend_optimization_level": 0}
        run = jax.jit(jax.vmap(hessian) if many else hessian, compiler_options=quick)
        return run(x, w, dx, dw)

    own = turn(lambda x, w: convolutions.conv(x, w, stride, dilation))
    for a, b in zip(own, turn(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
