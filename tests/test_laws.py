"""The laws that every strategy obeys."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from law_tables import ENTRIES, RECIPES
from quick import QUICK
from scipy import stats

import jnas
from jnas import links
from jnas.base import (
    Space,
    Strategy,
    Trials,
    argmax,
    chain,
    choice_counts,
    from_vector,
    mixture,
    on_tell,
    replay,
    sample,
    template,
    to_vector,
)
from jnas.evaluators import tabular
from jnas.links import (
    archive,
    asha,
    crossover_one_point,
    crossover_uniform,
    edit_environment,
    edit_q_learning,
    hyperband,
    islands,
    keep_best,
    keep_elite,
    keep_generation,
    keep_youngest,
    linear_q,
    mutate_one,
    mutate_resample,
    mutate_step,
    ppo,
    q_learning,
    reinforce,
    sample_uniform,
    select_roulette,
    select_tournament,
    select_uniform,
    subtract_ema,
    subtract_mean,
    successive_halving,
    tabular_q,
)
from jnas.links.policies import categorical_policy

SPACE = Space("mixed", {"ops": np.array([[2, 3, 5, 3], [5, 3, 3, 3]]), "depth": 4})
N = 6

# One strategy of each kind has its laws computed among the fast tests. Of the other links only what
# tracing shows is fast; of the other recipes nothing, as their links are in the table themselves.
PROMPT = {
    "sample_uniform", "frozen", "replay", "mixture", "weighted_sum", "archive", "keep_nondominated",
    "islands", "hill_climb", "q_learning", "reinforce", "asha", "softmax", "sigmoid", "tpe",
    "recipe random_search", "recipe regularized_evolution", "recipe genetic",
}  # fmt: skip


def _every(prompt: Callable[[str], bool]) -> pytest.MarkDecorator:
    slow = pytest.mark.slow
    names = [pytest.param(name, marks=() if prompt(name) else slow) for name in ENTRIES]
    return pytest.mark.parametrize("name", names)


every = _every(lambda name: name in PROMPT)
every_traced = _every(lambda name: name in PROMPT or not name.startswith("recipe "))


@pytest.fixture(autouse=True)
def programs_of_one_strategy(request: pytest.FixtureRequest) -> None:
    """Forgets the programs of the strategy before: a process has room for so many only."""
    case = getattr(request.node, "callspec", None)
    name = case.params.get("name", "") if case else ""
    if name != _latest[0]:
        _latest[0] = name
        for f in (compiled, searched, searches):
            f.cache_clear()
        jax.clear_caches()


_latest = [""]


def one_max(arch: Any) -> jax.Array:
    """The share of places that have their last choice, of `[n]` architectures."""
    return jnp.mean(to_vector(SPACE, arch) == choice_counts(SPACE) - 1, -1, dtype=jnp.float32)


def relaxed_loss(arch: Any) -> jax.Array:
    """The squared distance of one relaxed architecture to the corner that solves one-max.

    At a corner it is 1 minus `one_max`.
    """
    total = jnp.float32(0)
    counts = zip(jax.tree.leaves(arch), jax.tree.leaves(SPACE.num_choices), strict=True)
    for weights, count in counts:
        goal = jax.nn.one_hot(count - 1, int(count.max()))
        total += jnp.sum((weights - goal) ** 2)
    return total / (2 * choice_counts(SPACE).size)


def is_relaxed(arch: Any) -> bool:
    return jnp.issubdtype(jax.tree.leaves(arch)[0].dtype, jnp.floating)


def evaluated(trials: Trials) -> Trials:
    if is_relaxed(trials.arch):
        loss, grad = jax.vmap(jax.value_and_grad(relaxed_loss))(trials.arch)
        return trials._replace(score=1 - loss, grad=grad, metrics={"cost": loss})
    cost = jnp.sum(to_vector(SPACE, trials.arch), -1).astype(jnp.float32)
    return trials._replace(score=one_max(trials.arch), metrics={"cost": cost})


class Compiled(NamedTuple):
    """The functions of a strategy, compiled once for all laws."""

    init: Callable  # key -> state
    ask: Callable  # (key, state) -> trials
    tell: Callable  # (key, trials, state) -> (trials, state)
    step: Callable  # (state, number of the round) -> (state, trials)
    scan: Callable  # (state, numbers) -> (state, history)
    many: Callable  # scan, vmapped


@functools.cache
def compiled(name: str) -> Compiled:
    strategy = ENTRIES[name].make(SPACE)

    def step(state: Any, number: jax.Array) -> tuple[Any, Trials]:
        k_ask, k_tell = jax.random.split(jax.random.key(number))
        trials = evaluated(strategy.ask(k_ask, state, N))
        _, state = strategy.tell(k_tell, trials, state)
        return state, trials

    scan = lambda state, numbers: jax.lax.scan(step, state, numbers)
    jit = functools.partial(jax.jit, compiler_options=QUICK)
    return Compiled(
        lambda key: strategy.init(key, template(SPACE)),
        jit(lambda key, state: strategy.ask(key, state, N)),
        jit(strategy.tell),
        jit(step),
        jit(scan),
        jit(jax.vmap(scan)),
    )


@functools.cache
def searched(name: str) -> tuple[Any, Trials]:
    """A state after three rounds, and evaluated proposals that it has not been told yet."""
    run = compiled(name)
    state = run.init(jax.random.key(1))
    for i in range(3):
        state, _ = run.step(state, jnp.int32(100 + i))
    return state, evaluated(run.ask(jax.random.key(3), state))


SEEDS, ROUNDS = 20, 50


def rounds_of(seed: int) -> np.ndarray:
    return np.arange(seed * ROUNDS, (seed + 1) * ROUNDS, dtype=np.int32)


@functools.cache
def searches(name: str) -> tuple[Any, Trials]:
    """Final states and histories `[SEEDS, ROUNDS, N]` of searches that ran side by side."""
    run = compiled(name)
    starts = [run.init(jax.random.key(seed)) for seed in range(SEEDS)]
    numbers = np.stack([rounds_of(seed) for seed in range(SEEDS)])
    return jax.device_get(run.many(jax.tree.map(lambda *rows: np.stack(rows), *starts), numbers))


def same(a: Any, b: Any) -> None:
    """Asserts that two pytrees are equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype), jax.eval_shape(lambda x: x, tree))


