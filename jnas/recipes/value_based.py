"""Methods that learn the value of a choice: Q-learning and DQN, filling places and editing."""

from collections.abc import Callable

import jax
import numpy as np
import optax

from jnas import links
from jnas.base import InputError, Space, Strategy, chain, replay
from jnas.errors import positive
from jnas.links import keep_youngest, linear_q, mlp_q, select_uniform, tabular_q
from jnas.links.q_functions import QFunction

# Epsilon, and how many networks are trained at it: Baker et al. 2017, arXiv 1611.02167, section 4.2
# and the authors' code.
SCHEDULE = (
    *((1.0, 1500), (0.9, 100), (0.8, 100), (0.7, 100), (0.6, 150)),
    *((0.5, 150), (0.4, 150), (0.3, 150), (0.2, 150), (0.1, 150)),
)


def metaqnn_schedule(evaluations: int = 2700) -> Callable[[jax.Array], jax.Array]:
    """MetaQNN's epsilon by the number of trials, its 2,700 squeezed or stretched to another number.

    >>> [round(float(metaqnn_schedule()(i)), 2) for i in (0, 1499, 1500, 2549, 2550)]
    [1.0, 1.0, 0.9, 0.2, 0.1]
    """
    values, numbers = zip(*SCHEDULE, strict=True)
    positive(evaluations=evaluations)
    ends = np.cumsum(numbers)[:-1] * (evaluations / sum(numbers))
    steps = [optax.constant_schedule(value) for value in values]
    return optax.join_schedules(steps, np.round(ends).astype(int).tolist())


def q_learning(
    space: Space,
    evaluations: int = 2700,
    state: str = "last",
    learning_rate: float = 0.01,
    initial: float = 0.5,
    replayed: int = 100,
    shaped: bool = False,
) -> Strategy:
    """MetaQNN: a table of Q-values over partial architectures, with experience replay.

    Baker et al. 2017, "Designing Neural Network Architectures using Reinforcement Learning", arXiv
    1611.02167: epsilon from 1 to 0.1 in steps, a learning rate of 0.01, no discount, 100 trials of
    all so far replayed after each, from the last layer to the first; ties are broken by chance.
    The first value of 0.5 is their code's, for accuracies up to 1: "a little below an average
    network". A score in percent needs another.

    Args:
      space: the space to search.
      evaluations: the length of the search, which the steps of epsilon are scaled to.
      state: of the table; see `tabular_q`. "last" is the paper's: a layer and its depth.
      learning_rate: of the table.
      initial: the first value of every choice.
      replayed: trials replayed after each round.
      shaped: see `links.q_learning`.

    Returns:
      The strategy.
    """
    q = tabular_q(space, state, initial=initial)
    epsilon = metaqnn_schedule(evaluations)
    experience = _replay(evaluations, replayed)
    return links.q_learning(space, q, learning_rate, epsilon, shaped=shaped, experience=experience)


