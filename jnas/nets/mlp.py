"""Multilayer perceptrons: depth, and each hidden layer's width, activation, norm and skip."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas import spaces
from jnas.nets.choices import OneOf, Slim, relaxed
from jnas.nets.functional import Net, functional
from jnas.nets.narrow import NarrowLinear, NarrowNorm, Width
from jnas.spaces.mlp import ACTIVATIONS, WIDTHS

FUNCTIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "leaky_relu": jax.nn.leaky_relu,
}
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
        if isinstance(choice, int) or relaxed(choice) or set(self.labels) - set(ACTIVATIONS):
            return super().__call__(x)
        kinds = jnp.asarray([ACTIVATIONS.index(kind) for kind in self.labels], jnp.int32)
        return activate(kinds[choice], x)


class Units(NarrowLinear):
    """A linear layer that leaves it to others to hide the units that are not kept."""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        if self.out.known() is not None:
            return super().__call__(inputs, out_sharding)
        return nnx.Linear.__call__(self, inputs)


class LayerNorm(nnx.Module):
    """Normalises the kept units of every example. Ba et al. 2016, arXiv 1607.06450."""

    def __init__(self, units: int, out: str, eps: float = 1e-5):
        self.scale, self.bias = nnx.Param(jnp.ones(units)), nnx.Param(jnp.zeros(units))
        self.out, self.eps = Width(units, out), eps

    def __call__(self, x: jax.Array) -> jax.Array:
        share = self.out.cut(self.out.mask(jnp.ones(self.out.most, x.dtype)))
        many = jnp.maximum(jnp.sum(share), 1)
        mean = jnp.sum(share * x, -1, keepdims=True) / many
        spread = jnp.sum(share * jnp.square(x - mean), -1, keepdims=True) / many
        scale, bias = self.out.cut(self.scale[...]), self.out.cut(self.bias[...])
        return (x - mean) * jax.lax.rsqrt(spread + self.eps) * scale + bias

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        """For counting: which of the last axes of a parameter an architecture uses."""
        kept = (self.out.kept(values),)
        return {"scale": kept, "bias": kept}


class Hidden(nnx.Module):
    """A linear layer, a norm and the activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kinds: Sequence[str],
        norms: Sequence[str],
        i: int,
        rngs: nnx.Rngs,
    ):
        into, out = f"units_{i - 1}" if i else "", f"units_{i}"
        self.linear = Units(inputs, outputs, into=into, out=out, rngs=rngs)
        made: dict[str, Any] = {"none": lambda x: x}
        if "batch" in norms:
            made["batch"] = NarrowNorm(outputs, out)
        if "layer" in norms:
            made["layer"] = LayerNorm(outputs, out)
        chosen = OneOf({norm: made[norm] for norm in norms}, name=f"norm_{i}")
        self.norm = None if tuple(norms) == ("none",) else chosen
        self.activation = Activation(kinds, name=f"activation_{i}")

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.linear(x)
        return self.activation(x if self.norm is None else self.norm(x))


class Layer(Slim):
    """A hidden layer of which the first units are kept, and perhaps its inputs added."""

    def __init__(self, hidden: Hidden, widths: Sequence[int], i: int, skips: bool):
        super().__init__(hidden, widths, name=f"width_{i}")
        nothing, same = lambda x: jnp.zeros_like(x), lambda x: x
        self.skip = OneOf({"no": nothing, "yes": same}, name=f"skip_{i}") if skips and i else None

    def __call__(self, x: jax.Array) -> jax.Array:
        if not isinstance(self.chosen(), int):
            if self.skip is None:
                return super().__call__(x)
            masked = super().__call__(x)
            choice = self.chosen()
            inside = np.arange(masked.shape[-1]) < np.asarray(self.widths)[:, None]
            masks = jnp.asarray(inside, masked.dtype)
            return masked + self.skip(x) * (choice @ masks if relaxed(choice) else masks[choice])
        y = self.layer(x)  # as narrow as the layer is
        if self.skip is None or self.skip.chosen() == 0:
            return y
        shared = min(x.shape[-1], y.shape[-1])
        return y + jnp.pad(x[..., :shared], ((0, 0), (0, y.shape[-1] - shared)))


