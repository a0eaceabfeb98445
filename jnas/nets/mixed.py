"""The mixed operation of an edge of DARTS' supernet, on images with the batch innermost.

Liu, Simonyan and Yang 2019, arXiv 1806.09055: every operation of the space on the same input, and
the sum of their results by weight. All normalisations are without scale and bias.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.nets import rows
from jnas.spaces.darts import CANDIDATES

EPS = 1e-5
MOMENTUM = 0.9  # of running statistics
# The batch normalisations of an edge; that of the skip connection is used at stride 2 only.
NORMS = (
    *("max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3_first", "sep_conv_3x3", "sep_conv_5x5_first", "sep_conv_5x5"),
    *("dil_conv_3x3", "dil_conv_5x5"),
)
CONVOLUTIONS = {  # kernel, dilation, layers
    "sep_conv_3x3": (3, 1, 2),
    "sep_conv_5x5": (5, 1, 2),
    "dil_conv_3x3": (3, 2, 1),
    "dil_conv_5x5": (5, 2, 1),
}


class Statistics(NamedTuple):
    """Mean and variance of what is normalised; `[..., C]` or, for an edge, `[norms, C]`."""

    mean: jax.Array
    variance: jax.Array


def moved(running: Statistics, batch: Statistics) -> Statistics:
    """Running statistics after a batch. A negative variance marks what the batch did not touch."""
    keep = jnp.where(batch.variance < 0, 1.0, MOMENTUM).astype(batch.mean.dtype)
    mix = lambda old, new: keep * old + (1 - keep) * new
    return Statistics(mix(running.mean, batch.mean), mix(running.variance, batch.variance))


def untouched(shape: tuple[int, ...], dtype: Any) -> Statistics:
    """The statistics of a batch that normalised nothing."""
    return Statistics(jnp.zeros(shape, dtype), jnp.full(shape, -1, dtype))


def normalise(
    x: jax.Array, running: Statistics, train: bool, weight: Any = 1.0
) -> tuple[jax.Array, Statistics]:
    """Batch normalisation, `[C, H * W * B]`, by the batch or the running statistics, and a weight.

    Returns:
      The result times the weight, and the statistics of the batch, the variance unbiased.
    """
    if not train:
        slope = weight * jax.lax.rsqrt(running.variance + EPS)
        y = (x - running.mean[:, None]) * slope[:, None]
        return y, untouched(running.mean.shape, x.dtype)
    n = x.shape[1]
    y, mean, variance = rows.normalise(x, jnp.asarray(weight, x.dtype), EPS)
    return y, jax.lax.stop_gradient(Statistics(mean, variance * (n / max(n - 1, 1))))


class How(NamedTuple):
    """How an edge runs: static.

    Attributes:
      image: height and width of the input.
      stride: 1 or 2.
      train: whether to normalise by the batch.
    """

    image: int
    stride: int
    train: bool


class Edge(NamedTuple):
    """What an edge knows besides its input and its weights.

    Attributes:
      params: for each convolution `depthwise` `[layers, k, k, C]` and `pointwise` `[layers, C, C]`;
        at stride 2 `skip_connect`, `[2, C, C / 2]`.
      running: statistics `[norms, C]`.
    """

    params: dict[str, Any]
    running: Statistics


def operation(
    name: str, x: jax.Array, weight: Any, edge: Edge, how: How
) -> tuple[jax.Array, dict[str, Statistics]]:
    """One operation of an edge by weight, and the statistics of the batch by name of the norm."""
    found: dict[str, Statistics] = {}
    image, stride, train = how

    def norm(x: jax.Array, name: str, weight: Any = weight) -> jax.Array:
        k = NORMS.index(name)
        running = Statistics(edge.running.mean[k], edge.running.variance[k])
        y, found[name] = normalise(x, running, train, weight)
        return y

    if name == "none":
        y = jnp.zeros((x.shape[0], x.shape[1] // stride**2), x.dtype)
    elif name == "skip_connect" and stride == 1:
        y = weight * x
    elif name == "skip_connect":
        y = norm(halve(x, edge.params[name], image), name)
    elif name == "max_pool_3x3":
        y = norm(rows.max_pool_3x3(x, image, stride), name)
    elif name == "avg_pool_3x3":
        y = norm(rows.avg_pool_3x3(x, image, stride), name)
    else:
        _, dilation, layers = CONVOLUTIONS[name]
        weights, y = edge.params[name], x
        for i in range(layers):
            step, kernel = (
                (stride, image) if i == 0 else (1, image // stride),
                weights["depthwise"][i],
            )
            y = rows.depthwise(jax.nn.relu(y), kernel, step[1], step[0], dilation)
            y = rows.pointwise(y, weights["pointwise"][i])
            y = norm(y, name) if i == layers - 1 else norm(y, f"{name}_first", 1.0)
    return y, found


def halve(x: jax.Array, weight: jax.Array, image: int) -> jax.Array:
    """ReLU and two 1x1 convolutions at stride 2, a pixel apart, beside each other.

    DARTS' FactorizedReduce without its normalisation.

    Args:
      x: `[C, H * W * B]`.
      weight: `[2, C, D / 2]`.
      image: H and W.

    Returns:
      `[D, H * W * B / 4]`.
    """
    x = jax.nn.relu(x)
    parts = [rows.pointwise(rows.phase(x, image, i, i), weight[i]) for i in (0, 1)]
    return jnp.concatenate(parts)


def stacked(found: dict[str, Statistics], like: Statistics, dtype: Any) -> Statistics:
    """The statistics of all norms of an edge, `[norms, C]`."""
    nothing = untouched(like.mean.shape[1:], dtype)
    every = [found.get(name, nothing) for name in NORMS]
    return Statistics(*(jnp.stack(part) for part in zip(*every, strict=True)))


def mixed(x: jax.Array, weights: jax.Array, edge: Edge, how: How) -> tuple[jax.Array, Statistics]:
    """The sum of all operations by weight.

    Args:
      x: `[C, H * W * B]`.
      weights: of the operations `CANDIDATES`, f32[8].
      edge: weights and statistics of the operations.
      how: the edge runs.

    Returns:
      `[C, H * W * B / stride^2]`, and the statistics of the batch.
    """
    total: Any = 0
    found: dict[str, Statistics] = {}
    for weight, name in zip(weights[1:], CANDIDATES[1:], strict=True):
        y, own = operation(name, x, weight, edge, how)
        total, found = total + y, found | own
    return total, stacked(found, edge.running, x.dtype)


def alone(how: How) -> list[Callable]:
    """For each operation a function of `(x, weight [], edge)` that runs just this one, weighted."""

    def branch(name: str) -> Callable:
        def run(x: jax.Array, weight: jax.Array, edge: Edge) -> tuple[jax.Array, Statistics]:
            y, found = operation(name, x, weight, edge, how)
            return y, stacked(found, edge.running, x.dtype)

        return run

    return [branch(name) for name in CANDIDATES]
