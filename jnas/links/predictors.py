"""Predictors: models of the score of an architecture, trained inside the compiled search."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnas.base import Architecture, below, rows
from jnas.errors import positive
from jnas.links.encodings import Encoding

Loss = Callable[[jax.Array, jax.Array], jax.Array]


class Prediction(NamedTuple):
    mean: jax.Array  # f32[m]
    std: jax.Array  # f32[m], how sure the predictor is; 0 where it cannot tell


class Predictor(NamedTuple):
    """Three pure functions that learn to predict scores.

    init: `key -> params`.
    fit: `(key, params, arch, score, weight) -> params`, for architectures with leaves `[m, ...]`.
      Rows of weight 0 teach nothing, and without a row of another weight nothing changes.
    predict: `(params, arch) -> Prediction`.
    """

    init: Callable[[jax.Array], Any]
    fit: Callable[[jax.Array, Any, Architecture, jax.Array, jax.Array], Any]
    predict: Callable[[Any, Architecture], Prediction]


class Network(NamedTuple):
    """A network that maps architectures to two numbers each: a score, and how far off it may be.

    prepare: architectures with leaves `[m, ...]` to features, a pytree with leaves `[m, ...]`.
    init: `key -> weights`.
    apply: `(weights, features) -> f32[m, 2]`.
    """

    prepare: Callable[[Architecture], Any]
    init: Callable[[jax.Array], Any]
    apply: Callable[[Any, Any], jax.Array]


# Most matrix products come out the same for one search and for many under vmap, sums over an axis
# do not: hence biases are rows of the weights, and sums are unrolled or halved.
class Fitted(NamedTuple):
    weights: Any  # of the networks, leaves [members, ...]
    shift: jax.Array  # f32[], the mean of the scores learned from
    scale: jax.Array  # f32[], their standard deviation


def absolute_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """`|y - mu|`, of outputs `[m, 2]` and targets `[m]`."""
    return jnp.abs(target - output[:, 0])


def squared_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """`(y - mu)^2`."""
    return jnp.square(target - output[:, 0])


def gaussian_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """The negative log likelihood of `N(mu, sigma^2)`; `sigma` is the second output's softplus."""
    sigma = _sigma(output)
    return jnp.log(sigma) + 0.5 * jnp.square((target - output[:, 0]) / sigma)


def _sigma(output: jax.Array) -> jax.Array:
    return jax.nn.softplus(output[..., 1]) + 1e-3


def ensemble(
    network: Network,
    optimizer: optax.GradientTransformation,
    members: int = 5,
    steps: int = 500,
    batch_size: int = 32,
    loss: Loss = squared_error,
) -> Predictor:
    """Networks that learn the same rows from different initial weights and in different order.

    Their mean predicts. How sure it is: the variance over the members, and with `gaussian_error`
    the mean of the variances that the members predict themselves on top of it. Every fit starts
    anew. Scores are standardised, so that neither their unit nor their range matters. A
    search alone and the same one among many under `vmap` agree to rounding in the weights, which
    may tip a later choice.

    Args:
      network: one member.
      optimizer: of each member.
      members: how many there are.
      steps: the batches that each member learns from in a fit.
      batch_size: the rows of a batch, drawn with replacement from those of weight > 0.
      loss: the error of outputs `[m, 2]` for targets `[m]`, such as `squared_error`.

    Returns:
      The predictor.

    Raises:
      InputError: no member, step or row.
    """
    positive(members=members, steps=steps, batch_size=batch_size)

    def init(key: jax.Array) -> Fitted:
        weights = jax.vmap(network.init)(jax.random.split(key, members))
        return Fitted(weights, jnp.float32(0), jnp.float32(1))

    def fit(
        key: jax.Array, params: Fitted, arch: Architecture, score: jax.Array, weight: jax.Array
    ) -> Fitted:
        k_init, k_rows = jax.random.split(key)
        live = (weight > 0).astype(jnp.float32)
        shift = _mean(score, weight)
        spread = jnp.sqrt(_mean(jnp.square(score - shift), weight))
        scale = jnp.where(spread > 1e-12, spread, 1.0)
        features = network.prepare(arch)
        known = (features, live * (score - shift) / scale, weight)
        first = jnp.argsort(-live, stable=True)  # those that count, then the rest
        count = jnp.maximum(jnp.sum(weight > 0, dtype=jnp.int32), 1)
        drawn = first[below(k_rows, (members, steps, batch_size), count)]
        train = lambda weights, drawn: _train(network, optimizer, loss, weights, known, drawn)
        weights = jax.vmap(train)(init(k_init).weights, drawn)
        new = Fitted(weights, shift, scale)
        return rows(jnp.any(weight > 0), new, params)

    def predict(params: Fitted, arch: Architecture) -> Prediction:
        features = network.prepare(arch)
        each = jax.vmap(network.apply, (0, None))(params.weights, features)
        average = lambda x: sum(x[i] for i in range(members)) / members
        mean = average(each[..., 0])
        variance = average(jnp.square(each[..., 0] - mean))
        if loss is gaussian_error:
            variance += average(jnp.square(_sigma(each)))
        return Prediction(params.shift + params.scale * mean, params.scale * jnp.sqrt(variance))

    return Predictor(init, fit, predict)


