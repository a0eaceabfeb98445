"""Operations with the batch innermost equal plain channels-last ones, gradients included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.nets import rows

C, B = 3, 16  # enough images that small ones take the products of all pairs


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def lax_conv(x, weight, stride=1, dilation=1, groups=1):
    pad = dilation * (weight.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        *(x, weight, (stride, stride), ((pad, pad), (pad, pad))),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def pool(x, low, reach, stride, size=3, pad=1):
    window, steps = (1, size, size, 1), (1, stride, stride, 1)
    pads = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return jax.lax.reduce_window(x, low, reach, window, steps, pads)


def avg(x, stride):
    ones = jnp.ones_like(x)
    return pool(x, 0.0, jax.lax.add, stride) / pool(ones, 0.0, jax.lax.add, stride)


def batch_norm(x):
    mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5)


def same(ours, naive, *args):
    """Values, gradients and second derivatives of both are equal."""
    weights = draw(9, *naive(*args).shape)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def both(*args):
        return run(ours, args), run(naive, args)

    def run(f, args):
        loss = lambda *args: jnp.sum(jnp.sin(f(*args)) * weights)
        every = tuple(range(len(args)))
        first = jax.grad(loss, every)
        towards = [draw(8 + i, *a.shape) for i, a in enumerate(args)]
        slope = lambda *args: sum(
            jnp.vdot(t, g) for t, g in zip(towards, first(*args), strict=True)
        )
        return f(*args), first(*args), jax.grad(slope, every)(*args)

    for a, b in zip(*map(jax.tree.leaves, both(*args)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def rowwise(f, stride=1):
    return lambda x, *rest: rows.to_images(f(rows.from_images(x), *rest), x.shape[1] // stride)


@pytest.mark.parametrize("image", [2, 8, 10])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_depthwise_convolution(image, kernel, stride, dilation):
    x, weight = draw(0, B, image, image, C), draw(1, kernel, kernel, C)
    same(
        rowwise(lambda x, w: rows.depthwise(x, w, image, stride, dilation), stride),
        lambda x, w: lax_conv(x, w[:, :, None], stride, dilation, C),
        *(x, weight),
    )


def test_pointwise_convolution():
    x, weight = draw(0, 2, 4, 4, C), draw(1, C, 5)
    same(rowwise(rows.pointwise), lambda x, w: lax_conv(x, w[None, None]), x, weight)


def test_convolution_of_a_stem():
    x, weight = draw(0, 2, 5, 5, C), draw(1, 3, 3, C, 4)
    same(rowwise(lambda x, w: rows.conv_3x3(x, w, 5)), lax_conv, x, weight)


@pytest.mark.slow
def test_normalisation():
    ours = rowwise(lambda x, w: rows.normalise(x, w)[0])
    same(ours, lambda x, w: w * batch_norm(x), draw(0, 4, 4, 4, C) * 3 + 1, jnp.asarray(0.3))
    _, mean, variance = rows.normalise(rows.from_images(draw(0, 4, 6, 6, C)), 0.5)
    np.testing.assert_allclose(mean, draw(0, 4, 6, 6, C).mean((0, 1, 2)))
    np.testing.assert_allclose(variance, draw(0, 4, 6, 6, C).var((0, 1, 2)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("image", [2, 6])
def test_pools(stride, image):
    x = draw(0, 3, image, image, C)
    same(
        rowwise(lambda x: rows.avg_pool_3x3(x, image, stride), stride), lambda x: avg(x, stride), x
    )
    naive = lambda x: pool(x, -jnp.inf, jax.lax.max, stride)
    same(rowwise(lambda x: rows.max_pool_3x3(x, image, stride), stride), naive, x)


def test_halving_pool_and_phases():
    x = draw(0, 3, 6, 6, C)
    same(
        rowwise(lambda x: rows.max_pool_2x2(x, 6), 2),
        lambda x: pool(x, -jnp.inf, jax.lax.max, 2, 2, 0),
        x,
    )
    for p, q in ((0, 0), (0, 1), (1, 0), (1, 1)):
        same(
            rowwise(lambda x, p=p, q=q: rows.phase(x, 6, p, q), 2),
            lambda x, p=p, q=q: x[:, p::2, q::2],
            x,
        )


def test_of_equal_neighbours_the_first_has_the_gradient():
    grad = jax.grad(lambda x: rows.max_pool_3x3(x, 3)[0, 4])(jnp.zeros((1, 9)))
    np.testing.assert_array_equal(grad[0], [1, 0, 0, 0, 0, 0, 0, 0, 0])