def taken(trials: Trials, rows: Any) -> Trials:
    rows = rows if isinstance(rows, slice) else np.asarray(rows)
    return jax.tree.map(lambda x: x[rows], trials)


# ------------------------------------------------------------------------------------- laws


@every_traced
def test_a_step_keeps_structure_shapes_and_dtypes_of_the_state(name: str) -> None:
    run = compiled(name)
    state = run.init(jax.random.key(0))
    new, trials = jax.eval_shape(run.step, state, jnp.int32(0))
    assert shapes(new) == shapes(state)
    assert all(leaf.shape[0] == N for leaf in jax.tree.leaves(trials))


@every
def test_the_second_step_compiles_nothing(name: str) -> None:
    run = compiled(name)
    state = run.init(jax.random.key(0))
    for i in range(3):
        state, _ = run.step(state, jnp.int32(i))
    assert run.step._cache_size() == 1


@every
def test_a_scan_equals_the_python_loop_bit_for_bit(name: str) -> None:
    run, rtol = compiled(name), ENTRIES[name].scan_rtol
    state, history = run.init(jax.random.key(0)), []
    for number in rounds_of(0):
        state, trials = run.step(state, number)
        history.append(trials)
    stacked = jax.tree.map(lambda *rows: np.stack(rows), *history)
    found = run.scan(run.init(jax.random.key(0)), rounds_of(0))
    if not rtol:
        same(found, (state, stacked))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol, atol=rtol / 10)
    jax.tree.map(close, found, (state, stacked))


