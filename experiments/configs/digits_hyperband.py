"""Hyperband over NAS-Bench-201 cells on handwritten digits, with training that goes on.

Command: jnas search --config=experiments/configs/digits_hyperband.py --workdir=runs/hyperband
Cost: 1 to 2 minutes on 2 cores.
Result: test_accuracy of 0.99; of 132 trials about 45 have 1/9 of the training and 25 all of it, and
  promoted ones train only what is missing (`steps_done`).
"""

from ml_collections import ConfigDict

from jnas.configs import based_on


def get_config() -> ConfigDict:
    """The config of `digits_evolution.py` with another strategy."""
    return based_on(
        __file__,
        "digits_evolution.py",
        {
            "batch": 6,
            "evaluations": 132,
            "strategy": {
                "name": "hyperband",
                "eta": 3.0,
                "min_budget": 1 / 9,
                "parallel": 3,
                "patience": 5,
            },
            "train.remember": 32,
            "train.steps": 135,
        },
    )
