"""The memory of an evaluator: nothing is evaluated twice, and all else is as without it."""

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import jnas
from jnas import lookup
from jnas.base import Evaluator, InputError, Space, Strategy, Trials, propose, sample
from jnas.evaluators import Examples, Training, remembered, tabular, train
from jnas.evaluators.plans import population
from jnas.links import sample_uniform
from jnas.nets import OneOf, functional
from jnas.spaces.nas_bench_201 import all_cells

CELLS = jnas.spaces.nas_bench_201()
NONE, SKIP, CONV = 0, 1, 3


# ----------------------------------------------------------------------------- the lookup


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=24, max_size=24), st.integers(0, 2**24 - 1))
def test_a_lookup_is_a_queue_of_distinct_vectors(values: list[int], mask: int) -> None:
    vectors = np.stack([np.asarray(values) // 5, np.asarray(values) % 5], -1).astype(np.int32)
    wanted = np.asarray([mask >> i & 1 for i in range(24)], bool)
    queue: collections.deque = collections.deque(maxlen=4)
    number: dict[tuple, int] = {}
    now, count = EMPTY, 0
    for i in range(0, 24, 3):
        now, places = INSERT(now, vectors[i : i + 3], wanted[i : i + 3])
        put = []
        for vector, want in zip(vectors[i : i + 3].tolist(), wanted[i : i + 3], strict=True):
            if want and tuple(vector) not in queue:
                queue.append(tuple(vector))
                number[tuple(vector)] = count
                put.append(count % 4)
                count += 1
            else:
                put.append(4)
        np.testing.assert_array_equal(places, put)
    every = np.stack(np.meshgrid(range(2), range(5), indexing="ij"), -1).reshape(-1, 2)
    expected = [number[tuple(v)] if tuple(v) in queue else lookup.NONE for v in every.tolist()]
    np.testing.assert_array_equal(FIND(now, every.astype(np.int32)), expected)


EMPTY = lookup.empty(4, 2)
INSERT = jax.jit(lookup.insert)
FIND = jax.jit(jax.vmap(lookup.find, (None, 0)))


def test_a_lookup_takes_a_batch_that_is_larger_than_itself() -> None:
    vectors = jnp.asarray([[0, i % 7] for i in range(10)], jnp.int32)
    now, places = INSERT(EMPTY, vectors, jnp.ones(10, bool))
    # 0 1 2 3 4 5 6 in, of which the first are out again when they come back
    np.testing.assert_array_equal(places, [4, 4, 4, 4, 4, 4, 2, 3, 0, 1])
    np.testing.assert_array_equal(FIND(now, vectors[:7]), [7, 8, 9, -1, -1, -1, 6])


def test_thousands_of_cells_are_found_again() -> None:
    cells = jnas.spaces.nas_bench_201()
    vectors = jnas.base.from_index(cells, jnp.arange(3000))
    now, _ = INSERT(lookup.empty(2500, 6), vectors, jnp.ones(3000, bool))
    np.testing.assert_array_equal(FIND(now, vectors), [-1] * 500 + list(range(500, 3000)))


def test_the_first_of_equal_vectors_is_found() -> None:
    vectors = jnp.asarray([[1, 2], [2, 1], [1, 2], [3, 3], [2, 1]], jnp.int32)
    np.testing.assert_array_equal(lookup.repeats(vectors), [0, 1, 0, 3, 1])


# -------------------------------------------------------------------- counted evaluations


class Counted:
    """An evaluator that notes on the host every row that it evaluates; scores are draws."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def evaluator(self) -> Evaluator:
        def one(row: Any) -> jax.Array:
            key, arch, live = row

            def work(arch: jax.Array) -> jax.Array:
                jax.debug.callback(lambda a: self.rows.append(np.asarray(a).tolist()), arch)
                return jax.random.uniform(key)

            return jax.lax.cond(live, work, lambda arch: jnp.float32(0), arch)

        def evaluate(key: jax.Array, trials: Trials, state: jax.Array) -> tuple[Trials, jax.Array]:
            n = trials.arch.shape[0]
            score = population(one)((jax.random.split(key, n), trials.arch, trials.weight > 0))
            return trials._replace(score=score, metrics={"twice": 2 * score}), state + 1

        return Evaluator(lambda key: jnp.int32(0), evaluate)


def fixed(archs: np.ndarray) -> Strategy:
    """Proposes given architectures, `[rounds, n, ...]`, one round after another."""

    def tell(key: jax.Array, trials: Trials, state: jax.Array) -> tuple[Trials, jax.Array]:
        return trials, state + 1

    def ask(key: jax.Array, state: jax.Array, n: int, trials: Any = None) -> Trials:
        return propose(jnp.asarray(archs)[state])

    return Strategy(lambda key, arch: jnp.int32(0), ask, tell)


def searched(evaluator: Evaluator, strategy: Strategy, steps: int, batch: int) -> Trials:
    run = jax.jit(
        lambda key: jnas.search(key, strategy, evaluator, CELLS, steps=steps, batch=batch)[1]
    )
    found = jax.block_until_ready(run(jax.random.key(0)))
    jax.effects_barrier()
    return found


@pytest.mark.slow
def test_an_isomorphic_cell_costs_nothing_and_has_the_results_of_the_first() -> None:
    a, other = [CONV, NONE, NONE, SKIP, NONE, CONV], [CONV, NONE, NONE, SKIP, CONV, CONV]
    twins = [cell for cell in _isomorphic(a) if cell != a][:2]
    assert len(twins) == 2 and other not in _isomorphic(a)
    rounds = np.asarray([[a, twins[0], other], [twins[1], a, other]], np.int32)
    counted = Counted()
    found = searched(remembered(counted.evaluator(), CELLS, 10), fixed(rounds), 2, 3)
    assert counted.rows == [a, other]
    np.testing.assert_array_equal(found.metrics["repeated"], [[0, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(found.score, [found.score[0, jnp.asarray([0, 0, 2])]] * 2)
    assert found.score[0, 0] != found.score[0, 2]
    np.testing.assert_array_equal(found.metrics["twice"], 2 * found.score)
    assert (found.weight == 1).all()


def _isomorphic(cell: list[int]) -> list[list[int]]:
    """All cells of the same canonical form."""
    forms = np.asarray(jax.vmap(CELLS.canonical)(all_cells()))
    return all_cells()[(forms == np.asarray(CELLS.canonical(jnp.asarray(cell)))).all(-1)].tolist()


@pytest.mark.slow
def test_without_repeats_a_history_is_the_one_without_memory() -> None:
    forms = jax.vmap(CELLS.canonical)(sample(CELLS, jax.random.key(2), 60))
    distinct = np.unique(np.asarray(forms), axis=0)
    rounds = distinct[:40].reshape(10, 4, 6)
    plain = searched(Counted().evaluator(), fixed(rounds), 10, 4)
    memory = searched(remembered(Counted().evaluator(), CELLS, 7), fixed(rounds), 10, 4)
    assert (memory.metrics.pop("repeated") == 0).all()
    jax.tree.map(np.testing.assert_array_equal, memory, plain)


def test_every_form_is_evaluated_once_and_then_known_for_as_long_as_the_memory_is() -> None:
    counted = Counted()
    few = Space("few", np.full(6, 2))  # of the cells too: operations 0 and 1
    found = searched(remembered(counted.evaluator(), few, 64), sample_uniform(few), 30, 5)
    assert len(counted.rows) == len({tuple(r) for r in counted.rows})
    assert len(counted.rows) == int((found.metrics["repeated"] == 0).sum()) < 64
    by_form: dict[tuple, set[float]] = collections.defaultdict(set)
    for arch, score in zip(found.arch.reshape(-1, 6).tolist(), np.ravel(found.score), strict=True):
        by_form[tuple(arch)].add(float(score))
    assert all(len(scores) == 1 for scores in by_form.values())


def test_a_memory_of_one_forgets() -> None:
    a, b = [[1, 1, 1, 1, 1, 3]], [[3, 3, 3, 3, 3, 3]]
    counted = Counted()
    searched(remembered(counted.evaluator(), CELLS, 1), fixed(np.asarray([a, b, b, a])), 4, 1)
    assert counted.rows == [a[0], b[0], a[0]]


def test_a_failure_is_not_remembered_but_shared_within_its_batch() -> None:
    table = {"score": np.zeros(CELLS_SIZE, np.float32)}
    a, b = np.full(6, CONV), np.asarray([CONV] * 5 + [SKIP])
    table["score"][int(jnas.base.index(CELLS, a))] = np.nan
    evaluator = remembered(tabular(CELLS, table, "score"), CELLS, 4)
    found = searched(evaluator, fixed(np.asarray([[a, a, b], [a, b, b]])), 2, 3)
    np.testing.assert_array_equal(found.weight, [[0, 0, 1], [0, 1, 1]])
    np.testing.assert_array_equal(found.metrics["repeated"], [[0, 1, 0], [0, 1, 1]])


CELLS_SIZE = jnas.base.size(CELLS)


@pytest.mark.slow
def test_a_row_of_weight_0_is_neither_evaluated_nor_known() -> None:
    counted = Counted()
    evaluator = remembered(counted.evaluator(), CELLS, 4)
    trials = propose(jnp.full((3, 6), CONV, jnp.int32))._replace(weight=jnp.asarray([0.0, 1, 1]))
    found, state = evaluator.evaluate(jax.random.key(1), trials, evaluator.init(jax.random.key(0)))
    jax.effects_barrier()
    assert len(counted.rows) == 1 and state.seen.told == 1
    np.testing.assert_array_equal(found.weight, [0, 1, 1])
    np.testing.assert_array_equal(found.metrics["repeated"], [0, 0, 1])


@pytest.mark.slow
def test_another_budget_is_another_evaluation() -> None:
    counted = Counted()
    evaluator = remembered(counted.evaluator(), CELLS, 4)
    trials = propose(jnp.full((3, 6), CONV, jnp.int32))._replace(budget=jnp.asarray([0.5, 1, 0.5]))
    found, _ = evaluator.evaluate(jax.random.key(1), trials, evaluator.init(jax.random.key(0)))
    jax.effects_barrier()
    assert len(counted.rows) == 2
    np.testing.assert_array_equal(found.metrics["repeated"], [0, 0, 1])


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "9"])
def test_a_size_that_cannot_be_is_refused(size: Any) -> None:
    with pytest.raises(InputError, match="size="):
        remembered(Counted().evaluator(), CELLS, size)


# ------------------------------------------------------------------------- real training


class Tiny(nnx.Module):
    """A choice between two layers; it notes on the host when a row's first step is taken."""

    def __init__(self, rngs: nnx.Rngs):
        self.op = OneOf({str(n): nnx.Linear(4, 3, rngs=rngs) for n in range(3)}, name="op")

    def __call__(self, x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: STEPS.append(1))
        return self.op(x)


STEPS: list[int] = []
NET = functional(Tiny)


def _trained(weights: list[float], plan: str) -> tuple[Trials, int]:
    rng = np.random.default_rng(0)
    data = Examples(rng.normal(size=(32, 4)).astype(np.float32), rng.integers(0, 3, 32))
    evaluator = train(NET, Training(optax.sgd(0.1), 3, 16), data, data, classes=3, plan=plan)
    trials = propose({"op": jnp.asarray([0, 1, 2, 1], jnp.int32)})
    trials = trials._replace(weight=jnp.asarray(weights))
    STEPS.clear()
    run = jax.jit(lambda key, trials: evaluator.evaluate(key, trials, ())[0])
    found = jax.block_until_ready(run(jax.random.key(0), trials))
    jax.effects_barrier()
    return found, len(STEPS)


@pytest.mark.slow
def test_the_plan_map_does_not_train_rows_of_weight_0() -> None:
    whole, steps = _trained([1, 1, 1, 1], "map")
    part, fewer = _trained([1, 0, 1, 0], "map")
    none, nothing = _trained([0, 0, 0, 0], "map")
    assert fewer * 2 == steps > 0 == nothing
    np.testing.assert_array_equal(part.weight, [1, 0, 1, 0])
    np.testing.assert_array_equal(part.score, whole.score * jnp.asarray([1, 0, 1, 0]))
    assert (none.weight == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["vmap", "grouped"])
def test_the_other_plans_mask_rows_of_weight_0(plan: str) -> None:
    whole, _ = _trained([1, 1, 1, 1], "map")
    part, _ = _trained([1, 0, 1, 0], plan)
    np.testing.assert_array_equal(part.weight, [1, 0, 1, 0])
    np.testing.assert_allclose(part.score, whole.score * jnp.asarray([1, 0, 1, 0]), atol=1e-5)