@every
def test_a_vmapped_row_equals_the_single_run(name: str) -> None:
    run, rtol = compiled(name), ENTRIES[name].vmap_rtol
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol, atol=rtol / 10)
    for seed in (0, 7):
        row = jax.tree.map(lambda x, seed=seed: x[seed], searches(name))
        single = run.scan(run.init(jax.random.key(seed)), rounds_of(seed))
        if not ENTRIES[name].exact:
            same(taken(row[1], slice(4)).arch, taken(single[1], slice(4)).arch)
            continue
        if rtol:
            jax.tree.map(close, row, single)
            if ENTRIES[name].relaxed:
                continue
            row, single = row[1].arch, single[1].arch
        same(row, single)


@every
def test_rows_of_weight_0_teach_nothing(name: str) -> None:
    state, trials = searched(name)
    tell = lambda trials: compiled(name).tell(jax.random.key(7), trials, state)[1]
    live = np.array([1, 0, 1, 1, 0, 1], np.float32)
    masked = trials._replace(weight=trials.weight * live)
    told = tell(masked)
    other = sample(SPACE, jax.random.key(8), N)
    if ENTRIES[name].relaxed:
        other = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), masked.arch)
        wrong = jnp.asarray(live > 0)
        masked = masked._replace(grad=jnas.base.rows(wrong, masked.grad, other))
    garbage = masked._replace(
        arch=jnas.base.rows(jnp.asarray(live > 0), masked.arch, other),
        score=jnp.where(live > 0, masked.score, 1e9),
        metrics={"cost": jnp.where(live > 0, masked.metrics["cost"], -1e9)},
    )
    same(tell(garbage), told)
    rtol = ENTRIES[name].rtol
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol, atol=rtol / 10)
    jax.tree.map(close, tell(taken(masked, np.flatnonzero(live))), told)


@every
def test_a_total_weight_of_0_changes_nothing(name: str) -> None:
    state, trials = searched(name)
    _, new = compiled(name).tell(
        jax.random.key(9), trials._replace(weight=jnp.zeros_like(trials.weight)), state
    )
    same(new, state)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_becomes_weight_0_and_score_0(name: str, bad: float) -> None:
    state, trials = searched(name)
    tell = lambda trials: compiled(name).tell(jax.random.key(10), trials, state)
    passed, new = tell(trials._replace(score=trials.score.at[2].set(bad)))
    absent = trials._replace(weight=trials.weight.at[2].set(0.0))
    same(new, tell(absent)[1])
    assert np.isfinite(passed.score).all()
    if ENTRIES[name].passes_rows_on:
        assert passed.weight[2] == 0 and (name == "on_tell" or passed.score[2] == 0)


@every
def test_late_split_and_reordered_rows_are_accepted(name: str) -> None:
    state, old = searched(name)
    run = compiled(name)
    new = evaluated(run.ask(jax.random.key(11), state))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), old, new)
    now = state
    for i, rows in enumerate(([11, 6, 9, 7], [2, 10, 8, 5], [4, 0, 3, 1])):
        _, now = run.tell(jax.random.key(200 + i), taken(both, rows), now)
    assert shapes(now) == shapes(state)
    assert shapes(run.ask(jax.random.key(13), now)) == shapes(run.ask(jax.random.key(13), state))


@every
def test_proposals_are_valid_and_every_leaf_leads_with_n(name: str) -> None:
    state, _ = searched(name)
    run = compiled(name)
    for now in (run.init(jax.random.key(0)), state):
        trials = run.ask(jax.random.key(14), now)
        assert trials.score is None and trials.grad is None
        assert all(leaf.shape[0] == N for leaf in jax.tree.leaves(trials))
        assert (np.asarray(trials.weight) == 1).all()
        assert jax.tree.structure(trials.arch) == jax.tree.structure(SPACE.num_choices)

        if ENTRIES[name].relaxed:
            jax.tree.map(are_weights, trials.arch, SPACE.num_choices)
            continue

        def in_range(x: jax.Array, count: np.ndarray) -> None:
            assert x.dtype == jnp.int32 and x.shape == (N, *count.shape)
            assert (x >= 0).all() and (x < count).all()

        jax.tree.map(in_range, trials.arch, SPACE.num_choices)
        assert jax.vmap(SPACE.is_valid)(trials.arch).all()


