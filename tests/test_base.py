"""Spaces: drawing, numbering, neighbours, relaxation and the text form."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jnas.base import (
    InputError,
    Space,
    Trials,
    argmax,
    choice_counts,
    from_index,
    from_vector,
    index,
    neighbours,
    one_hot,
    rows,
    sample,
    settle,
    size,
    template,
    to_vector,
)

SPACES = {
    "one place": Space("one place", 5),
    "vector": Space("vector", np.array([2, 3, 4])),
    "matrix": Space("matrix", np.array([[2, 1], [3, 2]])),
    "tree": Space("tree", {"ops": np.array([3, 1, 2]), "depth": 4, "pair": (2, np.array([[3]]))}),
    "many digits": Space("many digits", {"wide": np.array([12, 2])}),
    "labels": Space(
        "labels",
        {"op": np.array([3, 2]), "act": 2},
        labels={"op": ("none", "conv-3x3", "a=b"), "act": ("relu", "silu")},
    ),
    "labels of places": Space(
        "labels of places",
        {"wide": np.array([2, 3]), "act": 2},
        labels={"wide": ((8, 16), (16, 8, 32)), "act": None},
    ),
}
every = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def _all(space: Space) -> np.ndarray:
    """All architectures as vectors, by brute force, the last place fastest."""
    ranges = [range(c) for c in choice_counts(space)]
    return np.array(list(itertools.product(*ranges)), np.int32)


@every
def test_the_number_of_an_architecture_is_a_bijection_in_mixed_radix(space: Space) -> None:
    archs = from_index(space, jnp.arange(size(space)))
    np.testing.assert_array_equal(to_vector(space, archs), _all(space))
    np.testing.assert_array_equal(index(space, archs), np.arange(size(space)))
    one = jax.tree.map(lambda x: x[-1], archs)
    assert int(index(space, one)) == size(space) - 1


@every
def test_a_space_may_number_its_architectures_in_an_order_of_its_own(space: Space) -> None:
    order = np.random.default_rng(0).permutation(size(space)).astype(np.int32)
    shuffled = Space("shuffled", space.num_choices, order=order)
    archs = from_index(shuffled, jnp.arange(size(space)))
    np.testing.assert_array_equal(to_vector(space, archs), _all(space)[order])
    np.testing.assert_array_equal(index(shuffled, archs), np.arange(size(space)))


@every
def test_vectors_and_architectures_are_two_forms_of_one_thing(space: Space) -> None:
    vectors = jnp.asarray(_all(space))
    archs = from_vector(space, vectors)
    assert jax.tree.structure(archs) == jax.tree.structure(space.num_choices)
    jax.tree.map(
        lambda x, c: np.testing.assert_equal(x.shape[1:], c.shape), archs, space.num_choices
    )
    np.testing.assert_array_equal(to_vector(space, archs), vectors)


@every
def test_neighbours_are_all_that_differ_in_one_choice(space: Space) -> None:
    brute = _all(space)
    for i in {0, size(space) // 2, size(space) - 1}:
        arch = from_index(space, i)
        found = np.asarray(to_vector(space, neighbours(space, arch)))
        expected = brute[(brute != brute[i]).sum(-1) == 1]
        assert found.shape == expected.shape
        assert {tuple(row) for row in found} == {tuple(row) for row in expected}


@every
def test_the_largest_entry_of_a_corner_is_the_choice(space: Space) -> None:
    archs = from_index(space, jnp.arange(size(space)))
    relaxed = one_hot(space, archs)
    for leaf, x in zip(jax.tree.leaves(relaxed), jax.tree.leaves(archs), strict=True):
        assert leaf.dtype == jnp.float32 and leaf.shape[:-1] == x.shape
        np.testing.assert_array_equal(leaf.sum(-1), 1)
    back = argmax(space, relaxed)
    jax.tree.map(np.testing.assert_array_equal, back, archs)
    assert all(leaf.dtype == jnp.int32 for leaf in jax.tree.leaves(back))


def test_argmax_never_takes_a_choice_that_a_place_does_not_have() -> None:
    space = Space("ragged", np.array([2, 4]))
    relaxed = jnp.array([[0.1, 0.2, 0.9, 0.9], [0.1, 0.2, 0.3, 0.9]])
    assert argmax(space, relaxed).tolist() == [1, 3]


def test_sampling_is_uniform_over_the_space() -> None:
    space = SPACES["tree"]
    archs = sample(space, jax.random.key(0), 100_000)
    jax.tree.map(
        lambda x, c: np.testing.assert_equal(x.shape, (100_000, *c.shape)), archs, space.num_choices
    )
    counts = np.bincount(np.asarray(index(space, archs)), minlength=size(space))
    assert counts.size == size(space)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_size_of_a_space_is_exact_however_large() -> None:
    huge = Space("huge", np.full((10, 10), 7))
    assert size(huge) == 7**100
    with pytest.raises(InputError, match="too many to index"):
        index(huge, template(huge))


def test_a_place_without_choices_is_refused() -> None:
    for bad, told in ((np.array([2, 0]), "at least one choice"), ({}, "nothing to choose")):
        with pytest.raises(InputError, match=told):
            Space("bad", bad)


@every
def test_the_text_of_an_architecture_reads_back_as_itself(space: Space) -> None:
    archs = from_index(space, jnp.arange(size(space)))
    texts = set()
    for i in range(size(space)):
        arch = jax.tree.map(lambda x, i=i: x[i], archs)
        text = space.describe(arch)
        assert "\n" not in text
        back = space.parse(text)
        jax.tree.map(np.testing.assert_array_equal, back, arch)
        assert all(leaf.dtype == np.int32 for leaf in jax.tree.leaves(back))
        texts.add(text)
    assert len(texts) == size(space)


LETTERS = st.text("abz_-.3", min_size=1, max_size=4)
COUNTS = st.one_of(
    st.integers(1, 14), st.lists(st.integers(1, 14), min_size=1, max_size=4).map(np.array)
)
NESTED = st.dictionaries(
    LETTERS, st.one_of(COUNTS, st.dictionaries(LETTERS, COUNTS, min_size=1, max_size=2)),
    min_size=1, max_size=3,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(NESTED, st.data())
def test_the_text_of_any_architecture_of_any_space_reads_back(
    num: Any, data: st.DataObject
) -> None:
    space = Space("drawn", num)

    def choose(c: np.ndarray) -> np.ndarray:
        picks = [data.draw(st.integers(0, int(k) - 1)) for k in np.ravel(c)]
        return np.array(picks, np.int32).reshape(c.shape)

    arch = jax.tree.map(choose, space.num_choices)
    back = space.parse(space.describe(arch))
    jax.tree.map(np.testing.assert_array_equal, back, arch)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("tree", "", "the form is depth"),
        ("tree", "ops=[000] depth=1", "the form is depth"),
        ("vector", "[00]", "does not fit the form"),
        ("vector", "[009]", "unknown choice '9'; allowed: 0, 1, 2, 3"),
        ("vector", "x=[000]", "does not fit the form"),
        ("labels", "act=gelu op=[none,none]", "unknown choice 'gelu'; allowed: relu, silu"),
        ("labels of places", "act=0 wide=[8,64]", "unknown choice '64'; allowed: 16, 8, 32"),
        ("labels", "act=relu op=[none,a=b]", "unknown choice 'a=b'; allowed: none, conv-3x3"),
        ("many digits", "wide=[12,0]", "unknown choice '12'"),
    ],
)
def test_a_wrong_text_is_refused_in_one_line(name: str, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        SPACES[name].parse(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.sampled_from(list(SPACES)))
def test_no_text_breaks_the_parser(text: str, name: str) -> None:
    space = SPACES[name]
    try:
        arch = space.parse(text)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert (to_vector(space, arch) < choice_counts(space)).all()


def test_settling_makes_failures_harmless_and_keeps_the_rest() -> None:
    score = jnp.array([1.0, jnp.nan, jnp.inf, -jnp.inf, 2.0])
    weight = jnp.array([0.5, 1.0, 1.0, 1.0, 0.0])
    settled = settle(Trials(jnp.arange(5), score, weight=weight), "a test")
    assert settled.score.tolist() == [1, 0, 0, 0, 2]
    assert settled.weight.tolist() == [0.5, 0, 0, 0, 0]
    assert settle(Trials(jnp.arange(5), score), "a test").weight.tolist() == [1, 0, 0, 0, 1]


def test_rows_picks_whole_rows_of_every_leaf() -> None:
    mask = jnp.array([True, False])
    yes, no = ({"a": jnp.full((2, 3), v), "b": jnp.full(2, v)} for v in (1, 0))
    picked = rows(mask, yes, no)
    assert picked["a"].tolist() == [[1, 1, 1], [0, 0, 0]] and picked["b"].tolist() == [1, 0]
