"""Non-dominated sorting, crowding, archives and hypervolumes, against naive references."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.text import Text
from scipy import stats

import jnas
from jnas.analysis import figures, pareto
from jnas.base import InputError, Space, Trials, chain, template
from jnas.evaluators import tabular
from jnas.links import archive, keep_nondominated, keep_youngest, rank_crowded, select_uniform
from jnas.links.pareto import crowding_distance, nondominated_sort

LINE = Space("line", 1000)
OBJECTIVES = {"cost": "min", "score": "max"}


def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether a dominates b, the larger the better."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


def naive_fronts(points: list[tuple[float, ...]]) -> list[int]:
    """The front of every point, by peeling."""
    front, left, number = {}, set(range(len(points))), 0
    while left:
        best = {i for i in left if not any(beats(points[j], points[i]) for j in left)}
        front |= dict.fromkeys(best, number)
        left, number = left - best, number + 1
    return [front[i] for i in range(len(points))]


def naive_crowding(points: list[tuple[float, ...]], fronts: list[int]) -> list[float]:
    """Deb et al. 2002, section III-B, front by front, with sorted lists."""
    distance = [0.0] * len(points)
    for number in set(fronts):
        members = [i for i, f in enumerate(fronts) if f == number]
        for d in range(len(points[0])):
            line = sorted(members, key=lambda i, d=d: points[i][d])
            span = points[line[-1]][d] - points[line[0]][d] or 1.0
            distance[line[0]] = distance[line[-1]] = np.inf
            for before, i, after in zip(line, line[1:], line[2:], strict=False):
                distance[i] += (points[after][d] - points[before][d]) / span
    return distance


def points_of(seed: int, n: int, d: int) -> list[tuple[float, ...]]:
    """Random points on a coarse grid: with ties, and with equal points."""
    return [tuple(p) for p in np.random.default_rng(seed).integers(0, 7, (n, d)).tolist()]


jitted_sort, jitted_crowding = jax.jit(nondominated_sort), jax.jit(crowding_distance)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_fronts_and_crowding_equal_the_naive_ones(d: int) -> None:
    for seed in range(10):
        points = points_of(seed, 24, d)
        live = np.random.default_rng(seed + 100).random(24) < 0.8
        some = [p for p, alive in zip(points, live, strict=True) if alive]
        values = jnp.asarray(points, jnp.float32)
        front = jitted_sort(values, jnp.asarray(live))
        assert (np.asarray(front)[~live] == 24).all()
        fronts = naive_fronts(some)
        assert np.asarray(front)[live].tolist() == fronts
        crowding = np.asarray(jitted_crowding(values, front))[live]
        np.testing.assert_allclose(crowding, naive_crowding(some, fronts), rtol=1e-6)


def batches(seed: int, sizes: list[int]) -> list[Trials]:
    """Random evaluated rows with two objectives; some dead, some without a finite cost."""
    rng, made, count = np.random.default_rng(seed), [], 0
    for n in sizes:
        cost = np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 9, n))
        made.append(
            Trials(
                jnp.arange(count, count + n, dtype=jnp.int32),
                jnp.asarray(rng.integers(0, 9, n), jnp.float32),
                weight=jnp.asarray(rng.random(n) < 0.8, jnp.float32),
                metrics={"cost": jnp.asarray(cost, jnp.float32), "more": jnp.ones(n)},
            )
        )
        count += n
    return made


def alive(trials: Trials) -> list[tuple[int, float, float]]:
    columns = (trials.arch, trials.score, trials.metrics["cost"], trials.weight)
    zipped = zip(*(np.asarray(c).tolist() for c in columns), strict=True)
    return [(a, s, c) for a, s, c, w in zipped if w > 0 and np.isfinite(c)]


def survivors(rows: list[tuple[int, float, float]], size: int) -> list[tuple[int, float, float]]:
    """The rows that NSGA-II keeps, in its order."""
    points = [(-cost, score) for _, score, cost in rows]
    fronts = naive_fronts(points)
    crowding = naive_crowding(points, fronts)
    order = sorted(range(len(rows)), key=lambda i: (fronts[i], -crowding[i], i))
    return [rows[i] for i in order[:size]]


@pytest.mark.slow
def test_keep_nondominated_keeps_the_first_fronts_and_the_least_crowded() -> None:
    link = keep_nondominated(6, OBJECTIVES, metrics=["more"])
    tell = jax.jit(link.tell)
    state = link.init(jax.random.key(0), template(LINE))
    kept: list[tuple[int, float, float]] = []
    for trials in batches(0, [3, 6, 1, 12, 6, 6, 12, 1]):
        _, state = tell(jax.random.key(0), trials, state)
        kept = survivors(kept + alive(trials), 6) if (trials.weight > 0).any() else kept
        assert alive(state.rows) == kept


@pytest.mark.slow
def test_an_archive_is_the_front_of_everything_told_each_point_once() -> None:
    link = archive(20, OBJECTIVES)
    tell = jax.jit(link.tell)
    state = link.init(jax.random.key(0), template(LINE))
    told: list[tuple[int, float, float]] = []
    for trials in batches(1, [3, 6, 1, 12, 6, 6, 12]):
        passed, state = tell(jax.random.key(0), trials, state)
        assert (passed.score == trials.score).all() and (passed.weight == trials.weight).all()
        told += alive(trials)
        points = [(-cost, score) for _, score, cost in told]
        front = [
            row
            for i, row in enumerate(told)
            if points[i] not in points[:i] and not any(beats(p, points[i]) for p in points)
        ]
        assert alive(state.rows) == front


@pytest.mark.slow
def test_a_full_archive_drops_what_is_most_crowded_and_never_the_ends() -> None:
    link = archive(4, OBJECTIVES)
    state = link.init(jax.random.key(0), template(LINE))
    cost = jnp.array([0.0, 1.0, 1.5, 2.0, 6.0, 9.0])
    trials = Trials(jnp.arange(6), cost, weight=jnp.ones(6), metrics={"cost": cost})
    _, state = link.tell(jax.random.key(0), trials, state)
    assert sorted(state.rows.arch.tolist()) == [0, 3, 4, 5]


@pytest.mark.slow
def test_the_crowded_comparison_is_a_score_that_any_selection_takes() -> None:
    points = points_of(3, 30, 2)
    rows = [(i, score, cost) for i, (cost, score) in enumerate(points)]
    cost, score = (jnp.asarray(x, jnp.float32) for x in zip(*points, strict=True))
    trials = Trials(jnp.arange(30), score, weight=jnp.ones(30), metrics={"cost": cost})
    ranked = rank_crowded(OBJECTIVES).ask(jax.random.key(0), (), 1, trials)
    values = [(-cost, score) for cost, score in points]
    fronts = naive_fronts(values)
    crowding = naive_crowding(values, fronts)
    ahead = lambda i, j: (fronts[i], -crowding[i]) < (fronts[j], -crowding[j])
    before = [sum(ahead(j, i) for j, _, _ in rows) for i, _, _ in rows]
    assert (-ranked.score).tolist() == before
    assert (ranked.arch == trials.arch).all() and ranked.metrics is trials.metrics


def test_objectives_are_checked() -> None:
    for make in (lambda o: keep_nondominated(4, o), lambda o: archive(4, o), rank_crowded):
        with pytest.raises(InputError, match="cost='up'; allowed are 'max' and 'min'"):
            make({"cost": "up"})
        with pytest.raises(InputError, match="at least one objective"):
            make({})
    links = chain(keep_youngest(4), rank_crowded(OBJECTIVES), select_uniform())
    state = links.init(jax.random.key(0), template(LINE))
    with pytest.raises(ValueError, match=r"compares by \['cost'\].*let the memory keep"):
        links.ask(jax.random.key(0), state, 4)


# ----------------------------------------------------------------------------------- analysis


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_the_hypervolume_of_grid_points_is_the_number_of_cells_that_they_dominate(d: int) -> None:
    cells = np.asarray(list(itertools.product(range(6), repeat=d)))
    for seed in range(5):
        points = np.random.default_rng(seed).integers(0, 7, (8, d))
        inside = np.any(np.all(points[None] <= cells[:, None], -1), -1)
        volume = pareto.hypervolume(points, [6] * d, ["min"] * d)
        assert volume == inside.sum()
        mirrored = pareto.hypervolume(-points, [-6] * d, ["max"] * d)
        assert mirrored == volume


@pytest.mark.parametrize("d", [1, 2, 3])
def test_nondominated_points_are_those_that_no_other_beats(d: int) -> None:
    for seed in range(5):
        points = points_of(seed, 40, d)
        naive = [not any(beats(q, p) for q in points) for p in points]
        assert pareto.nondominated(points, ["max"] * d).tolist() == naive
    mixed = pareto.nondominated(np.asarray(points_of(9, 40, 2)) * [1, -1], ["max", "min"])
    assert mixed.tolist() == pareto.nondominated(points_of(9, 40, 2), ["max", "max"]).tolist()


TABLE_FRONTS = [  # size and hypervolume of (error of the test, MFLOPs), to the reference
    (14, 22689.660, (100, 250)),
    (13, 17427.066, (100, 250)),
    (13, 2641.402, (100, 60)),
]


@pytest.mark.parametrize("dataset", [0, 1, 2])
def test_the_front_of_the_table_is_the_known_one(nb201: Any, dataset: int) -> None:
    size, volume, reference = TABLE_FRONTS[dataset]
    error = 100 - nb201["test_acc_200"][:, dataset].astype(float)
    points = np.stack([error, nb201["flops"][:, dataset] / 1e6], -1)
    front = points[pareto.nondominated(points, ("min", "min"))]
    assert len(np.unique(front, axis=0)) == size
    assert pareto.hypervolume(front, reference, ("min", "min")) == pytest.approx(volume, abs=5e-4)


@pytest.mark.slow
def test_nsga2_covers_more_of_the_front_of_the_table_than_random_search(nb201: Any) -> None:
    space = jnas.spaces.nas_bench_201()
    columns = {"val": nb201["val_acc_200"][:, 0], "mflops": nb201["flops"][:, 0] / 1e6}
    evaluator = tabular(space, columns, "val")
    nsga2 = jnas.recipes.nsga2(space, 20, {"score": "max", "mflops": "min"})

    def volumes(strategy: jnas.Strategy) -> np.ndarray:
        search = lambda key: jnas.search(key, strategy, evaluator, space, steps=15, batch=20)[1]
        history = jax.jit(jax.vmap(search))(jax.random.split(jax.random.key(5), 80))
        points = np.stack([history.score, history.metrics["mflops"]], -1).reshape(80, 300, 2)
        return np.array([pareto.hypervolume(p, (0, 250), ("max", "min")) for p in points])

    random = volumes(jnas.recipes.random_search(space))
    better = stats.ttest_ind(volumes(nsga2), random, equal_var=False, alternative="greater")
    assert better.pvalue < 1e-4


def test_a_front_figure_shows_the_front_and_its_hypervolume(tmp_path: Any) -> None:
    history = {
        "params": np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
        "accuracy": np.array([0.5, 0.4, 0.7, 0.9, 1.0]),
        "weight": np.array([1.0, 1.0, 1.0, 1.0, 0.0]),
    }
    objectives = {"params": "min", "accuracy": "max"}
    figure = pareto.front_figure(history, objectives, reference=(6, 0), title="front")
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert "Pareto front of 3, hypervolume 3.5" in texts  # 2 * 0.5 + 1 * 0.7 + 2 * 0.9
    assert "params  (← better)" in texts and "accuracy  (↑ better)" in texts
    line = figure.axes[0].lines[1]
    assert line.get_xdata().tolist() == [1, 3, 4] and line.get_drawstyle() == "steps-post"
    figures.save(figure, tmp_path / "front.png")


def test_a_hopeless_trial_does_not_squeeze_the_others() -> None:
    score = np.append(np.linspace(0.9, 1.0, 19), 0.1)
    history = {"score": score, "params": np.arange(20.0), "weight": np.ones(20)}
    figure = pareto.front_figure(history, {"score": "max", "params": "min"})
    assert "trial (1 far off not shown)" in [t.get_text() for t in figure.findobj(Text)]
    assert figure.axes[0].get_xlim()[0] > 0.85


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: pareto.nondominated(np.ones((3, 2)), ["max"]), r"shape \(3, 2\)"),
        (lambda: pareto.nondominated(np.ones((3, 1)), ["up"]), "direction 'up'"),
        (lambda: pareto.nondominated(np.array([[np.nan]]), ["max"]), "finite"),
        (lambda: pareto.hypervolume(np.ones((3, 2)), (1.0,), ["max", "min"]), "one number for"),
        (lambda: pareto.front_figure({}, {"a": "max"}), "shows two"),
        (lambda: pareto.front_figure({"a": np.ones(1)}, {"a": "max", "b": "min"}), "lacks"),
        (
            lambda: pareto.front_figure(
                {"a": np.ones(1), "weight": np.zeros(1), "b": np.ones(1)},
                {"a": "max", "b": "min"},
            ),
            "no trial",
        ),
    ],
)
def test_fronts_that_cannot_be_are_refused_with_one_line(call: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)