LEAST, MOST = 6, 9


def _in_band(arch: Any) -> jax.Array:
    total = jnp.sum(to_vector(SPACE, arch))
    return (total >= LEAST) & (total <= MOST)


def _into_band(arch: Any) -> Any:
    x, counts = to_vector(SPACE, arch), choice_counts(SPACE)
    before = lambda v: jnp.cumsum(v) - v
    x = jnp.minimum(x, jnp.maximum(0, MOST - before(x)))
    room, lacks = counts - 1 - x, LEAST - jnp.sum(x)
    return from_vector(SPACE, x + jnp.minimum(room, jnp.maximum(0, lacks - before(room))))


# A third of its architectures are valid, and the first one is not.
BAND = dataclasses.replace(SPACE, name="band", is_valid=_in_band, repair=_into_band)
PROMPTLY = {"mutate_one", "hill_climb"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in PROMPTLY else pytest.mark.slow)
        for name in ENTRIES
        if not ENTRIES[name].relaxed
    ],
)
def test_where_not_all_architectures_are_valid_all_proposals_are(name: str) -> None:
    strategy = ENTRIES[name].make(BAND)

    def step(state: Any, number: jax.Array) -> tuple[Any, Any]:
        k_ask, k_tell = jax.random.split(jax.random.key(number))
        trials = evaluated(strategy.ask(k_ask, state, N))
        _, state = strategy.tell(k_tell, trials, state)
        return state, trials.arch

    state = strategy.init(jax.random.key(0), template(BAND))
    scan = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(30)), compiler_options=QUICK)
    arch = scan(state)[1]
    assert all((x >= 0).all() for x in jax.tree.leaves(arch))
    assert (to_vector(BAND, arch) < choice_counts(BAND)).all()
    total = np.asarray(jnp.sum(to_vector(BAND, arch), -1))
    assert (total >= LEAST).all() and (total <= MOST).all()
    assert len(np.unique(to_vector(BAND, arch).reshape(30 * N, -1), axis=0)) >= 6


def test_what_no_mutation_follows_repairs_by_itself() -> None:
    pairs = sample(BAND, jax.random.key(1), 400)
    pairs = jax.tree.map(lambda x: x.reshape(200, 2, *x.shape[1:]), pairs)
    parents = Trials(pairs, weight=jnp.ones((200, 2)))
    of = lambda link, trials: jax.jit(lambda: link.ask(jax.random.key(2), (), 200, trials).arch)()
    bare = of(crossover_uniform(), parents)
    assert not jax.vmap(BAND.is_valid)(bare).all()
    made = [
        of(crossover_uniform(space=BAND), parents),
        of(links.sample_sandwich(BAND), None),
        of(links.sample_fairly(BAND), None),
        argmax(BAND, jax.tree.map(lambda c: jnp.zeros((200, *c.shape, c.max())), BAND.num_choices)),
    ]
    for arch in (*made, jax.tree.map(lambda x: x[:, 0], pairs)):
        assert jax.vmap(BAND.is_valid)(arch).all()
    fine = jax.vmap(BAND.is_valid)(bare)
    same(jax.tree.map(lambda x: x[fine], bare), jax.tree.map(lambda x: x[fine], made[0]))


