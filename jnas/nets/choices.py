"""OneOf, Repeat and Slim: the three pieces that a searchable network is made of.

Each holds a `Choice`. Given an int it runs that choice, given a simplex the weighted sum of all.
An architecture reaches a network by setting the values of its choices (`jnas.nets.functional`),
so a network is written as any other NNX module, and its search space is read off it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jnas.errors import InputError, whole
from jnas.nets import dispatch
from jnas.nets.initial import pooled

split: Any = nnx.split  # its stubs do not know how many filters there are


class Choice(nnx.Variable):
    """What an architecture decides at one place: an int32, or a simplex f32[K]."""


class Searchable(nnx.Module):
    """A module with a choice.

    Attributes:
      choice: the place in the architecture; `[n]` leading axes inside a `Repeat` of n blocks.
      labels: a word for each of its K values.
      name: the name in the architecture; searchables of one name share their choice. By default
        the path of the module.
    """

    def __init__(self, labels: Sequence[str], name: str):
        self.choice = Choice(jnp.int32(0))
        self.labels = tuple(str(label) for label in labels)
        self.name = name
        self.sparse = False  # of a simplex, run the choice of the largest weight only

    def chosen(self) -> Any:
        """The choice as a Python int where it is known at trace time, else as an array."""
        value = self.choice[...]
        fixed = not isinstance(value, jax.core.Tracer) and value.ndim == 0
        return int(value) if fixed else value


class Function(nnx.Module):
    """A plain function among modules."""

    def __init__(self, f: Callable):
        self.f = f

    def __call__(self, *args: Any) -> Any:
        return self.f(*args)


def relaxed(choice: Any) -> bool:
    """Whether a choice is a simplex rather than an int."""
    return not isinstance(choice, int) and jnp.issubdtype(choice.dtype, jnp.floating)


def largest(simplex: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The choice of the largest weight, int32[], and that weight, through which gradients flow."""
    k = jnp.argmax(simplex).astype(jnp.int32)
    return k, simplex[k]


def changing(module: nnx.Module) -> nnx.State:
    """What a call may change: batch statistics, random counters."""
    return nnx.state(module, nnx.Not(nnx.Any(nnx.Param, Choice)))


def _known(choices: nnx.State) -> bool:
    """Whether there are choices, all ints that are known at trace time."""
    leaves = jax.tree.leaves(choices)
    soft = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)
    return bool(leaves) and not any(isinstance(x, jax.core.Tracer) or soft(x) for x in leaves)


class OneOf(Searchable):
    """Runs one of several modules, all with the same input and output shapes.

    Args:
      options: modules or functions; a mapping gives them labels.
      name: the name of the choice; equal names share it.
    """

    def __init__(self, options: Sequence[Any] | Mapping[str, Any], name: str = ""):
        if not isinstance(options, Mapping):
            words = [getattr(o, "__name__", type(o).__name__) for o in options]
            many = {w for w in words if words.count(w) > 1}
            keys = [f"{w}_{i}" if w in many else w for i, w in enumerate(words)]
            options = dict(zip(keys, options, strict=True))
        if not options:
            raise InputError("OneOf needs at least one option.")
        super().__init__(list(options), name)
        wrap = lambda o: o if isinstance(o, nnx.Module) else Function(o)
        self.options = nnx.List([wrap(o) for o in options.values()])

    def __call__(self, *args: Any) -> Any:
        choice = self.chosen()
        if isinstance(choice, int):
            return self.options[choice](*args)
        if relaxed(choice) and self.sparse:
            k, weight = largest(choice)
            return jax.tree.map(lambda leaf: weight * leaf, self._branch(k, args))
        if relaxed(choice):
            parts = [option(*args) for option in self.options]
            mix = lambda *leaves: sum(p * leaf for p, leaf in zip(choice, leaves, strict=True))
            return jax.tree.map(mix, *parts)
        return self._branch(choice, args)

    def _branch(self, choice: jax.Array, args: tuple) -> Any:
        """Runs one option, chosen by data."""
        graphs, states = zip(*(split(option) for option in self.options), strict=True)
        buffers = tuple(changing(option) for option in self.options)

        def branch(k: int) -> Callable:
            def run(states: Any, buffers: Any, args: Any) -> tuple:
                module = nnx.merge(graphs[k], states[k])
                y = module(*args)
                return y, (*buffers[:k], changing(module), *buffers[k + 1 :])

            return run

        branches = [branch(k) for k in range(len(graphs))]

        y, buffers = dispatch.switch(choice, branches, states, buffers, args)
        for option, buffer in zip(self.options, buffers, strict=True):
            nnx.update(option, buffer)
        return y


