"""Policies: distributions over architectures, with parameters that a policy gradient can move."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import (
    Architecture,
    InputError,
    Space,
    choice_counts,
    from_vector,
    repaired,
    repairs,
    to_vector,
)
from jnas.errors import positive
from jnas.links.sums import entropy, log_softmax, spread, total

NEVER = -1e9  # the logit of a choice that a place does not have: finite, so that 0 * NEVER is 0


class Policy(NamedTuple):
    """Three pure functions: a distribution over the `L` choices of an architecture.

    init: `key -> params`.
    sample: `(params, key, n) -> arch` draws `n` architectures, leaves `[n, ...]`.
    evaluate: `(params, arch) -> (log_prob, entropy)`, each f32[n, L]: of every choice of the
      architectures, given the choices before it. Along an axis, `log_prob` adds up to the
      logarithm of the probability of the architecture, and `entropy`, on average over samples, to
      the entropy of the distribution.
    repair: makes sampled architectures valid, None where all are. The learner proposes them
      repaired, and learns from them as they were sampled.
    """

    init: Callable[[jax.Array], Any]
    sample: Callable[[Any, jax.Array, int], Architecture]
    evaluate: Callable[[Any, Architecture], tuple[jax.Array, jax.Array]]
    repair: Callable[[Architecture], Architecture] | None = None


def categorical_policy(space: Space, init_scale: float = 0.0) -> Policy:
    """Independent choices, a softmax each: the policy of NAS-Bench-201's REINFORCE.

    Dong and Yang 2020, arXiv 2001.00326; its code (AutoDL-Projects, `exps/algos/reinforce.py`)
    draws the first logits from a normal distribution of scale 0.001.

    Args:
      space: of the architectures.
      init_scale: of the first logits; 0 is the uniform distribution.

    Returns:
      The policy; its parameters are logits f32[L, K].
    """
    absent = _absent(space)

    def init(key: jax.Array) -> jax.Array:
        return init_scale * jax.random.normal(key, absent.shape)

    def sample(params: jax.Array, key: jax.Array, n: int) -> Architecture:
        chance = jnp.exp(log_softmax(params + absent))
        uniform = jax.random.uniform(key, (n, absent.shape[0]))
        return from_vector(space, _invert(chance, uniform, choice_counts(space)))

    def evaluate(params: jax.Array, arch: Architecture) -> tuple[jax.Array, jax.Array]:
        x = to_vector(space, arch)
        return _of_choices(spread(params, x.shape[0]) + absent, x)

    return Policy(init, sample, evaluate, _repair(space))


def lstm_controller(
    space: Space,
    hidden: int = 100,
    layers: int = 1,
    temperature: float = 1.0,
    tanh_constant: float | None = None,
    init_scale: float = 0.1,
    shared: bool = False,
) -> Policy:
    """A recurrent network that emits the choices of an architecture one after the other.

    The controller of Zoph and Le 2017, arXiv 1611.01578, section 3.1: an LSTM whose output gives a
    softmax over the choices of the next place, and whose next input is an embedding of the choice
    that was made. Places come in the order of `to_vector`; a place with fewer choices than others
    has the rest masked. With output `h` of the LSTM, the logits of a place are

      `l = (h W + b) / temperature`, and `l = tanh_constant * tanh(l)` where it is given

    (Bello et al. 2017, arXiv 1611.09940; Pham et al. 2018, arXiv 1802.03268): both keep the
    distribution from closing early. Weights start uniform in `[-init_scale, init_scale]`, biases
    of the softmaxes at 0; the LSTM has none, as in the code of ENAS.

    Args:
      space: of the architectures.
      hidden: units of a layer, and size of an embedding.
      layers: LSTMs on top of each other.
      temperature: divides the logits; above 1, choices are closer to uniform.
      tanh_constant: the largest logit; None for any.
      init_scale: of the first weights.
      shared: places of one leaf of the space with as many choices have one embedding and one
        softmax, as ENAS has for operations; else every place has its own.

    Returns:
      The policy.

    Raises:
      InputError: a size of less than 1, or a temperature, constant or scale that is not positive.
    """
    positive(hidden=hidden, layers=layers)
    scales = {"temperature": temperature, "init_scale": init_scale}
    if tanh_constant is not None:
        scales["tanh_constant"] = tanh_constant
    for name, number in scales.items():
        if not number > 0:
            raise InputError(f"lstm_controller: {name}={number}: a positive number is needed")
    counts, absent = choice_counts(space), _absent(space)
    kind = _kinds(space) if shared else np.arange(counts.size)
    kinds, most = int(kind.max()) + 1, absent.shape[1]
    own = (lambda table: table[kind]) if shared else (lambda table: table)

    def init(key: jax.Array) -> dict[str, Any]:
        shapes = {
            "start": (hidden,),
            "embedding": (kinds, most, hidden),
            "softmax": (kinds, hidden, most),
            "lstm": (layers, 2 * hidden, 4 * hidden),
        }
        pairs = zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True)
        draw = lambda k, shape: jax.random.uniform(k, shape, minval=-init_scale, maxval=init_scale)
        return {n: draw(k, s) for (n, s), k in pairs} | {"bias": jnp.zeros((kinds, most))}

    def logits_of(
        params: dict[str, Any], state: jax.Array, x: jax.Array, softmax: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, jax.Array]:
        """The next state of the LSTM, and the logits `[n, K]` of a place, given its input."""
        new = []
        for gates, old in zip(params["lstm"], state, strict=True):
            x, cell = _lstm(gates, x, *old)
            new.append(jnp.stack([x, cell]))
        weights, bias, mask = softmax
        logits = (x @ weights + bias) / temperature
        if tanh_constant is not None:
            logits = tanh_constant * jnp.tanh(logits)
        return jnp.stack(new), logits + mask

    def emit(
        params: dict[str, Any], n: int, pick: Callable[[jax.Array, Any], jax.Array], given: Any
    ) -> tuple[jax.Array, jax.Array]:
        """Choices int32[n, L] as `pick` makes them, and the logits `[n, L, K]` that it saw."""
        bias = spread(own(params["bias"]), n).swapaxes(0, 1)
        softmax = own(params["softmax"]), bias, jnp.asarray(absent)
        start = jnp.zeros((layers, 2, n, hidden)), spread(params["start"], n)

        def step(carry: Any, place: Any) -> Any:
            (state, x), (softmax, embedding, given) = carry, place
            state, logits = logits_of(params, state, x, softmax)
            choice = pick(logits, given)
            return (state, jax.nn.one_hot(choice, most) @ embedding), (choice, logits)

        _, (choices, logits) = jax.lax.scan(step, start, (softmax, own(params["embedding"]), given))
        return choices.T, logits.swapaxes(0, 1)

    def sample(params: dict[str, Any], key: jax.Array, n: int) -> Architecture:
        uniform = jax.random.uniform(key, (counts.size, n))
        draw = lambda logits, given: _invert(jnp.exp(log_softmax(logits)), *given)
        return from_vector(space, emit(params, n, draw, (uniform, jnp.asarray(counts)))[0])

    def evaluate(params: dict[str, Any], arch: Architecture) -> tuple[jax.Array, jax.Array]:
        x = to_vector(space, arch)
        return _of_choices(emit(params, x.shape[0], lambda _, choice: choice, x.T)[1], x)

    return Policy(init, sample, evaluate, _repair(space))


def _lstm(
    weights: jax.Array, x: jax.Array, output: jax.Array, cell: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One step of an LSTM (Hochreiter and Schmidhuber 1997), all gates in one product."""
    enter, forget, leave, new = jnp.split(jnp.concatenate([x, output], -1) @ weights, 4, -1)
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
    return jax.nn.sigmoid(leave) * jnp.tanh(cell), cell


