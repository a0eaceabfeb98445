"""Flax NNX layers on the operations of `jnas.nets.ops`, and the blocks of cell networks."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from jnas.nets import initial, ops


class Conv(nnx.Module):
    """A square convolution without bias; He-uniform weights `[kernel, kernel, C, D]`.

    He et al. 2015, arXiv 1502.01852.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, rngs: nnx.Rngs):
        shape = (kernel, kernel, inputs, outputs)
        bound = math.sqrt(6 / (kernel * kernel * inputs))
        self.kernel = nnx.Param(initial.uniform(rngs.params(), shape, bound))
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        return ops.conv(x, self.kernel[...], self.stride)


class BatchNorm(nnx.Module):
    """Batch normalisation with running statistics, used where `use_running_average` is set."""

    def __init__(self, channels: int, momentum: float = 0.9, eps: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))
        self.momentum, self.eps = momentum, eps
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.use_running_average:
            slope = jax.lax.rsqrt(self.variance[...] + self.eps) * self.scale[...]
            return (x - self.mean[...]) * slope + self.bias[...]
        found = ops.batch_norm(x, self.scale[...], self.bias[...], self.eps)
        return self.remember(*found)

    def remember(self, y: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Takes the statistics of a batch into the running ones, and returns `y`."""
        keep, n = self.momentum, y.size // y.shape[-1]
        mean, variance = jax.lax.stop_gradient((mean, variance * (n / max(n - 1, 1))))
        # `variable[...] = x` would search the whole traced program for where x comes from.
        self.mean.set_value(keep * self.mean[...] + (1 - keep) * mean)
        self.variance.set_value(keep * self.variance[...] + (1 - keep) * variance)
        return y


class ReLUConvBN(nnx.Module):
    """ReLU, convolution, batch normalisation: the order of the cell spaces."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, rngs: nnx.Rngs):
        self.conv = Conv(inputs, outputs, kernel, stride, rngs=rngs)
        self.norm = BatchNorm(outputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        conv, norm = self.conv, self.norm
        if norm.use_running_average:
            return norm(conv(jax.nn.relu(x)))
        weights = conv.kernel[...], norm.scale[...], norm.bias[...]
        return norm.remember(*ops.relu_conv_norm(x, *weights, conv.stride, norm.eps))


class ResidualReduction(nnx.Module):
    """Halves height and width: two 3x3 convolutions beside a pooled 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.first = ReLUConvBN(inputs, outputs, 3, stride=2, rngs=rngs)
        self.second = ReLUConvBN(outputs, outputs, 3, rngs=rngs)
        self.shortcut = Conv(inputs, outputs, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.shortcut(ops.avg_pool_2x2(x)) + self.second(self.first(x))
