"""Islands and adapting rates, against naive references."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jnas.base import (
    InputError,
    Space,
    Strategy,
    Trials,
    chain,
    first,
    mixture,
    pass_on,
    propose,
    template,
    to_vector,
)
from jnas.links import (
    islands,
    keep_best,
    keep_generation,
    keep_youngest,
    mutate_resample,
    one_fifth_rule,
    sample_uniform,
    select_uniform,
    self_adapting,
)

LINE = Space("line", 1_000_000)
BITS = Space("bits", np.full(20, 2))

# ------------------------------------------------------------------------------------ islands

COUNT, EVERY, MIGRANTS = 3, 4, 2


def recording() -> Strategy:
    """Random proposals, and a record of every trial told."""
    record = keep_youngest(200, metrics=["cost"])
    return chain(sample_uniform(LINE), Strategy(record.init, pass_on, record.tell))


def heard(state: Any, island: int) -> list[tuple[int, float]]:
    """The trials (architecture, score) that an island was told so far."""
    rows = jax.tree.map(lambda x: np.asarray(x[island]), state.inner[1].rows)
    pairs = zip(rows.arch.tolist(), rows.score.tolist(), rows.weight, strict=True)
    return sorted((a, s) for a, s, w in pairs if w > 0)


def scored(trials: Trials, rng: np.random.Generator) -> Trials:
    n = trials.weight.shape[0]
    return trials._replace(
        score=jnp.asarray(rng.integers(0, 9, n), jnp.float32),
        weight=jnp.asarray(rng.random(n) < 0.8, jnp.float32),
        metrics={"cost": jnp.ones(n), "other": jnp.ones(n)},
    )


def taken(trials: Trials, rows: np.ndarray) -> Trials:
    return jax.tree.map(lambda x: x[rows], trials)


def best_of(rows: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted(rows, key=lambda row: -row[1])[:MIGRANTS]


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["ring", "random"])
def test_an_island_is_told_its_own_trials_and_the_best_of_another(topology: str) -> None:
    strategy = islands(recording(), COUNT, EVERY, MIGRANTS, topology, metrics=["cost"])
    ask, tell = jax.jit(strategy.ask, static_argnums=2), jax.jit(strategy.tell)
    state = strategy.init(jax.random.key(0), template(LINE))
    rng, told, migrations, sources = np.random.default_rng(4), 0, 0, []
    known: list[list[tuple[int, float]]] = [[] for _ in range(COUNT)]
    since: list[list[tuple[int, float]]] = [[] for _ in range(COUNT)]
    late: list[Trials] = []
    for step in range(24):
        k_ask, k_tell = jax.random.split(jax.random.key(step))
        asked = ask(k_ask, state, 4)
        assert asked.trace[0].tolist() == [(told + i) % COUNT for i in range(4)]
        asked = scored(asked, rng)
        late.append(taken(asked, np.array([1, 3])))
        rows = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b]),
            taken(asked, np.array([2, 0])),
            late.pop(0) if step % 3 else taken(asked, np.array([3, 1])),
        )
        _, state = tell(k_tell, rows, state)
        before = told
        for i in range(4):
            if rows.weight[i] > 0:
                row = (int(rows.arch[i]), float(rows.score[i]))
                known[int(rows.trace[0][i])].append(row)
                since[int(rows.trace[0][i])].append(row)
                told += 1
        if told // (COUNT * EVERY) > before // (COUNT * EVERY):
            migrations += 1
            offers = [best_of(rows) for rows in since]
            for i in range(COUNT):
                others = [j for j in range(COUNT) if j != i]
                fits = [j for j in others if sorted(known[i] + offers[j]) == heard(state, i)]
                assert fits, "the best of one other island came, and nothing else"
                sources.append((i, fits[0]))
                known[i] += offers[fits[0]]
            since = [[] for _ in range(COUNT)]
        for i in range(COUNT):
            assert sorted(known[i]) == heard(state, i)
    assert migrations >= 4 and int(state.told) == told
    ring = {(i, (i - 1) % COUNT) for i in range(COUNT)}
    assert (set(sources) == ring) == (topology == "ring")


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_proposals_are_dealt_to_the_islands_in_turn(n: int) -> None:
    own = lambda key, state, n, trials=None: propose(jnp.full(n, state))
    number = Strategy(lambda key, arch: jnp.int32(0), own, lambda key, trials, state: (trials, 0))
    strategy = islands(number, 3, every=5)
    state = strategy.init(jax.random.key(0), template(LINE))
    state = state._replace(inner=jnp.arange(3), told=jnp.int32(5))
    asked = strategy.ask(jax.random.key(1), state, n)
    assert asked.arch.tolist() == [(5 + i) % 3 for i in range(n)]
    assert asked.trace[0].tolist() == asked.arch.tolist()


def test_the_proposals_of_two_islands_differ() -> None:
    strategy = islands(sample_uniform(LINE), 2, every=5)
    state = strategy.init(jax.random.key(0), template(LINE))
    arch = strategy.ask(jax.random.key(1), state, 6).arch
    assert len(set(arch.tolist())) == 6


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"count": 1}, r"count=1.*at least 2"),
        ({"every": 0}, r"every=0, migrants=1"),
        ({"migrants": 6}, r"every=5, migrants=6.*migrants <= every"),
        ({"topology": "star"}, r"'star'.*'ring' and 'random'"),
    ],
)
def test_impossible_islands_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        islands(sample_uniform(LINE), **{"count": 3, "every": 5, **settings})


def test_islands_name_the_metrics_that_they_miss() -> None:
    strategy = islands(sample_uniform(LINE), 2, 5, metrics=["latency"])
    state = strategy.init(jax.random.key(0), template(LINE))
    asked = strategy.ask(jax.random.key(1), state, 2)._replace(score=jnp.ones(2), metrics={"a": 0})
    with pytest.raises(ValueError, match=r"carry the metrics \['latency'\].*\['a'\]"):
        strategy.tell(jax.random.key(2), asked, state)


# ----------------------------------------------------------------------------- adapting rates

resample = functools.partial(mutate_resample, BITS)
N = 20_000


def parents(rate: Any, weight: float = 1.0) -> Trials:
    return Trials(
        jnp.zeros((N, 20), jnp.int32),
        jnp.zeros(N),
        weight=jnp.full(N, weight),
        metrics={"mutation_rate": jnp.broadcast_to(jnp.float32(rate), (N,))},
    )


def test_a_rate_is_mutated_log_normally_in_its_odds_and_then_used() -> None:
    link = self_adapting(resample, 0.2, learning_rate=0.3, low=1e-4, high=0.9999)
    children = link.ask(jax.random.key(0), (), N, parents(0.1))
    rate = np.asarray(children.trace[0], np.float64)
    change = np.log(rate / (1 - rate)) - np.log(0.1 / 0.9)
    assert stats.kstest(change / 0.3, "norm").pvalue > 1e-3
    flips = np.asarray(children.arch).sum(-1)
    spread = np.sqrt(20 * np.mean(rate * (1 - rate)) / N)
    assert abs(np.mean(flips - 20 * rate)) < 4 * spread
    assert np.corrcoef(flips, rate)[0, 1] > 0.3


def test_a_rate_stays_between_its_bounds_and_begins_at_its_start() -> None:
    link = self_adapting(resample, 0.2, learning_rate=2.0, low=0.05, high=0.4)
    rate = link.ask(jax.random.key(0), (), N, parents(0.1)).trace[0]
    assert rate.min() == jnp.float32(0.05) and rate.max() == jnp.float32(0.4)
    still = self_adapting(resample, 0.2, learning_rate=0.0, low=0.05, high=0.4)
    rate = still.ask(jax.random.key(0), (), N, parents(0.0, weight=0.0)).trace[0]
    np.testing.assert_allclose(rate, 0.2, rtol=1e-6)


def test_a_row_keeps_the_rate_that_made_it_and_a_foreign_row_the_start() -> None:
    link = self_adapting(resample, 0.2)
    children = link.ask(jax.random.key(0), (), N, parents(0.1))._replace(score=jnp.zeros(N))
    foreign = children._replace(arch=children.arch.at[:5].set(1 - children.arch[:5]))
    told, _ = link.tell(jax.random.key(1), foreign, ())
    kept = told.metrics["mutation_rate"]
    assert (kept[:5] == jnp.float32(0.2)).all() and (kept[5:] == children.trace[0][5:]).all()


def test_rates_fall_where_few_choices_are_left_to_mend() -> None:
    memory = keep_generation(4, 28, metrics=["mutation_rate"])
    mutate = self_adapting(resample, 0.4, low=0.01)
    evolve = chain(memory, select_uniform(), mutate)
    strategy = mixture(sample_uniform(BITS), evolve, first(28))

    @jax.jit
    def search(key: jax.Array) -> jax.Array:
        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            k_ask, k_tell = jax.random.split(key)
            trials = strategy.ask(k_ask, state, 28)
            trials = trials._replace(score=jnp.mean(to_vector(BITS, trials.arch), -1))
            return strategy.tell(k_tell, trials, state)[1], None

        start = strategy.init(jax.random.key(0), template(BITS))
        end = jax.lax.scan(step, start, jax.random.split(key, 60))[0]
        return end.b[0].parents.metrics["mutation_rate"]

    assert search(jax.random.key(6)).mean() < 0.15


def told_rate(rate: float, scores: list[float], parents_scores: list[float], **more: Any) -> float:
    """The rate of a 1/5 rule after one batch."""
    n = len(scores)
    link = one_fifth_rule(resample, 0.1, **more)
    state = link.init(jax.random.key(0), template(BITS))._replace(rate=jnp.float32(rate))
    given = Trials(jnp.zeros((n, 20), jnp.int32), jnp.asarray(parents_scores), weight=jnp.ones(n))
    children = link.ask(jax.random.key(1), state, n, given)
    _, state = link.tell(jax.random.key(2), children._replace(score=jnp.asarray(scores)), state)
    return float(state.rate)


@pytest.mark.slow
def test_one_success_in_five_leaves_the_rate_and_more_raise_it() -> None:
    assert told_rate(0.1, [2.0, 0, 0, 0, 1], [1.0] * 5) == pytest.approx(0.1, rel=1e-6)
    assert told_rate(0.1, [2.0, 2.0], [1.0] * 2, factor=2.0) == pytest.approx(0.4, rel=1e-6)
    assert told_rate(0.1, [1.0], [1.0], factor=2.0) == pytest.approx(0.1 * 2**-0.25, rel=1e-6)
    assert told_rate(0.1, [2.0, np.nan], [1.0] * 2, factor=2.0) == pytest.approx(0.2, rel=1e-6)
    assert told_rate(0.4, [2.0] * 4, [1.0] * 4, high=0.45) == pytest.approx(0.45)
    assert told_rate(0.1, [0.0] * 9, [1.0] * 9, low=0.09) == pytest.approx(0.09)


def test_the_one_fifth_rule_ignores_rows_of_others_and_of_no_parent() -> None:
    link = one_fifth_rule(resample, 0.1)
    state = link.init(jax.random.key(0), template(BITS))
    for given, foreign in ((jnp.ones(3), True), (jnp.zeros(3), False)):
        rows = Trials(jnp.zeros((3, 20), jnp.int32), jnp.zeros(3), weight=given)
        children = link.ask(jax.random.key(1), state, 3, rows)._replace(score=jnp.ones(3))
        if foreign:
            children = children._replace(arch=1 - children.arch)
        assert link.tell(jax.random.key(2), children, state)[1].rate == state.rate


@pytest.mark.parametrize(
    ("links", "told"),
    [
        ((keep_best(2), select_uniform(), self_adapting(resample, 0.1)), "let the memory keep it"),
        (
            (
                keep_best(2, metrics=["mutation_rate"]),
                select_uniform(arity=2),
                self_adapting(resample, 0.1),
            ),
            "put a selection, and a crossover",
        ),
        ((self_adapting(resample, 0.1),), "needs parents: put a selection"),
        ((sample_uniform(BITS), one_fifth_rule(resample, 0.1)), "put a selection right to its"),
    ],
)
def test_misplaced_links_say_what_to_do(links: tuple[Strategy, ...], told: str) -> None:
    strategy = chain(*links)
    state = strategy.init(jax.random.key(0), template(BITS))
    with pytest.raises(ValueError, match=told) as caught:
        strategy.ask(jax.random.key(0), state, 4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: self_adapting(resample, 0.6), "start=0.6, high=0.5"),
        (lambda: self_adapting(resample, 0.1, low=0.0), "low=0.0"),
        (lambda: one_fifth_rule(resample, 0.005), "start=0.005"),
        (lambda: one_fifth_rule(resample, 0.1, factor=1.0), "factor=1.0.* above 1"),
    ],
)
def test_impossible_rates_are_refused(make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        make()
