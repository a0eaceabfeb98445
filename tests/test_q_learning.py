"""Q-learning against plain Python, and exact values."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnas import links, recipes
from jnas.base import (
    InputError,
    Space,
    Strategy,
    Trials,
    chain,
    propose,
    replay,
    sample,
    template,
    to_vector,
)
from jnas.links.q_functions import QFunction, before
from jnas.recipes.value_based import metaqnn_schedule

TINY = Space("tiny", {"a": np.array([2, 3]), "b": 2})
COUNTS = (2, 3, 2)
EVERY = list(itertools.product(*(range(c) for c in COUNTS)))
WORTH = dict(zip(EVERY, np.random.default_rng(3).permutation(len(EVERY)) / 16, strict=True))


def scored(trials: Trials) -> Trials:
    """With the exact scores of TINY, multiples of 1/16."""
    table = np.zeros(COUNTS, np.float32)
    for x, score in WORTH.items():
        table[x] = score
    x = to_vector(TINY, trials.arch)
    return trials._replace(score=jnp.asarray(table)[x[:, 0], x[:, 1], x[:, 2]])


def randomly(key: int, n: int) -> Trials:
    return scored(propose(sample(TINY, jax.random.key(key), n)))


def vectors(trials: Trials) -> list[tuple[int, ...]]:
    return [tuple(map(int, x)) for x in np.asarray(to_vector(TINY, trials.arch))]


def started(strategy: Strategy) -> Any:
    return strategy.init(jax.random.key(0), template(TINY))


def value(q: QFunction, params: Any, prefix: tuple[int, ...]) -> np.ndarray:
    """The values at the place after a prefix, of the choices that it has."""
    x = jnp.array([*prefix, *[-1] * (len(COUNTS) - len(prefix))], jnp.int32)
    return np.asarray(q.apply(params, x, len(prefix)))[: COUNTS[len(prefix)]]


PREFIXES = [x for t in range(3) for x in itertools.product(*(range(c) for c in COUNTS[:t]))]


class Naive:
    """MetaQNN's table as a dict, with the updates of its authors' code."""

    def __init__(self, rate: float, discount: float, initial: float):
        self.rate, self.discount = rate, discount
        self.q = {prefix: [initial] * COUNTS[len(prefix)] for prefix in PREFIXES}

    def learn(self, x: tuple[int, ...], rewards: list[float]) -> None:
        for t in reversed(range(len(x))):
            after = max(self.q[x[: t + 1]]) if t + 1 < len(x) else 0.0
            old = self.q[x[:t]][x[t]]
            goal = rewards[t] + self.discount * after
            self.q[x[:t]][x[t]] = old + self.rate * (goal - old)


# -------------------------------------------------------------------- partial architectures


@pytest.mark.parametrize("shaped", [False, True])
def test_a_table_learns_as_a_dict_in_plain_python_does(shaped: bool) -> None:
    # All numbers are short sums of powers of 2, so that both are exact.
    q = links.tabular_q(TINY, "prefix", initial=0.25)
    strategy = links.q_learning(TINY, q, 0.5, 0.1, discount=0.5, shaped=shaped)
    naive, state = Naive(0.5, 0.5, 0.25), started(strategy)
    for i in range(2):
        trials = randomly(i, 5)
        if shaped:  # a third of these scores is exact too
            trials = trials._replace(score=trials.score * 3)
        trials = trials._replace(weight=jnp.array([1.0, 1, 0, 1, 1]))
        _, state = strategy.tell(jax.random.key(i), trials, state)
        for row in (0, 1, 3, 4):
            score = float(trials.score[row])
            rewards = [score / 3] * 3 if shaped else [0.0, 0.0, score]
            naive.learn(vectors(trials)[row], rewards)
    assert any(v != 0.25 for v in naive.q[()])
    for prefix in PREFIXES:
        assert value(q, state.learned.params, prefix).tolist() == naive.q[prefix]


@pytest.mark.slow
def test_a_table_learns_from_the_rows_that_its_memory_replays() -> None:
    experience = replay(chain(links.keep_youngest(6), links.select_uniform()), 8)
    q = links.tabular_q(TINY, "prefix", initial=0.5)
    strategy = links.q_learning(TINY, q, 0.5, 0.1, experience=experience)
    state, naive = started(strategy), Naive(0.5, 1.0, 0.5)
    for i in range(3):
        trials = randomly(i, 4)
        past, _ = experience.tell(jax.random.key(i), trials, state.experience)
        assert past.score.shape == (8,)
        _, state = strategy.tell(jax.random.key(i), trials, state)
        for x, score in zip(vectors(past), past.score, strict=True):
            naive.learn(x, [0.0, 0.0, float(score)])
    assert int(state.told) == 12
    for prefix in PREFIXES:
        np.testing.assert_allclose(
            value(q, state.learned.params, prefix), naive.q[prefix], rtol=1e-6
        )


def best_completions(prefix: tuple[int, ...]) -> list[float]:
    """The best score that every next choice can lead to."""
    size = len(prefix) + 1
    heads = [(*prefix, k) for k in range(COUNTS[len(prefix)])]
    return [max(s for x, s in WORTH.items() if x[:size] == head) for head in heads]


@pytest.mark.parametrize("function", ["table", "linear"])
def test_values_converge_to_the_best_completion_of_every_prefix(function: str) -> None:
    if function == "table":
        q = links.tabular_q(TINY)
    else:  # with pairs of three places, a linear function can hold any table of prefixes
        q = links.linear_q(TINY, pairs=True)
    strategy = links.q_learning(TINY, q, 0.5, epsilon=1.0)
    every = scored(propose({"a": jnp.array(EVERY)[:, :2], "b": jnp.array(EVERY)[:, 2]}))
    tell = jax.jit(lambda state: strategy.tell(jax.random.key(0), every, state)[1])
    state = started(strategy)
    for _ in range(150):
        state = tell(state)
    for prefix in PREFIXES:
        exact = best_completions(prefix)
        np.testing.assert_allclose(value(q, state.learned.params, prefix), exact, atol=1e-3)
    greedy = links.q_learning(TINY, q, 0.5, epsilon=0.0).ask(jax.random.key(1), state, 3)
    assert set(vectors(greedy)) == {max(WORTH, key=WORTH.__getitem__)}


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("huber", [None, 0.25])
def test_targets_are_those_of_dqn_and_double_dqn(double: bool, huber: float | None) -> None:
    q = links.tabular_q(TINY)
    rate, discount = 0.5, 0.75
    strategy = links.q_learning(
        TINY, q, optax.sgd(rate), 0.1, discount=discount, target_period=5, double=double,
        huber=huber,
    )  # fmt: skip
    state = started(strategy)
    shape = state.learned.params.shape
    online, target = (jax.random.normal(jax.random.key(k), shape) for k in (5, 6))
    learned = state.learned._replace(params=online, target=target)
    trials = randomly(0, 4)._replace(weight=jnp.array([1.0, 1, 0, 1]))
    _, new = strategy.tell(jax.random.key(0), trials, state._replace(learned=learned))

    change = {prefix: np.zeros(COUNTS[len(prefix)]) for prefix in PREFIXES}
    for row in (0, 1, 3):
        x = vectors(trials)[row]
        for t in range(3):
            goal = float(trials.score[row])
            if t < 2:
                mine, far = (value(q, p, x[: t + 1]) for p in (online, target))
                goal = discount * (far[np.argmax(mine)] if double else far.max())
            error = goal - value(q, online, x[:t])[x[t]]
            if huber is not None:
                error = np.clip(error, -huber, huber)
            change[x[:t]][x[t]] += rate * error / 9  # the mean over 3 rows of 3 steps
    for prefix in PREFIXES:
        moved = value(q, new.learned.params, prefix) - value(q, online, prefix)
        np.testing.assert_allclose(moved, change[prefix], atol=1e-6)


@pytest.mark.slow
def test_the_target_network_is_renewed_every_so_many_updates() -> None:
    q = links.mlp_q(TINY, 4)
    strategy = links.q_learning(TINY, q, optax.adam(0.1), 0.1, target_period=3)
    state = started(strategy)
    targets, params = [state.learned.target], []
    for i in range(7):
        trials = randomly(i, 4)
        for weight in (0.0, 1.0):  # the empty round is no update
            told = trials._replace(weight=jnp.full(4, weight))
            _, state = strategy.tell(jax.random.key(i), told, state)
        targets.append(state.learned.target)
        params.append(state.learned.params)
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
    assert [same(a, b) for a, b in itertools.pairwise(targets)] == [1, 1, 0, 1, 1, 0, 1]
    assert same(targets[3], params[2]) and same(targets[6], params[5])


@pytest.mark.slow
def test_replayed_rows_are_learned_in_batches_one_after_the_other() -> None:
    experience = replay(chain(links.keep_youngest(8), links.select_uniform()), 6)
    q = links.linear_q(TINY)
    make = lambda **more: links.q_learning(TINY, q, optax.adam(0.1), 0.1, **more)
    both = make(experience=experience, updates=2)
    trials = randomly(0, 8)
    state = started(both)
    past, _ = experience.tell(jax.random.key(3), trials, state.experience)
    _, state = both.tell(jax.random.key(3), trials, state)
    alone = make()
    now = started(alone)
    for half in (slice(0, 3), slice(3, 6)):
        batch = jax.tree.map(lambda x, half=half: x[half], past._replace(trace=()))
        _, now = alone.tell(jax.random.key(0), batch, now)
    np.testing.assert_allclose(state.learned.params, now.learned.params, rtol=1e-5)
    assert int(state.learned.updates) == int(now.learned.updates) == 2


@pytest.mark.slow
def test_epsilon_is_the_chance_that_a_choice_is_random() -> None:
    q = links.tabular_q(TINY)
    steps = lambda count: jnp.where(count < 3000, 0.4, 0.0)
    strategy = links.q_learning(TINY, q, 0.5, steps)
    state = started(strategy)
    params = state.learned.params.at[:, 1].set(1.0)  # the second choice is best everywhere
    state = state._replace(learned=state.learned._replace(params=params))
    x = np.array(vectors(strategy.ask(jax.random.key(0), state, 6000)))
    for place, count in enumerate(COUNTS):
        share = (x[:3000, place] == 1).mean()
        assert abs(share - (0.6 + 0.4 / count)) < 0.04
    assert (x[3000:] == 1).all()
    later = strategy.ask(jax.random.key(0), state._replace(told=jnp.int32(3000)), 50)
    assert set(vectors(later)) == {(1, 1, 1)}


def test_equal_values_are_told_apart_by_chance() -> None:
    strategy = links.q_learning(TINY, links.tabular_q(TINY), 0.5, 0.0)
    asked = vectors(strategy.ask(jax.random.key(0), started(strategy), 1200))
    counts = [asked.count(x) for x in EVERY]
    assert min(counts) > 60 and max(counts) < 150  # 100 each, 4 standard deviations


@pytest.mark.slow
def test_normalised_scores_are_in_standard_deviations_from_the_mean_so_far() -> None:
    q = links.tabular_q(TINY, "last")
    strategy = links.q_learning(TINY, q, optax.sgd(1.0), 0.1, normalise=True)
    state, scores = started(strategy), []
    for i, n in enumerate((1, 4, 7)):
        trials = randomly(i, n)._replace(weight=jnp.arange(n) % 3 != 1)
        scores += np.asarray(trials.score)[np.asarray(trials.weight) > 0].tolist()
        _, state = strategy.tell(jax.random.key(i), trials, state)
        scale = state.scale
        np.testing.assert_allclose(scale.mean, np.mean(scores), rtol=1e-5)
        np.testing.assert_allclose(scale.squares, np.var(scores) * len(scores), atol=1e-5)


# --------------------------------------------------------------------------- the Q-functions


def functions() -> dict[str, QFunction]:
    return {
        "prefix": links.tabular_q(TINY),
        "hashed": links.tabular_q(TINY, size=5),
        "last": links.tabular_q(TINY, "last"),
        "architecture": links.tabular_q(TINY, "architecture"),
        "linear": links.linear_q(TINY, pairs=True),
        "mlp": links.mlp_q(TINY, (5, 4)),
    }


def filled(q: QFunction) -> Any:
    """Parameters without a zero."""
    params = q.init(jax.random.key(0))
    draw = lambda x: jax.random.normal(jax.random.key(x.size), x.shape)
    return jax.tree.map(draw, params)


@pytest.mark.parametrize("name", functions())
def test_values_along_an_architecture_are_those_of_its_prefixes(name: str) -> None:
    q = functions()[name]
    params, x = filled(q), jnp.array([1, 2, 0])
    each = jnp.stack([q.apply(params, before(x, t), t) for t in range(3)])
    np.testing.assert_allclose(q.along(params, x), each, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n, q in functions().items() if q.nudge])
def test_a_nudge_moves_one_value_by_the_amount(name: str) -> None:
    q = functions()[name]
    assert q.nudge is not None
    params, x = filled(q), jnp.array([1, 2, -1])
    old = q.apply(params, x, 2)
    new = q.apply(q.nudge(params, x, 2, 1, 0.3), x, 2)
    np.testing.assert_allclose(new - old, 0.3 * (np.arange(3) == 1), atol=1e-6)


def rows_of(q: QFunction, states: list[tuple[tuple[int, ...], int]]) -> list[int]:
    """The row of a table for every state, read off a table of row numbers."""
    params = q.init(jax.random.key(0))
    numbers = jnp.broadcast_to(jnp.arange(params.shape[0])[:, None], params.shape)
    pad = lambda x: jnp.array([*x, *[-1] * (3 - len(x))], jnp.int32)
    return [int(q.apply(numbers, pad(x), place)[0]) for x, place in states]


def test_every_state_of_an_exact_table_has_a_row_of_its_own() -> None:
    prefixes = [(x, len(x)) for x in PREFIXES]
    assert sorted(rows_of(links.tabular_q(TINY), prefixes)) == list(range(len(PREFIXES)))
    whole = [(x, place) for x in EVERY for place in range(3)]
    rows = rows_of(links.tabular_q(TINY, "architecture"), whole)
    assert sorted(rows) == list(range(len(EVERY) * 3))
    last = rows_of(links.tabular_q(TINY, "last"), prefixes)
    same = lambda x: (len(x), x[-1:])
    for (a, i), (b, j) in itertools.product(zip(PREFIXES, last, strict=True), repeat=2):
        assert (i == j) == (same(a) == same(b))


def test_a_hashed_table_spreads_the_states_over_its_rows() -> None:
    large = Space("large", np.full(12, 5))
    q = links.tabular_q(large, size=64)
    x = to_vector(large, sample(large, jax.random.key(0), 2000))
    numbers = jnp.broadcast_to(jnp.arange(64.0)[:, None], (64, 5))
    rows = jax.vmap(lambda x: q.apply(numbers, before(x, 9), 9)[0])(x)
    counts = np.bincount(np.asarray(rows, int), minlength=64)
    assert counts.size == 64 and counts.min() > 8 and counts.max() < 65  # 31 on average


# ------------------------------------------------------------------------ recipes and mistakes


def test_the_schedule_of_metaqnn_keeps_its_shares() -> None:
    paper, short = metaqnn_schedule(), metaqnn_schedule(270)
    count = jnp.arange(2700)
    tenths, numbers = np.unique(np.round(paper(count) * 10).astype(int), return_counts=True)
    assert tenths.tolist() == list(range(1, 11))
    assert numbers.tolist() == [150] * 6 + [100] * 3 + [1500]
    np.testing.assert_array_equal(short(count[:270]), paper(count[::10]))


TABLE, LINEAR, MLP = links.tabular_q(TINY), links.linear_q(TINY), links.mlp_q(TINY, 3)
WHOLE = links.tabular_q(TINY, "architecture")
EDITS = links.edit_environment(TINY)
ADAM = optax.adam(0.1)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: links.q_learning(TINY, TABLE, 0.0, 0.1), "learning rate 0.0"),
        (lambda: links.q_learning(TINY, MLP, 0.1, 0.1), "optax.adam"),
        (lambda: links.q_learning(TINY, TABLE, 0.1, 1.5), "epsilon=1.5"),
        (lambda: links.q_learning(TINY, TABLE, 0.1, 0.1, discount=2.0), "discount=2.0"),
        (lambda: links.q_learning(TINY, MLP, ADAM, 0.1, target_period=0), "target_period=0"),
        (lambda: links.q_learning(TINY, MLP, ADAM, 0.1, double=True), "give a target_period"),
        (lambda: links.q_learning(TINY, MLP, ADAM, 0.1, huber=0.0), "huber=0.0"),
        (lambda: links.q_learning(TINY, TABLE, 0.1, 0.1, huber=1.0), "huber=1.0"),
        (lambda: links.q_learning(TINY, MLP, ADAM, 0.1, updates=2), "updates=2"),
        (lambda: links.q_learning(TINY, WHOLE, 0.1, 0.1), "'prefix' or 'last'"),
        (lambda: links.edit_q_learning(EDITS, TABLE, 0.1, 0.1), "'architecture'"),
        (lambda: links.edit_q_learning(EDITS, WHOLE, 0.1, 0.1, discount=1.0), "discount=1.0"),
        (lambda: links.edit_q_learning(EDITS, WHOLE, 0.1, 0.1, walkers=0), "walkers=0"),
        (lambda: links.edit_q_learning(EDITS, WHOLE, 0.1, 0.1, reward="all"), "improvement, score"),
        (lambda: links.edit_environment(TINY, absent={"a": 1}), "structure of the space"),
        (lambda: links.edit_environment(TINY, absent={"a": 2, "b": None}), "not choices"),
        (lambda: links.edit_environment(TINY, kinds=["add"]), "nothing can be absent"),
        (lambda: links.edit_environment(TINY, kinds=["swap"]), "change, add, remove"),
        (lambda: links.edit_environment(Space("one", np.ones(2))), "no choice to change"),
        (lambda: links.tabular_q(TINY, "first"), "prefix, last, architecture"),
        (lambda: links.tabular_q(TINY, size=0), "size=0"),
        (lambda: links.mlp_q(TINY, ()), "at least one layer"),
        (lambda: recipes.STRATEGIES["q_learning"](TINY, evaluations=0), "evaluations=0"),
        (lambda: recipes.STRATEGIES["q_learning"](TINY, replayed=0), "replayed=0"),
        (lambda: recipes.STRATEGIES["dqn"](TINY, learning_rate=0.0), "learning_rate=0.0"),
        (lambda: recipes.STRATEGIES["edit_q_learning"](TINY, q="deep"), "linear, table"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_rows_that_cannot_be_split_into_the_updates_are_refused() -> None:
    experience = replay(chain(links.keep_youngest(8), links.select_uniform()), 5)
    strategy = links.q_learning(TINY, MLP, ADAM, 0.1, experience=experience, updates=2)
    with pytest.raises(ValueError, match="replay a multiple of it"):
        strategy.tell(jax.random.key(0), randomly(0, 4), started(strategy))
