"""Choices without an effect: in branches that are not taken and in blocks that do not run."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jnas.base import choice_counts, from_index, from_vector, size, to_vector
from jnas.nets import OneOf, Repeat, Slim, functional


class Block(nnx.Module):
    """A layer that runs one of two branches, one of which chooses a width."""

    def __init__(self, rngs: nnx.Rngs):
        layer = nnx.Linear(3, 3, rngs=rngs)
        self.branch = OneOf({"skip": lambda x: x, "layer": Slim(layer, [1, 2, 3], name="width")},
                            name="branch")  # fmt: skip

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.branch(x)


class Stack(nnx.Module):
    """Up to three blocks."""

    def __init__(self, rngs: nnx.Rngs, shared: bool = False):
        self.blocks = Repeat(Block, 3, 0, shared=shared, rngs=rngs, name="depth")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.blocks(x)


def naive(arch: Any) -> tuple:
    """What of an architecture has an effect."""
    depth = int(arch["depth"])
    blocks = zip(arch["branch"][:depth].tolist(), arch["width"][:depth].tolist(), strict=True)
    return tuple((branch, width if branch else None) for branch, width in blocks)


def test_the_canonical_form_forgets_what_has_no_effect_and_nothing_else() -> None:
    space = functional(Stack).space
    assert size(space) == 4 * 2**3 * 3**3
    arch = jax.device_get(from_index(space, jnp.arange(size(space))))
    rows = [jax.tree.map(lambda x, i=i: x[i], arch) for i in range(size(space))]
    forms = np.asarray(to_vector(space, jax.jit(jax.vmap(space.canonical))(arch)))
    effects = [naive(row) for row in rows]
    classes = {(effect, form) for effect, form in zip(effects, map(tuple, forms), strict=True)}
    assert len(classes) == len(set(effects)) == len(set(map(tuple, forms)))
    assert space.distinct == len(set(effects)) == 1 + 4 + 16 + 64


@pytest.mark.slow
def test_networks_of_one_canonical_form_compute_the_same() -> None:
    net = functional(Stack)
    params, state = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 3))
    run = jax.jit(jax.vmap(lambda arch: net.apply(params, state, arch, x)[0]))
    arch = from_index(net.space, jnp.arange(0, size(net.space), 7))
    same = jax.vmap(net.space.canonical)(arch)
    assert (to_vector(net.space, arch) != to_vector(net.space, same)).any()
    np.testing.assert_allclose(run(arch), run(same), rtol=1e-6)


def test_shared_choices_have_an_effect_where_any_block_runs() -> None:
    space = functional(lambda rngs: Stack(rngs, shared=True)).space
    counts = choice_counts(space)
    every = itertools.product(*map(range, counts))
    forms = {
        tuple(np.asarray(to_vector(space, space.canonical(from_vector(space, np.asarray(x))))))
        for x in every
    }
    assert space.distinct == len(forms) == 1 + 3 * 4


class Twice(nnx.Module):
    """One choice for two branches, one of which always runs."""

    def __init__(self, rngs: nnx.Rngs):
        make = lambda: Slim(nnx.Linear(3, 3, rngs=rngs), [1, 3], name="width")
        self.first = OneOf({"skip": lambda x: x, "layer": make()}, name="first")
        self.second = OneOf({"skip": lambda x: x, "layer": make()}, name="second")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(self.first(x))


def test_a_choice_of_one_name_has_an_effect_where_either_of_its_places_has() -> None:
    space = functional(Twice).space
    assert space.distinct is None
    for first, second, width in itertools.product(range(2), repeat=3):
        arch = {"first": np.int32(first), "second": np.int32(second), "width": np.int32(width)}
        assert space.canonical(arch)["width"] == (width if first or second else 0)
