"""Pooling and normalisation in the forms that stay fast inside one program for many networks.

All images are `[B, H, W, C]`. Convolutions are in `jnas.nets.convolutions`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jnas.nets.convolutions import conv, depthwise, is_large, shifted

__all__ = [
    "avg_pool_2x2",
    "avg_pool_3x3",
    "batch_norm",
    "conv",
    "depthwise",
    "max_pool_2x2",
    "max_pool_3x3",
    "relu_conv_norm",
]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def avg_pool_3x3(x: jax.Array, stride: int = 1) -> jax.Array:
    """The mean over 3x3 neighbours; pixels outside the image do not count."""
    return sum(shifted(x, (3, stride, 1))) * _shares(x.shape, stride, x.dtype)


def _shares(shape: tuple[int, ...], stride: int, dtype: jnp.dtype) -> jax.Array:
    """1 / the neighbours inside the image, `[H', W', 1]`."""
    inside = [3 - (np.arange(n) == 0) - (np.arange(n) == n - 1) for n in shape[1:3]]
    counts = np.outer(*(side[::stride] for side in inside))
    return jnp.asarray(1 / counts[:, :, None], dtype)


def _avg_forward(x: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    return avg_pool_3x3(x, stride), x


def _avg_backward(stride: int, x: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    grad = grad * _shares(x.shape, stride, grad.dtype)
    if stride == 1:
        return (sum(shifted(grad, (3, 1, 1))),)  # type: ignore
    total = lambda x: sum(shifted(x, (3, stride, 1)))
    return jax.linear_transpose(total, x)(grad)


avg_pool_3x3.defvjp(_avg_forward, _avg_backward)


def max_pool_3x3(x: jax.Array, stride: int = 1) -> jax.Array:
    """The largest of 3x3 neighbours; pixels outside the image do not count."""
    low = jnp.finfo(x.dtype).min
    for axis in (1, 2):
        pads = [(0, 0)] * 4
        pads[axis] = (1, 1)
        padded, size = jnp.pad(x, pads, constant_values=low), x.shape[axis]
        parts = [jax.lax.slice_in_dim(padded, i, i + size, stride, axis) for i in range(3)]
        x = functools.reduce(jnp.maximum, parts)
    return x


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """The largest of 2x2 blocks at stride 2; height and width are even."""
    b, h, w, c = x.shape
    return jnp.max(x.reshape(b, h // 2, 2, w // 2, 2, c), (2, 4))


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


def _sums(x: jax.Array) -> jax.Array:
    """The sum over all axes but the last, f32[..., C] to [C]: on CPU fastest as a product."""
    flat = x.reshape(-1, x.shape[-1])
    ones = jnp.ones((1, flat.shape[0]), x.dtype)
    return jnp.matmul(ones, flat, precision=jax.lax.Precision.HIGHEST)[0]


def _wide(x: jax.Array) -> jax.Array:
    """In the precision of statistics: float32 where x has less."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _batch_norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> tuple:
    wide = _wide(x)
    n = x.size // x.shape[-1]
    mean = _sums(wide) / n
    variance = _sums(jnp.square(wide - mean)) / n
    inverse = jax.lax.rsqrt(variance + eps)
    y = ((wide - mean) * (inverse * scale) + bias).astype(x.dtype)
    return (y, mean, variance), (x, mean, inverse, scale)


def _batch_norm_backward(eps: float, saved: tuple, grads: tuple) -> tuple:
    del eps
    x, mean, inverse, scale = saved
    grad = _wide(grads[0])
    unit = (_wide(x) - mean) * inverse
    dbias, dscale = _sums(grad), _sums(grad * unit)
    n = x.size // x.shape[-1]
    dx = (scale * inverse) * (grad - (dbias + unit * dscale) / n)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def relu_conv_norm(
    x: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array, stride: int, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """ReLU, `conv` and `batch_norm` with one backward rule, which keeps one image: the middle one.

    Where images are large it keeps none and convolves again: to store and fetch it takes longer.

    Args:
      x: `[B, H, W, C]`.
      weight: `[kernel, kernel, C, D]`.
      scale: gamma, `[D]`.
      bias: beta, `[D]`.
      stride: of the convolution.
      eps: added to the variance.

    Returns:
      `(y, mean, variance)` as `batch_norm` does.
    """
    return batch_norm(conv(jax.nn.relu(x), weight, stride), scale, bias, eps)


def _relu_conv_norm_forward(
    x: jax.Array, weight: jax.Array, scale: jax.Array, bias: jax.Array, stride: int, eps: float
) -> tuple:
    middle = conv(jax.nn.relu(x), weight, stride)
    out, (_, mean, inverse, _) = _batch_norm_forward(middle, scale, bias, eps)
    kept = None if is_large(x) else middle
    return out, (x, weight, scale, kept, mean, inverse)


def _relu_conv_norm_backward(stride: int, eps: float, saved: tuple, grads: tuple) -> tuple:
    x, weight, scale, middle, mean, inverse = saved
    again, pull = jax.vjp(lambda x, w: conv(x, w, stride), jax.nn.relu(x), weight)
    middle = again if middle is None else middle
    dmiddle, dscale, dbias = _batch_norm_backward(eps, (middle, mean, inverse, scale), grads)
    dx, dweight = pull(dmiddle)
    return jnp.where(x > 0, dx, 0), dweight, dscale, dbias


relu_conv_norm.defvjp(_relu_conv_norm_forward, _relu_conv_norm_backward)
