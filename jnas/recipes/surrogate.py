"""Search by a model of the score."""

from collections.abc import Callable

from jnas.base import Space, Strategy, chain, first, mixture
from jnas.links import (
    keep_best,
    keep_youngest,
    mutate_one,
    predictor_guided,
    sample_uniform,
    select_tournament,
    select_uniform,
)
from jnas.links.encodings import one_hot_encoding, path_encoding
from jnas.links.graph_predictors import gin_predictor
from jnas.links.predictors import Predictor, gaussian_error, mlp_ensemble, squared_error
from jnas.links.surrogate import highest_mean, thompson


def bananas(
    space: Space,
    warmup: int = 10,
    pool: int = 100,
    parents: int = 10,
    random_share: float = 0.2,
    longest_path: int = 2,
    members: int = 5,
    depth: int = 10,
    width: int = 20,
    learning_rate: float = 0.01,
    steps: int = 750,
    memory: int = 1000,
) -> Strategy:
    """BANANAS: an ensemble on path encodings, independent Thompson sampling, mutated bests.

    White et al. 2021, arXiv 1910.11858; the settings are those of its authors' code for
    NAS-Bench-201 (naszilla): 10 random trials, then 10 for each fit (the `batch` of a search), out
    of 100 mutations of the best; the path encoding cut to its first 30 features, paths of at most
    2 operations; 5 networks of 10 layers of 20 units, Adam, 0.01. Other than there, `steps` of
    training do not grow with the trials (see `mlp_ensemble`), candidates come from the `parents`
    best alike and have one mutation each, and `random_share` of them are random, so that the
    search cannot dry up. A space without a graph is encoded one-hot.

    Args:
      space: the space to search.
      warmup: random trials before the predictor is asked.
      pool: candidates for each batch of proposals.
      parents: the best trials, which are mutated.
      random_share: the share of candidates that are random.
      longest_path: operations on the longest path that is encoded, 0 for all.
      members: networks in the ensemble.
      depth: hidden layers of each.
      width: units of a layer.
      learning_rate: of Adam.
      steps: of training for each fit.
      memory: trials that the predictor learns from.

    Returns:
      The strategy.

    Raises:
      InputError: numbers that cannot be, or a path length that the space's graph does not have.
    """
    encoding = one_hot_encoding(space)
    if space.graph is not None:
        encoding = path_encoding(space, longest_path)
    predictor = mlp_ensemble(encoding, width, depth, learning_rate, members, steps)
    offers = _mutated_bests(space, parents, random_share)
    guided = predictor_guided(space, offers, predictor, thompson(), pool, memory=memory)
    return mixture(sample_uniform(space), guided, first(warmup))


def npenas(
    space: Space,
    warmup: int = 10,
    pool: int = 100,
    parents: int = 10,
    random_share: float = 0.2,
    uncertain: bool = False,
    members: int = 1,
    width: int = 32,
    layers: int = 3,
    head: int = 16,
    learning_rate: float = 0.005,
    steps: int = 3000,
    memory: int = 1000,
) -> Strategy:
    """NPENAS: evolution whose many children a graph network ranks before any is evaluated.

    Wei et al. 2020, arXiv 2003.12857; the settings are those of its authors' code for
    NAS-Bench-201 (NPENASv1): 10 random trials, then the 10 best (the `batch` of a search) of 100
    children of the best trials, isomorphic ones counted once; see `gin_predictor`. Other than
    there, children have parents drawn from the `parents` best, and `random_share` of the
    candidates are random. A space without a graph is read one-hot by a network of two layers.

    Args:
      space: the space to search.
      warmup: random trials before the predictor is asked.
      pool: candidates for each batch of proposals.
      parents: the best trials, which have children.
      random_share: the share of candidates that are random.
      uncertain: NPENAS-BO, whose predictor gives a distribution that is sampled from; else
        NPENAS-NP, which ranks by the mean.
      members: networks in an ensemble; the paper has one.
      width: units of a node.
      layers: of the graph network.
      head: units of the layer on its mean.
      learning_rate: of Adam.
      steps: of training for each fit.
      memory: trials that the predictor learns from.

    Returns:
      The strategy.

    Raises:
      InputError: numbers that cannot be.
    """
    loss = gaussian_error if uncertain else squared_error
    predictor: Predictor
    if space.graph is None:
        encoding = one_hot_encoding(space)
        predictor = mlp_ensemble(encoding, width, 2, learning_rate, members, steps, loss=loss)
    else:
        sizes = (width, layers, head, learning_rate)
        predictor = gin_predictor(space, *sizes, members=members, steps=steps, loss=loss)
    acquisition = thompson() if uncertain else highest_mean()
    offers = _mutated_bests(space, parents, random_share)
    guided = predictor_guided(space, offers, predictor, acquisition, pool, memory=memory)
    return mixture(sample_uniform(space), guided, first(warmup))


def predictor_evolution(
    space: Space,
    population: int = 50,
    sample: int = 10,
    warmup: int = 20,
    pool: int = 50,
    members: int = 3,
    depth: int = 2,
    width: int = 32,
    learning_rate: float = 0.01,
    steps: int = 200,
    memory: int = 1000,
) -> Strategy:
    """Regularized evolution that evaluates the most promising of many children.

    The children of Real et al. 2019 (arXiv 1802.01548), chosen by the mean of a small ensemble on
    one-hot encodings: no paper's setting, but what `predictor_guided` makes of any strategy.

    Args:
      space: the space to search.
      population: how many of the youngest trials are alive.
      sample: the size of a tournament.
      warmup: random trials before the predictor is asked.
      pool: children for each batch of proposals.
      members: networks in the ensemble.
      depth: hidden layers of each.
      width: units of a layer.
      learning_rate: of Adam.
      steps: of training for each fit.
      memory: trials that the predictor learns from.

    Returns:
      The strategy.
    """
    predictor = mlp_ensemble(one_hot_encoding(space), width, depth, learning_rate, members, steps)
    children = chain(keep_youngest(population), select_tournament(sample), mutate_one(space))
    guided = predictor_guided(space, children, predictor, highest_mean(), pool, memory=memory)
    return mixture(sample_uniform(space), guided, first(warmup))


def _mutated_bests(space: Space, parents: int, random_share: float) -> Strategy:
    mutated = chain(keep_best(parents), select_uniform(), mutate_one(space))
    return mixture(sample_uniform(space), mutated, random_share)


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "bananas": bananas,
    "npenas": npenas,
    "predictor_evolution": predictor_evolution,
}
