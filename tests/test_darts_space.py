"""The spaces of DARTS: notation, isomorphism, the derived architecture, drawings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas import spaces
from jnas.analysis.cell_layout import parts
from jnas.base import InputError, sample, size
from jnas.spaces.darts import CANDIDATES, EDGES, OPERATIONS, PAIRS, from_supernet, top_two
from jnas.spaces.genotypes import GENOTYPES

SPACE = spaces.darts()
V2 = """DARTS_V2 = Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ("dil_conv_3x3", 2)],
    normal_concat=range(2, 6),
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=[2, 3, 4, 5])"""
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def _readable(cell: dict) -> list[frozenset]:
    """Every node of a cell as the set of its two `(operation, input)`."""
    pairs, ops = (np.asarray(cell[k]).tolist() for k in ("inputs", "ops"))
    sources = [PAIRS[i] for i in pairs]
    return [
        frozenset(zip(ops[2 * k : 2 * k + 2], sources[k], strict=True)) for k in range(len(pairs))
    ]


def test_there_are_as_many_architectures_as_the_conventions_of_the_field_give() -> None:
    assert size(SPACE) == (180 * 7**8) ** 2
    assert size(spaces.darts_supernet()) == 8**28
    assert EDGES[:5] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)) and len(EDGES) == 14
    assert CANDIDATES[0] == "none" and CANDIDATES[1:] == OPERATIONS


def test_a_genotype_is_read_as_it_stands_in_the_published_code() -> None:
    found = SPACE.parse(V2)
    assert _readable(found["normal"])[3] == {(OPERATIONS.index("skip_connect"), 0),
                                             (OPERATIONS.index("dil_conv_3x3"), 2)}  # fmt: skip
    same(found, SPACE.parse("DARTS_V2"))
    same(found, SPACE.parse(V2.replace("(2, 6)", "(2,6)").replace("\n", "")))
    assert "\n" not in SPACE.describe(found)
    assert SPACE.describe(found).startswith("Genotype(normal=[('sep_conv_3x3', 0), ")


def test_every_text_reads_back() -> None:
    for name, text in GENOTYPES.items():
        same(SPACE.parse(SPACE.describe(SPACE.parse(text))), SPACE.parse(name))
    many = sample(SPACE, jax.random.key(0), 50)
    for i in range(50):
        arch = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        same(SPACE.parse(SPACE.describe(arch)), arch)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("DARTS_V3", "'DARTS_V3': no such name; allowed: DARTS_V1, DARTS_V2"),
        ("", "no such name"),
        (V2.replace("dil_conv_3x3", "dil_conv_7x7"), "normal: unknown operation 'dil_conv_7x7'"),
        (
            V2.replace('("dil_conv_3x3", 2)', "('none', 2)"),
            "unknown operation 'none'; allowed",
        ),
        (V2.replace('("dil_conv_3x3", 2)', "('dil_conv_3x3', 5)"), "input 5: allowed are 0 to 4"),
        (V2.replace('("dil_conv_3x3", 2)', "('dil_conv_3x3', 0)"), "both inputs are 0"),
        (V2.replace('("dil_conv_3x3", 2)', "'dil_conv_3x3', 2"), "there are 9"),
        (V2.replace(', ("dil_conv_3x3", 2)', ""), "there are 7"),
        (V2.replace("[2, 3, 4, 5]", "[4, 5]"), r"reduce_concat=\[4, 5\]: nodes \[2, 3, 4, 5\]"),
        (V2.replace("reduce_concat", "other"), "the form is Genotype"),
        (V2.replace("range(2, 6)", "range(10**9)"), "the form is Genotype"),
        (V2.replace("Genotype", "print"), "the form is Genotype"),
        ("__import__('os').getcwd()", "the form is Genotype"),
        ("(" * 3000, "the form is Genotype"),
        ("Genotype" + ".a" * 1500 + "()", "the form is Genotype"),
        ("Genotype(normal=[[]], normal_concat=1, reduce=2, reduce_concat=3)", "the form is"),
    ],
)
def test_a_wrong_genotype_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30) | st.text("Genotype()[]=,'\\0", max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(InputError) as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------- isomorphism


def _orders(nodes: list[frozenset]) -> set[tuple]:
    """All ways to number the nodes of a cell so that edges go up."""
    found = set()
    for order in itertools.permutations(range(4)):
        number = {0: 0, 1: 1} | {old + 2: new + 2 for new, old in enumerate(order)}
        moved = [frozenset((op, number[s]) for op, s in nodes[old]) for old in order]
        if all(s < k + 2 for k, node in enumerate(moved) for _, s in node):
            found.add(tuple(moved))
    return found


@pytest.mark.slow
def test_the_canonical_cell_is_one_of_its_class_and_the_same_for_all_of_it() -> None:
    canonical = jax.jit(SPACE.canonical)
    many = sample(SPACE, jax.random.key(1), 300)
    found = canonical(many)
    same(canonical(found), found)
    seen: dict[frozenset, tuple] = {}
    for kind in ("normal", "reduce"):
        for i in range(300):
            before, after = (
                _readable(jax.tree.map(lambda leaf, i=i: leaf[i], x[kind])) for x in (many, found)
            )
            orders = frozenset(_orders(before))
            assert tuple(after) in orders
            assert seen.setdefault(orders, tuple(after)) == tuple(after)


@pytest.mark.slow
def test_all_wirings_fall_into_the_classes_of_an_enumeration() -> None:
    grid = np.stack(np.meshgrid(*map(np.arange, (1, 3, 6, 10)), indexing="ij"), -1).reshape(-1, 4)
    cells = {"inputs": jnp.asarray(grid), "ops": jnp.zeros((180, 8), jnp.int32)}
    found = SPACE.canonical({"normal": cells, "reduce": cells})["normal"]["inputs"]
    cell = lambda row: {"inputs": row, "ops": np.zeros(8, int)}
    classes = {frozenset(_orders(_readable(cell(row)))) for row in grid}
    assert len({tuple(row) for row in np.asarray(found).tolist()}) == len(classes) < 180


# ----------------------------------------------------------------------- from the supernet


def _derived(weights: np.ndarray, edges: np.ndarray | None = None) -> list[frozenset]:
    """The derivation as the paper describes it, in loops."""
    nodes = []
    for k in range(4):
        ranked = []
        for e, (a, b) in enumerate(EDGES):
            if b == k + 2:
                strength = max(weights[e, 1:]) * (1 if edges is None else edges[k, a])
                ranked.append((-strength, a, int(np.argmax(weights[e, 1:]))))
        nodes.append(frozenset((op, a) for _, a, op in sorted(ranked)[:2]))
    return nodes


@pytest.mark.parametrize("partial", [False, True])
def test_the_two_strongest_edges_of_every_node_are_kept(partial: bool) -> None:
    rng = np.random.default_rng(0)
    relaxed = {k: rng.dirichlet(np.ones(8), (20, 14)).astype(np.float32) for k in SPACE.num_choices}
    if partial:
        for kind in ("normal", "reduce"):
            relaxed[f"{kind}_edges"] = rng.random((20, 4, 5)).astype(np.float32)
    assert set(relaxed) == set(spaces.darts_supernet(partial).num_choices)
    found = jax.jit(top_two)(relaxed)
    assert found["normal"]["inputs"].dtype == found["normal"]["ops"].dtype == jnp.int32
    for kind, i in itertools.product(("normal", "reduce"), range(20)):
        edges = relaxed[f"{kind}_edges"][i] if partial else None
        expected = _derived(relaxed[kind][i], edges)
        assert _readable(jax.tree.map(lambda leaf, i=i: leaf[i], found[kind])) == expected


def test_kept_edges_have_their_operations_and_none_is_kept_last() -> None:
    rng = np.random.default_rng(1)
    ops = {k: rng.integers(0, 8, 14) for k in ("normal", "reduce")}
    strength = {k: rng.normal(size=14) for k in ("normal", "reduce")}
    found = from_supernet(ops, strength)
    for kind in ("normal", "reduce"):
        for k, node in enumerate(_readable(found[kind])):
            here = [e for e, (_, b) in enumerate(EDGES) if b == k + 2]
            ranked = sorted(here, key=lambda e: (ops[kind][e] == 0, -strength[kind][e]))[:2]
            expected = {(max(int(ops[kind][e]) - 1, 0), EDGES[e][0]) for e in ranked}
            assert node == expected


# ----------------------------------------------------------------------------------- drawings


def test_both_cells_are_drawn_with_their_edges() -> None:
    assert SPACE.edges is not None
    drawn = SPACE.edges(SPACE.parse("DARTS_V2"))
    assert ("normal 1", "normal 4", "dil_conv_3x3") in drawn
    assert ("reduce k-2", "reduce 3", "max_pool_3x3") in drawn
    assert len(drawn) == 2 * (8 + 4)
    cells = parts([(a, b) for a, b, _ in drawn])
    assert cells == [list(range(12)), list(range(12, 24))]
