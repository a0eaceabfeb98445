"""The weights of an architecture's own small network, cut out of those of the whole one."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from jnas.base import Architecture, InputError
from jnas.nets.choices import OneOf, Repeat, Searchable
from jnas.nets.functional import Net
from jnas.nets.sizes import Row


def inherit(net: Net, params: Any, state: Any, arch: Architecture) -> tuple[Any, Any]:
    """The weights and statistics of `net.alone(arch)`, which then computes what `net` does.

    Args:
      net: a network that has `alone`.
      params: its parameters.
      state: its state.
      arch: one architecture of concrete ints.

    Returns:
      `(params, state)` of `net.alone(arch)`, NumPy arrays.

    Raises:
      InputError: the network has no small networks of its own.
    """
    if net.alone is None:
        raise InputError("inherit: the network does not mask what an architecture leaves out")
    fixed = jax.tree.map(np.asarray, arch)
    values = jax.tree.map(np.asarray, net.bind(fixed))
    small = net.alone(fixed)
    pair = net.module(), small.module()
    shapes = jax.eval_shape(small.init, jax.random.key(0))
    kinds = (nnx.Param, nnx.BatchStat)
    found = [
        _visit(*pair, tree, kind, values, ())
        for tree, kind in zip((params, state), kinds, strict=True)
    ]
    jax.tree.map(_same_shape, found, list(shapes))
    return found[0], found[1]


def _same_shape(x: np.ndarray, want: Any) -> None:
    if x.shape != want.shape:
        raise ValueError(f"inherit: a weight of shape {x.shape} for one of {want.shape}")


def _chosen(part: Searchable, values: dict[str, Any], at: tuple[int, ...]) -> int:
    return int(values[part.name][at]) if len(part.labels) > 1 else 0


def _visit(
    big: Any, small: Any, tree: Any, kind: type, values: dict[str, Any], at: tuple[int, ...]
) -> Any:
    """The variables of a kind of the small module, as a pure dict."""
    if isinstance(big, OneOf):
        k = _chosen(big, values, at)
        inside = tree.get("options", {}).get(k, {})
        return _visit(big.options[k], small, inside, kind, values, at)
    if isinstance(big, Repeat):
        inside, blocks = tree.get("block", {}), getattr(small, "blocks", None)
        of = lambda i, block: _visit(big.block, block, inside, kind, values, (*at, i))
        if isinstance(small, Row) and blocks is not None:
            return _full({"blocks": _full({i: of(i, b) for i, b in enumerate(blocks)})})
        rows = [of(i, small.block) for i in range(small.most)]
        return _full({"block": jax.tree.map(lambda *leaves: np.stack(leaves), *rows)})
    out: dict[Any, Any] = {}
    used = big.used(values) if hasattr(big, "used") else {}
    for key, part in nnx.iter_children(small):
        if isinstance(part, kind):
            leaf = np.asarray(tree[key])[at]
            for axis, kept in enumerate(reversed(used.get(str(key), ()))):
                if kept is not None:
                    leaf = leaf.take(np.flatnonzero(np.asarray(kept)[at]), -1 - axis)
            out[key] = leaf
        elif isinstance(part, nnx.Module):
            other = big[key] if isinstance(key, int) else getattr(big, str(key))
            out[key] = _visit(other, part, tree.get(key, {}), kind, values, at)
    return _full(out)


def _full(tree: dict) -> dict:
    """Without the entries that hold nothing."""
    return {k: v for k, v in tree.items() if not (isinstance(v, dict) and not v)}
