"""Selection: links that pick parents from evaluated trials, `[m]` rows to `[n]`."""

import jax
import jax.numpy as jnp

from jnas.base import InputError, Strategy, Trials, below, on_ask, settle


def select_tournament(size: int) -> Strategy:
    """Each parent is the best of `size` rows drawn at random, with replacement.

    Real et al. 2019, arXiv 1802.01548, Algorithm 1 (`size` is its S); Goldberg and Deb 1991.
    A larger tournament selects harder; `size=1` is uniform selection.

    Args:
      size: the rows that compete for each place.

    Returns:
      A link from evaluated trials to `n` of them. Rows of weight 0 never compete.

    Raises:
      InputError: the size is less than 1.
    """
    if size < 1:
        raise InputError(f"tournament size {size}: a sample has at least 1 row")

    def pick(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        trials = _evaluated(trials, "select_tournament")
        rivals = _draw(key, trials.weight, (n, size))
        score = jnp.where(trials.weight > 0, trials.score, -jnp.inf)[rivals]
        winner = jnp.argmax(score, -1)
        return _take(trials, jnp.take_along_axis(rivals, winner[:, None], -1)[:, 0])

    return on_ask(pick)


def select_uniform() -> Strategy:
    """Each parent is any row, all with the same chance, with replacement."""

    def pick(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        trials = _evaluated(trials, "select_uniform")
        return _take(trials, _draw(key, trials.weight, (n,)))

    return on_ask(pick)


def _evaluated(trials: Trials | None, who: str) -> Trials:
    if trials is None or trials.score is None:
        raise ValueError(
            f"{who} ranks evaluated trials but was given unevaluated proposals: "
            "put a memory such as keep_youngest(...) to its left."
        )
    return settle(trials, who)


def _draw(key: jax.Array, weight: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Indices of rows of weight > 0, uniform with replacement; any row where there is none."""
    live = jnp.cumsum(weight > 0)
    nth = below(key, shape, jnp.maximum(live[-1], 1))
    return jnp.sum(nth[..., None] >= live, -1) % live.size  # branch-free search, fast under vmap


def _take(trials: Trials, i: jax.Array) -> Trials:
    return jax.tree.map(lambda x: x[i], trials._replace(trace=()))
