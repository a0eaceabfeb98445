"""ENAS: a controller learns to propose NAS-Bench-201 cells while their shared weights train.

Command: jnas search --config=experiments/configs/digits_enas.py --workdir=DIR
Cost: about a minute on 2 cores.
Result: test_accuracy of 0.99 or more. DIR/weights.png shows how often the controller proposed
  each operation: skip connections take over, as published of ENAS on NAS-Bench-201.
"""

from ml_collections import ConfigDict

from jnas.configs import based_on


def get_config() -> ConfigDict:
    """The config of `digits_spos.py` with another strategy.

    The controller's rate is ten times the published one: it learns from 300 rounds.
    """
    return based_on(
        __file__,
        "digits_spos.py",
        {
            "strategy": {"name": "enas", "batch": 5, "learning_rate": 3.5e-3},
            "supernet.evaluator": {},
        },
    )
