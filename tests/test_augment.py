"""Augmentation: every operation against plain NumPy, and what is drawn for a batch."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jnas.base import InputError
from jnas.evaluators.augment import Augment, augment, check, crop, cutout, flip, mix

SHAPE = (7, 5, 6, 3)  # [B, H, W, C], no two alike


def images(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)


def naive_crop(image: np.ndarray, row: int, column: int, border: int) -> np.ndarray:
    out = np.zeros_like(image)
    for i, j in np.ndindex(image.shape[:2]):
        a, b = i + row - border, j + column - border
        if 0 <= a < image.shape[0] and 0 <= b < image.shape[1]:
            out[i, j] = image[a, b]
    return out


def naive_cutout(image: np.ndarray, row: int, column: int, side: int) -> np.ndarray:
    out = image.copy()
    for i, j in np.ndindex(image.shape[:2]):
        if 0 <= i - (row - side // 2) < side and 0 <= j - (column - side // 2) < side:
            out[i, j] = 0
    return out


def test_a_flip_mirrors_the_chosen_images_left_to_right() -> None:
    x, which = images(), np.array([1, 0, 1, 1, 0, 0, 1], bool)
    expected = np.stack([image[:, ::-1] if w else image for image, w in zip(x, which, strict=True)])
    np.testing.assert_array_equal(flip(jnp.asarray(x), jnp.asarray(which)), expected)


@pytest.mark.parametrize("border", [1, 2, 5])
def test_a_crop_is_a_window_of_the_bordered_image(border: int) -> None:
    x = images()
    at = np.random.default_rng(1).integers(0, 2 * border + 1, (7, 2))
    at[:2] = [[0, 0], [2 * border, 2 * border]]
    expected = [naive_crop(image, *place, border) for image, place in zip(x, at, strict=True)]
    np.testing.assert_array_equal(crop(jnp.asarray(x), jnp.asarray(at), border), expected)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_a_cutout_zeroes_a_square_and_no_more(side: int) -> None:
    x = images().astype(np.float32)
    at = np.random.default_rng(2).integers(0, [5, 6], (7, 2))
    at[:2] = [[0, 0], [4, 5]]
    expected = [naive_cutout(image, *place, side) for image, place in zip(x, at, strict=True)]
    np.testing.assert_array_equal(cutout(jnp.asarray(x), jnp.asarray(at), side), expected)


def test_a_mixture_of_labels_sums_to_1_and_names_both_examples() -> None:
    labels = jax.nn.one_hot(jnp.array([0, 2, 1]), 3)
    mixed = mix(labels, jnp.float32(0.75))
    np.testing.assert_allclose(mixed, [[0.75, 0.25, 0], [0.25, 0, 0.75], [0, 0.75, 0.25]])


def explained(image: np.ndarray, result: np.ndarray) -> list[tuple]:
    """Every (flip, row, column, centre) that makes a result of an image."""
    ways = []
    for mirrored, i, j in itertools.product((0, 1), range(3), range(3)):
        moved = naive_crop(image[:, ::-1] if mirrored else image, i, j, 1)
        scaled = moved.astype(np.float32) - 100
        for centre in np.ndindex(image.shape[:2]):
            if np.array_equal(naive_cutout(scaled, *centre, 2), result):
                ways.append((mirrored, i, j, *centre))
    return ways


@pytest.mark.slow
def test_every_image_gets_a_flip_crop_and_cutout_of_its_own_uniformly() -> None:
    raw = images((300, 4, 5, 1), seed=3)
    spec = Augment(flip=True, crop=1, cutout=2)
    scale = lambda x: x.astype(jnp.float32) - 100
    result, share = augment(spec, jax.random.key(5), jnp.asarray(raw), scale)
    assert share is None and result.dtype == jnp.float32
    ways = [explained(*pair) for pair in zip(raw, np.asarray(result), strict=True)]
    assert all(ways), "each result is made of its own image by some flip, crop and cutout"
    drawn = np.asarray([way[0] for way in ways if len(way) == 1])
    assert len(drawn) > 290  # the others look alike by chance
    for column, many in zip(drawn.T, (2, 3, 3, 4, 5), strict=True):
        assert stats.chisquare(np.bincount(column, minlength=many)).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_share_of_a_mixture_is_beta_distributed(alpha: float) -> None:
    x, keys = jnp.asarray(images()), jax.random.split(jax.random.key(1), 800)
    one = lambda key: augment(Augment(mixup=alpha), key, x, lambda x: x.astype(jnp.float32))
    mixed, shares = jax.jit(jax.vmap(one))(keys)
    assert stats.kstest(np.asarray(shares), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    first = images().astype(np.float64)
    share = np.asarray(shares[0], np.float64)
    expected = share * first + (1 - share) * first[[6, 0, 1, 2, 3, 4, 5]]
    np.testing.assert_allclose(mixed[0], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_vmapped_row_equals_a_row_alone_and_differs_from_its_neighbours() -> None:
    x, keys = jnp.asarray(images()), lambda: jax.random.split(jax.random.key(2), 4)
    spec = Augment(True, 2, 3, 0.5)
    one = jax.jit(lambda key: augment(spec, key, x, lambda x: x.astype(jnp.float32)))
    mixed, shares = jax.vmap(one)(keys())
    for i in range(4):
        alone, share = one(keys()[i])
        np.testing.assert_allclose(mixed[i], alone, rtol=1e-6)
        assert share == shares[i]
    assert len(np.unique(shares)) == 4


@pytest.mark.parametrize(
    ("spec", "shape", "told"),
    [
        ({"flip": True}, (9, 4), r"flip, crop and cutout need images \[N, H, W, C\]"),
        ({"flip": 1}, SHAPE, "flip=1: allowed are True and False"),
        ({"crop": 6}, SHAPE, "crop=6: allowed are 0 to 5"),
        ({"crop": -1}, SHAPE, "crop=-1: allowed are 0 to 5"),
        ({"crop": 1.5}, SHAPE, "crop=1.5: a whole number"),
        ({"cutout": 6}, SHAPE, "cutout=6: allowed are 0 to 5"),
        ({"mixup": -0.1}, SHAPE, "mixup=-0.1: it has to be at least 0"),
        ({"mixup": "x"}, SHAPE, "mixup='x'"),
    ],
)
def test_an_impossible_augmentation_is_refused(spec: Any, shape: tuple, told: str) -> None:
    with pytest.raises(InputError, match=told):
        check(Augment(**spec), shape)


def test_mixup_alone_needs_no_images() -> None:
    check(Augment(mixup=0.2), (9, 4))
    x, share = augment(Augment(mixup=1.0), jax.random.key(0), jnp.eye(3), lambda x: x)
    np.testing.assert_allclose(x, share * np.eye(3) + (1 - share) * np.eye(3)[[2, 0, 1]])