def test_a_space_without_a_repair_is_not_asked_what_is_valid() -> None:
    def never(arch: Any) -> jax.Array:
        raise AssertionError(arch)

    deaf = dataclasses.replace(SPACE, is_valid=never)

    def asked(space: Space) -> Any:
        children = chain(sample_uniform(space), mutate_resample(space, 0.5))
        return jax.eval_shape(lambda: children.ask(jax.random.key(0), ((), ()), N).arch)

    assert asked(deaf) == asked(SPACE)
    with pytest.raises(AssertionError):
        asked(dataclasses.replace(deaf, repair=_into_band))


def are_weights(x: jax.Array, count: np.ndarray) -> None:
    """Asserts that weights lie in [0, 1], and are 0 for choices that a place lacks."""
    real = np.broadcast_to(np.arange(int(count.max())) < count[..., None], x.shape)
    assert x.dtype == jnp.float32 and (np.asarray(x)[~real] == 0).all()
    assert (x >= 0).all() and (x <= 1.5).all()  # drop-out scales up what remains


@every_traced
def test_another_number_of_proposals_may_be_asked_for(name: str) -> None:
    strategy, state = ENTRIES[name].make(SPACE), compiled(name).init(jax.random.key(0))
    for n in (1, 11):
        asked = jax.eval_shape(lambda s, n=n: strategy.ask(jax.random.key(0), s, n), state)
        assert all(leaf.shape[0] == n for leaf in jax.tree.leaves(asked))


@functools.cache
def best_on_average(name: str) -> float:
    return float(jnp.mean(jnp.max(searches(name)[1].score, (1, 2))))


@every
def test_it_solves_one_max_better_than_random(name: str) -> None:
    if ENTRIES[name].learns:
        assert best_on_average(name) > best_on_average("sample_uniform") + 0.1
    else:
        assert best_on_average(name) > 0


# ------------------------------------------------------------------------- misplaced links


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        (chain(mutate_one(SPACE)), "put a selection to its left"),
        (chain(select_uniform()), "put a memory"),
        (chain(sample_uniform(SPACE), select_tournament(2)), "put a memory"),
        (chain(sample_uniform(SPACE), keep_youngest(4)), "put it first in the chain"),
        (chain(sample_uniform(SPACE), keep_best(4)), "put it first in the chain"),
        (chain(keep_best(4), mutate_one(SPACE)), "put a selection between"),
        (chain(on_tell(lambda t: t)), "put a link that proposes to its left"),
        (chain(replay(keep_best(2), 2), sample_uniform(SPACE)), "put a link that proposes"),
        (mixture(sample_uniform(SPACE), mutate_one(SPACE), 0.5), "put a selection to its left"),
        (chain(sample_uniform(SPACE), select_roulette()), "put a memory"),
        (chain(keep_best(4), select_uniform(), crossover_one_point()), "a selection with arity=2"),
        (chain(sample_uniform(SPACE), crossover_uniform()), "put a selection with arity=2"),
        (chain(keep_best(4), select_uniform(2), mutate_resample(SPACE, 0.1)), "put a crossover"),
        (chain(keep_best(4), mutate_step(SPACE, 0.1)), "put a selection between"),
        (chain(sample_uniform(SPACE), keep_generation(2, 4)), "put it first in the chain"),
        (chain(sample_uniform(SPACE), keep_elite(keep_best(2))), "put it first in the chain"),
        (chain(sample_uniform(SPACE), islands(sample_uniform(SPACE), 2, 4)), "put them first"),
        (chain(archive(4, {"score": "max"})), "put a link that proposes to its left"),
        (
            chain(sample_uniform(SPACE), q_learning(SPACE, tabular_q(SPACE), 0.5, 0.1)),
            "put it first in the chain",
        ),
        (
            chain(
                sample_uniform(SPACE),
                edit_q_learning(edit_environment(SPACE), linear_q(SPACE), 0.5, 0.1),
            ),
            "put it first in the chain",
        ),
        (
            chain(sample_uniform(SPACE), reinforce(categorical_policy(SPACE), optax.sgd(1.0))),
            "put it first in the chain",
        ),
        (
            chain(sample_uniform(SPACE), ppo(categorical_policy(SPACE), optax.sgd(1.0))),
            "put it first in the chain",
        ),
        (chain(subtract_ema(0.9), sample_uniform(SPACE)), "put a link that proposes"),
        (chain(subtract_mean(), sample_uniform(SPACE)), "put a link that proposes"),
        (chain(sample_uniform(SPACE), hyperband(sample_uniform(SPACE))), "put it first in the"),
        (chain(sample_uniform(SPACE), asha(sample_uniform(SPACE))), "put it first in the chain"),
        (successive_halving(keep_best(4)), "put a selection and a variation behind the memory"),
        (chain(sample_uniform(SPACE), links.frozen(sample_uniform(SPACE), ())), "put it first in"),
        (
            chain(keep_best(4), links.open_gradually(SPACE, [(0, SPACE.num_choices)])),
            "put it behind a sampler",
        ),
        (chain(links.mnasnet("cost", 1.0)), "put a link that proposes to its left"),
        (chain(links.rank_scores(), sample_uniform(SPACE)), "put a link that proposes to its left"),
        (links.reject(keep_best(4), SPACE, one_max, 0.5), "put the whole chain"),
        (links.without_repeats(keep_best(N), SPACE, 9), "put the whole chain"),
        (
            chain(sample_uniform(SPACE), jnas.recipes.predictor_evolution(SPACE)),
            "first in the chain",
        ),
    ],
)
def test_a_misplaced_link_fails_as_it_is_traced_with_a_sentence(
    strategy: Strategy, told: str
) -> None:
    state = strategy.init(jax.random.key(0), template(SPACE))
    with pytest.raises(ValueError, match=told) as caught:
        jax.eval_shape(lambda state: strategy.ask(jax.random.key(0), state, N), state)
    assert "\n" not in str(caught.value)


