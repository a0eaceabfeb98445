"""Operations in the forms that stay fast when many networks train inside one program.

XLA's CPU backend loses its fast path for convolutions inside loops, and under `vmap` a convolution
over its kernels becomes a grouped one. So a convolution here is a matrix product over shifted
copies of its input, with a backward rule of its own: a population of them is a batched product.
All images are `[B, H, W, C]`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def _columns(x: jax.Array, kernel: int, stride: int) -> jax.Array:
    """The patches around every output pixel: `[B, H', W', kernel * kernel * C]`."""
    if kernel == 1:
        return x[:, ::stride, ::stride]
    pad, (high, wide) = kernel // 2, x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    shifted = [
        x[:, i : i + high : stride, j : j + wide : stride]
        for i in range(kernel)
        for j in range(kernel)
    ]
    return jnp.concatenate(shifted, -1)


def _product(columns: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.einsum("bhwk,kd->bhwd", columns, weight.reshape(-1, weight.shape[-1]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(x: jax.Array, weight: jax.Array, stride: int = 1) -> jax.Array:
    """A convolution without bias, zero-padded by `kernel // 2` on every side.

    Args:
      x: `[B, H, W, C]`.
      weight: `[kernel, kernel, C, D]`, the kernel odd.
      stride: the step between outputs.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), D]`.
    """
    return _product(_columns(x, weight.shape[0], stride), weight)


def _conv_forward(x: jax.Array, weight: jax.Array, stride: int) -> tuple:
    return conv(x, weight, stride), (x, weight)


def _conv_backward(stride: int, saved: tuple, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    make = functools.partial(_columns, kernel=weight.shape[0], stride=stride)
    columns, pull = jax.vjp(make, x)  # made again rather than kept: kernel^2 times less memory
    dweight = jnp.einsum("bhwk,bhwd->kd", columns, grad).reshape(weight.shape)
    if stride == 1:
        back = jnp.flip(weight, (0, 1)).swapaxes(2, 3)
        return _product(_columns(grad, weight.shape[0], 1), back), dweight
    flat = weight.reshape(-1, weight.shape[-1])
    return pull(jnp.einsum("bhwd,kd->bhwk", grad, flat))[0], dweight


conv.defvjp(_conv_forward, _conv_backward)


def _shifted_sum(x: jax.Array, axis: int) -> jax.Array:
    """x[i - 1] + x[i] + x[i + 1] along an axis, with zeros outside."""
    pad = [(0, 0)] * x.ndim
    pad[axis] = (1, 1)
    size, padded = x.shape[axis], jnp.pad(x, pad)
    return sum(jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3))  # type: ignore


def avg_pool_3x3(x: jax.Array) -> jax.Array:
    """The mean over 3x3 neighbours at stride 1; pixels outside the image do not count."""
    inside = [np.full(n, 3.0, np.float32) - (np.arange(n) == 0) - (np.arange(n) == n - 1)
              for n in x.shape[1:3]]  # fmt: skip
    count = np.outer(*inside)[:, :, None].astype(np.float32)
    return _shifted_sum(_shifted_sum(x, 1), 2) * jnp.asarray(1 / count, x.dtype)


def avg_pool_2x2(x: jax.Array) -> jax.Array:
    """The mean over 2x2 blocks at stride 2; height and width are even."""
    b, h, w, c = x.shape
    return jnp.mean(x.reshape(b, h // 2, 2, w // 2, 2, c), (2, 4))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises over all axes but the last by the statistics of the batch.

    Ioffe and Szegedy 2015, arXiv 1502.03167. No gradient flows through the returned statistics.

    Args:
      x: `[..., C]`.
      scale: gamma, `[C]`.
      bias: beta, `[C]`.
      eps: added to the variance.

    Returns:
      `(y, mean, variance)`: `[..., C]`, `[C]` and `[C]`, the variance biased.
    """
    return _batch_norm_forward(x, scale, bias, eps)[0]


def _batch_norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> tuple:
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    variance = jnp.mean(jnp.square(x - mean), axes)
    inverse = jax.lax.rsqrt(variance + eps)
    y = (x - mean) * (inverse * scale) + bias
    return (y, mean, variance), (x, mean, inverse, scale)


def _batch_norm_backward(eps: float, saved: tuple, grads: tuple) -> tuple:
    del eps
    x, mean, inverse, scale = saved
    grad = grads[0]
    axes = tuple(range(x.ndim - 1))
    unit = (x - mean) * inverse
    dbias, dscale = jnp.sum(grad, axes), jnp.sum(grad * unit, axes)
    n = x.size // x.shape[-1]
    dx = (scale * inverse) * (grad - (dbias + unit * dscale) / n)
    return dx, dscale, dbias


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
