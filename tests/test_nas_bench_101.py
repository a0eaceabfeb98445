"""NAS-Bench-101 against real records and published numbers: hashes, parameters, unique cells."""

import gzip
import itertools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED_DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas import nets, spaces
from jnas.base import InputError, from_vector, sample, size, to_vector
from jnas.nets import count_params
from jnas.spaces.nas_bench_101 import OPERATIONS, PAIRS, from_graph, matrix_of
from jnas.spaces.nas_bench_101_cells import Wirings, as_architectures, graph_hash, module_hash

SPACE = spaces.nas_bench_101()
PUBLISHED = {2: 1, 3: 6, 4: 84, 5: 2_441, 6: 62_010}
CANONICAL, VALID = jax.jit(SPACE.canonical), jax.jit(SPACE.is_valid)
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def records() -> dict[str, dict]:
    """30 real records of the benchmark, by their hash."""
    path = SHARED_DATA / "nb101_sample30.json.gz"
    if not path.exists():
        pytest.skip("the data file nb101_sample30.json.gz is not here")
    with gzip.open(path) as stream:
        return json.load(stream)


def _of_record(record: dict) -> Any:
    return from_graph(record["module_adjacency"], record["module_operations"])


def test_there_are_510_million_labelled_graphs_as_published() -> None:
    assert size(SPACE) == 2**21 * 3**5 == 509_607_936


def test_real_records_have_their_official_hash_and_parameters(records: dict[str, dict]) -> None:
    archs = [_of_record(record) for record in records.values()]
    assert [module_hash(arch) for arch in archs] == list(records)
    many = jax.tree.map(lambda *rows: np.stack(rows), *archs)
    published = [record["trainable_parameters"] for record in records.values()]
    np.testing.assert_array_equal(SPACE.counts["params"](many), published)
    assert jnp.all(VALID(many))


def test_a_record_reads_back_and_its_canonical_form_has_its_hash(records: dict[str, dict]) -> None:
    for name, record in itertools.islice(records.items(), 8):
        arch = _of_record(record)
        same(SPACE.parse(SPACE.describe(arch)), arch)
        assert module_hash(jax.device_get(CANONICAL(arch))) == name


@pytest.mark.slow
def test_the_network_itself_has_the_official_parameters(records: dict[str, dict]) -> None:
    net = nets.nas_bench_101()
    many = jax.tree.map(lambda *rows: np.stack(rows), *map(_of_record, records.values()))
    counted = jax.jit(jax.vmap(lambda arch: count_params(net, arch)))(many)
    np.testing.assert_array_equal(
        counted, [record["trainable_parameters"] for record in records.values()]
    )


@pytest.mark.parametrize("vertices", PUBLISHED)
def test_there_are_as_many_unique_cells_as_published(vertices: int) -> None:
    assert Wirings(vertices).count() == PUBLISHED[vertices]


def _cells_have_one_hash_each(vertices: int) -> None:
    graphs, ops = Wirings(vertices).cells()
    labels = [[-1, *row, -2] for row in ops.tolist()]
    hashes = {graph_hash(graph, row) for graph, row in zip(graphs, labels, strict=True)}
    assert len(graphs) == len(hashes) == PUBLISHED[vertices]
    archs = as_architectures(graphs, ops)
    assert jnp.all(VALID(archs))
    cut = lambda k: jax.tree.map(lambda leaf: leaf[k : k + 2048], archs)
    parts = [to_vector(SPACE, CANONICAL(cut(k))) for k in range(0, len(graphs), 2048)]
    forms = np.concatenate(jax.device_get(parts))
    assert len(np.unique(forms, axis=0)) == PUBLISHED[vertices]


@pytest.mark.parametrize("vertices", [2, 3, 4])
def test_unique_cells_differ_in_hash_and_in_canonical_form(vertices: int) -> None:
    _cells_have_one_hash_each(vertices)


@pytest.mark.slow
@pytest.mark.parametrize("vertices", [5, 6])
def test_all_unique_cells_differ_in_hash_and_in_canonical_form(vertices: int) -> None:
    _cells_have_one_hash_each(vertices)


@pytest.mark.slow
def test_all_labelled_graphs_of_four_vertices_fall_into_the_published_classes() -> None:
    """By brute force over all bits and operations, hashed by the official rule."""
    inside = [k for k, (a, b) in enumerate(PAIRS) if {a, b} <= {0, 1, 2, 6}]
    rows = []
    for bits in itertools.product((0, 1), repeat=len(inside)):
        for ops in itertools.product(range(3), repeat=2):
            edges = np.zeros(len(PAIRS), np.int32)
            edges[inside] = bits
            rows.append(np.concatenate([edges, ops, [0, 0, 0]]))
    archs = from_vector(SPACE, jnp.asarray(np.stack(rows), jnp.int32))
    valid = np.asarray(VALID(archs))
    forms = np.asarray(to_vector(SPACE, CANONICAL(archs)))
    by_hash: dict[str, tuple] = {}
    for i in np.flatnonzero(valid):
        arch = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), archs)
        assert by_hash.setdefault(module_hash(arch), tuple(forms[i])) == tuple(forms[i])
    assert len(by_hash) == len(set(by_hash.values())) == 1 + 6 + 84


