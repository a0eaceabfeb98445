"""The laws that every registered space obeys; `space_cases.py` holds the table."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from space_cases import CASES

from jnas.base import (
    InputError,
    Space,
    below,
    choice_counts,
    from_vector,
    repaired,
    repairs,
    sample,
    size,
    to_vector,
)
from jnas.links.sampling import largest
from jnas.nets import NETS, Net, count_flops, count_params, forms
from jnas.spaces import SPACES

PROMPT = {"mlp", "nas_bench_201"}  # the others take longer to compile than to check


def of(names: Iterable[str], prompt: set[str] = PROMPT) -> pytest.MarkDecorator:
    """A test for each of these spaces, a slow one but for a few."""
    mark = lambda name: name if name in prompt else pytest.param(name, marks=pytest.mark.slow)
    return pytest.mark.parametrize("name", [mark(name) for name in names])


every = of(CASES)
counted = of((name for name, case in CASES.items() if case.own_counts), {"mlp"})
run = of((name for name, case in CASES.items() if case.shape is not None), {"mlp"})
N = 40


@functools.cache
def space_of(name: str) -> Space:
    return SPACES[name](**CASES[name].settings)


@functools.cache
def net_of(name: str) -> Net:
    case = CASES[name]
    return NETS[name](**(case.settings if case.net is None else case.net))


@functools.cache
def samples(name: str) -> Any:
    """Architectures with leaves `[N, ...]`, as NumPy arrays."""
    space = space_of(name)
    return jax.device_get(jax.jit(lambda key: sample(space, key, N))(jax.random.key(5)))


@functools.cache
def form_of(name: str) -> Any:
    """Their canonical forms."""
    return jax.device_get(jax.jit(jax.vmap(space_of(name).canonical))(samples(name)))


def row(arch: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], arch)


def same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_every_space_stands_in_the_table() -> None:
    assert set(CASES) == set(SPACES)
    assert {name for name, case in CASES.items() if case.shape is not None} <= set(NETS)


@every
def test_random_ints_are_repaired_and_what_is_valid_stays(name: str) -> None:
    space, counts = space_of(name), choice_counts(space_of(name))
    key = jax.random.key(6)

    @jax.jit
    def check(arch: Any) -> tuple:
        random = from_vector(space, below(key, (N, counts.size), counts))
        mended = repaired(space, random)
        valid = jax.vmap(space.is_valid)
        return random, mended, valid(random), valid(mended), repaired(space, arch), valid(arch)

    random, mended, fine, mends, again, drawn = jax.device_get(check(samples(name)))
    assert drawn.all() and mends.all()
    assert fine.all() or repairs(space)
    same(again, samples(name))
    same(row(mended, fine), row(random, fine))
    for arch in (mended, samples(name)):
        x = np.asarray(to_vector(space, arch))
        assert x.dtype == np.int32 and (x >= 0).all() and (x < counts).all()
        assert jax.tree.structure(arch) == jax.tree.structure(space.num_choices)


@every
def test_a_text_is_read_back(name: str) -> None:
    space = space_of(name)
    read = [space.parse(space.describe(row(samples(name), i))) for i in range(N)]
    for i, arch in enumerate(read):
        assert space.describe(arch) == space.describe(row(samples(name), i))
    stacked = jax.tree.map(lambda *rows: np.stack(rows), *read)
    x = np.asarray(to_vector(space, stacked))
    assert x.dtype == np.int32 and (x < choice_counts(space)).all()
    same(jax.jit(jax.vmap(space.canonical))(stacked), form_of(name))


@every
def test_a_text_of_no_architecture_is_refused_in_one_line(name: str) -> None:
    space = space_of(name)
    good = space.describe(row(samples(name), 0))
    for text in ("", "?", CASES[name].text, f"{good} {good}", good[: len(good) // 2], f"({good}"):
        with pytest.raises(InputError) as caught:
            space.parse(text)
        assert "\n" not in str(caught.value)


@every
def test_a_canonical_form_is_valid_and_its_own(name: str) -> None:
    space = space_of(name)
    again = jax.jit(jax.vmap(space.canonical))(form_of(name))
    same(again, form_of(name))
    assert jax.jit(jax.vmap(space.is_valid))(again).all()
    if CASES[name].form_counts:
        for count in space.counts.values():
            many = jax.jit(jax.vmap(count))
            same(many(form_of(name)), many(samples(name)))


@counted
def test_counts_are_those_of_the_network(name: str) -> None:
    case, space, net = CASES[name], space_of(name), net_of(name)
    few = jax.tree.map(lambda x: x[:4], samples(name))
    if not case.exact:
        few = jax.tree.map(lambda x: np.asarray(x)[None], largest(space))
    n = jax.tree.leaves(few)[0].shape[0]
    params, flops = (jax.jit(jax.vmap(space.counts[k]))(few) for k in ("params", "flops"))
    assert jnp.issubdtype(params.dtype, jnp.integer) and jnp.issubdtype(flops.dtype, jnp.integer)
    many = jax.jit(jax.vmap(space.counts["params"]))(samples(name))
    same(many[:1], space.counts["params"](row(samples(name), 0))[None])
    assert case.shape is not None
    shape: Any = jax.ShapeDtypeStruct(case.shape, jnp.int32) if case.tokens else case.shape
    for i in range(n):
        arch = row(few, i)
        assert int(params[i]) == int(count_params(net, arch))
    with forms.using(depthwise="lax"):  # sums of shifted copies are no products
        for i in range(min(n, 2)):
            assert int(flops[i]) == count_flops(net, row(few, i), shape) + case.extra


@run
def test_the_network_gives_finite_numbers_for_every_architecture(name: str) -> None:
    case, net = CASES[name], net_of(name)
    assert case.shape is not None
    key, shape = jax.random.key(8), (2, *case.shape)
    x = jax.random.randint(key, shape, 0, case.tokens) if case.tokens else (
        jax.random.normal(key, shape))  # fmt: skip
    params, state = net.init(jax.random.key(9))
    apply = jax.jit(lambda arch: net.apply(params, state, arch, x, train=True)[0])
    found = [np.asarray(apply(row(samples(name), i))) for i in range(6)]
    assert all(np.isfinite(y).all() for y in found)
    assert len({y.tobytes() for y in found}) > 1 or size(space_of(name)) == 1
