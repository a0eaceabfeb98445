"""Local search of NAS-Bench-201 cells on handwritten digits.

Command: jnas search --config=experiments/configs/digits_local_search.py --workdir=runs/local_search
Cost: 1 to 2 minutes on 2 cores.
Result: test_accuracy of 0.99.
"""

from ml_collections import ConfigDict

from jnas.configs import based_on


def get_config() -> ConfigDict:
    """The config of `digits_evolution.py` with another strategy."""
    return based_on(
        __file__,
        "digits_evolution.py",
        {
            "strategy": {"name": "local_search", "starts": 12},
        },
    )