@pytest.mark.slow
def test_the_order_of_the_vertices_does_not_matter() -> None:
    """Random relabellings of random cells that keep every edge upward."""
    rng = np.random.default_rng(0)
    many = jax.device_get(sample(SPACE, jax.random.key(0), 30))
    seen = 0
    for i in range(30):
        arch = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        full = np.zeros((7, 7), int)
        full[tuple(np.asarray(PAIRS).T)] = arch["edges"]
        for _ in range(20):
            order = [0, *(1 + rng.permutation(5)), 6]
            moved = full[np.ix_(order, order)]
            if np.tril(moved).any():
                continue
            names = ["input", *(OPERATIONS[arch["ops"][v - 1]] for v in order[1:-1]), "output"]
            other = from_graph(moved.tolist(), names)
            same(CANONICAL(arch), CANONICAL(other))
            assert module_hash(arch) == module_hash(other)
            seen += not np.array_equal(moved, full)
    assert seen > 10


def test_the_canonical_form_is_its_own_and_invalid_ones_stay_invalid() -> None:
    many = from_vector(SPACE, jax.random.randint(jax.random.key(1), (300, 26), 0, 2))
    once = CANONICAL(many)
    same(CANONICAL(once), once)
    np.testing.assert_array_equal(VALID(once), VALID(many))


@pytest.mark.slow
def test_repair_makes_valid_what_is_not_and_leaves_the_rest() -> None:
    choose = jax.random.bernoulli(jax.random.key(2), 0.5, (400, 26)).astype(jnp.int32)
    sparse = choose * jax.random.bernoulli(jax.random.key(3), 0.3, (400, 26))
    full = jnp.ones((1, 26), jnp.int32)
    archs = from_vector(SPACE, jnp.concatenate([choose, sparse, full]))
    valid = VALID(archs)
    fixed = jax.jit(SPACE.repair)(archs)
    assert jnp.all(VALID(fixed)) and 0.1 < jnp.mean(valid) < 0.9
    kept = jnp.all(to_vector(SPACE, fixed) == to_vector(SPACE, archs), -1)
    np.testing.assert_array_equal(kept, valid)
    assert jnp.sum(matrix_of(jax.tree.map(lambda leaf: leaf[-1], fixed))) == 9


GOOD = SPACE.describe(
    {"edges": np.eye(21, dtype=np.int32)[5], "ops": np.asarray([0, 1, 2, 0, 1], np.int32)}
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            GOOD.replace("maxpool3x3", "maxpool5x5"),
            "unknown operation 'maxpool5x5'; allowed",
        ),
        (GOOD.replace("'input'", "'output'"), "the first vertex is 'input'"),
        ("ModelSpec(matrix=[[0, 1], [1, 0]], ops=['input', 'output'])", "an edge has to go up"),
        ("ModelSpec(matrix=[[0, 2], [0, 0]], ops=['input', 'output'])", "2 x 2 numbers 0 or 1"),
        ("ModelSpec(matrix=[[0]], ops=['input'])", "1 vertices; there can be 2 to 7"),
        ("ModelSpec(matrix=[[0, 1]], ops=['input', 'output'])", "need a matrix of 2 x 2"),
        ("print(1)", "the form is ModelSpec"),
        ("ModelSpec(matrix=1, ops=2)", "the form is ModelSpec"),
        ("", "the form is ModelSpec"),
        ("(" * 3000, "the form is ModelSpec"),
    ],
)
def test_a_wrong_text_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30) | st.text("ModelSpec()[]=,'01", max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(InputError):
        SPACE.parse(text)


def test_a_smaller_matrix_is_read_and_drawn() -> None:
    arch = SPACE.parse(
        "ModelSpec([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ['input', 'maxpool3x3', 'output'])"
    )
    assert SPACE.edges is not None
    assert SPACE.edges(arch) == [
        ("input", "1 maxpool3x3", ""), ("input", "output", ""), ("1 maxpool3x3", "output", "")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"image": 30}, "image size 30: .* multiple of 4"),
        ({"channels": 4}, "channels=4: .* at least 5"),
        ({"modules": 0}, "modules=0: .* at least 1"),
    ],
)
def test_a_network_that_cannot_be_is_refused(setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        spaces.nas_bench_101(**setting)
