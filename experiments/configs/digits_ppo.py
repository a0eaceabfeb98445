"""PPO of a recurrent controller: NAS-Bench-201 cells on handwritten digits.

Command: jnas search --config=experiments/configs/digits_ppo.py --workdir=DIR
Cost: about 2 minutes on 2 cores.
Result: test_accuracy of 0.98 to 0.99.
"""

from ml_collections import ConfigDict

from jnas.configs import based_on


def get_config() -> ConfigDict:
    """The config of `digits_evolution.py` with another strategy."""
    return based_on(
        __file__,
        "digits_evolution.py",
        {
            "batch": 8,
            "strategy": {
                "name": "ppo",
                "decay": 0.8,
                "entropy": 0.0001,
                "hidden": 32,
                "learning_rate": 0.01,
            },
            "net.channels": 8,
        },
    )
