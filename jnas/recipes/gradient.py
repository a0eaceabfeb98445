"""Gradient descent on relaxed architectures: DARTS and its family.

These strategies learn from gradients, so they need a supernet and an evaluator that
differentiates it, `jnas.evaluators.bilevel`. A tell is one step on one validation batch; schedules
count tells. Where a paper counts epochs, the numbers here are its epochs times its batches.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from jnas import links
from jnas.base import InputError, Space, Strategy, chain, places
from jnas.errors import positive


def darts(
    space: Space,
    learning_rate: float = 3e-4,
    weight_decay: float = 1e-3,
    b1: float = 0.5,
    init_scale: float = 1e-3,
) -> Strategy:
    """DARTS: the softmax of logits that descend the validation loss.

    Liu et al. 2019, arXiv 1806.09055, section 3.1: Adam of rate 3e-4, momentum (0.5, 0.999) and
    weight decay 1e-3 (as L2), logits that start close to zero. First or second order is the
    evaluator's: `bilevel(..., order="second")`.

    Args:
      space: the space to search.
      learning_rate: of Adam.
      weight_decay: of the logits.
      b1: of Adam.
      init_scale: of the logits at first.

    Returns:
      The strategy.

    >>> import jax, jnas
    >>> space = jnas.spaces.nas_bench_201()
    >>> strategy = darts(space)
    >>> state = strategy.init(jax.random.key(0), None)
    >>> strategy.ask(jax.random.key(1), state, 1).arch.shape
    (1, 6, 5)
    """
    learner = links.descend(space, _adam(learning_rate, weight_decay, b1), init_scale)
    return chain(learner, links.softmax(space))


def gdas(
    space: Space,
    rounds: int = 97_500,
    learning_rate: float = 3e-4,
    weight_decay: float = 1e-3,
    warmest: float = 10.0,
    coldest: float = 0.1,
) -> Strategy:
    """GDAS: one path for each step, drawn by a hard Gumbel-softmax.

    Dong and Yang 2019, arXiv 1910.04465; Adam of rate 3e-4, momentum (0.5, 0.999) and weight decay
    1e-3, a temperature that falls linearly from 10 to 0.1 over the search (AutoDL-Projects
    `exps/NAS-Bench-201-algos/GDAS.py`), 250 epochs of 390 batches. `bilevel(..., sparse=True)`
    computes the one path only.

    Args:
      space: the space to search.
      rounds: of the whole search.
      learning_rate: of Adam.
      weight_decay: of the logits.
      warmest: the temperature at first.
      coldest: at the end.

    Returns:
      The strategy.
    """
    positive(rounds=rounds)
    temperature = optax.linear_schedule(warmest, coldest, rounds)
    learner = links.descend(space, _adam(learning_rate, weight_decay))
    return chain(learner, links.gumbel_softmax(space, temperature, hard=True))


def snas(
    space: Space,
    rounds: int = 58_500,
    learning_rate: float = 3e-4,
    weight_decay: float = 1e-3,
    warmest: float = 1.0,
    coldest: float = 0.03,
) -> Strategy:
    """SNAS: weights drawn from a concrete distribution that hardens.

    Xie et al. 2019, arXiv 1812.09926, with the Adam of DARTS, over 150 epochs of 390 batches. The
    numbers of the temperature's exponential schedule are this recipe's. The paper trains weights
    and architecture on one loss: `bilevel(..., order="single")`.

    Args:
      space: the space to search.
      rounds: of the whole search.
      learning_rate: of Adam.
      weight_decay: of the logits.
      warmest: the temperature at first.
      coldest: at the end.

    Returns:
      The strategy.
    """
    fall = coldest / warmest
    positive(rounds=rounds)
    temperature = optax.exponential_decay(warmest, rounds, fall, end_value=coldest)
    learner = links.descend(space, _adam(learning_rate, weight_decay))
    return chain(learner, links.gumbel_softmax(space, temperature))


def drnas(
    space: Space,
    learning_rate: float = 6e-4,
    weight_decay: float = 1e-3,
    frozen: int = 0,
    keep: Sequence[int] = (),
    after: Sequence[int] = (),
) -> Strategy:
    """DrNAS: weights drawn from a Dirichlet distribution, with pathwise gradients.

    Chen et al. 2021, arXiv 2006.10355; Adam of rate 6e-4, momentum (0.5, 0.999) and weight decay
    1e-3 (its code, `DARTS-space/train_search.py`). There the architecture rests for the first 10 of
    25 epochs in each of two stages, and the second keeps 4 operations: `frozen=3900, keep=(4,),
    after=(9750,)` with 390 batches in an epoch (without the second rest).

    Args:
      space: the space to search.
      learning_rate: of Adam.
      weight_decay: of the logits.
      frozen: tells at first in which the logits rest.
      keep: operations of a place that stay in later stages.
      after: the tells after which these begin.

    Returns:
      The strategy.
    """
    learner = links.descend(space, _adam(learning_rate, weight_decay))
    stages = [links.shrink(space, keep, after)] if keep or after else []
    return chain(learner, *stages, links.freeze(frozen), links.dirichlet(space))


def fair_darts(
    space: Space,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-3,
    zero_one: float = 10.0,
) -> Strategy:
    """FairDARTS: a sigmoid for every operation, and a loss that draws it to 0 or 1.

    Chu et al. 2020, arXiv 1911.12126; its code (`fairdarts/train_search.py`): Adam of rate 3e-3,
    momentum (0.9, 0.999) and weight decay 1e-3, a zero-one loss of weight 10.

    Args:
      space: the space to search.
      learning_rate: of Adam.
      weight_decay: of the logits.
      zero_one: the weight of the zero-one loss.

    Returns:
      The strategy.
    """
    learner = links.descend(space, _adam(learning_rate, weight_decay, 0.9))
    return chain(learner, links.sigmoid(space), links.zero_one_loss(space, zero_one))


def pc_darts(
    space: Space,
    learning_rate: float = 6e-4,
    weight_decay: float = 1e-3,
    frozen: int = 1_455,
) -> Strategy:
    """PC-DARTS: DARTS on a supernet with partial channels, edges normalised by a softmax too.

    Xu et al. 2020, arXiv 1907.05737, section 4.2: Adam of rate 6e-4, momentum (0.5, 0.999) and
    weight decay 1e-3, logits frozen for the first 15 of 50 epochs, of 97 batches of 256. Partial
    channels are the supernet's; the space of one has places for the edges of every node.

    Args:
      space: the space to search.
      learning_rate: of Adam.
      weight_decay: of the logits.
      frozen: tells at first in which the logits rest.

    Returns:
      The strategy.
    """
    learner = links.descend(space, _adam(learning_rate, weight_decay))
    return chain(learner, links.freeze(frozen), links.softmax(space))


def sdarts_rs(
    space: Space,
    rounds: int = 19_500,
    learning_rate: float = 3e-4,
    weight_decay: float = 1e-3,
    least: float = 0.03,
    most: float = 0.3,
) -> Strategy:
    """SDARTS-RS: DARTS whose weights are randomly perturbed, so that the loss becomes smooth.

    Chen and Hsieh 2020, arXiv 2002.05283: uniform noise whose bound grows linearly from 0.03 to 0.3
    over 50 epochs of 390 batches. This perturbs all that a round computes. To perturb the weights'
    steps alone, as the paper does, and for SDARTS-ADV, use `darts` with
    `bilevel(..., perturbation=Perturbation(...))`.

    Args:
      space: the space to search.
      rounds: of the whole search.
      learning_rate: of Adam.
      weight_decay: of the logits.
      least: the bound of the noise at first.
      most: at the end.

    Returns:
      The strategy.
    """
    positive(rounds=rounds)
    noise = links.perturb(space, optax.linear_schedule(least, most, rounds))
    return chain(darts(space, learning_rate, weight_decay), noise)


def p_darts(
    space: Space,
    epoch: int = 260,
    learning_rate: float = 6e-4,
    weight_decay: float = 1e-3,
    keep: Sequence[int] = (5, 3),
    skip_rates: Sequence[float] = (0.0, 0.4, 0.7),
) -> Strategy:
    """P-DARTS: stages of 25 epochs, each with fewer operations and more drop-out of skips.

    Chen et al. 2019, arXiv 1904.12760, section 4.1.1, and its code (`train_search.py`): Adam of
    rate 6e-4, momentum (0.5, 0.999), weight decay 1e-3, gradients clipped to norm 5; of a stage's
    25 epochs, of 260 batches of 96, logits rest for 10; 8, 5 and 3 operations; skip-connections
    drop at rates from 0, 0.4 and 0.7, which fall linearly during the rest and by a factor of
    `exp(-0.2)` an epoch after it. The supernets that grow from stage to stage are not part of a
    strategy: weights and logits go on in one.

    Args:
      space: the space to search. Where no label of it is `skip_connect`, nothing drops out.
      epoch: batches in an epoch.
      learning_rate: of Adam.
      weight_decay: of the logits.
      keep: operations of a place that stay in the later stages.
      skip_rates: of every stage.

    Returns:
      The strategy.

    Raises:
      InputError: there is not one rate for every stage.
    """
    if len(skip_rates) != len(keep) + 1:
        raise InputError(f"p_darts: {len(skip_rates)} skip_rates for {len(keep) + 1} stages")
    positive(epoch=epoch)
    stage, rest = 25 * epoch, 10

    def within(count: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The stage and the epoch in it."""
        number = jnp.minimum(count // stage, len(keep))
        return number, (count - number * stage) // epoch

    def rate(count: jax.Array) -> jax.Array:
        number, i = within(count)
        fall = jnp.where(i < rest, (24 - i) / 25, jnp.exp(-0.2 * (i - rest)))
        return jnp.asarray(skip_rates, jnp.float32)[number] * fall

    rests = lambda count: within(count)[1] < rest
    clipped = optax.chain(optax.clip_by_global_norm(5.0), _adam(learning_rate, weight_decay))
    drops = []
    if any("skip_connect" in place.common for place in places(space)):
        drops = [links.drop_operations(space, {"skip_connect": rate})]
    return chain(
        links.descend(space, clipped),
        links.shrink(space, keep, [stage * (i + 1) for i in range(len(keep))]),
        links.freeze(rests),
        links.softmax(space),
        *drops,
    )


def asap(
    space: Space,
    epoch: int = 390,
    learning_rate: float = 3e-4,
    weight_decay: float = 1e-3,
    warmest: float = 1.6,
    decay: float = 0.95,
    threshold: float = 0.4,
) -> Strategy:
    """ASAP: a softmax that cools, and operations that go as their weight becomes small.

    Noy et al. 2020, arXiv 1904.04123. From temperature 1.6 by a factor of 0.95 an epoch, with
    nothing pruned before it is 1, then whatever weighs less than 0.4 over the number of operations:
    these numbers are those of another implementation (uniNAS), not checked against the paper. The
    Adam is that of DARTS.

    Args:
      space: the space to search.
      epoch: batches in an epoch.
      learning_rate: of Adam.
      weight_decay: of the logits.
      warmest: the temperature at first.
      decay: its factor for an epoch.
      threshold: of pruning, over the number of operations of a place.

    Returns:
      The strategy.

    Raises:
      InputError: a temperature that does not fall.
    """
    if not 0 < decay < 1:
        raise InputError(f"asap: decay={decay}: a factor between 0 and 1 is needed")
    positive(epoch=epoch)
    temperature = optax.exponential_decay(warmest, epoch, decay, staircase=True)
    grace = 0
    while warmest * decay ** (grace // epoch) > 1:
        grace += epoch
    return chain(
        links.descend(space, _adam(learning_rate, weight_decay)),
        links.prune(space, threshold, temperature, grace),
        links.softmax(space, temperature),
    )


def reinmax_nas(
    space: Space,
    learning_rate: float = 3e-4,
    weight_decay: float = 1e-3,
    temperature: float = 1.0,
) -> Strategy:
    """One path for each step with ReinMax' gradient, which is right to second order.

    Liu et al. 2023, arXiv 2304.08612, which puts it in the place of GDAS' straight-through
    Gumbel-softmax. The Adam is that of GDAS.

    Args:
      space: the space to search.
      learning_rate: of Adam.
      weight_decay: of the logits.
      temperature: of the gradient.

    Returns:
      The strategy.
    """
    learner = links.descend(space, _adam(learning_rate, weight_decay))
    return chain(learner, links.reinmax(space, temperature))


def _adam(
    learning_rate: float, weight_decay: float, b1: float = 0.5
) -> optax.GradientTransformation:
    """Adam with L2 decay inside, as PyTorch's."""
    if not learning_rate > 0:
        raise InputError(f"learning_rate={learning_rate}: a positive number is needed")
    if not weight_decay >= 0:
        raise InputError(f"weight_decay={weight_decay}: a number of at least 0 is needed")
    adam = optax.adam(learning_rate, b1=b1)
    return optax.chain(optax.add_decayed_weights(weight_decay), adam) if weight_decay else adam


GRADIENT: dict[str, Callable[..., Strategy]] = {
    "darts": darts,
    "gdas": gdas,
    "snas": snas,
    "drnas": drnas,
    "fair_darts": fair_darts,
    "pc_darts": pc_darts,
    "sdarts_rs": sdarts_rs,
    "p_darts": p_darts,
    "asap": asap,
    "reinmax_nas": reinmax_nas,
}