@every_traced
def test_unevaluated_proposals_are_refused_with_a_sentence(name: str) -> None:
    run, tell = compiled(name), ENTRIES[name].make(SPACE).tell
    state = run.init(jax.random.key(0))
    _, trials = jax.eval_shape(run.step, state, jnp.int32(0))
    with pytest.raises(ValueError, match="put an evaluator between ask and tell"):
        jax.eval_shape(
            lambda t, s: tell(jax.random.key(0), t, s), trials._replace(score=None), state
        )


def test_a_memory_names_the_metrics_that_it_misses() -> None:
    strategy = chain(keep_best(2, metrics=["latency"]))
    state = strategy.init(jax.random.key(0), template(SPACE))
    trials = evaluated(jnas.base.propose(sample(SPACE, jax.random.key(0), 2)))._replace(trace=((),))
    with pytest.raises(ValueError, match=r"latency.*cost"):
        strategy.tell(jax.random.key(0), trials, state)


def test_impossible_links_are_refused_where_they_are_made() -> None:
    for make in (keep_best, keep_youngest):
        with pytest.raises(ValueError, match=r"\(0\): .* at least (one|1) trial"):
            make(0)
    with pytest.raises(ValueError, match="at least one link"):
        chain()
    with pytest.raises(ValueError, match="no choice that could be changed"):
        mutate_one(Space("single", np.ones(3)))


# -------------------------------------------------------------------- the real benchmark


TRIALS = 300  # evaluations of each of 200 seeds


def _test_accuracy(nb201: dict[str, np.ndarray], strategy: Strategy, batch: int = 1) -> np.ndarray:
    """CIFAR-10 test accuracy of the cell of best validation accuracy, of every seed."""
    space = jnas.spaces.nas_bench_201()
    columns = {"val": nb201["val_acc_200"][:, 0], "test": nb201["test_acc_200"][:, 0]}
    columns |= {name: nb201[name][:, 0] for name in ("params", "latency", "train_time_200")}
    evaluator = tabular(space, columns, "val")

    def one(key: jax.Array) -> jax.Array:
        steps = TRIALS // batch
        _, history = jnas.search(key, strategy, evaluator, space, steps=steps, batch=batch)
        return jnp.ravel(history.metrics["test"])[jnp.argmax(history.score)]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(22), 200)))


