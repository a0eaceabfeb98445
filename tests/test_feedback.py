"""Feedback links against their papers' formulas, computed by hand; links that draw again."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jnas import links
from jnas.base import InputError, Space, Strategy, Trials, chain, propose, template
from jnas.evaluators import scored
from jnas.links import mutate_one, sample_uniform, select_uniform

LINE = Space("line", 1000, counts={"width": lambda arch: arch})
# Four rows; the last one is not there.
SCORE, LATENCY, WEIGHT = [0.8, 0.6, 0.9, 0.5], [40.0, 80.0, 160.0, 1e9], [1.0, 1.0, 1.0, 0.0]


def told(link: Strategy, score: Any = SCORE, weight: Any = WEIGHT, **metrics: Any) -> Trials:
    """What a link passes on."""
    metrics = {k: jnp.asarray(v) for k, v in (metrics or {"latency": LATENCY}).items()}
    arch = jnp.arange(len(score), dtype=jnp.int32)
    trials = Trials(arch, jnp.asarray(score), weight=jnp.asarray(weight), metrics=metrics)
    return link.tell(jax.random.key(0), trials, ())[0]


def gives(link: Strategy, expected: list[float], **given: Any) -> None:
    found = told(link, **given)
    np.testing.assert_allclose(found.score[:3], expected, rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(found.weight, WEIGHT)


def test_mnasnet_soft_is_the_papers_weighted_product() -> None:
    soft = [0.8 * 0.5**-0.07, 0.6, 0.9 * 2**-0.07]
    gives(links.mnasnet("latency", 80), soft)
    # Section 3: doubling the latency shall be worth 5 % of accuracy, 1.05^-1 = 2^-0.07.
    assert pytest.approx(1 / 1.05, rel=1e-3) == 2**-0.07


def test_mnasnet_hard_pays_nothing_for_being_below_the_target() -> None:
    gives(links.mnasnet("latency", 80, alpha=0, beta=-1), [0.8, 0.6, 0.9 / 2])


def test_tunas_takes_off_the_distance_to_the_target_on_both_sides() -> None:
    gives(links.tunas_absolute("latency", 80, -0.1), [0.8 - 0.05, 0.6, 0.9 - 0.1])


def test_a_weighted_sum_adds_terms_in_their_units() -> None:
    terms = {"recall": [0.5, 0.25, 1.0, 0.0], "params": [1e6, 4e6, 0.0, 7.0]}
    link = links.weighted_sum(score=1.0, recall=0.5, params=-0.01, per={"params": 1e6})
    gives(link, [0.8 + 0.25 - 0.01, 0.6 + 0.125 - 0.04, 0.9 + 0.5], **terms)


def test_a_constraint_by_penalty_takes_off_its_relative_violation() -> None:
    gives(links.constrain("latency", at_most=80, penalty=0.3), [0.8, 0.6, 0.9 - 0.3])
    gives(links.constrain("latency", at_least=80, penalty=0.3), [0.8 - 0.15, 0.6, 0.9])


def test_a_constraint_by_rejection_lets_a_row_teach_nothing() -> None:
    found = told(links.constrain("latency", at_most=100, at_least=50))
    np.testing.assert_array_equal(found.weight, [0, 1, 0, 0])
    np.testing.assert_allclose(found.score, [0, 0.6, 0, 0])
    edges = told(links.constrain("latency", at_most=160, at_least=40))
    np.testing.assert_array_equal(edges.weight, WEIGHT)  # the bounds belong to what is allowed


def test_a_term_may_be_the_score_and_a_failed_reward_is_a_failed_row() -> None:
    found = told(links.constrain("score", at_least=0.7))
    np.testing.assert_array_equal(found.weight, [1, 0, 1, 0])
    found = told(links.mnasnet("latency", 80), latency=[80.0, -1.0, 0.0, 1.0])
    np.testing.assert_array_equal(found.weight, [1, 0, 0, 0])


@pytest.mark.slow
def test_ranks_are_centred_and_shared_by_equal_scores() -> None:
    gives(links.rank_scores(), [0.0, -0.5, 0.5])
    rng = np.random.default_rng(3)
    score, weight = rng.integers(0, 9, 40).astype(np.float32), rng.integers(0, 2, 40)
    live = weight > 0
    ranks = (stats.rankdata(score[live]) - 1) / (live.sum() - 1) - 0.5
    found = told(links.rank_scores(), score, weight.astype(np.float32), none=score)
    np.testing.assert_allclose(found.score[live], ranks, atol=1e-6)
    assert told(links.rank_scores(), [7.0], [1.0], none=[0.0]).score == 0  # of a single row


def test_shaping_uses_the_rows_that_are_there_only() -> None:
    mean, deviation = np.mean(SCORE[:3]), np.std(SCORE[:3])
    gives(links.centre(), SCORE[:3] - mean)
    gives(links.standardise(), (SCORE[:3] - mean) / deviation)
    gives(links.clip_scores(0.65, 0.85), [0.8, 0.65, 0.85])
    same = told(links.standardise(), [0.3] * 4)
    np.testing.assert_allclose(same.score, 0, atol=1e-6)


def test_a_missing_metric_is_named_with_what_there_is() -> None:
    for link in (
        links.weighted_sum(f1=1.0),
        links.mnasnet("f1", 1.0),
        links.tunas_absolute("f1", 1.0, -1.0),
        links.constrain("f1", at_most=1.0),
    ):
        with pytest.raises(InputError, match="no metric 'f1'; there are score, latency") as caught:
            told(link)
        assert "\n" not in str(caught.value)


def test_a_function_that_does_not_give_a_score_for_each_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(\) for 4 rows: one number for each row"):
        told(links.score_by(lambda t: jnp.mean(t.score)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: links.weighted_sum(), "at least one term"),
        (lambda: links.weighted_sum(accuracy="1"), "accuracy='1'"),
        (lambda: links.weighted_sum(accuracy=math.nan), "accuracy=nan"),
        (lambda: links.weighted_sum(accuracy=1, per={"params": 1.0}), "per has 'params'"),
        (lambda: links.weighted_sum(params=1, per={"params": 0}), "per params=0"),
        (lambda: links.mnasnet("latency", 0), "target=0"),
        (lambda: links.mnasnet("latency", 1, beta=0.07), "beta=0.07"),
        (lambda: links.mnasnet("latency", 1, alpha=True), "alpha=True"),
        (lambda: links.tunas_absolute("latency", 1, 0), "beta=0"),
        (lambda: links.constrain("latency"), "at_most or at_least"),
        (lambda: links.constrain("latency", 1, 2), "at_least=2 is above at_most=1"),
        (lambda: links.constrain("latency", 0, penalty=1), "at_most=0"),
        (lambda: links.constrain("latency", 1, penalty=-1), "penalty=-1"),
        (lambda: links.standardise(0), "epsilon=0"),
        (lambda: links.clip_scores(1, 1), "low=1"),
        (lambda: links.reject(sample_uniform(LINE), LINE, "flops", 1), "count 'flops': .* width"),
        (lambda: links.reject(sample_uniform(LINE), LINE, "width"), "at_most or at_least"),
        (lambda: links.reject(sample_uniform(LINE), LINE, "width", 1, tries=0), "tries=0"),
        (lambda: links.without_repeats(sample_uniform(LINE), LINE, 0), "size=0"),
        (lambda: links.without_repeats(sample_uniform(LINE), LINE, 9, tries=0), "tries=0"),
    ],
)
def test_impossible_settings_are_refused_where_a_link_is_made(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_fitness_is_what_a_search_records_while_a_link_leaves_the_history_alone() -> None:
    import jnas

    def evaluate(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        width = trials.arch.astype(jnp.float32)
        return trials._replace(score=width, metrics={"params": width}), state

    evaluator = jnas.Evaluator(lambda key: (), evaluate)
    limit = links.constrain("params", at_most=500)
    search = lambda strategy, evaluator: jnas.search(
        jax.random.key(5), strategy, evaluator, LINE, steps=40
    )[1]
    raw = search(sample_uniform(LINE), evaluator)
    beside = search(chain(sample_uniform(LINE), limit), evaluator)
    around = search(sample_uniform(LINE), scored(evaluator, limit, raw="width"))
    assert raw.score.max() > 500 and (raw.weight == 1).all() and (beside.weight == 1).all()
    np.testing.assert_array_equal(around.metrics["width"], raw.score)
    np.testing.assert_array_equal(around.weight, raw.score <= 500)
    np.testing.assert_array_equal(around.score, jnp.where(raw.score <= 500, raw.score, 0))
    own = search(sample_uniform(LINE), scored(evaluator, lambda t: -t.metrics["params"]))
    np.testing.assert_array_equal(own.score, -raw.score)


# ------------------------------------------------------------------------------ redrawing


def asked(strategy: Strategy, n: int, key: int = 0) -> np.ndarray:
    state = strategy.init(jax.random.key(1), template(LINE))
    ask = jax.jit(lambda key: strategy.ask(key, state, n).arch)
    return np.asarray(ask(jax.random.key(key)))


def test_reject_draws_uniformly_from_what_is_allowed() -> None:
    strategy = links.reject(sample_uniform(LINE), LINE, "width", 299, 200, tries=200)
    counts = np.bincount(asked(strategy, 20_000), minlength=1000)
    assert counts.sum() == counts[200:300].sum() == 20_000
    assert stats.chisquare(counts[200:300]).pvalue > 1e-3


def test_reject_stops_after_its_tries_with_the_nearest_of_them() -> None:
    first, third = (
        asked(links.reject(sample_uniform(LINE), LINE, "width", at_least=2000, tries=n), 4000)
        for n in (1, 3)
    )
    below = 1 - stats.kstest(first, "randint", (0, 1000)).statistic
    assert below > 0.97
    # The largest of three draws is at most x with probability (x / 1000)^3.
    mean = 1000 - np.mean([(x / 1000) ** 3 for x in range(1000)]) * 1000
    assert third.mean() == pytest.approx(mean, abs=10)


def test_reject_takes_a_function_of_the_architecture() -> None:
    even = links.reject(sample_uniform(LINE), LINE, lambda a: a % 2 == 0, at_least=1, tries=60)
    assert (asked(even, 500) % 2 == 0).all()


def test_the_trace_of_a_row_comes_from_the_draw_that_it_was_kept_of() -> None:
    def ask(key: jax.Array, state: Any, n: int, trials: Any = None) -> Trials:
        arch = jax.random.randint(key, (n,), 0, 1000)
        return propose(arch)._replace(trace={"seen": arch * 2})

    inner = sample_uniform(LINE)._replace(ask=ask)
    trials = links.reject(inner, LINE, "width", at_most=99, tries=100).ask(jax.random.key(4), (), 9)
    assert (trials.arch <= 99).all()
    np.testing.assert_array_equal(trials.trace["seen"], 2 * trials.arch)


def test_reject_in_a_chain_mutates_the_same_parents_again() -> None:
    parents = propose(jnp.asarray([4, 8], jnp.int32))._replace(score=jnp.zeros(2))
    few = Space("few", 10)
    child = links.reject(mutate_one(few), few, lambda a: a, at_most=4, tries=99)
    children = chain(select_uniform(), child).ask(jax.random.key(2), ((), ()), 40, parents).arch
    assert (children <= 4).all()


@pytest.mark.parametrize("batch", [1, 7])
def test_without_repeats_visits_a_small_space_once_before_it_repeats(batch: int) -> None:
    few = Space("few", 21)
    strategy = links.without_repeats(sample_uniform(few), few, size=30, tries=2000)

    def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        k_ask, k_tell = jax.random.split(key)
        trials = strategy.ask(k_ask, state, batch)
        _, state = strategy.tell(k_tell, trials._replace(score=jnp.zeros(batch)), state)
        return state, trials.arch

    state = strategy.init(jax.random.key(0), template(few))
    keys = jax.random.split(jax.random.key(6), 42 // batch)
    _, seen = jax.jit(lambda s: jax.lax.scan(step, s, keys))(state)
    seen = np.ravel(seen)
    assert sorted(seen[:21]) == list(range(21))
    assert (np.bincount(seen[21:], minlength=21) >= 0).all() and len(seen) == 42


def test_architectures_with_one_canonical_form_are_repeats_of_one_another() -> None:
    pairs = Space("pairs", 40, canonical=lambda arch: arch // 2 * 2)
    strategy = links.without_repeats(sample_uniform(pairs), pairs, size=20, tries=3000)
    state = strategy.init(jax.random.key(0), template(pairs))
    assert (
        len(set((np.asarray(strategy.ask(jax.random.key(1), state, 20).arch) // 2).tolist())) == 20
    )
