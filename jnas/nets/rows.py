"""Operations on images whose innermost axis is the batch, which XLA runs at full width on CPU.

A batch of images, height and width equal, is `[C, H * W * B]`, the batch innermost. A step to a
neighbouring pixel is then a step of B or W B numbers along one axis, so convolutions of single
channels, pools and sums run over long contiguous stretches whatever the number of channels, and a
1x1 convolution is one matrix product without a transposition. All operations can be differentiated
twice, in reverse mode.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

SMALL = 64  # pixels of an image of which all pairs are multiplied, by matrix products,
FULL = 16  # where there are so many images
Offsets = tuple[tuple[int, ...], tuple[int, ...]]  # of the taps of a kernel along height and width


def from_images(x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` to `[C, H * W * B]`."""
    return x.transpose(3, 1, 2, 0).reshape(x.shape[3], -1)


def to_images(x: jax.Array, image: int) -> jax.Array:
    """`[C, H * W * B]` to `[B, H, W, C]`."""
    return x.reshape(len(x), image, image, -1).transpose(3, 1, 2, 0)


def pointwise(x: jax.Array, weight: jax.Array) -> jax.Array:
    """A 1x1 convolution: `[C, N]` by `[C, D]` to `[D, N]`."""
    return weight.T @ x


def conv_3x3(x: jax.Array, weight: jax.Array, image: int) -> jax.Array:
    """A convolution of few channels, zero-padded: `[C, N]` by `[3, 3, C, D]` to `[D, N]`."""
    offsets = ((-1, 0, 1), (-1, 0, 1))
    full, start = _framed(x, offsets, image)
    columns = []
    for row in offsets[0]:
        for column in offsets[1]:
            moved = _moved(full, start, row, column, x.shape, image)
            columns.append(moved * _inside(column, x, image))
    return pointwise(jnp.concatenate(columns), weight.reshape(-1, weight.shape[-1]))


