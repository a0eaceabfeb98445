"""Convolutions in the forms that stay fast when many networks train inside one program.

Inside a loop XLA's CPU backend loses its fast path for the gradients of a convolution, and under
`vmap` a convolution over its kernels becomes a grouped one. So the backward rules are written out
as plain convolutions, and a population of convolutions is a batched matrix product over shifted
copies of the input. `jnas.nets.forms` says which form is used. All images are `[B, H, W, C]`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from jnas.nets import forms

LARGE = 2**20  # bytes of a batch of images; measured on CPU, with caches of 1 MiB a core
Size = tuple[int, int, int]  # kernel, stride, dilation


def conv(x: jax.Array, weight: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """A convolution without bias, zero-padded by `dilation * (kernel // 2)` on every side.

    Args:
      x: `[B, H, W, C]`.
      weight: `[kernel, kernel, C, D]`, the kernel odd.
      stride: the step between outputs.
      dilation: the step between the taps of the kernel.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), D]`.
    """
    if weight.shape[0] == 1:
        x = x[:, ::stride, ::stride]
        flat = x.reshape(-1, x.shape[-1]) @ weight[0, 0]  # the gradient of a 4-D product copies
        return flat.reshape(*x.shape[:-1], weight.shape[-1])
    return _conv((weight.shape[0], stride, dilation), x, weight)


def depthwise(x: jax.Array, weight: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    """A convolution of every channel by itself, padded as `conv` is.

    Args:
      x: `[B, H, W, C]`.
      weight: `[kernel, kernel, C]`, the kernel odd.
      stride: the step between outputs.
      dilation: the step between the taps of the kernel.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), C]`.
    """
    size = (weight.shape[0], stride, dilation)
    if forms.form("depthwise") == "lax":
        return _lax(size, x, weight[:, :, None], groups=x.shape[-1])
    return _depthwise(size, x, weight)


def conv_line(x: jax.Array, weight: jax.Array, axis: int, stride: int = 1) -> jax.Array:
    """A convolution along one axis, a product over shifted copies, padded as `conv` is.

    Args:
      x: `[B, H, W, C]`.
      weight: `[kernel, C, D]`, the kernel odd.
      axis: 1 for columns, 2 for rows.
      stride: the step between outputs along the axis.

    Returns:
      `[B, H, W, D]`, of the axis every `stride`-th.
    """
    cut = lambda x: jax.lax.slice_in_dim(x, 0, None, stride, axis)
    taps = [cut(tap) for tap in _window(x, (weight.shape[0], 1, 1), axis)]
    return jnp.concatenate(taps, -1) @ weight.reshape(-1, weight.shape[-1])


def shifted(x: jax.Array, size: Size) -> list[jax.Array]:
    """The input as every tap of a kernel sees it: kernel^2 arrays `[B, H', W', C]`."""
    kernel, stride, dilation = size
    pad, (high, wide) = dilation * (kernel // 2), x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    steps = range(0, kernel * dilation, dilation)
    return [x[:, i : i + high : stride, j : j + wide : stride] for i in steps for j in steps]


def _columns(x: jax.Array, size: Size) -> jax.Array:
    return jnp.concatenate(shifted(x, size), -1)


def _lax(size: Size, x: jax.Array, weight: jax.Array, groups: int = 1) -> jax.Array:
    kernel, stride, dilation = size
    pad = dilation * (kernel // 2)
    return jax.lax.conv_general_dilated(
        x,
        weight,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _product(size: Size, x: jax.Array, weight: jax.Array) -> jax.Array:
    return _columns(x, size) @ weight.reshape(-1, weight.shape[-1])


def _window(x: jax.Array, size: Size, axis: int) -> list[jax.Array]:
    """The input shifted along one axis, as every tap along that axis sees it, zeros outside."""
    kernel, _, dilation = size
    shifts, long = [dilation * (i - kernel // 2) for i in range(kernel)], x.shape[axis]
    zeros = lambda n: jnp.zeros((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype)
    cut = lambda a, b: jax.lax.slice_in_dim(x, a, b, axis=axis)

    def moved(s: int) -> jax.Array:
        s = max(-long, min(long, s))
        parts = (zeros(-s), cut(0, long + s)) if s < 0 else (cut(s, long), zeros(s))
        return x if s == 0 else jnp.concatenate(parts, axis)

    return [moved(s) for s in shifts]


def _rows(size: Size, x: jax.Array, weight: jax.Array) -> jax.Array:
    """By one product of taps along a row, for all rows of the kernel, whose results are added.

    A third of the copies of `_product` for a kernel of three, and a product of better shape.
    """
    if size[1] > 1:
        return _lax(size, x, weight)
    kernel, outputs = weight.shape[0], weight.shape[-1]
    taps = jnp.concatenate(_window(x, size, 2), -1)
    flat = weight.transpose(1, 2, 0, 3).reshape(-1, kernel * outputs)
    found = (taps @ flat).reshape(*x.shape[:3], kernel, outputs)
    parts = [_window(found[..., i, :], size, 1)[i] for i in range(kernel)]
    return functools.reduce(jnp.add, parts)


def _rows_input_gradient(size: Size, grad: jax.Array, weight: jax.Array, x: jax.Array) -> jax.Array:
    if size[1] > 1:
        return _input_gradient(size, grad, weight, x)
    return _rows(size, grad, jnp.flip(weight, (0, 1)).swapaxes(2, 3))


def _rows_weight_gradient(size: Size, x: jax.Array, grad: jax.Array) -> jax.Array:
    """Taps along the rows of the gradient by taps along the columns of the input."""
    if size[1] > 1:
        return _weight_gradient_product(size, x, grad)
    kernel, inputs, outputs = size[0], x.shape[-1], grad.shape[-1]
    down = jnp.concatenate(_window(x, size, 1), -1).reshape(-1, kernel * inputs)
    along = jnp.concatenate(_window(grad, size, 2)[::-1], -1).reshape(-1, kernel * outputs)
    found = (along.T @ down).reshape(kernel, outputs, kernel, inputs)
    return found.transpose(2, 0, 3, 1)


def _input_gradient(size: Size, grad: jax.Array, weight: jax.Array, x: jax.Array) -> jax.Array:
    """A convolution of the gradient, its pixels a stride apart, with the mirrored kernel."""
    kernel, stride, dilation = size
    reach = dilation * (kernel // 2)
    pads = []
    for full, short in zip(x.shape[1:3], grad.shape[1:3], strict=True):
        pads.append((reach, full - 1 - stride * (short - 1) + reach))
    return jax.lax.conv_general_dilated(
        grad,
        jnp.flip(weight, (0, 1)).swapaxes(2, 3),
        (1, 1),
        pads,
        lhs_dilation=(stride, stride),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _input_gradient_product(
    size: Size, grad: jax.Array, weight: jax.Array, x: jax.Array
) -> jax.Array:
    if size[1] == 1:
        return _product(size, grad, jnp.flip(weight, (0, 1)).swapaxes(2, 3))
    flat = weight.reshape(-1, weight.shape[-1])
    return jax.linear_transpose(lambda x: _columns(x, size), x)(grad @ flat.T)[0]


def _weight_gradient(size: Size, x: jax.Array, grad: jax.Array) -> jax.Array:
    """By a convolution in which channels and examples change places."""
    kernel, stride, dilation = size
    if stride > 1:
        return _weight_gradient_product(size, x, grad)
    pad = dilation * (kernel // 2)
    found = jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        grad.transpose(1, 2, 0, 3),
        (dilation, dilation),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return found.transpose(1, 2, 0, 3)


def _weight_gradient_product(size: Size, x: jax.Array, grad: jax.Array) -> jax.Array:
    # The columns are made again rather than kept: kernel^2 times less memory.
    found = jnp.einsum("bhwk,bhwd->kd", _columns(x, size), grad)
    return found.reshape(size[0], size[0], x.shape[-1], grad.shape[-1])


PASSES: dict[str, dict[str, Callable]] = {
    "forward": {"rows": _rows, "lax": _lax, "columns": _product},
    "input": {
        "rows": _rows_input_gradient,
        "lax": _input_gradient,
        "columns": _input_gradient_product,
    },
    "weight": {
        "rows": _rows_weight_gradient,
        "lax": _weight_gradient,
        "columns": _weight_gradient_product,
    },
}


def is_large(x: jax.Array) -> bool:
    """Whether copies of these images leave the cache: then memory, not arithmetic, takes the time.

    XLA's own convolution, which makes none, is then faster than the products over copies.
    """
    return jax.default_backend() == "cpu" and x.size * x.dtype.itemsize > LARGE


def _formed(which: str, size: Size, *args: jax.Array) -> jax.Array:
    """A pass of the convolution in the form of now; in the form `convs` for a population."""

    @custom_vmap
    def run(*args: jax.Array) -> jax.Array:
        form = forms.form("conv")
        return PASSES[which]["lax" if form == "rows" and is_large(args[0]) else form](size, *args)

    @run.def_vmap
    def many(n: int, batched: list[bool], *args: jax.Array) -> tuple[jax.Array, bool]:
        del n
        axes = tuple(0 if b else None for b in batched)
        chosen = PASSES[which][forms.form("convs")]
        return jax.vmap(functools.partial(chosen, size), axes)(*args), True

    return run(*args)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(size: Size, x: jax.Array, weight: jax.Array) -> jax.Array:
    return _formed("forward", size, x, weight)


def _conv_forward(size: Size, x: jax.Array, weight: jax.Array) -> tuple:
    return _conv(size, x, weight), (x, weight)


def _conv_backward(size: Size, saved: tuple, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    return _by_input(size, grad, weight, x), _by_weight(size, x, grad)


_conv.defvjp(_conv_forward, _conv_backward)


# A convolution is bilinear, so the derivatives of its gradients are convolutions and gradients
# again: it can be differentiated any number of times, in reverse mode.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_input(size: Size, grad: jax.Array, weight: jax.Array, x: jax.Array) -> jax.Array:
    return _formed("input", size, grad, weight, x)


def _by_input_forward(size: Size, grad: jax.Array, weight: jax.Array, x: jax.Array) -> tuple:
    return _by_input(size, grad, weight, x), (grad, weight, x)


def _by_input_backward(size: Size, saved: tuple, turn: jax.Array) -> tuple:
    grad, weight, x = saved
    return _conv(size, turn, weight), _by_weight(size, turn, grad), jnp.zeros_like(x)


_by_input.defvjp(_by_input_forward, _by_input_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_weight(size: Size, x: jax.Array, grad: jax.Array) -> jax.Array:
    return _formed("weight", size, x, grad)


def _by_weight_forward(size: Size, x: jax.Array, grad: jax.Array) -> tuple:
    return _by_weight(size, x, grad), (x, grad)


def _by_weight_backward(size: Size, saved: tuple, turn: jax.Array) -> tuple:
    x, grad = saved
    return _by_input(size, grad, turn, x), _conv(size, x, turn)


_by_weight.defvjp(_by_weight_forward, _by_weight_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _depthwise(size: Size, x: jax.Array, weight: jax.Array) -> jax.Array:
    return _weighted(size, x, weight)


def _weighted(size: Size, x: jax.Array, weight: jax.Array) -> jax.Array:
    taps = weight.reshape(-1, weight.shape[-1])
    return sum(s * tap for s, tap in zip(shifted(x, size), taps, strict=True))


def _depthwise_forward(size: Size, x: jax.Array, weight: jax.Array) -> tuple:
    return _depthwise(size, x, weight), (x, weight)


def _depthwise_backward(size: Size, saved: tuple, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    dtaps = jnp.stack([jnp.sum(s * grad, (0, 1, 2)) for s in shifted(x, size)])
    if size[1] == 1:
        return _depthwise(size, grad, jnp.flip(weight, (0, 1))), dtaps.reshape(weight.shape)
    spread = jax.linear_transpose(lambda x: _weighted(size, x, weight), x)
    return spread(grad)[0], dtaps.reshape(weight.shape)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
