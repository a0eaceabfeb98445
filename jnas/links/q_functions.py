"""Q-functions: how good is a choice at a place, given the other choices of an architecture?

Values are matrix products of these shapes since XLA gives them the same bits for one search and
for many under `vmap`; sums along an axis may be added up in another order.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import InputError, Space, choice_counts

STATES = ("prefix", "last", "architecture")


class QFunction(NamedTuple):
    """The value of every choice at a place, as pure functions.

    `x` is int32[L], the choices of an architecture, -1 where none is made yet: places from
    `place` on for an agent that fills places in order, none for an agent that edits. `K` is the
    largest number of choices of a place; values of choices that a place lacks mean nothing.

    init: `key -> params`.
    apply: `(params, x, place) -> f32[K]`.
    along: `(params, x) -> f32[L, K]`, at every place given the choices before it.
    nudge: `(params, x, place, choice, amount) -> params`, whose value of that choice has moved by
      `amount`; None for functions that learn through an optimizer only.
    reads: "prefix", "architecture" or "both": what `x` may be.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[..., jax.Array]
    along: Callable[..., jax.Array]
    nudge: Callable[..., Any] | None
    reads: str = "both"


def allowed_choices(space: Space) -> np.ndarray:
    """Which of `K` choices every place has, bool[L, K]."""
    counts = choice_counts(space)
    return np.arange(counts.max()) < counts[:, None]


def before(x: jax.Array, place: Any) -> jax.Array:
    """The choices before a place; -1 from there on."""
    return jnp.where(jnp.arange(x.shape[-1]) < place, x, -1)


