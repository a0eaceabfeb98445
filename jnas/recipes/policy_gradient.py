"""Controllers that learn by policy gradients, each with its paper's own setting."""

from collections.abc import Callable

import optax

from jnas import links
from jnas.base import InputError, Space, Strategy, chain
from jnas.links import subtract_ema
from jnas.links.policies import categorical_policy, lstm_controller


def reinforce(
    space: Space,
    learning_rate: float = 0.001,
    decay: float = 0.9,
    entropy: float = 0.0,
    include_new: bool = True,
) -> Strategy:
    """REINFORCE on independent choices: a softmax for every place, no network.

    NAS-Bench-201's baseline (Dong and Yang 2020, arXiv 2001.00326). Adam of rate 0.001, an average
    of decay 0.9 that takes each reward in before it is subtracted, and one architecture at a time:
    its code, AutoDL-Projects `exps/algos/reinforce.py` and `scripts-search/algos/REINFORCE.sh`.
    NATS-Bench (arXiv 2009.00437) runs it with `learning_rate=0.01` (`docs/NATS-Bench.md` there).

    Args:
      space: the space to search.
      learning_rate: of Adam.
      decay: of the average reward, in [0, 1).
      entropy: the weight of the policy's entropy.
      include_new: see `subtract_ema`.

    Returns:
      The strategy.

    >>> import jax, jnas
    >>> space = jnas.spaces.nas_bench_201()
    >>> strategy = reinforce(space)
    >>> state = strategy.init(jax.random.key(0), None)
    >>> strategy.ask(jax.random.key(1), state, 4).arch.shape
    (4, 6)
    """
    learner = links.reinforce(categorical_policy(space), _adam(learning_rate), entropy)
    return chain(learner, subtract_ema(decay, include_new))


def reinforce_rnn(
    space: Space,
    learning_rate: float = 0.0006,
    hidden: int = 35,
    layers: int = 2,
    decay: float = 0.95,
    entropy: float = 0.0,
) -> Strategy:
    """Neural architecture search: REINFORCE on a recurrent controller.

    Zoph and Le 2017, "Neural Architecture Search with Reinforcement Learning", arXiv 1611.01578:
    two LSTM layers of 35 units, weights uniform in ±0.08, Adam of rate 0.0006 (section 4.1), and
    the average of the previous rewards as baseline (section 3.2). The paper does not give its
    decay: 0.95 is NASNet's. There, 8 architectures make a minibatch.

    Args:
      space: the space to search.
      learning_rate: of Adam.
      hidden: units of an LSTM layer.
      layers: of the LSTM.
      decay: of the average reward, in [0, 1).
      entropy: the weight of the policy's entropy.

    Returns:
      The strategy.
    """
    controller = lstm_controller(space, hidden, layers, init_scale=0.08)
    learner = links.reinforce(controller, _adam(learning_rate), entropy)
    return chain(learner, subtract_ema(decay))


def enas_controller(
    space: Space,
    learning_rate: float = 0.00035,
    hidden: int = 100,
    temperature: float = 5.0,
    tanh_constant: float | None = 2.5,
    decay: float = 0.99,
    entropy: float = 0.0001,
) -> Strategy:
    """The controller of ENAS: logits are cooled and bounded, operations share an embedding.

    Pham et al. 2018, "Efficient Neural Architecture Search via Parameter Sharing", arXiv
    1802.03268: an LSTM of 100 units (section 2), Adam of rate 0.00035, temperature 5, tanh
    constant 2.5 and a weight of 0.0001 on the entropy (section 3.1). Its code starts the weights
    in ±0.1, shares the embedding and the softmax of all operations, and updates the average, of
    decay 0.99, before it is subtracted (github.com/melodyguan/enas, `src/cifar10`). This is the
    controller alone: where architectures are trained one by one, there are no shared weights.

    The paper adds the entropy to the reward; here it is differentiated as it stands, which has
    less variance.

    Args:
      space: the space to search.
      learning_rate: of Adam.
      hidden: units of the LSTM.
      temperature: divides the logits.
      tanh_constant: the largest logit; None for any.
      decay: of the average reward, in [0, 1).
      entropy: the weight of the policy's entropy.

    Returns:
      The strategy.
    """
    controller = lstm_controller(space, hidden, 1, temperature, tanh_constant, 0.1, shared=True)
    learner = links.reinforce(controller, _adam(learning_rate), entropy)
    return chain(learner, subtract_ema(decay, include_new=True))


def ppo(
    space: Space,
    learning_rate: float = 0.00035,
    hidden: int = 100,
    layers: int = 1,
    clip: float = 0.2,
    epochs: int = 10,
    decay: float = 0.95,
    entropy: float = 0.00001,
) -> Strategy:
    """NASNet's search: proximal policy optimization of a recurrent controller.

    Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", arXiv
    1707.07012, appendix A.2: one LSTM layer of 100 units with a softmax for each choice, weights
    uniform in ±0.1, rate 0.00035, entropy of weight 0.00001, and an average of the previous
    rewards of decay 0.95; A.3: minibatches of 20 architectures. It gives neither `clip` nor
    `epochs`: they are those of Schulman et al. 2017, arXiv 1707.06347 (table 3).

    Args:
      space: the space to search.
      learning_rate: of Adam.
      hidden: units of an LSTM layer.
      layers: of the LSTM.
      clip: how far the ratio of probabilities may go from 1.
      epochs: steps of Adam for each tell.
      decay: of the average reward, in [0, 1).
      entropy: the weight of the policy's entropy.

    Returns:
      The strategy.
    """
    controller = lstm_controller(space, hidden, layers)
    learner = links.ppo(controller, _adam(learning_rate), clip, epochs, entropy)
    return chain(learner, subtract_ema(decay))


def _adam(learning_rate: float) -> optax.GradientTransformation:
    if not learning_rate > 0:
        raise InputError(f"learning_rate={learning_rate}: a positive number is needed")
    return optax.adam(learning_rate)


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "reinforce": reinforce,
    "reinforce_rnn": reinforce_rnn,
    "enas_controller": enas_controller,
    "ppo": ppo,
}
