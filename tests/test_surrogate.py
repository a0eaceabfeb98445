"""Acquisitions, and the search that a predictor guides, against naive references."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jnas
from jnas.base import (
    Graph,
    InputError,
    Space,
    Strategy,
    Trials,
    chain,
    from_vector,
    propose,
    sample,
    size,
    template,
    to_vector,
)
from jnas.links import keep_best, mutate_one, predictor_guided, sample_uniform, select_uniform
from jnas.links.encodings import Encoding, one_hot_encoding, path_encoding
from jnas.links.graph_predictors import gcn_predictor, gin_predictor
from jnas.links.predictors import (
    Prediction,
    Predictor,
    mlp_ensemble,
)
from jnas.links.surrogate import (
    expected_improvement,
    highest_mean,
    thompson,
    upper_confidence_bound,
)

CELLS = jnas.spaces.nas_bench_201()

# ------------------------------------------------------------------------------- acquisitions


def test_acquisitions_are_their_formulas() -> None:
    predicted = Prediction(jnp.array([1.0, 2.0, 0.5]), jnp.array([0.5, 0.0, 3.0]))
    value = lambda f: np.asarray(f(jax.random.key(0), predicted, jnp.float32(1.5)))
    np.testing.assert_allclose(value(highest_mean()), [1.0, 2.0, 0.5])
    np.testing.assert_allclose(value(upper_confidence_bound(2.0)), [2.0, 2.0, 6.5])
    draws = np.random.default_rng(0).normal(size=1_000_000)
    naive = [np.maximum(m + s * draws - 1.5, 0).mean() for m, s in zip(*predicted, strict=True)]
    np.testing.assert_allclose(value(expected_improvement()), naive, rtol=0.01)


def test_thompson_draws_each_candidate_from_its_own_normal() -> None:
    n = 50_000
    predicted = Prediction(jnp.tile(jnp.array([3.0, -1.0]), n), jnp.tile(jnp.array([0.5, 2.0]), n))
    drawn = np.asarray(thompson()(jax.random.key(1), predicted, jnp.float32(0))).reshape(n, 2)
    for i, (mean, std) in enumerate(((3.0, 0.5), (-1.0, 2.0))):
        assert stats.kstest(drawn[:, i], "norm", (mean, std)).pvalue > 1e-3
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.02


# ------------------------------------------------------------------------------------- search

COUNT = Space("count", {"a": np.full(2, 3), "b": 4})  # 36 architectures


def oracle(space: Space) -> Predictor:
    """Knows the score: the sum of the choices."""
    total = lambda arch: jnp.sum(to_vector(space, arch), -1).astype(jnp.float32)
    return Predictor(
        lambda key: jnp.float32(0),
        lambda key, params, arch, score, weight: params + 1,
        lambda params, arch: Prediction(total(arch), jnp.zeros_like(total(arch))),
    )


def fixed(arch: Any) -> Strategy:
    """Proposes the same architectures again and again, their positions as trace."""
    ask = lambda key, state, n, trials=None: propose(arch)._replace(trace=jnp.arange(n))
    return Strategy(jnas.base.no_init, ask, lambda key, trials, state: (trials, state))


@pytest.mark.slow
def test_the_best_new_candidates_are_proposed_once_each_and_bring_their_trace() -> None:
    vectors = jnp.array([[2, 2, 3], [0, 1, 0], [2, 2, 3], [1, 1, 1], [2, 0, 2], [0, 0, 0]])
    candidates = fixed(from_vector(COUNT, vectors))
    link = predictor_guided(COUNT, candidates, oracle(COUNT), highest_mean(), 6, memory=4)
    state = link.init(jax.random.key(0), template(COUNT))
    first = link.ask(jax.random.key(1), state, 2)
    assert to_vector(COUNT, first.arch).tolist() == [[2, 2, 3], [2, 0, 2]]
    assert first.trace.tolist() == [0, 4]
    told = first._replace(score=jnp.array([1.0, jnp.nan]))
    _, state = link.tell(jax.random.key(2), told, state)
    second = link.ask(jax.random.key(3), state, 4)  # the failed row was not told
    assert second.trace.tolist() == [4, 3, 1, 5]
    third = link.ask(jax.random.key(4), state, 6)  # the pool dries up: repeats come last
    assert third.trace.tolist() == [4, 3, 1, 5, 0, 2]


@pytest.mark.parametrize("isomorphic", [False, True])
def test_isomorphic_architectures_count_as_one_unless_they_may_not(isomorphic: bool) -> None:
    mirrored = dataclasses.replace(
        COUNT, canonical=lambda arch: {**arch, "a": jnp.sort(arch["a"], -1)}
    )
    vectors = jnp.array([[2, 1, 0], [0, 0, 0], [0, 1, 0], [1, 2, 0]])
    candidates = fixed(from_vector(COUNT, vectors))
    link = predictor_guided(
        mirrored, candidates, oracle(COUNT), highest_mean(), 4, isomorphic=isomorphic
    )
    state = link.init(jax.random.key(0), template(COUNT))
    asked = link.ask(jax.random.key(1), state, 4).trace.tolist()
    assert asked == ([0, 3, 2, 1] if isomorphic else [0, 2, 1, 3])


@pytest.mark.slow
def test_the_predictor_learns_when_enough_rows_have_been_told_in_any_split() -> None:
    link = predictor_guided(
        COUNT, sample_uniform(COUNT), oracle(COUNT), highest_mean(), 12, refit=5
    )
    state = link.init(jax.random.key(0), template(COUNT))
    fits = []
    for i, n in enumerate((2, 2, 1, 4, 3, 12, 1)):
        trials = link.ask(jax.random.key(i), state, n)._replace(score=jnp.ones(n))
        _, state = link.tell(jax.random.key(100 + i), trials, state)
        fits.append(int(state.params))
    assert fits == [0, 0, 1, 1, 2, 3, 3]


def test_a_search_of_a_small_space_visits_every_architecture_once() -> None:
    predictor = mlp_ensemble(one_hot_encoding(COUNT), 4, 1, members=2, steps=5)
    link = predictor_guided(COUNT, sample_uniform(COUNT), predictor, thompson(), 600)
    score = jnas.evaluators.tabular(COUNT, {"x": np.arange(size(COUNT)) % 7}, "x")
    run = lambda key: jnas.search(key, link, score, COUNT, steps=9, batch=4)[1]
    seen = jnas.base.index(COUNT, jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), jax.jit(run)(jax.random.key(0)).arch))  # fmt: skip
    assert sorted(seen.tolist()) == list(range(36))


def test_bad_settings_are_refused_where_they_are_made() -> None:
    mutated = chain(keep_best(2), select_uniform(), mutate_one(COUNT))
    make = lambda **how: predictor_guided(COUNT, mutated, oracle(COUNT), highest_mean(), **how)
    cases = [
        (lambda: make(pool=0), "pool=0"),
        (lambda: make(refit=0), "refit=0"),
        (lambda: make(memory=0), "memory=0"),
        (lambda: path_encoding(COUNT), "one_hot_encoding"),
        (lambda: path_encoding(dataclasses.replace(CELLS, graph=Graph(((0, 1, 0), (1, 2, 1)))), 1),
         "shortest path has 2"),
        (lambda: path_encoding(Space("long", np.full(20, 5), graph=Graph(tuple(
            (i, i + 1, i) for i in range(20))))), "too many to encode"),
        (lambda: gin_predictor(COUNT), "use mlp_ensemble"),
        (lambda: gcn_predictor(CELLS, width=0), "width=0"),
        (lambda: gin_predictor(CELLS, steps=0), "steps=0"),
        (lambda: mlp_ensemble(Encoding(3, lambda arch: arch), depth=0), "depth=0"),
        (lambda: mlp_ensemble(Encoding(3, lambda arch: arch), members=0), "members=0"),
        (lambda: jnas.recipes.bananas(CELLS, pool=0), "pool=0"),
    ]  # fmt: skip
    for refused, told in cases:
        with pytest.raises(InputError, match=told) as caught:
            refused()
        assert "\n" not in str(caught.value)
    link = make(pool=5)
    state = link.init(jax.random.key(0), template(COUNT))
    with pytest.raises(InputError, match="pool=5: 6 proposals"):
        link.ask(jax.random.key(0), state, 6)
    with pytest.raises(ValueError, match="put it first in the chain"):
        link.ask(jax.random.key(0), state, 2, Trials(sample(COUNT, jax.random.key(0), 2)))