def _partial_accuracy(
    nb201: dict[str, np.ndarray], strategy: Strategy, batch: int, rounds: int
) -> np.ndarray:
    """As `_test_accuracy`, of the full evaluations within the epochs that 300 of them have.

    The table has 12 epochs beside 200. A learning rate of its own belongs to each, so training
    cannot go on from one to the other, and every row pays in full.
    """
    space = jnas.spaces.nas_bench_201()
    names = {"val": "val_acc_200", "val_12": "val_acc_12", "test": "test_acc_200"}
    columns = {k: nb201[v][:, 0] for k, v in names.items()} | {"whole": np.ones(len(nb201["ops"]))}
    evaluator = tabular(
        space, columns, "val", fidelities={12 / 200: "val_12"}, cost="whole", resume=False
    )

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, history = jnas.search(key, strategy, evaluator, space, steps=rounds, batch=batch)
        found = jax.tree.map(jnp.ravel, history._replace(arch=()))
        fair = (found.budget == 1) & (found.metrics["clock"] <= TRIALS)
        best = jnp.argmax(jnp.where(fair, found.score, -jnp.inf))
        return found.metrics["test"][best], found.metrics["clock"][-1]

    test, clock = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(22), 200))
    assert (clock >= 0.9 * TRIALS).all()  # no seed had much less than its share
    return np.asarray(test)


def _std(x: np.ndarray) -> float:
    """Of a sample; a method that finds the optimum with every seed has 0."""
    return float(np.std(x, ddof=1))


@pytest.fixture(scope="module")
def random_accuracy(nb201: dict[str, np.ndarray]) -> np.ndarray:
    return _test_accuracy(nb201, jnas.recipes.random_search(jnas.spaces.nas_bench_201()))


def test_random_search_reaches_what_simulations_of_the_table_give(
    random_accuracy: np.ndarray,
) -> None:
    assert 93.85 < random_accuracy.mean() < 94.05


def test_regularized_evolution_reaches_what_simulations_of_the_table_give(
    nb201: dict[str, np.ndarray], random_accuracy: np.ndarray
) -> None:
    space = jnas.spaces.nas_bench_201()
    strategy = jnas.recipes.regularized_evolution(space, population=10, sample=3)
    accuracy = _test_accuracy(nb201, strategy)
    assert 94.20 < accuracy.mean() < 94.40 and 0.10 < accuracy.std() < 0.20
    assert accuracy.mean() > random_accuracy.mean() + 0.2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if recipe.slow else ())
        for name, recipe in RECIPES.items()
        if recipe.beats_random
    ],
)
def test_a_recipe_beats_random_search_on_the_table(
    name: str, nb201: dict[str, np.ndarray], random_accuracy: np.ndarray
) -> None:
    make, recipe = jnas.recipes.STRATEGIES[name], RECIPES[name]
    strategy = make(jnas.spaces.nas_bench_201(), **recipe.on_table)
    if recipe.rounds:
        accuracy = _partial_accuracy(nb201, strategy, recipe.batch, recipe.rounds)
    else:
        accuracy = _test_accuracy(nb201, strategy, recipe.batch)
    moments = [f(x) for x in (accuracy, random_accuracy) for f in (np.mean, _std, np.size)]
    worse = stats.ttest_ind_from_stats(*moments, equal_var=False, alternative="greater")
    assert worse.pvalue < 1e-4


def test_every_public_link_and_recipe_stands_in_the_table_of_laws() -> None:
    assert set(jnas.links.__all__) <= set(ENTRIES)
    assert set(jnas.recipes.STRATEGIES) | set(jnas.recipes.GRADIENT) == set(RECIPES)