def _repair(space: Space) -> Callable[[Architecture], Architecture] | None:
    return functools.partial(repaired, space) if repairs(space) else None


def _absent(space: Space) -> np.ndarray:
    """What to add to logits f32[L, K], so that no place chooses what it does not have."""
    counts = choice_counts(space)
    return np.where(np.arange(counts.max()) < counts[:, None], 0.0, NEVER).astype(np.float32)


def _kinds(space: Space) -> np.ndarray:
    """A number for each place, the same for places of one leaf that have as many choices."""
    leaves = jax.tree.leaves(space.num_choices)
    leaf = np.concatenate([np.full(c.size, i) for i, c in enumerate(leaves)])
    both = np.stack([leaf, choice_counts(space)])
    return np.unique(both, axis=1, return_inverse=True)[1].reshape(-1)


def _invert(chance: jax.Array, uniform: jax.Array, count: Any) -> jax.Array:
    """Draws choices from probabilities `[..., K]` by one uniform number for each."""
    choice = jnp.sum(uniform[..., None] >= jnp.cumsum(chance, -1), -1, dtype=jnp.int32)
    return jnp.minimum(choice, count - 1)  # the last sum may round to less than 1


def _of_choices(logits: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probability and entropy of choices int32[n, L] under logits `[n, L, K]`."""
    log_chance = log_softmax(logits)
    chosen = jax.nn.one_hot(x, logits.shape[-1])
    return total(chosen * log_chance), entropy(log_chance)
