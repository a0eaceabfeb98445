"""Multilayer perceptrons whose hidden layers choose their width and their activation."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jnas import spaces
from jnas.nets.choices import OneOf, Slim, relaxed
from jnas.nets.functional import Net, functional
from jnas.nets.initial import lecun_uniform
from jnas.spaces.mlp import ACTIVATIONS, WIDTHS

FUNCTIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
RELU, TANH, SIGMOID = range(len(ACTIVATIONS))


@jax.custom_vjp
def activate(kind: jax.Array, x: jax.Array) -> jax.Array:
    """ReLU, tanh or sigmoid of x by a number that is data.

    A switch under `vmap` computes all branches and keeps what each needs for its gradient. Here
    sigmoid is a tanh, `(1 + tanh(x / 2)) / 2`, and all three have slopes that follow from their
    value y alone: `y > 0`, `1 - y^2`, `y - y^2`. So a population pays for one tanh.

    Args:
      kind: int32[], a place in `ACTIVATIONS`.
      x: any shape.

    Returns:
      The same shape.
    """
    half = jnp.where(kind == SIGMOID, 0.5, 1.0)
    bent = jnp.tanh(half * x) * half + (1 - half)
    return jnp.where(kind == RELU, jax.nn.relu(x), bent)


def _activate_forward(kind: jax.Array, x: jax.Array) -> tuple[jax.Array, tuple]:
    y = activate(kind, x)
    return y, (kind, y)


def _activate_backward(saved: tuple, grad: jax.Array) -> tuple[None, jax.Array]:
    kind, y = saved
    is_sigmoid = jnp.asarray(kind == SIGMOID, y.dtype)
    bent = (1 - is_sigmoid) + is_sigmoid * y - y * y
    return None, grad * jnp.where(kind == RELU, jnp.asarray(y > 0, y.dtype), bent)


activate.defvjp(_activate_forward, _activate_backward)


class Activation(OneOf):
    """A choice of activation, computed at once for a population."""

    def __init__(self, kinds: Sequence[str], name: str):
        super().__init__({kind: FUNCTIONS[kind] for kind in kinds}, name)

    def __call__(self, x: jax.Array) -> jax.Array:
        choice = self.chosen()
        if isinstance(choice, int) or relaxed(choice):
            return super().__call__(x)
        kinds = jnp.asarray([ACTIVATIONS.index(kind) for kind in self.labels], jnp.int32)
        return activate(kinds[choice], x)


class Hidden(nnx.Module):
    """A linear layer and its activation."""

    def __init__(self, inputs: int, outputs: int, kinds: Sequence[str], i: int, rngs: nnx.Rngs):
        self.linear = _linear(inputs, outputs, rngs)
        self.activation = Activation(kinds, name=f"activation_{i}")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.activation(self.linear(x))


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, kernel_init=lecun_uniform, rngs=rngs)


class Perceptron(nnx.Module):
    """Hidden layers of which `Slim` keeps the first units, and a classifier."""

    def __init__(
        self,
        inputs: int,
        depth: int,
        widths: Sequence[int],
        kinds: Sequence[str],
        classes: int,
        *,
        rngs: nnx.Rngs,
    ):
        widest = max(widths)
        into = [inputs, *(widest for _ in range(depth - 1))]
        hidden = [Hidden(n, widest, kinds, i, rngs) for i, n in enumerate(into)]
        self.hidden = nnx.List(
            [Slim(layer, widths, name=f"width_{i}") for i, layer in enumerate(hidden)]
        )
        self.classifier = _linear(widest, classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for layer in self.hidden:
            x = layer(x)
        return self.classifier(x)


def mlp(
    depth: int = 2,
    widths: Sequence[int] = WIDTHS,
    activations: Sequence[str] = ACTIVATIONS,
    classes: int = 10,
    image: int = 8,
    inputs: int = 1,
) -> Net:
    """A perceptron for vectors, or for images as vectors of their pixels.

    Units past the chosen width are zero, forward and backward, so that one program trains every
    width, each exactly as a network of that width that starts from the same weights. They start
    as in the widest network: scaled for its number of inputs (LeCun uniform).

    Args:
      depth: the hidden layers.
      widths: the units that a hidden layer may have, in rising order.
      activations: the activations that it may have, of relu, tanh and sigmoid.
      classes: the outputs.
      image: height and width of the images, 1 for vectors.
      inputs: the channels of the images, or the length of the vectors.

    Returns:
      The net over `jnas.spaces.mlp`: `[B, image, image, inputs]` or `[B, inputs]` to
      `[B, classes]`.
    """
    space = spaces.mlp(depth, widths, activations, classes, image, inputs)

    def bind(arch: Any) -> dict[str, Any]:
        return {f"{name}_{i}": arch[name][i] for name in arch for i in range(depth)}

    features = image * image * inputs
    return functional(
        lambda rngs: Perceptron(features, depth, widths, activations, classes, rngs=rngs),
        space=space,
        bind=bind,
    )
