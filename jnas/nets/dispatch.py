"""Running one of several branches, chosen by data: exactly, leanly, and for a population at once.

JAX differentiates `lax.switch` by letting every branch hand over the saved values of all branches,
most of them zeros. Here the branches share slots for what they save: there are as many as the
neediest branch fills, and what a branch saves of its own arguments is not copied at all.

Under `vmap` JAX runs every branch for every row and keeps one. With `grouped(block)` the rows that
chose a branch are gathered into blocks, and each block runs its branch as one batched program.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

_blocks: list[int] = []


@contextlib.contextmanager
def grouped(block: int) -> Iterator[None]:
    """Programs traced inside run the rows of a batched switch in blocks of equal choice."""
    _blocks.append(block)
    try:
        yield
    finally:
        _blocks.pop()


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
    wraps = [unwrapped(leaf) for leaf in leaves]
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


def unwrapped(leaf: Any) -> tuple[Any, Callable[[Any], Any]]:
    """A random key as plain data, and what makes it a key again; any other array as it is."""
    if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return leaf, lambda x: x
    wrap = functools.partial(jax.random.wrap_key_data, impl=jax.random.key_impl(leaf))
    return jax.random.key_data(leaf), wrap


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _switch(branches: tuple[Callable, ...], index: Any, smooth: list, fixed: list) -> Any:
    return _choose(index, branches, smooth, fixed)


def _choose(index: jax.Array, branches: Sequence[Callable], *args: Any) -> Any:
    """`lax.switch`, whose rows are grouped where it is batched inside `grouped`."""
    plain = lambda index, *args: jax.lax.switch(index, branches, *args)
    if not _blocks:
        return plain(index, *args)
    run = custom_vmap(plain)

    @run.def_vmap
    def many(n: int, batched: Any, index: jax.Array, *args: Any) -> tuple[Any, Any]:
        leaves, tree = jax.tree.flatten(args)
        lead = jax.tree.leaves(batched[1:])
        if not any(lead):  # rows of equal choice are equal: every branch runs once
            each = [branch(*args) for branch in branches]
            out = jax.tree.map(lambda *ys: jnp.stack(ys)[index], *each)
            return out, jax.tree.map(lambda _: True, out)
        axes = jax.tree.unflatten(tree, [0 if b else None for b in lead])
        wide = [jax.vmap(branch, axes) for branch in branches]
        if not batched[0]:
            out = jax.lax.switch(index, wide, *args)
        else:
            out = _in_blocks(n, index, wide, leaves, lead, tree)
        return out, jax.tree.map(lambda _: True, out)

    return run(index, *args)


def _in_blocks(
    n: int, index: jax.Array, wide: list[Callable], leaves: list, lead: list[bool], tree: Any
) -> Any:
    """Runs blocks of rows that share their branch, and puts the results in their rows.

    There are enough blocks for any choice of branches, so no choice needs another program; those
    left over are skipped. A block that is not full repeats its last row.
    """
    size, kinds = min(_blocks[-1], n), len(wide)
    many = (n + kinds * (size - 1)) // size
    order = jnp.argsort(index)
    counts = jnp.sum(index[:, None] == jnp.arange(kinds), 0)
    ends, block_ends = jnp.cumsum(counts), jnp.cumsum(-(-counts // size))
    pick = lambda rows: [x[rows] if b else x for x, b in zip(leaves, lead, strict=True)]
    run = lambda k, rows: jax.lax.switch(k, wide, *jax.tree.unflatten(tree, pick(rows)))
    shapes = jax.eval_shape(run, index[0], jnp.zeros(size, jnp.int32))
    out = jax.tree.map(lambda s: jnp.zeros((n, *s.shape[1:]), s.dtype), shapes)

    def step(out: Any, m: jax.Array) -> tuple[Any, None]:
        def fill(out: Any) -> Any:
            k = jnp.searchsorted(block_ends, m, side="right")
            first = jnp.where(k > 0, block_ends[k - 1], 0)
            start = ends[k] - counts[k] + (m - first) * size
            rows = order[jnp.minimum(start + jnp.arange(size), ends[k] - 1)]
            return jax.tree.map(lambda o, y: o.at[rows].set(y), out, run(k, rows))

        return jax.lax.cond(m < block_ends[-1], fill, lambda out: out, out), None

    return jax.lax.scan(step, out, jnp.arange(many))[0]


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
    y, values = _choose(index, runs, smooth, fixed)
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
    return None, _choose(index, backs, smooth, fixed, values, grad), None


_switch.defvjp(_forward, _backward)
