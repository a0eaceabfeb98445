"""Cells of NAS-Bench-201 on handwritten digits, chosen operation by operation by a deep Q-network.

Command: jnas search --config=experiments/configs/digits_dqn.py --workdir=runs/dqn
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
            "strategy": {
                "name": "double_dqn",
                "evaluations": 96,
                "hidden": 16,
                "learning_rate": 0.02,
                "minibatch": 16,
                "shaped": True,
                "target_period": 10,
                "updates": 12,
            },
            "net.channels": 8,
        },
    )