class Repeat(Searchable):
    """Runs a block between `least` and `most` times, each time with parameters of its own.

    The blocks are stacked and scanned, so compile time does not grow with `most`. Blocks keep the
    shape of their input. With `least == most` there is nothing to choose.

    Args:
      block: `rngs -> module`.
      most: the blocks that are made.
      least: the fewest that run; by default 1.
      shared: choices inside the block are the same in all repeats; else each has its own.
      rngs: the source of the parameters.
      name: the name of the choice of depth; equal names share it.
    """

    def __init__(
        self,
        block: Callable[[nnx.Rngs], nnx.Module],
        most: int,
        least: int = 1,
        *,
        shared: bool = False,
        rngs: nnx.Rngs,
        name: str = "",
    ):
        if not whole(least, most) or not 0 <= least <= most or most < 1:
            raise InputError(
                f"Repeat from {least} to {most} times: whole numbers with 0 <= least <= most >= 1 "
                "are needed."
            )
        super().__init__([str(d) for d in range(least, most + 1)], name)
        kinds: list[tuple] = []  # the graph and the choices of a block, which have no leading axis

        def make(key: jax.Array) -> Any:
            graph, choices, rest = split(pooled(block, key), Choice, ...)
            kinds.append((graph, jax.eval_shape(lambda: choices)))
            return rest

        keys = jax.random.split(rngs.params(), most)
        stacked = jax.vmap(make)(keys)
        graph, choices = kinds[0]
        lead = lambda c: jnp.zeros(c.shape if shared else (most, *c.shape), jnp.int32)
        self.block = nnx.merge(graph, jax.tree.map(lead, choices), stacked)
        self.least, self.most, self.shared = least, most, shared

    def __call__(self, x: Any) -> Any:
        graph, choices, params, buffers = split(self.block, Choice, nnx.Param, ...)
        depth: Any = self.chosen() if self.least < self.most else 0
        weight: Any = 1.0
        if isinstance(depth, int) and not self.shared and _known(choices):
            return self._unrolled(x, self.least + depth)
        if self.sparse and relaxed(depth):
            depth, weight = largest(depth)

        def run(x: Any, choices: Any, params: Any, buffers: Any) -> tuple:
            module = nnx.merge(graph, choices, params, buffers)
            y = module(x)
            return y, changing(module)

        def step(carry: tuple, layer: tuple) -> tuple:
            x, total = carry
            i, each, params, buffers = layer
            args = (x, choices if self.shared else each, params, buffers)
            if relaxed(depth):
                p = jnp.where(i < self.least - 1, 0.0, depth[jnp.maximum(i - self.least + 1, 0)])
                x, buffers = run(*args)
                total = jax.tree.map(lambda t, leaf: t + p * leaf, total, x)
            elif isinstance(depth, int):
                x, buffers = run(*args)
            else:
                runs = i < depth + self.least
                ways = [lambda x, c, p, b: (x, b), run]
                x, buffers = dispatch.switch(runs.astype(jnp.int32), ways, *args)
            return (x, total), buffers

        layers = (jnp.arange(self.most), () if self.shared else choices, params, buffers)
        total = None
        if relaxed(depth):
            first = depth[0] if self.least == 0 else 0.0
            total = jax.tree.map(lambda leaf: first * leaf, x)
        if self.most == 1 and isinstance(depth, int) and self.least + depth == 1:
            only = jax.tree.map(lambda leaf: leaf[0], layers[1:])  # a loop would copy what it keeps
            x, buffers = run(x, choices if self.shared else only[0], *only[1:])
            buffers = jax.tree.map(lambda leaf: leaf[None], buffers)
        elif isinstance(depth, int):
            n = self.least + depth
            fixed = jax.tree.map(lambda leaf: leaf[:n], layers)
            ran: Any
            (x, _), ran = jax.lax.scan(step, (x, None), fixed)
            join = lambda new, old: jnp.concatenate([new, old[n:]])
            buffers = jax.tree.map(join, ran, buffers)
        else:
            (x, total), buffers = jax.lax.scan(step, (x, total), layers)
        nnx.update(self.block, buffers)
        if relaxed(depth):
            return total
        return x if isinstance(weight, float) else jax.tree.map(lambda leaf: weight * leaf, x)

    def _unrolled(self, x: Any, many: int) -> Any:
        """The blocks of a known architecture: each is compiled as what it chose alone."""
        graph, choices, params, buffers = split(self.block, Choice, nnx.Param, ...)
        row = lambda i: lambda leaf: leaf[i]
        fixed = lambda i: lambda leaf: np.asarray(leaf)[i]
        for i in range(many):
            module = nnx.merge(
                graph, jax.tree.map(fixed(i), choices), *jax.tree.map(row(i), (params, buffers))
            )
            x = module(x)
            put = lambda old, new, i=i: jax.lax.dynamic_update_index_in_dim(old, new, i, 0)
            buffers = jax.tree.map(put, buffers, changing(module))
        nnx.update(self.block, buffers)
        return x


class Slim(Searchable):
    """Keeps the first channels of a layer's output and sets the rest to zero.

    Slimmable networks (Yu et al. 2019, arXiv 1812.08928) for an int, the masks of FBNetV2 (Wan et
    al. 2020, arXiv 2004.05565) for a simplex. Put normalisation inside the layer.

    Args:
      layer: a module or function whose last output axis is the channels, the largest of `widths`.
      widths: the widths to choose from.
      name: the name of the choice; equal names share it.
    """

    def __init__(self, layer: Any, widths: Sequence[int], name: str = ""):
        if not widths or not whole(*widths) or min(widths) < 1 or len(set(widths)) < len(widths):
            raise InputError(f"Slim of widths {list(widths)}: whole ones from 1, each once.")
        super().__init__([str(w) for w in widths], name)
        self.layer = layer if isinstance(layer, nnx.Module) else Function(layer)
        self.widths = tuple(widths)

    def __call__(self, *args: Any) -> jax.Array:
        y, choice = self.layer(*args), self.chosen()
        if y.shape[-1] != max(self.widths):
            raise InputError(
                f"Slim chooses widths up to {max(self.widths)} of a layer that has "
                f"{y.shape[-1]} channels: the largest width is the layer's own."
            )
        inside = np.arange(y.shape[-1]) < np.asarray(self.widths)[:, None]
        masks = jnp.asarray(inside, y.dtype)
        if self.sparse and relaxed(choice):
            k, weight = largest(choice)
            return y * (weight * masks[k])
        return y * (choice @ masks if relaxed(choice) else masks[choice])
