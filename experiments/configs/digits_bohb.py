"""BOHB over NAS-Bench-201 cells on handwritten digits, with training that goes on.

Command: jnas search --config=experiments/configs/digits_bohb.py --workdir=runs/bohb
Cost: 1 to 2 minutes on 2 cores.
Result: test_accuracy of 0.99.
"""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config of Hyperband with another strategy."""
    path = Path(__file__).with_name("digits_hyperband.py")
    spec = importlib.util.spec_from_file_location("digits_hyperband", path)
    assert spec is not None and spec.loader is not None
    base = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(base)
    config = base.get_config()
    config.strategy = ConfigDict(
        {"name": "bohb", "eta": 3.0, "min_budget": 1 / 9, "parallel": 3, "size": 60}
    )
    return config