def _along(apply: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    one = lambda params, x, place: apply(params, before(x, place), place)
    return lambda params, x: jax.vmap(one, (None, None, 0))(params, x, jnp.arange(x.shape[0]))


# ------------------------------------------------------------------------------------- tables


def tabular_q(
    space: Space, state: str = "prefix", *, initial: float = 0.0, size: int = 2**16
) -> QFunction:
    """A table with one row for each state.

    Args:
      space: the space.
      state: what a row stands for. "prefix": all choices before the place, the exact state of an
        agent that fills places in order. "last": the place and the choice just before it, as
        MetaQNN's states are one layer at its depth (Baker et al. 2017, arXiv 1611.02167, section
        4.1). "architecture": the place and a whole architecture, for an agent that edits.
      initial: the first value of every choice. MetaQNN starts a little below the score of an
        average network (0.5, in its code).
      size: the most prefixes or architectures that get a row of their own; where there are more,
        they share so many rows by a hash.

    Returns:
      The Q-function, with parameters f32[rows, K].

    Raises:
      InputError: an unknown state, or a size below 1.
    """
    if state not in STATES:
        raise InputError(f"state {state!r}; allowed: {', '.join(STATES)}")
    if size < 1:
        raise InputError(f"size={size}: a table has at least 1 row")
    rows, row = {"prefix": _of_prefix, "last": _of_last, "architecture": _of_architecture}[state](
        choice_counts(space), size
    )
    width = int(choice_counts(space).max())

    def apply(params: jax.Array, x: jax.Array, place: Any) -> jax.Array:
        return params[row(x, place)]

    def nudge(params: jax.Array, x: jax.Array, place: Any, choice: Any, amount: Any) -> jax.Array:
        return params.at[row(x, place), choice].add(amount)

    reads = "architecture" if state == "architecture" else "prefix"
    init = lambda key: jnp.full((rows, width), initial, jnp.float32)
    return QFunction(init, apply, _along(apply), nudge, reads)


def _of_prefix(counts: np.ndarray, size: int) -> tuple[int, Callable]:
    """Prefixes numbered by length, then in mixed radix with the first place varying fastest."""
    lengths = [math.prod(map(int, counts[:t])) for t in range(counts.size)]
    rows = sum(lengths)
    if rows > size:
        return size, lambda x, place: _hash(before(x, place)) % size
    starts = jnp.asarray(np.cumsum([0, *lengths[:-1]]), jnp.int32)
    strides = np.asarray(lengths, np.int32)
    inside = lambda x, place: jnp.sum(jnp.where(np.arange(counts.size) < place, x * strides, 0))
    return rows, lambda x, place: starts[place] + inside(x, place)


def _of_last(counts: np.ndarray, size: int) -> tuple[int, Callable]:
    """The start, then every choice of every place but the last."""
    width, places = int(counts.max()), np.arange(counts.size)
    last = lambda x, place: jnp.sum(jnp.where(places == place - 1, x, 0))
    row = lambda x, place: jnp.where(place == 0, 0, 1 + (place - 1) * width + last(x, place))
    return 1 + (counts.size - 1) * width, row


def _of_architecture(counts: np.ndarray, size: int) -> tuple[int, Callable]:
    """Architectures in mixed radix, each with a row for every place."""
    total = math.prod(map(int, counts))
    if total > size:
        hashed = lambda x: _hash(x) % size
        return size * counts.size, lambda x, place: hashed(x) * counts.size + place
    strides = np.cumprod([1, *counts[:-1]]).astype(np.int32)
    row = lambda x, place: jnp.sum(x * strides) * counts.size + place
    return total * counts.size, row


def _hash(x: jax.Array) -> jax.Array:
    """A hash of a vector of choices >= -1, int32[] >= 0."""
    odd = np.random.default_rng(0).integers(2**32, size=x.shape[-1], dtype=np.uint32) | 1
    bits = jnp.sum((x + 1).astype(jnp.uint32) * odd, dtype=jnp.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):  # mixes high bits into low ones
        bits = (bits ^ (bits >> shift)) * np.uint32(factor)
    return (bits >> 1).astype(jnp.int32)


# ---------------------------------------------------------------------------- linear functions


def linear_q(space: Space, *, pairs: bool = False, initial: float = 0.0) -> QFunction:
    """A linear function of the choices made, with weights of its own for every choice to come.

    `Q(x, place, k) = sum_f features_f(x) w[f, place, k]`. The features are a constant and one
    indicator for each choice of each place, so that a choice to come interacts with each choice
    made; and, with `pairs`, one for each two of them.

    Args:
      space: the space.
      pairs: with the products of two indicators.
      initial: the first value of every choice.

    Returns:
      The Q-function, with parameters f32[F, L, K]. A nudge moves the weights along the features,
      by as much as moves the value by the amount.
    """
    shape = allowed_choices(space).shape
    first, second = np.triu_indices(shape[0], 1)

    def features(x: jax.Array) -> jax.Array:
        hot = jax.nn.one_hot(x, shape[1])
        parts = [jnp.ones(1), hot.ravel()]
        if pairs:
            parts.append((hot[first, :, None] * hot[second, None, :]).ravel())
        return jnp.concatenate(parts)

    def apply(params: jax.Array, x: jax.Array, place: Any) -> jax.Array:
        return features(x) @ params[:, place]

    def nudge(params: jax.Array, x: jax.Array, place: Any, choice: Any, amount: Any) -> jax.Array:
        f = features(x)
        return params.at[:, place, choice].add(f * (amount / (f @ f)))

    def init(key: jax.Array) -> jax.Array:
        del key
        f = jax.eval_shape(features, jax.ShapeDtypeStruct(shape[:1], jnp.int32)).shape[0]
        return jnp.zeros((f, *shape)).at[0].set(initial)

    return QFunction(init, apply, _along(apply), nudge)


# --------------------------------------------------------------------------------- perceptrons


def mlp_q(space: Space, hidden: int | Sequence[int] = 32) -> QFunction:
    """A perceptron on the indicators of the choices made, with one head for each place.

    The heads start at 0, so every choice is worth the same before anything is learned.

    Args:
      space: the space.
      hidden: the units of the hidden layer, or of each of them.

    Returns:
      The Q-function; it learns through an optimizer.

    Raises:
      InputError: a layer without units.
    """
    widths = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    if not widths or any(type(w) is not int or w < 1 for w in widths):
        raise InputError(f"hidden={hidden!r}: at least one layer of at least 1 unit is needed")
    places, choices = allowed_choices(space).shape

    sizes = [places * choices, *widths]

    def init(key: jax.Array) -> dict[str, Any]:
        keys = jax.random.split(key, len(widths))
        scales = [
            (2 / places) ** 0.5,
            *((2 / w) ** 0.5 for w in widths),
        ]  # of the inputs that are 1
        normal = lambda k, a, b, scale: jnp.append(
            scale * jax.random.normal(k, (a, b)), jnp.zeros((1, b)), 0
        )
        layers = zip(keys, sizes, widths, scales, strict=False)
        heads = jnp.zeros((places, widths[-1] + 1, choices))
        return {"layers": [normal(*layer) for layer in layers], "heads": heads}

    def hidden_of(params: dict[str, Any], x: jax.Array) -> jax.Array:
        h = _with_1(jax.nn.one_hot(x, choices).ravel())
        for w in params["layers"]:
            h = _with_1(jax.nn.relu(h @ w))
        return h

    def apply(params: dict[str, Any], x: jax.Array, place: Any) -> jax.Array:
        return hidden_of(params, x) @ params["heads"][place]

    def along(params: dict[str, Any], x: jax.Array) -> jax.Array:
        prefixes = jax.vmap(before, (None, 0))(x, jnp.arange(places))
        h = jax.vmap(lambda x: hidden_of(params, x))(prefixes)
        return jax.vmap(jnp.matmul)(h, params["heads"])

    return QFunction(init, apply, along, None)


def _with_1(x: jax.Array) -> jax.Array:
    """With a 1 at the end, whose weights are the biases: the gradient of a bias of its own would
    be a sum rather than a matrix product."""
    return jnp.append(x, 1.0)
