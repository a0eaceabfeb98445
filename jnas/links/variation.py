"""Variation: links that make new architectures, from nothing or from parents."""

import jax
import jax.numpy as jnp

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
    free = jnp.asarray([i for i, c in enumerate(counts) if c > 1], jnp.int32)
    if not free.size:
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
        k_place, k_step = jax.random.split(key)
        place = free[jax.random.randint(k_place, (n,), 0, free.size)]
        options = jnp.asarray(counts)[place]
        step = jax.random.randint(k_step, (n,), 1, options)
        hit = jnp.arange(counts.size) == place[:, None]
        moved = (x + step[:, None]) % options[:, None]
        return propose(from_vector(space, jnp.where(hit, moved, x)))

    return on_ask(change)
