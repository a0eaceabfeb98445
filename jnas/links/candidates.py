"""Candidates of a model: architectures to rank before any of them is evaluated."""

import jax
import jax.numpy as jnp

from jnas.base import Space, from_vector, propose, sample, to_vector
from jnas.links.variation import mutate_one


def equal(a: jax.Array, b: jax.Array) -> jax.Array:
    """Which of int32[n, L] architectures equal which of int32[m, L]: bool[n, m]."""
    same = jnp.ones((a.shape[0], b.shape[0]), bool)
    for p in range(a.shape[-1]):  # place by place: nothing of [n, m, L] is made
        same &= a[:, None, p] == b[:, p]
    return same


def among(vectors: jax.Array, known: jax.Array, live: jax.Array) -> jax.Array:
    """Which of int32[n, L] architectures are among the live rows of int32[m, L]: bool[n]."""
    return jnp.any(equal(vectors, known) & live, -1)


def mutants(
    space: Space,
    key: jax.Array,
    vectors: jax.Array,
    scores: jax.Array,
    live: jax.Array,
    n: int,
    parents: int,
) -> jax.Array:
    """Mutates the best `parents` of the live rows, in turn, by one choice each: int32[n, L].

    Where fewer rows are live, random architectures stand in for them.
    """
    k_any, k_mutate = jax.random.split(key)
    parents = min(parents, live.size)
    score, best = jax.lax.top_k(jnp.where(live, scores, -jnp.inf), parents)
    random = to_vector(space, sample(space, k_any, parents))
    chosen = jnp.where(jnp.isfinite(score)[:, None], vectors[best], random)
    turn = from_vector(space, chosen[jnp.arange(n) % parents])
    return to_vector(space, mutate_one(space).ask(k_mutate, (), n, propose(turn)).arch)