class Perceptron(nnx.Module):
    """Hidden layers of which the first units are kept, and a classifier."""

    def __init__(
        self,
        inputs: int,
        depth: int,
        widths: Sequence[int],
        kinds: Sequence[str],
        classes: int,
        least: int,
        norms: Sequence[str],
        skips: bool,
        *,
        rngs: nnx.Rngs,
    ):
        widest = max(widths)
        into = [inputs, *(widest for _ in range(depth - 1))]
        hidden = [Hidden(n, widest, kinds, norms, i, rngs) for i, n in enumerate(into)]
        layers: list[Any] = [Layer(layer, widths, i, skips) for i, layer in enumerate(hidden)]
        for i in range(least, depth):
            layers[i] = OneOf({"absent": lambda x: x, "present": layers[i]}, name=f"present_{i}")
        self.hidden = nnx.List(layers)
        self.classifier = NarrowLinear(widest, classes, into="units_last", rngs=rngs)

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
    least: int | None = None,
    norms: Sequence[str] = ("none",),
    skips: bool = False,
) -> Net:
    """A perceptron for vectors, or for images as vectors of their pixels.

    Units past the chosen width are zero, forward and backward, so that one program trains every
    width, each exactly as a network of that width that starts from the same weights. They start
    as in the widest network: scaled for its number of inputs (LeCun uniform).

    Args:
      depth: the hidden layers, or the most of them.
      widths: the units that a hidden layer may have, in rising order.
      activations: the activations that it may have.
      classes: the outputs.
      image: height and width of the images, 1 for vectors.
      inputs: the channels of the images, or the length of the vectors.
      least: the fewest hidden layers; by default as many as `depth`.
      norms: of the units before the activation, to choose from: none, batch, layer.
      skips: a hidden layer but the first may add its inputs, cut or filled with zeros to its width.

    Returns:
      The net over `jnas.spaces.mlp`: `[B, image, image, inputs]` or `[B, inputs]` to
      `[B, classes]`.
    """
    space = spaces.mlp(depth, widths, activations, classes, image, inputs, least, norms, skips)
    fewest = depth if least is None else least
    table = np.asarray(widths, np.int32)
    masks = (np.arange(max(widths)) < table[:, None]).astype(np.float32)

    def bind(arch: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        known = all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(arch))
        many = arch.get("depth")
        for i in range(depth):
            for name in ("activation", "width", "norm"):
                if name in arch:
                    values[f"{name}_{i}"] = arch[name][i]
            if "skip" in arch and i:
                values[f"skip_{i}"] = arch["skip"][i - 1]
            width = arch["width"][i]
            soft = jnp.ndim(width) == 1
            pick = table if known else jnp.asarray(table)
            values[f"units_{i}"] = width @ masks if soft else pick[width]
        if many is None:
            return values | {"units_last": values[f"units_{depth - 1}"]}
        soft = jnp.ndim(many) == 1
        units = [values[f"units_{i}"] for i in range(fewest - 1, depth)]
        stacked = np.stack(units) if known else jnp.stack(units)
        values["units_last"] = jnp.tensordot(many, stacked, 1) if soft else stacked[many]
        for i in range(fewest, depth):
            k = i - fewest  # layer i is there where more than k layers follow the fewest
            if soft:
                here = jnp.sum(many[k + 1 :])
                values[f"present_{i}"] = jnp.stack([1 - here, here])
            else:
                values[f"present_{i}"] = (many > k) * np.int32(1)
        return values

    features = image * image * inputs
    return functional(
        lambda rngs: Perceptron(
            features, depth, widths, activations, classes, fewest, norms, skips, rngs=rngs
        ),
        space=space,
        bind=bind,
    )
