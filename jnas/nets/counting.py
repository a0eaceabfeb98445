"""Parameters and multiply-adds, counted on the network itself."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.base import Architecture, template
from jnas.nets import forms
from jnas.nets.choices import OneOf, Repeat, Searchable, Slim, relaxed
from jnas.nets.functional import Net


class _Above(NamedTuple):
    """What encloses a module: the stack of repeats, and the width that a `Slim` chose."""

    path: tuple = ()
    stack: tuple[tuple[int, bool], ...] = ()  # (blocks, choices shared) of every Repeat
    width: Any = None  # [*stack]
    widest: int = 0


def count_params(net: Net, arch: Architecture) -> jax.Array:
    """The parameters that an architecture uses, jittable; the expected number for a relaxed one.

    A parameter counts where every `OneOf` above it chose its branch and every `Repeat` above it
    runs its block. Of a layer under `Slim` the chosen channels count; inputs of the layer that
    follows count in full. A module with a method `used` says itself which places of the axes of its
    parameters count (`jnas.nets.narrow`); one whose `trains_only` is true, an auxiliary head, does
    not count.

    Args:
      net: the network.
      arch: one architecture.

    Returns:
      A number, float32 where the architecture is relaxed.
    """
    values = net.bind(arch)
    soft = any(relaxed(jnp.asarray(leaf)) for leaf in jax.tree.leaves(arch))

    def share(part: Searchable, above: _Above) -> jax.Array:
        """How much of each choice is taken: `[*stack, K]`, with 1 for axes that share."""
        value = jnp.asarray(values[part.name or ".".join(map(str, above.path))])
        many = len(part.labels)
        hot = value if relaxed(value) else jax.nn.one_hot(value, many, dtype=jnp.int32)
        return hot.reshape(*(1 if shared else n for n, shared in above.stack), many)

    def visit(module: nnx.Module, above: _Above) -> jax.Array:
        """Parameters in each copy of a module: `[*stack]` or what broadcasts to it."""
        total: Any = jnp.zeros((1,) * len(above.stack), jnp.int32)
        if getattr(module, "trains_only", False):
            return total
        parts = list(nnx.iter_children(module))
        own = module.used(values) if hasattr(module, "used") else {}
        for key, part in parts:
            if not isinstance(part, nnx.Param):
                continue
            shape = part.shape[len(above.stack) :]
            if key in own:
                total = total + _kept(shape, own[key], soft)
                continue
            slim = above.widest and shape and shape[-1] == above.widest
            total = total + math.prod(shape[:-1]) * (above.width if slim else math.prod(shape[-1:]))
        choosing = isinstance(module, Searchable) and len(module.labels) > 1
        if isinstance(module, OneOf):
            options = [
                visit(o, above._replace(path=(*above.path, "options", i)))
                for i, o in enumerate(module.options)
            ]
            taken = share(module, above) if choosing else jnp.ones(1, jnp.int32)
            return total + sum(taken[..., i] * o for i, o in enumerate(options))
        if isinstance(module, Repeat):
            stack = (*above.stack, (module.most, module.shared))
            width = None if above.width is None else above.width[..., None]
            inside = above._replace(path=(*above.path, "block"), stack=stack, width=width)
            depths = np.arange(module.least, module.most + 1)
            runs = np.arange(module.most) < depths[:, None]  # [K, most]
            used = share(module, above) @ runs.astype(np.int32) if choosing else runs[0]
            return total + jnp.sum(visit(module.block, inside) * used, -1)
        if isinstance(module, Slim):
            above = above._replace(
                width=share(module, above) @ jnp.asarray(module.widths)
                if choosing
                else jnp.asarray(module.widths[0]),
                widest=max(module.widths),
            )
        for key, child in parts:
            if isinstance(child, nnx.Variable):
                continue
            total = total + visit(child, above._replace(path=(*above.path, key)))
        return total

    return jnp.sum(visit(net.module(), _Above()))


def params_of(make: Callable[[], Net], text: str) -> Callable[[], jax.Array]:
    """What counts the parameters of an architecture in its notation, on the net that it builds."""

    def params() -> jax.Array:
        net = make()
        return count_params(net, net.space.parse(text))

    return params


def _kept(shape: tuple[int, ...], axes: tuple, soft: bool) -> Any:
    """How many numbers of an array are used, of whose last axes those of some places are.

    Places are marked by float32, which does not hold all counts of a large network: unless it is a
    share that is used, they are counted by integers.
    """
    found: Any = math.prod(shape[: len(shape) - len(axes)])
    for size, kept in zip(shape[-len(axes) :], axes, strict=True):
        exact = kept if kept is None or soft else jnp.asarray(kept).astype(jnp.int32)
        found = found * (size if exact is None else jnp.sum(exact, -1))
    return found


def count_flops(net: Net, arch: Architecture, shape: Any) -> int:
    """The multiply-adds of one forward pass, read off the traced program.

    Products and convolutions count; additions, normalisation and pooling do not. Of a network that
    masks what an architecture does not use (`net.alone`) the small network is traced.

    Args:
      net: the network.
      arch: one architecture of concrete ints.
      shape: of one input, without the batch; or a pytree of `jax.ShapeDtypeStruct` for inputs that
        are not one array of floats.

    Returns:
      An exact number.
    """
    fixed = jax.tree.map(np.asarray, arch)
    if net.alone is not None:
        net = net.alone(fixed)
        fixed = jax.tree.map(np.asarray, template(net.space))
    if isinstance(shape, tuple) and all(isinstance(n, int) for n in shape):
        shape = jax.ShapeDtypeStruct(shape, jnp.float32)
    one = jax.tree.map(lambda s: jax.ShapeDtypeStruct((1, *s.shape), s.dtype), shape)
    params, state = jax.eval_shape(net.init, jax.random.key(0))
    run = lambda p, s, x: net.apply(p, s, fixed, x)[0]
    with forms.using(depthwise="lax"):  # sums of shifted copies are no products
        traced = jax.make_jaxpr(run)(params, state, one)
    return _multiply_adds(traced.jaxpr)


def _multiply_adds(jaxpr: Any) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        out = math.prod(eqn.outvars[0].aval.shape) if eqn.outvars else 0
        if eqn.primitive.name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            total += out * math.prod(eqn.invars[0].aval.shape[i] for i in contract)
        elif eqn.primitive.name == "conv_general_dilated":
            kernel, numbers = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"].rhs_spec
            total += out * math.prod(kernel) // kernel[numbers[0]]
        values = [v if isinstance(v, tuple | list) else (v,) for v in eqn.params.values()]
        jaxprs = [getattr(x, "jaxpr", x) for value in values for x in value]
        inner = [_multiply_adds(j) for j in jaxprs if hasattr(j, "eqns")]
        if eqn.primitive.name == "scan":
            total += eqn.params["length"] * sum(inner)
        else:  # of the branches of a cond, the dearest
            total += max(inner, default=0) if "branches" in eqn.params else sum(inner)
    return total
