"""Quick keys: their numbers look random, and JAX's own functions take them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.quick_keys import quick

N = 2**16


def _bits(key: jax.Array, n: int = N) -> np.ndarray:
    return np.asarray(jax.random.bits(key, (n,), jnp.uint32))


def _balance(words: np.ndarray) -> np.ndarray:
    """How many standard deviations every one of 32 bits is off a fair coin."""
    ones = (words[:, None] >> np.arange(32, dtype=np.uint32) & 1).sum(0)
    return (ones - len(words) / 2) / np.sqrt(len(words) / 4)


def _root(seed: int = 5) -> jax.Array:
    return quick(jax.random.key(seed))


def _first(key: jax.Array) -> jax.Array:
    return jax.random.bits(key, (), jnp.uint32)


STREAMS = {
    "bits of one key": lambda: _bits(_root()),
    "parts of a split": lambda: jax.vmap(_first)(jax.random.split(_root(), N)),
    "numbers folded in": lambda: jax.vmap(lambda i: _first(jax.random.fold_in(_root(), i)))(
        jnp.arange(N)
    ),
    "searches with seeds in a row": lambda: jax.vmap(
        lambda i: _first(quick(jax.random.fold_in(jax.random.key(i), 7)))
    )(jnp.arange(N)),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_bit_and_every_pair_of_bits_is_a_fair_coin(name: str) -> None:
    words = np.asarray(STREAMS[name]())
    assert np.abs(_balance(words)).max() < 5
    for turn in range(1, 32):  # a bit beside another bit of its word
        turned = (words << np.uint32(turn)) | (words >> np.uint32(32 - turn))
        assert np.abs(_balance(words ^ turned)).max() < 5
    for lag in (1, 2, 3, 7, 64, 1000):  # and beside itself in a later word
        assert np.abs(_balance(words[lag:] ^ words[:-lag])).max() < 5


def test_small_numbers_are_uniform_in_sequence() -> None:
    drawn = _bits(quick(jax.random.key(1)), 5 * 2**14) % 5
    pairs = np.bincount(drawn[:-1] * 5 + drawn[1:], minlength=25)
    expected = len(drawn) / 25
    chi = ((pairs - expected) ** 2 / expected).sum()
    assert 5 < chi < 55  # 24 degrees of freedom


def test_words_of_a_key_do_not_repeat_and_keys_differ() -> None:
    assert len(set(_bits(_root(0)).tolist())) == N  # a permutation of the count
    folded = jax.vmap(lambda i: jax.random.fold_in(_root(0), i))(jnp.arange(3))
    parts = [jax.random.key_data(keys) for keys in (jax.random.split(_root(0), 3), folded)]
    assert len({tuple(row) for row in np.concatenate(parts).tolist()}) == 6
    assert np.array_equal(jax.random.key_data(jax.random.split(_root(0), 3)), parts[0])


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.uint16, jnp.uint32])
def test_words_of_any_size_are_spread_evenly(dtype: type) -> None:
    drawn = np.asarray(jax.random.bits(quick(jax.random.key(2)), (N,), dtype), np.float64)
    assert abs(drawn.mean() / np.iinfo(dtype).max - 0.5) < 5 / np.sqrt(12 * N)


def test_normal_numbers_have_the_moments_of_theirs() -> None:
    x = np.asarray(jax.random.normal(quick(jax.random.key(3)), (N,)), np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 5 * np.sqrt(variance / N)


def test_a_key_used_twice_is_found() -> None:
    def twice(words: jax.Array) -> jax.Array:
        key = quick(words)
        return jax.random.normal(key) + jax.random.uniform(key)

    with pytest.raises(jax.errors.KeyReuseError):
        jax.jit(twice)(jnp.zeros(2, jnp.uint32))


def test_any_kind_of_key_gives_a_quick_one() -> None:
    wide = jax.random.key(0, impl="rbg")
    assert jax.random.key_data(wide).shape == (4,) and jax.random.key_data(quick(wide)).shape == (
        2,
    )
