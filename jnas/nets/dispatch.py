"""Running one of several branches, chosen by data, with an exact and lean backward pass.

JAX differentiates `lax.switch` by letting every branch hand over the saved values of all branches,
most of them zeros. Here the branches share slots for what they save: there are as many as the
neediest branch fills, and what a branch saves of its own arguments is not copied at all.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class _Recipe(NamedTuple):
    """How a branch finds its saved values again: static."""

    tree: Any  # of its pullback
    sources: tuple[tuple[bool, int], ...]  # of every leaf: (is an argument, number)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["recipes"]
)
@dataclasses.dataclass(frozen=True)
class _Saved:
    values: Any
    recipes: Any


def switch(index: jax.Array, branches: Sequence[Callable], *args: Any) -> Any:
    """`lax.switch(index, branches, *args)`, for reverse-mode differentiation.

    Args:
      index: int32[], which branch runs.
      branches: functions of `args`, all with results of the same shapes.
      *args: pytrees of arrays; gradients flow to the floating ones.

    Returns:
      The results of the branch.
    """
    leaves, tree = jax.tree.flatten(args)
    # Random keys pass as plain data: JAX's check for reused keys would take them for used.
    wraps = [_unwrapped(leaf) for leaf in leaves]
    leaves = [leaf for leaf, _ in wraps]
    floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]
    smooth = [leaf for leaf, yes in zip(leaves, floating, strict=True) if yes]
    fixed = [leaf for leaf, yes in zip(leaves, floating, strict=True) if not yes]

    def join(smooth: Any, fixed: Any) -> Any:
        rest = {True: iter(smooth), False: iter(fixed)}
        found = [next(rest[yes]) for yes in floating]
        return jax.tree.unflatten(tree, [w(x) for x, (_, w) in zip(found, wraps, strict=True)])

    flat = tuple(lambda s, f, branch=branch: branch(*join(s, f)) for branch in branches)
    return _switch(flat, index, smooth, fixed)


def _unwrapped(leaf: Any) -> tuple[Any, Callable[[Any], Any]]:
    if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return leaf, lambda x: x
    wrap = functools.partial(jax.random.wrap_key_data, impl=jax.random.key_impl(leaf))
    return jax.random.key_data(leaf), wrap


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _switch(branches: tuple[Callable, ...], index: Any, smooth: list, fixed: list) -> Any:
    return jax.lax.switch(index, branches, smooth, fixed)


def _pull(branch: Callable, smooth: list, fixed: list) -> tuple[Any, list, _Recipe]:
    """A branch's results, what it saves beyond its arguments, and the recipe to find it again."""
    y, pullback = jax.vjp(lambda s: branch(s, fixed), smooth)
    leaves, tree = jax.tree.flatten(pullback)
    known = {id(leaf): i for i, leaf in enumerate([*smooth, *fixed])}
    own: list = []
    sources = []
    for leaf in leaves:
        if id(leaf) in known:
            sources.append((True, known[id(leaf)]))
        else:
            sources.append((False, len(own)))
            own.append(leaf)
    return y, own, _Recipe(tree, tuple(sources))


def _forward(branches: tuple[Callable, ...], index: Any, smooth: list, fixed: list) -> tuple:
    shapes = [jax.eval_shape(lambda s, f, b=b: _pull(b, s, f)[1], smooth, fixed) for b in branches]
    slots, places = _slots(shapes)
    recipes: list[Any] = [None] * len(branches)

    def run(k: int, smooth: list, fixed: list) -> tuple:
        y, own, recipe = _pull(branches[k], smooth, fixed)
        sources = tuple((arg, i if arg else places[k][i]) for arg, i in recipe.sources)
        recipes[k] = _Recipe(recipe.tree, sources)
        filled = dict(zip(places[k], own, strict=True))
        return y, [filled[i] if i in filled else jnp.zeros(*slot) for i, slot in enumerate(slots)]

    runs = [functools.partial(run, k) for k in range(len(branches))]
    y, values = jax.lax.switch(index, runs, smooth, fixed)
    return y, _Saved((index, smooth, fixed, values), tuple(recipes))


def _slots(shapes: list[list]) -> tuple[list[tuple], list[list[int]]]:
    """(shape, dtype) of the fewest slots that serve every branch, and each branch's numbers."""
    slots: list[tuple] = []
    places = []
    for branch in shapes:
        free = list(range(len(slots)))
        mine = []
        for leaf in branch:
            want = (leaf.shape, leaf.dtype)
            at = next((i for i in free if slots[i] == want), len(slots))
            if at == len(slots):
                slots.append(want)
            else:
                free.remove(at)
            mine.append(at)
        places.append(mine)
    return slots, places


def _backward(branches: tuple[Callable, ...], saved: _Saved, grad: Any) -> tuple:
    del branches
    index, smooth, fixed, values = saved.values

    def back(recipe: _Recipe, smooth: list, fixed: list, values: list, grad: Any) -> list:
        args = [*smooth, *fixed]
        leaves = [args[i] if arg else values[i] for arg, i in recipe.sources]
        return jax.tree.unflatten(recipe.tree, leaves)(grad)[0]

    backs = [functools.partial(back, recipe) for recipe in saved.recipes]
    return None, jax.lax.switch(index, backs, smooth, fixed, values, grad), None


_switch.defvjp(_forward, _backward)
