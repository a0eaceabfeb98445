"""Joint spaces: architectures and hyperparameters as one, in every function of a space."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas import spaces
from jnas.base import (
    InputError,
    Space,
    choice_counts,
    from_index,
    index,
    one_hot,
    sample,
    size,
    template,
)
from jnas.spaces.joint import hyperparameters

CELLS = spaces.nas_bench_201()
RATES, DECAYS = (0.1, 0.003, 1e-5), (0, 5e-4)
BOTH = spaces.joint(CELLS, weight_decay=DECAYS, learning_rate=RATES)
MIXED = Space(
    "mixed",
    {"ops": np.full((2, 2), 3), "depth": 4},
    labels={"ops": ("a", "b=c", "d"), "depth": None},
    is_valid=lambda arch: arch["depth"] > 0,
)


@pytest.mark.parametrize("space", [CELLS, MIXED, Space("bits", np.full(4, 2))])
def test_the_text_form_is_that_of_the_space_with_the_values_behind(space: Space) -> None:
    both = spaces.joint(space, weight_decay=DECAYS, learning_rate=RATES)
    drawn = sample(both, jax.random.key(0), 50)
    for i in range(50):
        arch = jax.tree.map(lambda x, i=i: x[i], drawn)
        text = both.describe(arch)
        values = arch["hyperparameters"]
        rate, decay = RATES[values["learning_rate"]], DECAYS[values["weight_decay"]]
        inner = space.describe(arch["architecture"])
        assert text == f"{inner} learning_rate={rate:g} weight_decay={decay:g}"
        jax.tree.map(np.testing.assert_array_equal, both.parse(text), arch)


@pytest.mark.slow
def test_the_size_is_the_product_and_the_index_counts_the_values_fastest() -> None:
    assert size(BOTH) == 15625 * 3 * 2 and choice_counts(BOTH).tolist() == [5] * 6 + [3, 2]
    numbers = jnp.arange(size(BOTH))
    archs = from_index(BOTH, numbers)
    np.testing.assert_array_equal(index(BOTH, archs), numbers)
    np.testing.assert_array_equal(index(CELLS, archs["architecture"]), numbers // 6)
    last = archs["hyperparameters"]
    np.testing.assert_array_equal(last["learning_rate"] * 2 + last["weight_decay"], numbers % 6)


@pytest.mark.slow
def test_validity_isomorphism_counts_and_drawing_are_those_of_the_architecture() -> None:
    drawn = sample(BOTH, jax.random.key(1), 40)
    canonical = jax.jit(jax.vmap(BOTH.canonical))(drawn)
    expected = jax.vmap(CELLS.canonical)(drawn["architecture"])
    np.testing.assert_array_equal(canonical["architecture"], expected)
    jax.tree.map(
        np.testing.assert_array_equal, canonical["hyperparameters"], drawn["hyperparameters"]
    )
    assert set(BOTH.counts) == {"params", "flops"}
    for name, count in BOTH.counts.items():
        np.testing.assert_array_equal(
            jax.vmap(count)(drawn), jax.vmap(CELLS.counts[name])(drawn["architecture"])
        )
    arch = jax.tree.map(lambda x: x[0], drawn)
    assert BOTH.edges is not None and CELLS.edges is not None
    assert BOTH.edges(arch) == CELLS.edges(arch["architecture"])
    both = spaces.joint(MIXED, clip=(1, 2))
    some = sample(both, jax.random.key(2), 30)
    valid = jax.vmap(both.is_valid)(some)
    np.testing.assert_array_equal(valid, some["architecture"]["depth"] > 0)
    assert valid.any() and not valid.all() and both.edges is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), st.integers(0, 1))
def test_hyperparameters_are_the_values_at_the_choices(i: int, j: int) -> None:
    arch = template(BOTH) | {"hyperparameters": {"learning_rate": i, "weight_decay": j}}
    arch = jax.tree.map(jnp.asarray, arch)
    found = hyperparameters(BOTH, arch)
    expected = {"learning_rate": RATES[i], "weight_decay": DECAYS[j]}
    assert {k: float(v) for k, v in found.items()} == {
        k: float(np.float32(v)) for k, v in expected.items()
    }
    relaxed = hyperparameters(BOTH, one_hot(BOTH, arch))
    for name, value in expected.items():
        np.testing.assert_allclose(relaxed[name], value, rtol=1e-6)


def test_a_plain_space_has_no_hyperparameters() -> None:
    assert hyperparameters(CELLS, template(CELLS)) == {}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "at least one hyperparameter"),
        ({"learning_rate": ()}, r"learning_rate=\(\): a tuple of at least one number"),
        ({"learning_rate": 0.1}, "learning_rate=0.1: a tuple"),
        ({"learning_rate": "abc"}, "learning_rate='abc': a tuple"),
        ({"learning_rate": (0.1, "x")}, "a tuple of at least one number"),
        ({"learning_rate": (0.1, True)}, "a tuple of at least one number"),
        ({"learning_rate": (0.1, 0.1)}, "no two of them equal"),
        ({"learning_rate": (0.1, float("nan"))}, "finite numbers"),
    ],
)
def test_impossible_values_are_refused(values: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        spaces.joint(CELLS, **values)


CELL = CELLS.describe(template(CELLS))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CELL, "the form is that of nas_bench_201, then learning_rate=... weight_decay=..."),
        (f"{CELL} learning_rate=0.1", "the form is that of nas_bench_201"),
        ("learning_rate=0.1 weight_decay=0", "the form is that of nas_bench_201"),
        (f"{CELL} weight_decay=0 learning_rate=0.1", "does not fit the form"),
        (f"{CELL} learning_rate=0.2 weight_decay=0", "'0.2'; allowed: 0.1, 0.003, 1e-05"),
        ("|x~0| learning_rate=0.1 weight_decay=0", "unknown operation 'x'"),
    ],
)
def test_a_text_of_another_form_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("...", r"\.\.\.")):
        BOTH.parse(text)
