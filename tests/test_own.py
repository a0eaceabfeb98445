"""One's own spaces: what a function chooses, what rules it keeps, spaces of spaces."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas.base import (
    InputError,
    Space,
    choice_counts,
    from_vector,
    index,
    propose,
    repaired,
    sample,
    size,
    to_vector,
)
from jnas.links import mutate_step
from jnas.spaces import (
    alternatives,
    choice,
    different,
    nas_bench_201,
    own,
    product,
    sequence,
)


def block() -> Any:
    kind = choice("kind", ["conv", "pool", "skip"])
    return (kind, choice("kernel", [3, 5, 7])) if kind == "conv" else (kind,)


def network() -> dict[str, Any]:
    depth = choice("depth", [1, 2])
    made = {"blocks": [choice(f"block_{i}", BLOCK) for i in range(depth)]}
    if choice("norm", ["none", "batch"]) == "batch":
        made["momentum"] = choice("momentum", [0.9, 0.99])
    return made | {"width": choice("width", [8, 16, 32])}


BLOCK = own(block)
NETWORK = own(network)


def every(space: Space) -> list[Any]:
    """All architectures, as trees of NumPy ints."""
    counts, tree = choice_counts(space), jax.tree.structure(space.num_choices)
    vectors = itertools.product(*(range(c) for c in counts))
    return [jax.tree.unflatten(tree, [np.int32(i) for i in x]) for x in vectors]


def vector(arch: Any) -> tuple[int, ...]:
    return tuple(int(x) for leaf in jax.tree.leaves(arch) for x in np.ravel(leaf))


def test_all_architectures_that_differ_are_told_apart_and_no_others() -> None:
    archs = every(NETWORK)
    assert len(archs) == size(NETWORK) == 2 * 9 * 9 * 2 * 2 * 3
    stack = jax.tree.map(lambda *x: np.stack(x), *archs)
    forms = np.asarray(to_vector(NETWORK, jax.jit(jax.vmap(NETWORK.canonical))(stack)))
    seen: dict[str, tuple] = {}
    for arch, form in zip(archs, map(tuple, forms), strict=True):
        text, values = NETWORK.describe(arch), NETWORK.values(arch)
        assert seen.setdefault(text, (form, values, NETWORK.build(arch))) == (
            form,
            values,
            NETWORK.build(arch),
        )
        parsed = NETWORK.parse(text)
        assert NETWORK.describe(parsed) == text
        assert vector(parsed) == form
    assert len(seen) == len({str(v[2]) for v in seen.values()}) == NETWORK.distinct
    assert NETWORK.distinct == (5 + 5**2) * (1 + 2) * 3 == different(NETWORK)


def test_values_and_texts_are_as_one_would_write_them() -> None:
    text = (
        "depth=2 block_0=(kind=conv kernel=5) block_1=(kind=skip) norm=batch momentum=0.9 width=8"
    )
    arch = NETWORK.parse(text)
    assert NETWORK.build(arch) == {
        "blocks": [("conv", 5), ("skip",)], "momentum": 0.9, "width": 8
    }  # fmt: skip
    assert NETWORK.values(arch) == {
        "depth": 2, "block_0": {"kind": "conv", "kernel": 5}, "block_1": {"kind": "skip"},
        "norm": "batch", "momentum": 0.9, "width": 8,
    }  # fmt: skip
    numbers = jax.jit(lambda a: {k: NETWORK.numbers(a)[k] for k in ("depth", "width")})(arch)
    assert numbers == {"depth": 2, "width": 8}
    assert bool(NETWORK.numbers(arch)["norm"] == "batch")
    assert not NETWORK.active(NETWORK.parse("depth=1 block_0=(kind=pool) norm=none width=8"))[
        "block_0"
    ]["kernel"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "depth=... is missing"),
        ("depth=1", "block_0=... is missing"),
        ("depth=3", "allowed: 1, 2"),
        ("deep=1", "no choice 'deep'; allowed: depth"),
        ("depth", "'depth' is not of the form name=label"),
        ("depth=1 depth=1", "comes twice"),
        ("depth=1 block_0=(kind=skip norm=none width=8", "brackets do not match"),
        ("depth=1 block_0=skip norm=none width=8", "the form is block_0=(...)"),
        ("depth=1 block_0=(kind=skip kernel=3) norm=none width=8", "no 'kernel' where the others"),
        ("depth=1 block_0=(kind=dense) norm=none width=8", "allowed: conv, pool, skip"),
    ],
)
def test_a_text_of_no_architecture_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        NETWORK.parse(text)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_choices_that_are_only_passed_on_cost_nothing() -> None:
    space = own(lambda: [choice(f"c{i}", list("abcde")) for i in range(60)])
    assert size(space) == space.distinct == 5**60


Tree = list[tuple[int, dict[int, Any]]]  # choices of so many options, with more behind some


def asking(tree: Tree, path: str = "c") -> None:
    for i, (many, behind) in enumerate(tree):
        name = f"{path}{i}"
        got = choice(name, range(many))
        for option, more in behind.items():
            if got == option:
                asking(more, f"{name}.{option}.")


def count_of(tree: Tree) -> int:
    total = 1
    for many, behind in tree:
        total *= sum(count_of(behind.get(option, [])) for option in range(many))
    return total


def trees() -> Any:
    node = lambda more: st.lists(
        st.tuples(st.integers(1, 3), st.dictionaries(st.integers(0, 2), more, max_size=2)),
        min_size=1,
        max_size=2,
    )
    return node(st.recursive(st.just([]), node, max_leaves=4))


@settings(max_examples=6, deadline=None)
@given(trees(), st.integers(0, 2**31))
def test_any_tree_of_conditions_is_followed(tree: Tree, seed: int) -> None:
    space = own(lambda: asking(tree))
    assert space.distinct == count_of(tree)
    random = np.random.default_rng(seed)
    for _ in range(3):
        x = random.integers(0, choice_counts(space)).astype(np.int32)
        arch = from_vector(space, x)
        again = space.parse(space.describe(arch))
        assert space.values(again) == space.values(arch)
        np.testing.assert_array_equal(
            to_vector(space, again), to_vector(space, space.canonical(arch))
        )


# ------------------------------------------------------------------------------------- rules


def narrow(v: Any) -> bool:
    return v["depth"] * v["width"] <= 24 and not (v["depth"] == 2 and v["act"] == "tanh")


def small() -> None:
    depth = choice("depth", [1, 2, 3])
    choice("act", ["relu", "tanh"])
    choice("width", [4, 8, 16, 32])
    if depth == 3:
        choice("skip", [False, True])


RULED = own(small, narrow)


def test_a_rule_in_plain_python_is_kept_by_samples_and_by_the_repair() -> None:
    arch = every(RULED)
    stack = jax.tree.map(lambda *x: np.stack(x), *arch)
    naive = np.array([narrow(RULED.values(a)) for a in arch])
    valid = jax.jit(jax.vmap(RULED.is_valid))(stack)
    np.testing.assert_array_equal(valid, naive)
    x = np.asarray(to_vector(RULED, stack))
    fixed = np.asarray(to_vector(RULED, jax.jit(lambda a: repaired(RULED, a))(stack)))
    assert naive[np.asarray(index(RULED, from_vector(RULED, fixed)))].all()
    np.testing.assert_array_equal(fixed[naive], x[naive])
    nearest = np.min(np.sum(x[:, None] != x[naive], -1), -1)
    near = nearest <= 1  # farther ones may be met by a detour
    assert 0.5 < near.mean() < 1
    np.testing.assert_array_equal(np.sum(fixed != x, -1)[near], nearest[near])
    forms = {RULED.describe(a) for a, fine in zip(arch, naive, strict=True) if fine}
    assert RULED.distinct is None and different(RULED) == len(forms)


@pytest.mark.slow
def test_samples_are_uniform_over_what_is_valid() -> None:
    n = 20_000
    drawn = np.asarray(index(RULED, sample(RULED, jax.random.key(0), n)))
    valid = [i for i, arch in enumerate(every(RULED)) if narrow(RULED.values(arch))]
    found = Counter(drawn.tolist())
    assert set(found) == set(valid)
    expected = n / len(valid)
    chi = sum((found[i] - expected) ** 2 / expected for i in valid)
    assert chi < len(valid) + 5 * np.sqrt(2 * len(valid))


def many() -> None:
    for i in range(12):
        choice(f"w{i}", range(10))


def in_total(v: Any) -> Any:
    return sum(v[f"w{i}"] for i in range(12)) <= 20


@pytest.mark.slow
def test_a_rule_over_many_choices_works_on_arrays() -> None:
    space = own(many, in_total)
    drawn = np.asarray(to_vector(space, sample(space, jax.random.key(0), 100)))
    assert (drawn.sum(-1) <= 20).all()  # of all architectures 0.02 % are so
    assert len(np.unique(drawn, axis=0)) > 60


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (lambda v: v["skip"] == 1, "values.get('skip') is None there"),
        (lambda v: v["deep"] == 1, "looks at 'deep'"),
        (lambda v: v["act"] > 1, "TypeError"),
        (lambda v: v["width"] > 32, "none of 48 architectures meets its rules"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_in_one_line(rule: Callable, told: str) -> None:
    with pytest.raises(InputError) as caught:
        own(small, rule)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_rule_over_many_choices_that_needs_plain_values_is_refused() -> None:
    with pytest.raises(InputError, match="too many for a table") as caught:
        own(many, lambda v: all(v[f"w{i}"] < 5 for i in range(12)))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_rule_may_look_into_parts_and_parts_keep_their_own() -> None:
    inner = own(lambda: (choice("a", range(4)), choice("b", range(4))), lambda v: v["a"] < v["b"])

    def outer() -> None:
        if choice("two", [False, True]):
            choice("left", inner)
        choice("right", inner)

    space = own(outer, lambda v: "left" not in v or v["left"]["a"] == v["right"]["b"] - 1)
    arch = every(space)
    stack = jax.tree.map(lambda *x: np.stack(x), *arch)

    def fine(v: Any) -> bool:
        parts = [v[k] for k in ("left", "right") if k in v]
        meets = "left" not in v or v["left"]["a"] == v["right"]["b"] - 1
        return meets and all(p["a"] < p["b"] for p in parts)

    naive = np.array([fine(space.values(a)) for a in arch])
    np.testing.assert_array_equal(jax.jit(jax.vmap(space.is_valid))(stack), naive)
    mended = jax.jit(lambda a: repaired(space, a))(stack)
    assert jax.jit(jax.vmap(space.is_valid))(mended).all()
    before, after = to_vector(space, stack), to_vector(space, mended)
    np.testing.assert_array_equal(before[naive], after[naive])


# ---------------------------------------------------------------------------------- mistakes


def alike() -> None:
    if choice("a", [None, 1]) is None:
        choice("b", [1, 2])


def clash() -> None:
    choice("b", [1, 2] if choice("a", [1, 2]) == 1 else [1, 3])


def relabelled() -> None:
    choice("a", {"x": 1, "y": 2})
    choice("a", {"x": 10, "y": 20})


def endless() -> None:
    i = 0
    while choice(f"more_{i}", [True, False]):
        i += 1


def itself(deep: int = 0) -> None:
    choice("a", [1, 2])
    itself(deep + 1)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: None, "calls choice(name, options) nowhere"),
        (lambda: choice("a b", [1]), "a name is a word"),
        (lambda: choice("a", []), "a list of at least one"),
        (lambda: choice("a", "conv"), "a list of at least one"),
        (lambda: choice("a", [1, "1"]), "two of them look alike"),
        (lambda: choice("a", ["x y"]), "a label is a word"),
        (lambda: sum(choice(f"c{i}", [1, 2]) for i in range(14)), "more than 300 ways"),
        (alike, "compare choices with ==, not `is`"),
        (clash, "two choices are named 'b' but differ: [1, 2] and [1, 3]"),
        (lambda: choice("block", BLOCK)[0], "cannot look into its part 'block'"),
        (endless, "asks for more than 300 choices"),
        (itself, "calls itself without an end"),
        (lambda: choice("block", own(itself)), "calls itself without an end"),
        (3, "own(3): a function is needed"),
        (lambda x: choice("a", [1, x]), "the function takes x: no argument may be needed"),
        (relabelled, "two choices are named 'a' but differ: [1, 2] and [10, 20]"),
        (lambda: choice("a", {"b": BLOCK, "c": None}), "an option is a space: alternatives(word="),
    ],
)
def test_a_function_that_cannot_be_a_space_is_refused_in_one_line(
    function: Callable, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jnas.spaces.tracing.MOST", 300)
    with pytest.raises(InputError) as caught:
        own(function)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_choice_may_be_named_by_another() -> None:
    space = own(lambda: choice(choice("kind", ["a", "b"]), [1, 2, 3]))
    assert space.distinct == 6
    assert space.values(space.parse("kind=b b=3")) == {"kind": "b", "b": 3}


def test_numbers_beyond_32_bits_are_counted_with() -> None:
    space = own(lambda: choice("a", [0, 2**40]), counts={"twice": lambda v: 2 * v["a"]})
    assert float(space.counts["twice"](space.parse(f"a={2**40}"))) == 2.0**41


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: own(lambda: choice("a", [1, 2]), counts=[1]), "functions by name are needed"),
        (lambda: own(lambda: choice("a", [1, 2]), counts={"a": 1}), "functions by name are needed"),
        (lambda: sequence(BLOCK, 2.5), "sequence from 1 to 2.5: whole numbers"),
        (lambda: sequence(BLOCK, "3"), "sequence from 1 to '3': whole numbers"),
        (lambda: sequence(3, 2), "sequence of 3: that is no space"),
    ],
)
def test_what_a_space_cannot_be_made_of_is_refused(make: Callable, told: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert told in str(caught.value)


def test_a_choice_outside_of_a_space_is_refused() -> None:
    with pytest.raises(InputError, match=r"choice\('a'\) has to be in a function that own"):
        choice("a", [1, 2])


# ----------------------------------------------------------------------------------- nesting


def test_a_grammar_of_spaces_counts_as_its_rules_do() -> None:
    leaf = alternatives(conv=own(lambda: choice("kernel", [3, 5])), pool=None)
    stage = sequence(leaf, 3, least=0)
    net = product(first=stage, second=stage, head=nas_bench_201())
    items = 1 + 3 + 3**2 + 3**3
    assert leaf.distinct == 3 and stage.distinct == items
    assert net.distinct == items**2 * 6466
    arch = jax.tree.map(lambda x: np.asarray(x[0]), sample(net, jax.random.key(3), 1))
    text = net.describe(arch)
    assert net.describe(net.parse(text)) == text
    items = net.build(arch)["first"]
    assert len(items) == int(arch["first"]["length"])
    assert all((kind == "pool" and part is None) or part in (3, 5) for kind, part in items)


def test_a_part_may_be_made_where_it_is_asked_for() -> None:
    space = own(lambda: [choice(f"block_{i}", own(block)) for i in range(2)])
    assert space.distinct == 25
    assert space.build(space.parse("block_0=(kind=pool) block_1=(kind=conv kernel=7)")) == [
        ("pool",),
        ("conv", 7),
    ]
    with pytest.raises(InputError, match="two choices are named 'x' but differ: block and lambda"):
        own(lambda: (choice("x", own(block)), choice("x", own(lambda: choice("a", [1, 2])))))


@pytest.mark.slow
def test_steps_of_a_mutation_keep_to_ordered_choices() -> None:
    space = own(lambda: [choice("act", ["relu", "tanh"]), choice("width", [8, 16, 32, 64])])
    parents = sample(space, jax.random.key(0), 200)
    children = mutate_step(space, 1.0).ask(jax.random.key(1), (), 200, propose(parents)).arch
    np.testing.assert_array_equal(children["act"], parents["act"])
    assert (jnp.abs(children["width"] - parents["width"]) == 1).all()


def test_impossible_spaces_of_spaces_are_refused() -> None:
    for make in (
        lambda: product(),
        lambda: product(a=None),  # type: ignore[arg-type]
        lambda: alternatives(a=3),  # type: ignore[arg-type]
        lambda: sequence(BLOCK, 0),
        lambda: sequence(BLOCK, 2, least=3),
    ):
        with pytest.raises(InputError):
            make()
