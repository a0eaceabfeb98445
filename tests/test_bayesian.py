"""TPE and Gaussian processes against naive references."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from sklearn import gaussian_process as sklearn_gp

from jnas.base import InputError, Space, propose, template
from jnas.links import bayesian, gaussian_process
from jnas.links import tpe as tpe_link
from jnas.links.candidates import among, mutants
from jnas.links.gaussian_process import (
    Hyper,
    bounded,
    condition,
    default_hyper,
    expected_improvement,
    fold,
    gradient,
    log_likelihood,
    log_prior,
    normal_scores,
    predict,
    standard_scores,
)
from jnas.links.tpe import density, log_density, log_marginals, marginals, sample_density, split

SPACE = Space("small", {"a": np.array([2, 1, 4]), "b": 3})
COUNTS = (2, 1, 4, 3)
ALL = np.array(list(itertools.product(*map(range, COUNTS))), np.int32)


def _data(seed: int, m: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, COUNTS, (m, 4)).astype(np.int32)


# -------------------------------------------------------------------------------------- TPE


def _naive_density(x: np.ndarray, data: np.ndarray, weights: np.ndarray, width: Any) -> float:
    total = 0.0
    for row, weight in zip(data, weights, strict=True):
        kernel = 1.0
        for p, k in enumerate(COUNTS):
            b = min(width[p], (k - 1) / k)
            kernel *= 1 - b if x[p] == row[p] else b / (k - 1)
        total += weight / weights.sum() * kernel
    return total


def _naive_width(data: np.ndarray, weights: np.ndarray) -> list[float]:
    live = data[weights > 0]
    spread = lambda column: 1 - sum((np.mean(column == v)) ** 2 for v in set(column.tolist()))
    return [spread(column) * len(live) ** (-1 / 8) for column in live.T]


@pytest.mark.parametrize("bandwidth", [None, 0.3])
def test_a_density_equals_the_naive_sum_of_kernels_and_sums_to_1(bandwidth: float | None) -> None:
    data, weights = _data(0, 7), np.array([1, 0, 1, 1, 0, 1, 1], np.float32)
    fitted = density(SPACE, jnp.asarray(data), jnp.asarray(weights), bandwidth)
    width = _naive_width(data, weights) if bandwidth is None else [bandwidth] * 4
    naive = np.array([_naive_density(x, data, weights, width) for x in ALL])
    np.testing.assert_allclose(np.exp(log_density(SPACE, fitted, jnp.asarray(ALL))), naive, 1e-5)
    assert np.isclose(naive.sum(), 1, atol=1e-5)


def test_marginals_are_the_sums_of_the_joint_density() -> None:
    fitted = density(SPACE, jnp.asarray(_data(1, 9)), jnp.ones(9))
    joint = np.exp(log_density(SPACE, fitted, jnp.asarray(ALL)))
    table = np.asarray(marginals(SPACE, fitted))
    for p, k in enumerate(COUNTS):
        expected = [joint[ALL[:, p] == v].sum() for v in range(k)]
        np.testing.assert_allclose(table[p, :k], expected, 1e-4)
        assert (table[p, k:] == 0).all()
    product = np.prod([table[p, ALL[:, p]] for p in range(4)], 0)
    independent = np.exp(log_marginals(SPACE, fitted, jnp.asarray(ALL)))
    np.testing.assert_allclose(independent, product, 1e-4)


def test_samples_of_a_density_are_as_frequent_as_it_says() -> None:
    weights = jnp.array([1.0, 0.0, 2.0, 1.0, 1.0])
    fitted = density(SPACE, jnp.asarray(_data(2, 5)), weights, 0.4)
    drawn = np.asarray(sample_density(SPACE, jax.random.key(0), fitted, 40_000))
    number = np.ravel_multi_index(drawn.T, COUNTS)
    chance = np.exp(np.asarray(log_density(SPACE, fitted, jnp.asarray(ALL)), np.float64))
    counts = np.bincount(number, minlength=len(ALL))
    assert stats.chisquare(counts, 40_000 * chance / chance.sum()).pvalue > 1e-3


def test_a_density_of_nothing_is_uniform() -> None:
    nothing = density(SPACE, jnp.asarray(_data(3, 5)), jnp.zeros(5))
    np.testing.assert_allclose(
        log_density(SPACE, nothing, jnp.asarray(ALL)), -np.log(len(ALL)), 1e-5
    )


def test_the_split_takes_the_best_live_rows_and_of_equals_the_first() -> None:
    scores = jnp.array([5.0, 9.0, 5.0, 7.0, 99.0, 1.0])
    live = jnp.array([True, True, True, True, False, True])
    good, bad = split(scores, live, jnp.int32(3))
    assert good.tolist() == [1, 1, 0, 1, 0, 0] and bad.tolist() == [0, 0, 1, 0, 0, 1]


def _told(link: Any, scores: np.ndarray, budget: np.ndarray | None) -> Any:
    """The state of a link that was told every architecture of SPACE with a score."""
    state = link.init(jax.random.key(0), template(SPACE))
    x = jnp.asarray(ALL)
    arch = {"a": x[:, :3], "b": x[:, 3]}
    trials = propose(arch)._replace(score=jnp.asarray(scores, jnp.float32))
    if budget is not None:
        trials = trials._replace(budget=jnp.asarray(budget, jnp.float32))
    return link.tell(jax.random.key(1), trials, state)[1]


@pytest.mark.slow
def test_tpe_learns_from_the_largest_budget_that_has_enough_trials() -> None:
    last, first = ALL[:, 3] == 2, ALL[:, 3] == 0
    link = tpe_link(
        SPACE, size=24, random=0.0, minimum=4, bandwidth=0.1, budgets=(0.1, 1.0), repeats=True
    )
    share = lambda state, v: float(np.mean(link.ask(jax.random.key(2), state, 200).arch["b"] == v))
    cheap = np.where(np.arange(24) % 2, 0.1, 1.0)  # 12 trials of each
    state = _told(link, np.where(cheap > 0.5, last, first), cheap)
    assert share(state, 2) > 0.8
    rare = np.where(np.arange(24) < 5, 1.0, 0.1)  # too few of the whole
    state = _told(link, np.where(rare > 0.5, last, first), rare)
    assert share(state, 0) > 0.8


@pytest.mark.slow
def test_tpe_proposes_no_trial_again_while_it_has_others() -> None:
    link = tpe_link(SPACE, size=24, random=0.0, minimum=3)
    state = link.init(jax.random.key(0), template(SPACE))
    x = jnp.asarray(ALL[:20])
    trials = propose({"a": x[:, :3], "b": x[:, 3]})._replace(score=jnp.arange(20.0))
    _, state = link.tell(jax.random.key(1), trials, state)
    arch = link.ask(jax.random.key(2), state, 50).arch
    vectors = jnp.concatenate([arch["a"], arch["b"][:, None]], -1)
    assert not among(vectors, x, jnp.ones(20, bool)).any()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": 5}, "size=5: a memory of at least 10"),
        ({"quantile": 1.5}, "quantile=1.5"),
        ({"random": -0.1}, "random=-0.1"),
        ({"bandwidth": 2.0}, "bandwidth=2.0"),
        ({"candidates": 0}, "candidates=0"),
    ],
)
def test_impossible_settings_of_tpe_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        tpe_link(SPACE, **settings)


# ------------------------------------------------------------------------------- the process

HYPER = Hyper(jnp.float32(0.4), jnp.log(jnp.array([0.5, 1.0, 0.2, 0.9])), jnp.float32(np.log(0.1)))


def _naive_covariance(a: np.ndarray, b: np.ndarray, hyper: Hyper) -> np.ndarray:
    decay = np.exp(np.asarray(hyper.decay, np.float64))
    return np.array(
        [[np.exp(float(hyper.amplitude) - np.sum(decay * (x != y))) for y in b] for x in a]
    )


def _problem(seed: int, m: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return _data(seed, m), rng.standard_normal(m), rng.random(m) < 0.7


def _naive_posterior(
    x: np.ndarray, y: np.ndarray, at: np.ndarray, hyper: Hyper
) -> tuple[np.ndarray, np.ndarray, float]:
    noise = np.exp(float(hyper.amplitude) + float(hyper.noise))
    k = _naive_covariance(x, x, hyper) + noise * np.eye(len(x))
    cross = _naive_covariance(at, x, hyper)
    mean = cross @ np.linalg.solve(k, y)
    covariance = _naive_covariance(at, at, hyper) - cross @ np.linalg.solve(k, cross.T)
    return mean, covariance, float(stats.multivariate_normal(np.zeros(len(x)), k).logpdf(y))


def _process(x: np.ndarray, y: np.ndarray, live: np.ndarray, hyper: Hyper = HYPER) -> Any:
    return condition(jnp.asarray(x), jnp.asarray(y, jnp.float32), jnp.asarray(live), hyper)


@pytest.mark.slow
def test_the_posterior_and_the_likelihood_equal_linear_algebra_on_the_live_rows() -> None:
    x, y, live = _problem(0)
    process = _process(x, y, live)
    mean, variance = predict(process, jnp.asarray(ALL))
    naive_mean, covariance, likelihood = _naive_posterior(x[live], y[live], ALL, HYPER)
    np.testing.assert_allclose(mean, naive_mean, 1e-4, 1e-5)
    np.testing.assert_allclose(variance, np.diag(covariance), 1e-4, 1e-5)
    found = log_likelihood(process, jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(found, likelihood, 1e-5)


def test_the_process_equals_the_one_of_scikit_learn() -> None:
    x, y, _ = _problem(1)
    hot = lambda rows: np.concatenate([np.eye(k)[rows[:, p]] for p, k in enumerate(COUNTS)], -1)
    amplitude, noise = np.exp(float(HYPER.amplitude)), np.exp(float(HYPER.noise))
    scales = np.repeat(np.exp(np.asarray(HYPER.decay, np.float64)) ** -0.5, COUNTS)
    kernels = sklearn_gp.kernels
    kernel = kernels.ConstantKernel(amplitude) * kernels.RBF(scales)
    model = sklearn_gp.GaussianProcessRegressor(kernel, alpha=amplitude * noise, optimizer=None)
    model.fit(hot(x), y)
    process = _process(x, y, np.ones(len(x), bool))
    mean, variance = predict(process, jnp.asarray(ALL))
    expected_mean, deviation = model.predict(hot(ALL), return_std=True)
    np.testing.assert_allclose(mean, expected_mean, 1e-3, 1e-4)
    np.testing.assert_allclose(np.sqrt(variance), deviation, 1e-3, 1e-4)
    np.testing.assert_allclose(
        log_likelihood(process, jnp.asarray(y, jnp.float32)),
        model.log_marginal_likelihood_value_,
        1e-4,
    )


def test_the_gradient_equals_finite_differences_of_the_naive_likelihood() -> None:
    x, y, live = _problem(2)
    flat, tree = jax.tree.flatten(HYPER)
    sizes = [np.size(leaf) for leaf in flat]

    def likelihood(values: np.ndarray) -> float:
        parts = np.split(values, np.cumsum(sizes)[:-1])
        hyper = jax.tree.unflatten(tree, [p if len(p) > 1 else p[0] for p in parts])
        return _naive_posterior(x[live], y[live], ALL[:1], hyper)[2]

    at = np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in flat])
    step = 1e-5 * np.eye(at.size)
    numeric = [(likelihood(at + s) - likelihood(at - s)) / 2e-5 for s in step]
    found = gradient(_process(x, y, live))
    exact = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])
    np.testing.assert_allclose(exact, numeric, 1e-3, 1e-3)


def test_expected_improvement_is_the_integral_of_what_is_gained() -> None:
    for mean, deviation, best in ((0.3, 0.8, 0.5), (-1.0, 0.5, 0.2), (2.0, 0.1, 0.0)):
        gain = lambda f, m=mean, d=deviation, b=best: max(f - b, 0) * stats.norm.pdf(f, m, d)
        edges = (mean - 9 * deviation, mean + 9 * deviation)
        expected, _ = integrate.quad(gain, *edges, points=[best], limit=200)
        found = expected_improvement(jnp.float32(mean), jnp.float32(deviation), jnp.float32(best))
        np.testing.assert_allclose(found, expected, 1e-3, 1e-6)


@pytest.mark.slow
def test_each_choice_of_a_batch_counts_as_seen_at_its_posterior_mean() -> None:
    x, y, live = _problem(3)
    ucb = lambda luck, mean, deviation: mean + 2 * deviation
    known = np.zeros(len(ALL), bool)
    known[3] = True
    found = bayesian.choose(
        jnp.zeros((5, len(ALL))), _process(x, y, live), jnp.asarray(ALL), jnp.asarray(known), ucb
    )
    x, y, expected = x[live], y[live], []
    for _ in range(5):
        mean, covariance, _ = _naive_posterior(x, y, ALL, HYPER)
        worth = mean + 2 * np.sqrt(np.diag(covariance))
        worth[[3, *expected]] = -np.inf
        expected.append(int(np.argmax(worth)))
        x, y = np.append(x, ALL[expected[-1:]], 0), np.append(y, mean[expected[-1]])
    assert found.tolist() == expected


def test_ranks_become_normal_quantiles_and_ties_their_mean_rank() -> None:
    scores = np.array([4.0, 10.0, 4.0, -3.0, 1e9, 6.0])
    live = np.array([1, 1, 1, 1, 0, 1], bool)
    expected = np.zeros(6)
    expected[live] = stats.norm.ppf((stats.rankdata(scores[live]) - 0.5) / 5)
    np.testing.assert_allclose(
        normal_scores(jnp.asarray(scores), jnp.asarray(live)), expected, 1e-5
    )
    plain = np.asarray(standard_scores(jnp.asarray(scores), jnp.asarray(live)))
    np.testing.assert_allclose(plain[live], stats.zscore(scores[live]), 1e-5)
    assert plain[4] == 0


def test_a_fold_is_the_sum_over_the_first_axis() -> None:
    for n in (1, 2, 7, 16):
        x = np.random.default_rng(n).integers(0, 9, (n, 3)).astype(np.float32)
        assert (np.asarray(fold(jnp.asarray(x))) == x.sum(0)).all()


@pytest.mark.slow
def test_fitting_climbs_to_hyperparameters_of_higher_posterior() -> None:
    rng = np.random.default_rng(4)
    scores = (ALL[:, 2] == 1) + 0.05 * rng.standard_normal(len(ALL))  # one place alone matters
    link = gaussian_process(SPACE, size=24, start=4, candidates=8, mutations=8)
    state = _told(link, scores, None)
    tell = jax.jit(link.tell)
    trials = propose({"a": jnp.asarray(ALL[:, :3]), "b": jnp.asarray(ALL[:, 3])})
    trials = trials._replace(score=jnp.asarray(scores, jnp.float32))
    for i in range(30):
        _, state = tell(jax.random.key(i), trials, state)
    y = normal_scores(jnp.asarray(scores, jnp.float32), jnp.ones(24, bool))
    worth = lambda hyper: (
        log_prior(hyper)
        + log_likelihood(condition(jnp.asarray(ALL), y, jnp.ones(24, bool), hyper), y)
    )
    assert worth(state.hyper) > worth(default_hyper(4)) + 1
    assert int(jnp.argmax(state.hyper.decay)) == 2
    assert (jnp.asarray(bounded(state.hyper).decay) == state.hyper.decay).all()


def test_mutants_differ_from_the_best_by_one_choice() -> None:
    scores = jnp.arange(24.0)
    made = mutants(SPACE, jax.random.key(0), jnp.asarray(ALL), scores, jnp.ones(24, bool), 30, 3)
    differ = (np.asarray(made)[:, None] != ALL[[23, 22, 21]]).sum(-1)
    assert (differ[np.arange(30), np.arange(30) % 3] == 1).all()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": 0}, "size=0"),
        ({"acquisition": "luck"}, "unknown acquisition 'luck'; allowed: expected_improvement"),
        ({"warp": "log"}, "unknown warp 'log'; allowed: ranks, standard"),
        ({"step": -1.0}, "step=-1.0"),
        ({"mutations": -1}, "mutations=-1"),
    ],
)
def test_impossible_settings_of_a_process_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        gaussian_process(SPACE, **settings)
