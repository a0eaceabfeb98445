"""Taking the network of one architecture, with its weights, out of one that holds them all."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture
from jnas.nets.elastic import kernels
from jnas.nets.functional import Net
from jnas.nets.mobile import decided_network
from jnas.spaces.mobile_stages import LAYER, Mobile, Reader, decide


def subnet(spec: Mobile, arch: Architecture, params: Any, state: Any) -> tuple[Net, Any, Any]:
    """The network of one architecture alone, with its weights: once-for-all's specialisation.

    Cai et al. 2020, arXiv 1908.09791, section 3.1. It computes what the large network does for this
    architecture, on images of the chosen resolution, with nothing to choose and nothing masked. The
    running statistics of shared weights mix all architectures: calibrate or train it further.

    Args:
      spec: of the space.
      arch: an architecture of concrete ints.
      params: of the network of `jnas.nets.mobile.mobile(spec)`.
      state: of that network.

    Returns:
      The net, its parameters and its state; its only architecture is `{"network": 0}`.
    """
    reader, arch = Reader(spec), jax.tree.map(np.asarray, arch)
    made = decide(spec, arch)
    net = decided_network(made, "network")
    if len(spec.images) > 1:
        params, state = params["body"], state["body"]
    rows: list[tuple[Any, Any]] = []  # of every block
    for i, stage in enumerate(spec.stages):
        depth = stage.depths[int(reader.number(arch, "depth", i))]
        for j in range(depth):
            numbers = {name: int(reader.layer(arch, name, i, j)) for name in LAYER}
            options = stage.rest if j else stage.first
            several = not spec.elastic and len(options["op"]) > 1
            at = lambda tree, i=i, j=j: _layer(tree["stages"].get(i, {}), j)
            rows.append(_renumbered(*(_block(at(t), numbers, several) for t in (params, state))))
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    groups = [len(list(same)) for _, same in itertools.groupby(made.blocks)]
    ends, found = np.cumsum(groups), []
    for which, (whole, shape) in enumerate(zip((params, state), shapes, strict=True)):
        own: dict[str, Any] = {k: v for k, v in whole.items() if k != "stages"}
        own["stages"] = {}
        for g, end in enumerate(ends):
            blocks = [rows[n][which] for n in range(end - groups[g], end)]
            wanted = shape["stages"].get(g)
            if wanted is None:  # a skip has no parameters
                continue
            row = jax.tree.map(
                lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), wanted["block"]
            )
            cut = [jax.tree.map(_cropped, b, row) for b in blocks]
            own["stages"][g] = {"block": jax.tree.map(lambda *leaves: jnp.stack(leaves), *cut)}
        found.append(jax.tree.map(_cropped, own, shape))
    return net, found[0], found[1]


def _cropped(leaf: Any, like: Any) -> Any:
    """The first channels of an array, along all axes."""
    return leaf[tuple(slice(0, n) for n in like.shape)]


def _layer(stage: Any, j: int) -> Any:
    """The variables of a layer of a stage."""
    if j == 0:
        return stage.get("first", {})
    return jax.tree.map(lambda leaf: leaf[j - 1], stage.get("rest", {}).get("block", {}))


def _block(tree: Any, numbers: dict[str, int], several: bool) -> Any:
    """The variables of what a layer chose, without those of choices, in the form of a `Block`."""
    if several:
        tree = tree.get("options", {}).get(numbers["op"], {})
    tree = tree.get("layer", tree)
    if "parts" not in tree:  # a skip: nothing, or a 1x1 convolution alone
        return tree
    return {"parts": {i: _part(part, numbers) for i, part in tree["parts"].items()}}


def _renumbered(params: Any, state: Any) -> tuple[Any, Any]:
    """The variables of a block without the parts that have none, as where nothing is squeezed."""
    if "parts" not in params:
        return params, state
    kept = [i for i, part in sorted(params["parts"].items()) if part]
    number = {old: new for new, old in enumerate(kept)}
    only = lambda tree: {"parts": {number[i]: p for i, p in tree["parts"].items() if i in number}}
    return only(params), only(state)


def _part(tree: Any, numbers: dict[str, int]) -> Any:
    tree = tree.get("layer", tree)
    if "options" in tree:  # of squeeze and excitation, or of kernels
        squeezes = any("reduce" in option for option in tree["options"].values())
        tree = tree["options"].get(numbers["se" if squeezes else "kernel"], {})
        tree = tree.get("layer", tree)
    if "reduce" in tree:
        tree = {**tree, "reduce": tree["reduce"].get("layer", tree["reduce"])}
    if "transforms" in tree.get("conv", {}):
        weights = tree["conv"]["kernel"], [m for _, m in sorted(tree["conv"]["transforms"].items())]
        every = kernels(*weights, [int(m.shape[0] ** 0.5) for m in weights[1]])
        tree = {**tree, "conv": {"kernel": every[numbers["kernel"]]}}
    return tree
