"""Shared by all tests: strict JAX settings, and the real NAS-Bench-201 table."""

from pathlib import Path

import jax
import numpy as np
import pytest

SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"

jax.config.update("jax_debug_key_reuse", True)  # a key used twice is an error


@pytest.fixture(scope="session")
def nb201() -> dict[str, np.ndarray]:
    """Accuracies, parameters and text forms of all cells of NAS-Bench-201, in official order."""
    path = SHARED_DATA / "nb201.npz"
    if not path.exists():
        pytest.skip("the data file nb201.npz is not here")
    with np.load(path, allow_pickle=False) as data:
        return dict(data)
