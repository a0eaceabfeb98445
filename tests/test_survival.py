"""Generations and elites, against plain Python lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.base import Space, Trials, template
from jnas.links import keep_elite, keep_generation, keep_youngest, sample_uniform

LINE = Space("line", 1000)  # an architecture is a number: easy to follow


def batches(seed: int, sizes: list[int]) -> list[Trials]:
    """Random evaluated rows; some dead, some of equal score."""
    rng, made, count = np.random.default_rng(seed), [], 0
    for n in sizes:
        made.append(
            Trials(
                jnp.arange(count, count + n, dtype=jnp.int32),
                jnp.asarray(rng.integers(0, 6, n), jnp.float32),
                weight=jnp.asarray(rng.random(n) < 0.7, jnp.float32),
                metrics={"cost": jnp.asarray(rng.random(n), jnp.float32)},
                trace=(),
            )
        )
        count += n
    return made


def alive(trials: Trials) -> list[tuple[int, float, float]]:
    columns = (trials.arch, trials.score, trials.metrics["cost"], trials.weight)
    zipped = zip(*(np.asarray(c).tolist() for c in columns), strict=True)
    return [(a, s, c) for a, s, c, w in zipped if w > 0]


SIZES = [3, 1, 12, 3, 1, 30, 3, 3, 7]


@pytest.mark.parametrize(("mu", "lambda_"), [(1, 1), (2, 5), (5, 5), (3, 20)])
def test_keep_generation_is_the_best_of_the_last_whole_generation(mu: int, lambda_: int) -> None:
    link = keep_generation(mu, lambda_, metrics=["cost"])
    tell = jax.jit(link.tell)
    state = link.init(jax.random.key(0), template(LINE))
    told: list[tuple[int, float, float]] = []
    for trials in batches(mu, SIZES):
        _, state = tell(jax.random.key(0), trials, state)
        told += alive(trials)
        whole = len(told) // lambda_
        last = told[(whole - 1) * lambda_ : whole * lambda_] if whole else []
        best = sorted(last, key=lambda row: -row[1])[:mu]
        assert alive(link.ask(jax.random.key(0), state, 1)) == best


@pytest.mark.slow
def test_keep_elite_holds_the_best_ever_beside_a_memory_and_none_twice() -> None:
    link = keep_elite(keep_youngest(4, metrics=["cost"]), 2)
    tell = jax.jit(link.tell)
    state = link.init(jax.random.key(0), template(LINE))
    told: list[tuple[int, float, float]] = []
    for trials in batches(1, SIZES):
        _, state = tell(jax.random.key(0), trials, state)
        told += alive(trials)
        expected = {*told[-4:], *sorted(told, key=lambda row: -row[1])[:2]}
        rows = alive(link.ask(jax.random.key(0), state, 1))
        assert sorted(rows) == sorted(expected)


def test_an_elite_needs_a_memory_to_stand_beside() -> None:
    with pytest.raises(ValueError, match="stands around a memory such as keep_generation"):
        keep_elite(sample_uniform(LINE)).init(jax.random.key(0), template(LINE))