def dqn(
    space: Space,
    evaluations: int = 1000,
    hidden: int = 32,
    learning_rate: float = 0.01,
    target_period: int = 10,
    minibatch: int = 32,
    updates: int = 4,
    double: bool = False,
    shaped: bool = False,
) -> Strategy:
    """A deep Q-network over partial architectures.

    Mnih et al. 2015, "Human-level control through deep reinforcement learning", Nature 518, 529:
    uniform replay, a target network, epsilon falling linearly from 1 to 0.1, minibatches of 32
    and errors clipped at 1 are theirs. Their learning rate, target period of 10,000 updates and
    memory of a million are for 50 million frames; those here are for hundreds of trials. Epsilon
    reaches 0.1 halfway, Adam stands for RMSProp, scores count in standard deviations.

    Args:
      space: the space to search.
      evaluations: the length of the search, and of its memory.
      hidden: units of the perceptron.
      learning_rate: of Adam.
      target_period: updates between two renewals of the target network.
      minibatch: trials that an update learns from.
      updates: updates after each round.
      double: see `double_dqn`.
      shaped: see `links.q_learning`.

    Returns:
      The strategy.
    """
    positive(evaluations=evaluations)
    epsilon = optax.linear_schedule(1.0, 0.1, -(-evaluations // 2))
    return links.q_learning(
        space,
        mlp_q(space, hidden),
        _adam(learning_rate),
        epsilon,
        target_period=target_period,
        double=double,
        huber=1.0,
        shaped=shaped,
        normalise=True,
        experience=_replay(evaluations, minibatch * updates),
        updates=updates,
    )


def double_dqn(
    space: Space,
    evaluations: int = 1000,
    hidden: int = 32,
    learning_rate: float = 0.01,
    target_period: int = 10,
    minibatch: int = 32,
    updates: int = 4,
    shaped: bool = False,
) -> Strategy:
    """A deep Q-network whose next choice is picked by one network and valued by the other.

    The greatest of several noisy values is too great on average; picked apart from the valuing it
    is not (van Hasselt et al. 2016, "Deep Reinforcement Learning with Double Q-learning", arXiv
    1509.06461). All else is as in `dqn`.

    Args:
      space: the space to search.
      evaluations: see `dqn`.
      hidden: see `dqn`.
      learning_rate: see `dqn`.
      target_period: see `dqn`.
      minibatch: see `dqn`.
      updates: see `dqn`.
      shaped: see `dqn`.

    Returns:
      The strategy.
    """
    return dqn(
        space, evaluations, hidden, learning_rate, target_period, minibatch, updates, True, shaped
    )


def edit_q_learning(
    space: Space,
    q: str = "linear",
    learning_rate: float = 0.1,
    epsilon: float = 0.3,
    discount: float = 0.1,
    walkers: int = 1,
    episode: int = 20,
    memory: int = 1000,
    replayed: int = 32,
) -> Strategy:
    """Q-learning that walks from network to network by edits of one choice.

    The state is a whole network, the reward of an edit is how much better the new one is. With
    "linear" the value of an edit is a linear function of the network; "table" is exact, and for
    spaces of which a search sees a good part.

    Args:
      space: the space to search.
      q: "linear" or "table".
      learning_rate: the part of an error that is corrected at once.
      epsilon: the chance that an edit is random.
      discount: how much the edits to come count.
      walkers: the walks side by side, best as many as proposals in a round.
      episode: edits from one random network.
      memory: the youngest edits that are replayed from.
      replayed: edits replayed after each round.

    Returns:
      The strategy.
    """
    functions: dict[str, Callable[[], QFunction]] = {
        "linear": lambda: linear_q(space),
        "table": lambda: tabular_q(space, "architecture"),
    }
    if q not in functions:
        raise InputError(f"edit_q_learning: q={q!r}: allowed: {', '.join(functions)}")
    return links.edit_q_learning(
        links.edit_environment(space),
        functions[q](),
        learning_rate,
        epsilon,
        walkers=walkers,
        episode=episode,
        discount=discount,
        normalise=True,
        experience=_replay(memory, replayed),
    )


def edit_dqn(
    space: Space,
    hidden: int = 32,
    learning_rate: float = 0.01,
    epsilon: float = 0.3,
    discount: float = 0.1,
    walkers: int = 1,
    episode: int = 20,
    memory: int = 1000,
    target_period: int = 10,
    minibatch: int = 32,
    updates: int = 1,
    double: bool = True,
) -> Strategy:
    """A deep Q-network that walks from network to network by edits of one choice.

    `edit_q_learning` with a perceptron, learned as in `dqn` and `double_dqn`.

    Args:
      space: the space to search.
      hidden: units of the perceptron.
      learning_rate: of Adam.
      epsilon: see `edit_q_learning`.
      discount: see `edit_q_learning`.
      walkers: see `edit_q_learning`.
      episode: see `edit_q_learning`.
      memory: see `edit_q_learning`.
      target_period: see `dqn`.
      minibatch: edits that an update learns from.
      updates: updates after each round.
      double: see `double_dqn`.

    Returns:
      The strategy.
    """
    return links.edit_q_learning(
        links.edit_environment(space),
        mlp_q(space, hidden),
        _adam(learning_rate),
        epsilon,
        walkers=walkers,
        episode=episode,
        discount=discount,
        target_period=target_period,
        double=double,
        huber=1.0,
        normalise=True,
        experience=_replay(memory, minibatch * updates),
        updates=updates,
    )


def _adam(learning_rate: float) -> optax.GradientTransformation:
    if not learning_rate > 0:
        raise InputError(f"learning_rate={learning_rate}: it has to be above 0")
    return optax.adam(learning_rate)


def _replay(size: int, n: int) -> Strategy:
    positive(memory=size, replayed=n)
    return replay(chain(keep_youngest(size), select_uniform()), n)


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "q_learning": q_learning,
    "dqn": dqn,
    "double_dqn": double_dqn,
    "edit_q_learning": edit_q_learning,
    "edit_dqn": edit_dqn,
}
