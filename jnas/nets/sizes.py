"""Layers of which an architecture takes the first channels, with one program for every size.

A layer is made at its largest size; channels past the chosen number are zero, forward and backward.
So it computes exactly what the layer of that size with the same first weights computes, under
`vmap` too, and `count_params` and `used_params` know its size from `used`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.nets import initial
from jnas.nets.choices import OneOf, Repeat, Searchable, largest, relaxed


class Pick(Searchable):
    """A choice between values that are cheap to have all at once."""

    def blend(self, *values: Callable[[], Any]) -> Any:
        """The chosen value, for a simplex the weighted sum.

        Args:
          *values: for every label a function that gives an array of one shape for all.

        Returns:
          An array.
        """
        choice = 0 if len(self.labels) == 1 else self.chosen()
        if isinstance(choice, int):
            return values[choice]()
        found = [value() for value in values]
        if relaxed(choice) and not self.sparse:
            return functools.reduce(jnp.add, [p * x for p, x in zip(choice, found, strict=True)])
        k, weight = largest(choice) if relaxed(choice) else (choice, None)
        taken = found[0]
        for i, value in enumerate(found[1:], 1):
            taken = jnp.where(k == i, value, taken)
        return taken if weight is None else weight * taken


class Size(nnx.Module):
    """A number of channels, of which an architecture decides.

    Args:
      table: the number for each combination of choices, `int[K1, ..., Kn]`; a single number where
        there is nothing to choose.
      *parts: the n choices.
    """

    def __init__(self, table: Any, *parts: Pick):
        numbers = np.asarray(table)
        self.parts = nnx.List([p for p in parts if len(p.labels) > 1])
        self.shape = tuple(len(p.labels) for p in self.parts)
        self.numbers = tuple(int(n) for n in numbers.ravel())
        self.most = max(self.numbers)

    @property
    def table(self) -> np.ndarray:
        return np.asarray(self.numbers, np.int32).reshape(self.shape)

    def masks(self) -> np.ndarray:
        """Which channels every number keeps: bool[K1, ..., Kn, most]."""
        return np.arange(self.most) < self.table[..., None]

    def mask(self) -> jax.Array | None:
        """Which channels are kept, f32[most]; None where all are."""
        masks = self.masks()
        choices = [part.chosen() for part in self.parts]
        if all(isinstance(c, int) for c in choices):
            masks = masks[tuple(choices)]
            return None if masks.all() else jnp.asarray(masks, jnp.float32)
        if not any(relaxed(c) for c in choices):
            return jnp.asarray(masks, jnp.float32)[tuple(choices)]
        found: Any = jnp.asarray(masks, jnp.float32)
        for part, choice in zip(self.parts, choices, strict=True):
            many, weight = len(part.labels), jnp.float32(1)
            if relaxed(choice) and part.sparse:
                choice, weight = largest(choice)
            hot = choice if relaxed(choice) else weight * jax.nn.one_hot(choice, many)
            found = jnp.tensordot(hot, found, 1)
        return found

    def kept(self, values: Mapping[str, Any]) -> Any:
        """Which channels an architecture keeps, for counting: `[..., most]`, or None for all.

        Args:
          values: of all choices, by name.
        """
        found: Any = self.masks()
        if not self.parts:
            return None
        for i, part in enumerate(self.parts):
            value = jnp.asarray(values[part.name])
            hot = value if relaxed(value) else jax.nn.one_hot(value, len(part.labels), dtype=int)
            if i == 0:
                found = jnp.tensordot(hot, found.astype(hot.dtype), 1)
            else:
                found = jnp.einsum("...k,...km->...m", hot, found)
        return found

    def keep(self, x: jax.Array) -> jax.Array:
        """Sets the channels `[..., most]` that are not kept to zero."""
        mask = self.mask()
        return x if mask is None else x * mask.astype(x.dtype)


class Taps(Size):
    """The size of a kernel along time: its middle taps, or the last ones of a causal one."""

    def __init__(self, table: Any, *parts: Pick, causal: bool):
        super().__init__(table, *parts)
        self.causal = causal

    def masks(self) -> np.ndarray:
        at = np.arange(self.most)
        away = self.most - 1 - at if self.causal else 2 * abs(at - self.most // 2)
        return away < self.table[..., None]


def fixed(number: int) -> Size:
    """A size with nothing to choose."""
    return Size(number)


def sizes(options: Sequence[int], name: str) -> Size:
    """A size to choose from some numbers."""
    return Size(options, Pick([str(n) for n in options], name))


def one_of(options: dict[str, Any], name: str) -> Any:
    """`OneOf`, or the only option itself."""
    return OneOf(options, name) if len(options) > 1 else next(iter(options.values()))


class Row(nnx.Module):
    """Blocks that run one after another."""

    def __init__(self, blocks: Sequence[nnx.Module]):
        self.blocks = nnx.List(blocks)

    def __call__(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def layers(
    make: Callable[[Any, nnx.Rngs], nnx.Module],
    options: Sequence[Any],
    least: int,
    *,
    rngs: nnx.Rngs,
    name: str,
) -> nnx.Module:
    """One block for each of `options`: stacked and scanned where all have the same.

    Args:
      make: makes a block from its options.
      options: of every block.
      least: the fewest blocks that run.
      rngs: the source of the parameters.
      name: of the choice of depth.
    """
    if all(o == options[0] for o in options):
        block = functools.partial(make, options[0])
        return Repeat(block, len(options), least, rngs=rngs, name=name)
    return Row([make(o, rngs) for o in options])


class Dense(nnx.Module):
    """A linear layer `[..., inputs.most] -> [..., outputs.most]`; LeCun-uniform weights."""

    def __init__(self, inputs: Size, outputs: Size, *, bias: bool = True, rngs: nnx.Rngs):
        self.inputs, self.outputs = inputs, outputs
        shape = (inputs.most, outputs.most)
        self.kernel = nnx.Param(initial.lecun_uniform(rngs.params(), shape))
        if bias:
            self.bias = nnx.Param(jnp.zeros(outputs.most))
        self.has_bias = bias

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        return {
            "kernel": (self.inputs.kept(values), self.outputs.kept(values)),
            "bias": (self.outputs.kept(values),),
        }

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.kernel[...]
        return self.outputs.keep(y + self.bias[...] if self.has_bias else y)


class Embedding(nnx.Module):
    """A vector for every token; uniform with standard deviation `width ** -0.5`."""

    def __init__(self, rows: int, width: Size, *, rngs: nnx.Rngs):
        self.width = width
        bound = math.sqrt(3 / width.most)
        self.table = nnx.Param(initial.uniform(rngs.params(), (rows, width.most), bound))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        return {"table": (None, self.width.kept(values))}

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.width.keep(jnp.asarray(self.table[...])[tokens])

    def logits(self, x: jax.Array) -> jax.Array:
        """The product with every vector: `[..., width]` to `[..., rows]`."""
        return x @ self.table[...].T


class LayerNorm(nnx.Module):
    """Layer normalisation over the chosen channels only (Ba et al. 2016, arXiv 1607.06450)."""

    def __init__(self, width: Size, eps: float = 1e-5):
        self.width, self.eps = width, eps
        self.scale = nnx.Param(jnp.ones(width.most))
        self.bias = nnx.Param(jnp.zeros(width.most))

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        return {"scale": (self.width.kept(values),), "bias": (self.width.kept(values),)}

    def __call__(self, x: jax.Array) -> jax.Array:
        mask, wide = self.width.mask(), x.astype(jnp.promote_types(x.dtype, jnp.float32))
        share = 1 / self.width.most if mask is None else mask / jnp.sum(mask)
        mean = jnp.sum(wide * share, -1, keepdims=True)
        variance = jnp.sum(jnp.square(wide - mean) * share, -1, keepdims=True)
        y = ((wide - mean) * jax.lax.rsqrt(variance + self.eps)).astype(x.dtype)
        y = y * self.scale[...] + self.bias[...]
        return y if mask is None else y * mask.astype(x.dtype)
