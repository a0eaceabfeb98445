"""Shared by all tests: strict JAX settings, and the real NAS-Bench-201 table."""

import os
from collections.abc import Iterator
from pathlib import Path

# Most of the time of these tests goes into compiling; programs that optimise less are made sooner.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    + os.environ.get("XLA_FLAGS", "")
).strip()

import jax
import numpy as np
import pytest
from slow_cases import SLOW

from jnas import compiling

SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"

jax.config.update("jax_debug_key_reuse", True)  # a key used twice is an error
compiling._OPTIONS["cpu"]["xla_backend_optimization_level"] = 0


@pytest.hookimpl(tryfirst=True)  # before the choice by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow cases, and orders the laws.

    All laws of a strategy come after each other, so that its programs can go afterwards.
    """

    def name(item: pytest.Item) -> str:
        case = getattr(item, "callspec", None)
        return str(case.params.get("name", "")) if case and item.path.name == "test_laws.py" else ""

    for item in items:
        test, _, case = item.name.partition("[")
        if case.startswith(SLOW.get(item.path.name, {}).get(test, ("\n",))):
            item.add_marker(pytest.mark.slow)
    places = [i for i, item in enumerate(items) if name(item)]
    ordered = sorted((items[i] for i in places), key=name)
    for i, item in zip(places, ordered, strict=True):
        items[i] = item


@pytest.fixture(scope="session")
def nb201() -> dict[str, np.ndarray]:
    """Accuracies, parameters and text forms of all cells of NAS-Bench-201, in official order."""
    path = SHARED_DATA / "nb201.npz"
    if not path.exists():
        pytest.skip("the data file nb201.npz is not here")
    with np.load(path, allow_pickle=False) as data:
        return dict(data)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Plans and programs are remembered for these tests only, commands in processes included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JNAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