def _mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """The weighted mean of `[m]`, 0 where there is no weight."""
    return _halved(weight * x) / jnp.maximum(_halved(weight), 1e-30)


def _halved(x: jax.Array) -> jax.Array:
    """The sum of `[m]`, halves added elementwise until one number is left."""
    while x.shape[0] > 1:
        x = jnp.pad(x, (0, x.shape[0] % 2))
        x = x[: x.shape[0] // 2] + x[x.shape[0] // 2 :]
    return x[0]


def _train(
    network: Network,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    weights: Any,
    known: tuple[Any, jax.Array, jax.Array],
    drawn: jax.Array,
) -> Any:
    """The weights after a step for each batch of `drawn`, int32[steps, batch_size]."""

    def error(weights: Any, batch: tuple[Any, jax.Array, jax.Array]) -> jax.Array:
        features, target, weight = batch
        each = loss(network.apply(weights, features), target)
        return weight @ each / jnp.maximum(weight @ jnp.ones_like(weight), 1e-30)

    def step(carry: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], None]:
        weights, state = carry
        slope = jax.grad(error)(weights, jax.tree.map(lambda x: x[i], known))
        update, state = optimizer.update(slope, state, weights)
        return (optax.apply_updates(weights, update), state), None

    (weights, _), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), drawn)
    return weights


def mlp_ensemble(
    encoding: Encoding,
    width: int = 20,
    depth: int = 10,
    learning_rate: float = 0.01,
    members: int = 5,
    steps: int = 750,
    batch_size: int = 32,
    loss: Loss = absolute_error,
) -> Predictor:
    """An ensemble of fully connected ReLU networks on an encoding: the predictor of BANANAS.

    White et al. 2021, arXiv 1910.11858, and its authors' code (naszilla, `params.py` and
    `meta_neural_net.py`): 5 networks of 10 layers of 20 units, mean absolute error, Adam with
    learning rate 0.01 and beta_2 = 0.99, batches of 32, 150 epochs. An epoch of n rows has n / 32
    steps; here every fit takes the same number of `steps`, by default those of 150 rows.

    Args:
      encoding: of the architectures.
      width: the units of a layer.
      depth: the hidden layers.
      learning_rate: of Adam.
      members: see `ensemble`, as all the rest.
      steps: see `ensemble`.
      batch_size: see `ensemble`.
      loss: see `ensemble`.

    Returns:
      The predictor.

    Raises:
      InputError: no layer, unit, member, step or row.
    """
    positive(width=width, depth=depth)
    sizes = [encoding.size, *[width] * depth, 2]
    network = Network(encoding.encode, lambda key: dense_init(key, sizes), dense)
    optimizer = optax.adam(learning_rate, b2=0.99)
    return ensemble(network, optimizer, members, steps, batch_size, loss)


def dense_init(key: jax.Array, sizes: Sequence[int]) -> list[jax.Array]:
    """Layers `[a + 1, b]` of weights (Glorot uniform) and, in the last row, biases (zero)."""
    shapes = list(itertools.pairwise(sizes))
    ends = np.cumsum([0, *(a * b for a, b in shapes)])
    unit = jax.random.uniform(key, (int(ends[-1]),), minval=-1.0)
    layers = []
    for (a, b), i, j in zip(shapes, ends[:-1], ends[1:], strict=True):
        w = unit[i:j].reshape(a, b) * float(np.sqrt(6 / (a + b)))
        layers.append(jnp.concatenate([w, jnp.zeros((1, b))]))
    return layers


def dense(layers: Sequence[jax.Array], x: jax.Array) -> jax.Array:
    """Fully connected layers on `[m, a]`, with ReLU between them and none behind the last."""
    for i, w in enumerate(layers):
        x = jax.nn.relu(x) if i else x
        x = jnp.concatenate([x, jnp.ones((x.shape[0], 1))], -1) @ w
    return x
