"""BOHB over NAS-Bench-201 cells on handwritten digits, with training that goes on.

Command: jnas search --config=experiments/configs/digits_bohb.py --workdir=runs/bohb
Cost: 2 minutes on 2 cores, 5 with other work beside it; half of it compiling.
Result: test_accuracy of 0.99.
"""

from ml_collections import ConfigDict

from jnas.configs import based_on


def get_config() -> ConfigDict:
    """The config of `digits_hyperband.py` with another strategy."""
    return based_on(
        __file__,
        "digits_hyperband.py",
        {
            "strategy": {
                "name": "bohb",
                "eta": 3.0,
                "min_budget": 1 / 9,
                "parallel": 3,
                "size": 60,
            },
        },
    )
