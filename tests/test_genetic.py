"""Selection, crossover and mutation, against exact chances and naive references."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jnas.base import InputError, Space, Strategy, Trials, chain, choice_counts, template, to_vector
from jnas.links import (
    crossover_multi_point,
    crossover_one_point,
    crossover_two_point,
    crossover_uniform,
    flip_bits,
    keep_best,
    keep_elite,
    keep_generation,
    mutate_one,
    mutate_resample,
    mutate_step,
    select_rank_exponential,
    select_rank_linear,
    select_roulette,
    select_tournament,
    select_truncation,
    select_uniform,
)

DRAWS = 60_000
LINE = Space("line", 1000)  # an architecture is a number: easy to follow
MIXED = Space("mixed", {"a": np.array([[2, 3, 5], [1, 4, 2]]), "b": 4, "c": np.array([6, 2])})


def memory_of(scores: list[float], weights: list[float]) -> Trials:
    return Trials(
        jnp.arange(len(scores), dtype=jnp.int32), jnp.asarray(scores), weight=jnp.asarray(weights)
    )


def picked(link: Strategy, memory: Trials, arity: int = 1) -> np.ndarray:
    """How often each row was drawn."""
    chosen = jax.jit(lambda m: link.ask(jax.random.key(17), (), DRAWS // arity, m))(memory)
    return np.bincount(np.ravel(chosen.arch), minlength=memory.arch.shape[0])


# ---------------------------------------------------------------------------------- selection

SCORES = [3.0, 9.0, -1.0, 50.0, 8.0, 3.0, 3.0]
WEIGHTS = [1.0, 1.0, 1.0, 0.0, 1.0, 0.5, 1.0]
LIVE = [0, 1, 2, 4, 5, 6]


def rank_chances(by_rank: list[float]) -> list[float]:
    """The chance of each live row from the chances of the ranks: equal scores share theirs."""
    order = sorted(LIVE, key=lambda i: -SCORES[i])
    total = sum(by_rank)
    tied = {s: [by_rank[r] for r, i in enumerate(order) if SCORES[i] == s] for s in SCORES}
    return [float(np.mean(tied[SCORES[i]])) / total for i in LIVE]


CASES = {
    "roulette above the worst": (select_roulette, {}, [4, 10, 0, 9, 4, 4]),
    "roulette above 0": (select_roulette, {"baseline": 0.0}, [3, 9, 0, 8, 3, 3]),
    "roulette above -2": (select_roulette, {"baseline": -2.0}, [5, 11, 1, 10, 5, 5]),
    "roulette above all": (select_roulette, {"baseline": 60.0}, [1] * 6),
    "linear rank": (
        select_rank_linear,
        {"pressure": 1.6},
        rank_chances([1.6 - 1.2 * r / 5 for r in range(6)]),
    ),
    "steepest linear rank": (
        select_rank_linear,
        {"pressure": 2.0},
        rank_chances([5, 4, 3, 2, 1, 0]),
    ),
    "exponential rank": (
        select_rank_exponential,
        {"decay": 0.6},
        rank_chances([0.6**r for r in range(6)]),
    ),
    "truncation": (select_truncation, {"fraction": 0.5}, [1, 1, 0, 1, 0, 0]),
    "truncation to one": (select_truncation, {"fraction": 0.01}, [0, 1, 0, 0, 0, 0]),
    "no truncation": (select_truncation, {"fraction": 1.0}, [1] * 6),
}


@pytest.mark.parametrize("arity", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_a_selection_draws_every_row_as_often_as_its_formula_says(case: str, arity: int) -> None:
    make, settings, parts = CASES[case]
    counts = picked(make(**settings, arity=arity), memory_of(SCORES, WEIGHTS), arity)
    chance = np.asarray(parts) / np.sum(parts)
    assert counts[3] == 0, "a row of weight 0 is never drawn"
    assert (counts[LIVE][chance == 0] == 0).all(), "a row without a chance is never drawn"
    some = chance > 0
    if some.sum() > 1:
        assert stats.chisquare(counts[LIVE][some], DRAWS * chance[some]).pvalue > 1e-3


@pytest.mark.parametrize("make", [select_roulette, select_rank_linear, select_rank_exponential])
@pytest.mark.parametrize("score", [0.0, -7.0, 3e38, 1e-40])
def test_equal_scores_have_equal_chances(make: Any, score: float) -> None:
    counts = picked(make(), memory_of([score] * 5, [1.0, 1.0, 0.0, 1.0, 1.0]))
    assert counts[2] == 0
    assert stats.chisquare(counts[[0, 1, 3, 4]]).pvalue > 1e-3


def test_a_roulette_holds_scores_from_end_to_end_of_the_floats() -> None:
    counts = picked(select_roulette(), memory_of([-3.4e38, 0.0, 3.4e38], [1.0] * 3))
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], [DRAWS / 3, DRAWS * 2 / 3]).pvalue > 1e-3


@pytest.mark.parametrize("make", [select_roulette, select_rank_linear, select_rank_exponential])
def test_one_live_row_is_always_drawn_and_an_empty_memory_draws_something(make: Any) -> None:
    assert picked(make(), memory_of([5.0, 2.0, 1.0], [0.0, 1.0, 0.0]))[1] == DRAWS
    assert picked(make(), memory_of([5.0, 2.0], [0.0, 0.0])).sum() == DRAWS


@pytest.mark.parametrize("link", [select_tournament(2, arity=2), select_uniform(arity=2)])
def test_two_parents_of_a_child_are_drawn_apart(link: Strategy) -> None:
    memory = memory_of([1.0, 2.0, 3.0], [1.0] * 3)
    pairs = link.ask(jax.random.key(5), (), DRAWS, memory)
    assert pairs.arch.shape == pairs.score.shape == pairs.weight.shape == (DRAWS, 2)
    assert (pairs.score == pairs.arch + 1).all(), "rows stay whole"
    table = np.zeros((3, 3))
    np.add.at(table, tuple(np.asarray(pairs.arch).T), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.chisquare(table.sum(1), table.sum(0)).pvalue > 1e-3


@pytest.mark.parametrize("make", [select_uniform, lambda arity: select_tournament(3, arity)])
def test_the_parents_of_one_child_each_are_the_pairs_taken_apart(make: Any) -> None:
    memory = memory_of(list(range(9)), [1.0] * 9)
    single = make(arity=1).ask(jax.random.key(1), (), 40, memory)
    pairs = make(arity=2).ask(jax.random.key(1), (), 20, memory)
    assert (single.arch == pairs.arch.ravel()).all()


# ---------------------------------------------------------------------------------- crossover


def two_parents(n: int) -> Trials:
    """Pairs whose first is all 0 and whose second is all 1, of a space of 7 choices in 2 leaves."""
    pair = lambda shape: jnp.stack([jnp.zeros(shape, jnp.int32), jnp.ones(shape, jnp.int32)])
    arch = {"a": pair((2, 2)), "b": pair((3,))}
    arch = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), arch)
    kept = jnp.broadcast_to(jnp.array([0.1, 0.2]), (n, 2))
    return Trials(arch, jnp.zeros((n, 2)), weight=jnp.ones((n, 2)), metrics={"rate": kept})


def children(link: Strategy) -> np.ndarray:
    """The choices of many children, `[DRAWS, 7]`: which parent each is of."""
    found = jax.jit(lambda: link.ask(jax.random.key(2), (), DRAWS, two_parents(DRAWS)))()
    assert found.score is None and (found.weight == 1).all()
    assert (found.metrics["rate"] == jnp.float32(0.1)).all(), "the first parent's"
    assert found.arch["a"].shape == (DRAWS, 2, 2) and found.arch["b"].shape == (DRAWS, 3)
    flat = [np.asarray(found.arch[k]).reshape(DRAWS, -1) for k in ("a", "b")]
    return np.concatenate(flat, 1)


def naive_children(points: int) -> dict[tuple[int, ...], float]:
    """The chance of every child of a crossover at `points` cuts, by enumeration."""
    chance: dict[tuple[int, ...], float] = {}
    every = list(itertools.combinations(range(1, 7), points))
    for cuts in every:
        child, parent = [], 0
        for place in range(7):
            if place in cuts:
                parent = 1 - parent
            child.append(parent)
        chance[tuple(child)] = chance.get(tuple(child), 0.0) + 1 / len(every)
    return chance


def chi_square_of(found: np.ndarray, chance: dict[tuple[int, ...], float]) -> float:
    kinds, counts = np.unique(found, axis=0, return_counts=True)
    seen = dict(zip(map(tuple, kinds.tolist()), counts, strict=True))
    assert set(seen) <= set(chance)
    expected = np.asarray(list(chance.values())) * len(found)
    return stats.chisquare([seen.get(kind, 0) for kind in chance], expected).pvalue


@pytest.mark.parametrize("rate", [1.0, 0.7, 0.0])
@pytest.mark.parametrize(
    ("make", "points"),
    [
        (crossover_one_point, 1),
        (crossover_two_point, 2),
        (lambda rate: crossover_multi_point(3, rate), 3),
        (lambda rate: crossover_multi_point(5, rate), 5),
        (lambda rate: crossover_multi_point(6, rate), 6),
    ],
)
def test_children_of_a_crossover_at_points_come_as_often_as_enumeration_says(
    make: Any, points: int, rate: float
) -> None:
    chance = {kind: rate * p for kind, p in naive_children(points).items()}
    first = (0,) * 7
    chance[first] = chance.get(first, 0.0) + 1 - rate
    chance = {kind: p for kind, p in chance.items() if p > 0}
    found = children(make(rate))
    if len(chance) == 1:
        assert (found == next(iter(chance))).all()
    else:
        assert chi_square_of(found, chance) > 1e-3


@pytest.mark.parametrize(("rate", "swap"), [(1.0, 0.5), (0.6, 0.5), (1.0, 0.2), (0.6, 0.2)])
def test_a_uniform_crossover_takes_each_choice_from_either_parent(rate: float, swap: float) -> None:
    chance = {
        kind: rate * float(np.prod([swap if gene else 1 - swap for gene in kind]))
        for kind in itertools.product((0, 1), repeat=7)
    }
    chance[(0,) * 7] += 1 - rate
    assert chi_square_of(children(crossover_uniform(rate, swap)), chance) > 1e-3


def test_a_crossover_has_as_many_cuts_as_the_architecture_has_room_for() -> None:
    with pytest.raises(InputError, match="7 points, but an architecture of 7 choices has 6"):
        children(crossover_multi_point(7))
    with pytest.raises(InputError, match=r"crossover_multi_point\(0\)"):
        crossover_multi_point(0)


# ----------------------------------------------------------------------------------- mutation


def mutants(link: Strategy, space: Space, parent: Any) -> np.ndarray:
    """The choices of many children of one parent, `[DRAWS, L]`."""
    parents = jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x), (DRAWS, *x.shape)), parent)
    ask = jax.jit(lambda p: link.ask(jax.random.key(3), (), DRAWS, Trials(p)).arch)
    return np.asarray(to_vector(space, ask(parents)))


PARENT = {"a": np.array([[1, 0, 3], [0, 3, 0]]), "b": np.int32(2), "c": np.array([0, 1])}
PARENT = jax.tree.map(lambda x: x.astype(np.int32), PARENT)


def independent(changed: np.ndarray) -> bool:
    """Whether the columns of a boolean array look drawn apart from each other."""
    together = np.corrcoef(changed[:, changed.any(0)].T)
    return bool(np.abs(together - np.eye(len(together))).max() < 5 / np.sqrt(DRAWS))


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_mutate_resample_changes_each_choice_at_its_rate_to_any_other(rate: float) -> None:
    found, parent = mutants(mutate_resample(MIXED, rate), MIXED, PARENT), to_vector(MIXED, PARENT)
    for place, count in enumerate(choice_counts(MIXED)):
        counts = np.bincount(found[:, place], minlength=count)
        assert len(counts) == count
        chance = np.full(count, rate / max(count - 1, 1))
        chance[parent[place]] = 1 - rate if count > 1 else 1.0
        some = chance > 0
        assert (counts[~some] == 0).all()
        if some.sum() > 1:
            assert stats.chisquare(counts[some], DRAWS * chance[some]).pvalue > 1e-4
    if rate < 1:
        assert independent(found != np.asarray(parent))


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0])
def test_flip_bits_flips_binary_choices_only(rate: float) -> None:
    found, parent = mutants(flip_bits(MIXED, rate), MIXED, PARENT), to_vector(MIXED, PARENT)
    flipped, binary = found != np.asarray(parent), choice_counts(MIXED) == 2
    assert not flipped[:, ~binary].any() and found.max(0)[binary].max() <= 1
    for n in flipped[:, binary].sum(0):
        assert stats.binomtest(int(n), DRAWS, rate).pvalue > 1e-4
    assert rate == 1 or independent(flipped)


@pytest.mark.parametrize("reflect", [True, False])
@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_mutate_step_moves_by_one_and_turns_or_stays_at_the_ends(
    rate: float, reflect: bool
) -> None:
    link = mutate_step(MIXED, rate, reflect=reflect)
    found, parent = mutants(link, MIXED, PARENT), np.asarray(to_vector(MIXED, PARENT))
    for place, count in enumerate(choice_counts(MIXED)):
        chance = np.zeros(count)
        chance[parent[place]] += 1 - rate
        for step in (1, -1):
            to = parent[place] + step
            if not 0 <= to < count:
                to = parent[place] - step if reflect else parent[place]
            chance[to if count > 1 else parent[place]] += rate / 2
        counts, some = np.bincount(found[:, place], minlength=count), chance > 0
        assert (counts[~some] == 0).all()
        if some.sum() > 1:
            assert stats.chisquare(counts[some], DRAWS * chance[some]).pvalue > 1e-4
    assert reflect or rate == 1 or independent(found != parent)


def test_mutate_step_leaves_places_that_are_not_ordered() -> None:
    ordered = {"a": np.array([[True, False, True], [True, False, False]]), "b": False, "c": True}
    found = mutants(mutate_step(MIXED, 1.0, ordered), MIXED, PARENT)
    moved = (found != np.asarray(to_vector(MIXED, PARENT))).all(0)
    assert moved.tolist() == [True, False, True, False, False, False, False, True, True]


@pytest.mark.parametrize("make", [mutate_resample, flip_bits, mutate_step])
def test_a_rate_may_be_traced_or_differ_from_child_to_child(make: Any) -> None:
    parents = jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x), (64, *x.shape)), PARENT)
    ask = lambda rate: make(MIXED, rate).ask(jax.random.key(4), (), 64, Trials(parents)).arch
    grid = jnp.array([0.0, 0.25, 1.0])
    many = jax.jit(jax.vmap(ask))(grid)
    for i, rate in enumerate(grid.tolist()):
        one = jax.tree.map(lambda x, i=i: x[i], many)
        jax.tree.map(np.testing.assert_array_equal, one, ask(rate))
    mixed = ask(jnp.where(jnp.arange(64) < 32, 0.25, 0.0))
    expected = jax.tree.map(lambda a, b: jnp.concatenate([a[:32], b[32:]]), ask(0.25), ask(0.0))
    jax.tree.map(np.testing.assert_array_equal, mixed, expected)


# ------------------------------------------------------------------------- impossible settings


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: keep_generation(3, 2), r"keep_generation\(3, 2\): 1 <= mu"),
        (lambda: keep_elite(keep_best(2), 0), r"size=0"),
        (lambda: select_rank_linear(2.5), r"pressure=2.5.* in \[1, 2\]"),
        (lambda: select_rank_exponential(1.0), r"decay=1.0.* between 0 and 1"),
        (lambda: select_truncation(0.0), r"fraction=0.0.* in \(0, 1\]"),
        (lambda: select_roulette(arity=0), r"select_roulette\(arity=0\).* at least 1"),
        (lambda: crossover_one_point(1.5), r"crossover_one_point\(rate=1.5\)"),
        (lambda: crossover_uniform(1.0, -0.1), r"swap=-0.1"),
        (lambda: mutate_resample(LINE, 2), r"mutate_resample\(rate=2\).* in \[0, 1\]"),
        (lambda: mutate_resample(LINE, "high"), r"rate='high'"),
        (lambda: mutate_resample(LINE, np.array([0.5, 2.0])), r"rate=array"),
        (lambda: flip_bits(LINE, 0.5), "space 'line' has no choice that it could change"),
        (lambda: mutate_step(MIXED, 0.5, {"a": True}), "tree of booleans"),
        (lambda: mutate_step(MIXED, 0.5, {"a": [1, 0], "b": 1, "c": 1}), "tree of booleans"),
        (lambda: mutate_step(LINE, 0.5, False), "no choice that it could change"),
    ],
)
def test_impossible_settings_are_refused_where_the_link_is_made(make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_child_of_two_parents_needs_a_crossover() -> None:
    pairs = chain(keep_best(4), select_uniform(arity=2))
    for link in (mutate_one(MIXED), mutate_resample(MIXED, 0.1)):
        strategy = chain(pairs, link)
        state = strategy.init(jax.random.key(0), template(MIXED))
        with pytest.raises(ValueError, match="2 parents for each child: put a crossover"):
            strategy.ask(jax.random.key(0), state, 6)
