"""One-shot methods that share weights: how a supernet trains, and how its weights are searched.

A method is data: strategies, and the settings of the evaluators `weight_sharing` and
`shared_scores`. `jnas.one_shot` runs it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas.base import InputError, Space, Strategy, chain, choice_counts, first, mixture
from jnas.errors import positive
from jnas.links import (
    crossover_uniform,
    frozen,
    keep_best,
    mutate_resample,
    open_gradually,
    sample_fairly,
    sample_sandwich,
    sample_uniform,
    select_uniform,
    without_repeats,
)
from jnas.links.sampling import enlarge, fair_rows, largest
from jnas.recipes.evolution import nsga2
from jnas.recipes.policy_gradient import enas_controller


class Train(NamedTuple):
    """A stage in which the weights train on what a strategy proposes.

    The first stage starts from new weights; each later one from the weights of the one before,
    given as `begin`.
    """

    strategy: Strategy
    evaluations: int  # proposals, a multiple of batch
    batch: int  # in a round
    steps: int  # of an optimizer's schedule: what `Training.steps` is to be
    options: dict[str, Any]  # of `jnas.evaluators.weight_sharing`


class Find(NamedTuple):
    """The search on the weights of the last stage, which are frozen: the best score wins."""

    strategy: Strategy
    evaluations: int  # a multiple of batch
    batch: int
    options: dict[str, Any]  # of `jnas.evaluators.shared_scores`


class OneShot(NamedTuple):
    """A method of two phases."""

    train: tuple[Train, ...]
    find: Callable[[Any], Find]  # given the state of the last training stage's strategy


def spos(
    space: Space,
    steps: int,
    population: int = 50,
    generations: int = 20,
    parents: int = 10,
    mutation: float = 0.1,
) -> OneShot:
    """Single path one-shot: uniform paths train the supernet, then evolution searches it.

    Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform Sampling", arXiv
    1904.00420. Every step trains one uniform path. Evolution (algorithm 1) keeps the 10 best and
    breeds 50 a generation for 20 generations, half by mutation at a rate of 0.1 and half by
    crossover. None is evaluated twice: the published code fills a generation that has too few new
    children with random paths, here one child in ten is random. Give `shared_scores` the training
    examples and `recalibrate=200` for its batch statistics of 200 batches.

    Args:
      space: the space to search.
      steps: of the weights.
      population: P, of a generation; the first one is random.
      generations: T, the first one among them.
      parents: k, the best ever found.
      mutation: the rate of each choice.

    Returns:
      The method.
    """
    search = _evolution(space, population, generations, parents, mutation)
    return OneShot((_paths(space, steps),), lambda state: search)


def rs_ws(space: Space, steps: int, evaluations: int = 1000, batch: int = 50) -> OneShot:
    """Random search with weight sharing: uniform paths, then the best of many random ones.

    RandomNAS: Li and Talwalkar 2019, "Random Search and Reproducibility for Neural Architecture
    Search", arXiv 1902.07638. Every step trains one random architecture; then 1,000 are drawn
    (github.com/liamcli/randomNAS_release, `searchers/random_weight_share.py`). There a few batches
    rank them and the 10 best are scored on all validation examples; here all are, on all.

    Args:
      space: the space to search.
      steps: of the weights.
      evaluations: random architectures that are scored.
      batch: of them in a round.

    Returns:
      The method.
    """
    search = Find(sample_uniform(space), _whole(evaluations, batch), batch, {})
    return OneShot((_paths(space, steps),), lambda state: search)


def fairnas(
    space: Space,
    steps: int,
    population: int = 100,
    generations: int = 10,
    objectives: Mapping[str, str] | None = None,
) -> OneShot:
    """FairNAS: all choices train equally often in every step, then NSGA-II searches.

    Chu, Zhang and Xu 2021, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural
    Architecture Search", arXiv 1907.01845. A step adds up the gradients of as many architectures as
    a place has choices, in which every choice occurs once (strict fairness). The search is
    multi-objective; its settings here are NSGA-II's own (`jnas.recipes.nsga2`).

    Args:
      space: the space to search.
      steps: of the weights, each for a whole round.
      population: of NSGA-II.
      generations: of it, the random one among them.
      objectives: see `nsga2`; by default the largest score and the fewest `flops`, where the space
        counts them.

    Returns:
      The method.
    """
    positive(steps=steps, population=population, generations=generations)
    if objectives is None:
        objectives = {"score": "max", **({"flops": "min"} if "flops" in space.counts else {})}
    rows = fair_rows(space)
    train = Train(sample_fairly(space), steps * rows, rows, steps, {"rows": "sum", **QUIET})
    strategy = nsga2(space, population, objectives)
    search = Find(strategy, population * generations, population, {})
    return OneShot((train,), lambda state: search)


def enas(
    space: Space,
    steps: int,
    batch: int = 10,
    derive: int = 10,
    learning_rate: float = 3.5e-4,
    entropy: float = 1e-4,
    temperature: float = 5.0,
    tanh_constant: float | None = 2.5,
    decay: float = 0.99,
) -> OneShot:
    """ENAS: a controller learns by REINFORCE while the weights train on what it samples.

    Pham et al. 2018, "Efficient Neural Architecture Search via Parameter Sharing", arXiv
    1802.03268. A round samples 10 architectures, takes a step of the weights on each, scores each
    on the next validation batch and updates the controller; see `enas_controller` for its settings.
    The published code (github.com/melodyguan/enas, `scripts/cifar10_micro_search.sh`) trains the
    weights for an epoch, 281 batches, and the controller for 30 steps of 10 samples in turn: as
    many of each. In the end 10 samples of the policy are scored, and the best is the result
    (section 2.2).

    Args:
      space: the space to search.
      steps: of the weights, a multiple of the batch.
      batch: samples in a round.
      derive: samples at the end.
      learning_rate: of the controller's Adam.
      entropy: the weight of the policy's entropy.
      temperature: divides the logits.
      tanh_constant: the largest logit; None for any.
      decay: of the average reward.

    Returns:
      The method.
    """
    controller = enas_controller(
        space,
        learning_rate=learning_rate,
        temperature=temperature,
        tanh_constant=tanh_constant,
        decay=decay,
        entropy=entropy,
    )
    positive(derive=derive)
    number = _whole(steps, batch)
    train = Train(controller, number, batch, number, {"rows": "each"})
    return OneShot((train,), lambda state: Find(frozen(controller, state), derive, derive, {}))


def few_shot(
    space: Space,
    steps: int,
    place: int = 0,
    share: float = 0.5,
    population: int = 50,
    generations: int = 20,
) -> OneShot:
    """Few-shot search: the trained supernet splits at one place into one for each choice there.

    Zhao et al. 2021, "Few-shot Neural Architecture Search", arXiv 2006.06863. A supernet trains on
    uniform paths; copies of it, one for each choice of a place, go on with the paths that have
    this choice, so that fewer architectures share a weight. Each has an optimizer and a schedule of
    its own, as long as its share of the steps. Then evolution searches as in `spos`; the paper has
    many searches.

    Args:
      space: the space to search.
      steps: of the weights, in both stages together.
      place: of the vector of choices (`jnas.base.to_vector`).
      share: the part of the steps before the split.
      population: see `spos`.
      generations: see `spos`.

    Returns:
      The method.
    """
    positive(steps=steps)
    counts = choice_counts(space)
    if not 0 <= place < counts.size:
        raise InputError(f"few_shot: place={place}: it has to be from 0 to {counts.size - 1}")
    before = round(share * steps)
    if not 0 < before < steps:
        raise InputError(f"few_shot: share={share} of {steps} steps: both stages need steps")
    after, many = steps - before, int(counts[place])
    options = {"rows": "each", "split": place, **QUIET}
    apart = Train(sample_uniform(space), after, 1, -(-after // many), options)
    found = _evolution(space, population, generations, 10, 0.1)
    search = found._replace(options={"split": place})
    return OneShot((_paths(space, before), apart), lambda state: search)


def once_for_all(
    space: Space,
    steps: int,
    batch: int = 4,
    warm: float = 0.3,
    distill: float = 0.5,
    ordered: Any = None,
    order: Sequence[int] | None = None,
    population: int = 100,
    generations: int = 10,
    parents: int = 25,
) -> OneShot:
    """Once for all: the largest network trains, then smaller ones join it stage by stage.

    Cai et al. 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment",
    arXiv 1908.09791: progressive shrinking. Choices open one by one, leaf of the space by leaf,
    the largest first. Every step takes the mean gradient of the largest open architecture, the
    smallest one and random ones (the sandwich rule of Yu and Huang 2019, arXiv 1903.05134), on the
    labels and on the outputs of the largest of its kind in equal parts (`kd_ratio` 1 of the
    published code, `train_ofa_net.py`; its teacher is a copy that rests, here it learns too, as in
    BigNAS, Yu et al. 2020, arXiv 2003.11142). Evolution has the settings of its code
    (`EvolutionFinder`): a population of 100, a quarter of them parents, half of the children by
    mutation at a rate of 0.1. Its code ranks by a predictor for 500 generations; here every child
    is scored.

    Args:
      space: the space to search, with rising choices, as of `Slim` and `Repeat`.
      steps: of the weights, each for a whole round.
      batch: architectures in a step.
      warm: the part of the steps before anything but the largest trains; the rest goes to the
        stages in equal parts.
      distill: the part of the largest's outputs in the loss of the others.
      ordered: see `sample_sandwich`; all choices of other places are open from the start.
      order: in which the leaves of the space open, such as kernels, depths, widths in the paper;
        numbers of the leaves, by default as they come.
      population: of a generation.
      generations: of evolution, the random one among them.
      parents: the best ever found.

    Returns:
      The method.
    """
    positive(steps=steps, batch=batch)
    stages = shrinking_stages(space, steps * batch, warm, ordered, order)
    strategy = chain(sample_sandwich(space, ordered), open_gradually(space, stages))
    teacher = largest(space) if ordered is None else enlarge(space, ordered)
    options = {"rows": "mean", "teacher": teacher, "distill": distill, **QUIET}
    train = Train(strategy, steps * batch, batch, steps, options)
    search = _evolution(space, population, generations, parents, 0.1)
    return OneShot((train,), lambda state: search)


def shrinking_stages(
    space: Space,
    trials: int,
    warm: float = 0.3,
    ordered: Any = None,
    order: Sequence[int] | None = None,
) -> list[tuple[int, Any]]:
    """Stages for `open_gradually` that open one choice after another: see `once_for_all`.

    Args:
      space: the space.
      trials: of all stages.
      warm: the part of the trials with the largest architecture only.
      ordered: a tree like `space.num_choices` of booleans; None for all true.
      order: the numbers of the leaves, in which they open.

    Returns:
      `(first trial, open choices)` of every stage.
    """
    if not 0 <= warm < 1:
        raise InputError(f"warm={warm}: a part of the steps, at least 0 and less than 1, is needed")
    counts, tree = jax.tree.flatten(space.num_choices)
    flags = [True] * len(counts) if ordered is None else jax.tree.leaves(ordered)
    leaves = range(len(counts)) if order is None else order
    if sorted(leaves) != list(range(len(counts))) or len(flags) != len(counts):
        raise InputError(f"order={list(leaves)}: the numbers 0 to {len(counts) - 1}, each once")
    pairs = zip(flags, counts, strict=True)
    rising = [np.broadcast_to(np.asarray(flag, bool), count.shape) for flag, count in pairs]
    now: list[Any] = [np.where(r, 1, c) for r, c in zip(rising, counts, strict=True)]
    opened = [list(now)]
    for leaf in leaves:
        for k in range(2, int(np.max(np.where(rising[leaf], counts[leaf], 1))) + 1):
            now[leaf] = np.where(rising[leaf], np.minimum(k, counts[leaf]), counts[leaf])
            opened.append(list(now))
    each = (1 - warm) * trials / max(len(opened) - 1, 1)
    firsts = [0, *(round(warm * trials + i * each) for i in range(len(opened) - 1))]
    return [(at, jax.tree.unflatten(tree, o)) for at, o in zip(firsts, opened, strict=True)]


QUIET = {"score_batches": 0}  # where nothing learns from the scores, they need not be computed
IMMIGRANTS = 0.1  # of the children of evolution


def _paths(space: Space, steps: int) -> Train:
    """One uniform path for each step."""
    positive(steps=steps)
    return Train(sample_uniform(space), steps, 1, steps, {"rows": "each", **QUIET})


def _evolution(
    space: Space, population: int, generations: int, parents: int, mutation: float
) -> Find:
    """The best ever found breed, half by mutation, half by crossover, and nothing twice.

    A small neighbourhood has nothing new after a while: the random ones find it elsewhere.
    """
    positive(population=population, generations=generations)
    mutated = chain(keep_best(parents), select_uniform(), mutate_resample(space, mutation))
    crossed = chain(keep_best(parents), select_uniform(arity=2), crossover_uniform(space=space))
    uniform = sample_uniform(space)
    children = mixture(uniform, mixture(mutated, crossed, 0.5), IMMIGRANTS)
    strategy = mixture(uniform, children, first(population))
    evaluations = population * generations
    fresh = without_repeats(strategy, space, evaluations, tries=256)
    return Find(fresh, evaluations, population, {})


def _whole(number: int, batch: int) -> int:
    """The number rounded up to whole batches."""
    positive(number=number, batch=batch)
    return -(-number // batch) * batch


SHARING: dict[str, Callable[..., OneShot]] = {
    "enas": enas,
    "fairnas": fairnas,
    "few_shot": few_shot,
    "once_for_all": once_for_all,
    "rs_ws": rs_ws,
    "spos": spos,
}