def depthwise(
    x: jax.Array, weight: jax.Array, image: int, stride: int = 1, dilation: int = 1
) -> jax.Array:
    """A convolution of every channel by itself, zero-padded by `dilation * (kernel // 2)`.

    Args:
      x: `[C, H * W * B]`.
      weight: `[kernel, kernel, C]`, the kernel odd.
      image: H and W, even where the stride is 2.
      stride: 1 or 2.
      dilation: the step between the taps of the kernel.

    Returns:
      `[C, H * W * B / stride^2]`.
    """
    offsets = [dilation * (i - len(weight) // 2) for i in range(len(weight))]
    if stride == 1:
        return _taps((tuple(offsets), tuple(offsets)), image, x, weight)
    # Output 2 h sees input 2 h + o: of the pixels of the parity of o, the one at h + o // 2.
    parts = [[i for i, o in enumerate(offsets) if o % 2 == p] for p in (0, 1)]
    moves = [tuple(offsets[i] // 2 for i in part) for part in parts]
    found = [
        _taps(
            *((moves[p], moves[q]), image // 2, phase(x, image, p, q)),
            weight[np.ix_(parts[p], parts[q])],
        )
        for p in (0, 1)
        for q in (0, 1)
        if parts[p] and parts[q]
    ]
    return functools.reduce(jnp.add, found)


def phase(x: jax.Array, image: int, row: int, column: int) -> jax.Array:
    """Every second pixel of every second row: `[C, H * W * B]` to `[C, H * W * B / 4]`."""
    half, b = image // 2, x.shape[1] // image**2
    pairs = x.reshape(len(x), half, 2, half, 2 * b)
    return _kept(pairs[:, :, row, :, column * b : (column + 1) * b].reshape(len(x), -1))


def _kept(x: jax.Array) -> jax.Array:
    """The same, computed once: else XLA computes it anew for every shifted copy that is read."""
    return jax.lax.optimization_barrier(x)


def _framed(x: jax.Array, offsets: Offsets, image: int) -> tuple[jax.Array, int]:
    """The images with as many zeros around as the offsets reach, and where the images start."""
    row = x.shape[1] // image
    reach = [max(map(abs, part)) for part in offsets]
    start = reach[0] * row + reach[1] * (row // image)
    zeros = jnp.zeros((len(x), start), x.dtype)
    # Not `jnp.pad`, which asks of every number whether it is inside.
    return _kept(jnp.concatenate((zeros, x, zeros), 1)), start


def _moved(
    full: jax.Array, start: int, row: int, column: int, shape: tuple[int, ...], image: int
) -> jax.Array:
    """At every pixel the one so many rows and columns away, at the edges that of another row."""
    at = start + (row * image + column) * (shape[1] // image**2)
    return full[:, at : at + shape[1]]


def _inside(column: int, x: jax.Array, image: int) -> jax.Array:
    """1 where the pixel so many columns away is in the same row, else 0: `[H * W * B]`."""
    at = np.arange(image) + column
    row = np.repeat((at >= 0) & (at < image), x.shape[1] // image**2)
    return jnp.asarray(np.tile(row, image), x.dtype)


def _reaching(offsets: Offsets, image: int) -> tuple[list[int], list[int], Offsets]:
    """Rows and columns of a kernel that see a pixel of the image at all, and their offsets."""
    near = [[i for i, o in enumerate(part) if abs(o) < image] for part in offsets]
    reach = [tuple(part[i] for i in kept) for part, kept in zip(offsets, near, strict=True)]
    return near[0], near[1], (reach[0], reach[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _taps(offsets: Offsets, image: int, x: jax.Array, weight: jax.Array) -> jax.Array:
    """`y[c, h, w] = sum_ij weight[i, j, c] x[c, h + rows[i], w + columns[j]]`, zeros outside."""
    rows, columns, near = _reaching(offsets, image)
    if not rows or not columns:
        return jnp.zeros_like(x)
    full, start = _framed(x, near, image)
    total: jax.Array | float = 0.0
    for j in columns:
        move = offsets[1][j]
        parts = [
            _moved(full, start, offsets[0][i], move, x.shape, image) * weight[i, j][:, None]
            for i in rows
        ]
        part = functools.reduce(jnp.add, parts)
        total = total + (part * _inside(move, x, image) if move else part)
    return total  # type: ignore


def _opposite(offsets: Offsets) -> Offsets:
    return tuple(-o for o in offsets[0]), tuple(-o for o in offsets[1])


def _taps_forward(offsets: Offsets, image: int, x: jax.Array, weight: jax.Array) -> tuple:
    return _taps(offsets, image, x, weight), (x, weight)


def _taps_backward(offsets: Offsets, image: int, saved: tuple, grad: jax.Array) -> tuple:
    x, weight = saved
    return _taps(_opposite(offsets), image, grad, weight), _products(offsets, image, x, grad)


_taps.defvjp(_taps_forward, _taps_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _products(offsets: Offsets, image: int, x: jax.Array, y: jax.Array) -> jax.Array:
    """`[i, j, c] = sum_hw x[c, h + rows[i], w + columns[j]] y[c, h, w]`, the gradient of a kernel.

    Of small images, all pairs of pixels are multiplied by matrix products, and the pairs of a tap
    then added; of large ones, only the pairs of taps.
    """
    c, n = x.shape
    high, wide = (len(part) for part in offsets)
    if image**2 <= SMALL and n >= FULL * image**2:
        pixels = (c, image**2, -1)
        pairs = jnp.einsum("cpb,cqb->cpq", x.reshape(pixels), y.reshape(pixels))
        taken = _kept(pairs.reshape(c, -1) @ jnp.asarray(_pairs(offsets, image), x.dtype))
        return taken.T.reshape(high, wide, c)
    rows, columns, near = _reaching(offsets, image)
    found = jnp.zeros((high * wide, c), x.dtype)
    if not rows or not columns:
        return found.reshape(high, wide, c)
    full, start = _framed(x, near, image)
    inside = jnp.stack([_inside(offsets[1][j], x, image) for j in columns])
    taps = [(i, k) for i in range(len(rows)) for k in range(len(columns))]
    starts = [start + (near[0][i] * image + near[1][k]) * (n // image**2) for i, k in taps]
    beside = n // math.gcd(n, 8)

    def tap(at: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Sums beside each other first: unlike one sum, they run at full width."""
        moved = jax.lax.dynamic_slice_in_dim(full, at[0], n, 1)
        return jnp.sum((moved * y * inside[at[1]]).reshape(c, -1, beside), 1)

    sums = jax.lax.map(tap, (np.asarray(starts), np.asarray([k for _, k in taps])))
    places = np.asarray([rows[i] * wide + columns[k] for i, k in taps])
    return found.at[places].set(jnp.sum(sums, 2)).reshape(high, wide, c)


@functools.cache
def _pairs(offsets: Offsets, image: int) -> np.ndarray:
    """Which pairs of pixels a tap multiplies: 0 or 1, `[H W H W, taps]`."""
    rows, columns = offsets
    found = np.zeros((*[image] * 4, len(rows), len(columns)), np.int8)
    at = np.arange(image)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            for a in at[(at + row >= 0) & (at + row < image)]:
                b = at[(at + column >= 0) & (at + column < image)]
                found[a + row, b + column, a, b, i, j] = 1
    return found.reshape(image**4, -1)


def _products_forward(offsets: Offsets, image: int, x: jax.Array, y: jax.Array) -> tuple:
    return _products(offsets, image, x, y), (x, y)


def _products_backward(offsets: Offsets, image: int, saved: tuple, grad: jax.Array) -> tuple:
    x, y = saved
    return _taps(_opposite(offsets), image, y, grad), _taps(offsets, image, x, grad)


_products.defvjp(_products_forward, _products_backward)


def _means(x: jax.Array) -> jax.Array:
    """`[C, N]` to `[C, 1]`: on CPU sums are fastest as products, which XLA is kept from undoing."""
    ones = _kept(jnp.ones((x.shape[1], 1), x.dtype))
    return jnp.matmul(x, ones, precision=jax.lax.Precision.HIGHEST) / x.shape[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def normalise(
    x: jax.Array, weight: jax.Array, eps: float = 1e-5
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch normalisation by the statistics of the batch, times one weight.

    Ioffe and Szegedy 2015, arXiv 1502.03167. No gradient flows through the returned statistics.

    Args:
      x: `[C, N]`.
      weight: of the result, `[]`. Its gradient takes the same sums as that of the input.
      eps: added to the variance.

    Returns:
      `(y, mean, variance)`: `[C, N]`, `[C]` and `[C]`, the variance biased.
    """
    return _normalise_forward(x, weight, eps)[0]


def _normalise_forward(x: jax.Array, weight: jax.Array, eps: float) -> tuple:
    mean = _means(x)
    variance = _means(jnp.square(x - mean))
    inverse = jax.lax.rsqrt(variance + eps)
    unit = (x - mean) * inverse
    return (weight * unit, mean[:, 0], variance[:, 0]), (unit, inverse, weight)


def _normalise_backward(eps: float, saved: tuple, grads: tuple) -> tuple[jax.Array, jax.Array]:
    del eps
    unit, inverse, weight = saved
    grad = grads[0]
    slope = _means(grad * unit)
    dx = (weight * inverse) * (grad - _means(grad) - unit * slope)
    return dx, jnp.sum(slope) * unit.shape[1]


normalise.defvjp(_normalise_forward, _normalise_backward)


def avg_pool_3x3(x: jax.Array, image: int, stride: int = 1) -> jax.Array:
    """The mean over 3x3 neighbours; pixels outside the image do not count."""
    at = np.arange(image)
    inside = (3.0 - (at == 0) - (at == image - 1))[::stride]
    each = x.shape[1] // image**2
    shares = np.repeat(1 / np.outer(inside, inside), each)
    return depthwise(x, jnp.ones((3, 3, len(x)), x.dtype), image, stride) * shares.astype(x.dtype)


def max_pool_3x3(x: jax.Array, image: int, stride: int = 1) -> jax.Array:
    """The largest of 3x3 neighbours; pixels outside the image do not count.

    Of equal ones the first, row by row, has the gradient.
    """
    x = _largest(image, 1, _largest(image, 0, x))
    return x if stride == 1 else phase(x, image, 0, 0)


def max_pool_2x2(x: jax.Array, image: int) -> jax.Array:
    """The largest of 2x2 blocks, at stride 2."""
    parts = [phase(x, image, p, q) for p in (0, 1) for q in (0, 1)]
    return functools.reduce(jnp.maximum, parts)


def _around(image: int, axis: int, x: jax.Array, fill: float) -> tuple[jax.Array, jax.Array]:
    """The pixels before and after every pixel of a row (axis 0) or a column (axis 1)."""
    step = x.shape[1] // (image**2 if axis == 0 else image)
    rim = jnp.full((len(x), step), fill, x.dtype)
    full = _kept(jnp.concatenate((rim, x, rim), 1))
    before, after = full[:, : x.shape[1]], full[:, 2 * step :]
    if axis == 0:
        before = jnp.where(_inside(-1, x, image) > 0, before, fill)
        after = jnp.where(_inside(1, x, image) > 0, after, fill)
    return before, after


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _largest(image: int, axis: int, x: jax.Array) -> jax.Array:
    """The largest of a pixel and those before and after it."""
    before, after = _around(image, axis, x, float(jnp.finfo(x.dtype).min))
    return _kept(jnp.maximum(jnp.maximum(before, x), after))


def _largest_forward(image: int, axis: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _largest(image, axis, x), x


def _largest_backward(image: int, axis: int, x: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    before, after = _around(image, axis, x, float(jnp.finfo(x.dtype).min))
    first = (before >= x) & (before >= after)
    own = ~first & (x >= after)
    # What a pixel has of the windows after and before it, in which it is the first or the last.
    none = jnp.zeros_like(grad)
    of_after = _around(image, axis, jnp.where(first, grad, none), 0.0)[1]
    of_before = _around(image, axis, jnp.where(first | own, none, grad), 0.0)[0]
    return (_kept(jnp.where(own, grad, none) + of_after + of_before),)


_largest.defvjp(_largest_forward, _largest_backward)
