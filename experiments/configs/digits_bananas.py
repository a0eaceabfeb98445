"""BANANAS over NAS-Bench-201 cells on handwritten digits.

Command: jnas search --config=experiments/configs/digits_bananas.py --workdir=runs/bananas
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
            "evaluations": 72,
            "strategy": {"name": "bananas", "depth": 2, "members": 3, "steps": 200, "warmup": 12},
            "net.channels": 8,
        },
    )
