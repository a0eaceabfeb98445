"""Variation: links that make new architectures, from nothing or from parents."""

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import (
    Space,
    Strategy,
    Trials,
    choice_counts,
    from_vector,
    on_ask,
    propose,
    sample,
    to_vector,
)


def sample_uniform(space: Space) -> Strategy:
    """Proposes architectures drawn uniformly from the space; ignores what comes from the left."""
    return on_ask(lambda key, trials, n: propose(sample(space, key, n)))


def mutate_one(space: Space) -> Strategy:
    """Changes exactly one choice, drawn uniformly, to another one.

    Real et al. 2019, arXiv 1802.01548, section 3.2. Places with a single choice are never drawn.

    Args:
      space: the space of the architectures.

    Returns:
      A link from `[n]` parents to `[n]` children.
    """
    counts = choice_counts(space)
    free, nth = np.uint32(np.sum(counts > 1)), np.cumsum(counts > 1).astype(np.uint32) - 1
    if not free:
        raise ValueError(f"mutate_one: space {space.name!r} has no choice that could be changed.")

    def change(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        if trials is None:
            raise ValueError("mutate_one needs parents: put a selection to its left.")
        x = to_vector(space, trials.arch)
        if x.shape[0] != n:
            raise ValueError(
                f"mutate_one was given {x.shape[0]} parents for {n} children: "
                "put a selection between the memory and it."
            )
        bits = jax.random.bits(key, (n, 2), jnp.uint32)  # as in `below`
        hit = nth == bits[:, :1] % free
        step = 1 + bits[:, 1:] % np.maximum(counts - 1, 1).astype(np.uint32)
        moved = (x + step.astype(jnp.int32)) % counts
        return propose(from_vector(space, jnp.where(hit & (counts > 1), moved, x)))

    return on_ask(change)
