"""The digits of scikit-learn as a TFDS data set: 1,797 images of 8 x 8, built without a download.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998, https://doi.org/10.24432/C50P49 (its test part, which scikit-learn carries).
"""

import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

NUM_TRAIN = 1437  # the other 360 of the 1,797 rows, a fifth, are the test split


def mixed_order(y: np.ndarray) -> np.ndarray:
    """A fixed permutation in which every stretch of rows holds the classes in their proportions.

    The `n` rows of a class are shuffled and laid out evenly: one, at random, in each of `n` equal
    parts of the whole. So any slice, such as the test split or the `train[75%:]` that validates,
    is stratified: the count of a class is less than 2 away from its share.

    Args:
      y: `[N]` labels.

    Returns:
      int `[N]`, the row that comes first, second, ...
    """
    rng = np.random.RandomState(0)  # its stream is frozen by NumPy, unlike default_rng's
    place = np.empty(len(y))
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        rank = rng.permutation(len(rows)) + rng.random_sample(len(rows))
        place[rows] = rank / len(rows)
    return np.argsort(place, kind="stable")


class Digits(tfds.core.GeneratorBasedBuilder):
    """Splits `train` (1,437 rows) and `test` (360), in the order of `mixed_order`.

    The 17 grey levels 0..16 become `round(level * 255 / 16)`; `round(pixel * 16 / 255)` is the
    exact inverse.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits, 8 x 8 grey levels, from sklearn.datasets.load_digits.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
            disable_shuffling=True,  # mixed_order is the order
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        order = mixed_order(labels)
        return {
            "train": self._generate_examples(images, labels, order[:NUM_TRAIN]),
            "test": self._generate_examples(images, labels, order[NUM_TRAIN:]),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, row in enumerate(rows):
            yield key, {"image": _png(images[row]), "label": int(labels[row])}


def _png(image: np.ndarray) -> bytes:
    """Encodes uint8 `[H, W]`. Given an array, TFDS would encode it with TensorFlow."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return buffer.getvalue()
