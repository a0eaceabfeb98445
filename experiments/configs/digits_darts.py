"""DARTS, first order: both cells searched on handwritten digits by gradient descent.

Command: jnas search --config=experiments/configs/digits_darts.py --workdir=DIR
Cost: about 5 minutes on 2 cores, three quarters of it compiling.
Result: test_accuracy of 0.98 to 0.99. DIR/weights.png shows the weights of all operations over the
  search, DIR/best.png the cells that were derived.

The supernet has 5 layers of 8 channels, and the search is 1/60 of the published one: 300 steps. So
the architecture's rate is raised from 3e-4 to 0.02.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "darts",
            "net": {"channels": 8, "layers": 5, "auxiliary": False, "drop_path": 0.0},
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.5},
            "strategy": {"name": "darts", "learning_rate": 0.02},
            "supernet": {
                "channels": 8,
                "layers": 5,
                "every": 10,
                "evaluator": {"order": "first"},
                "train": {
                    "batch_size": 64,
                    "optimizer": "sgd",
                    "learning_rate": 0.05,
                    "momentum": 0.9,
                    "weight_decay": 3e-4,
                    "clip": 5.0,
                },
            },
            "final": {
                "steps": 660,
                "batch_size": 64,
                "optimizer": "sgd",
                "learning_rate": 0.05,
                "momentum": 0.9,
                "weight_decay": 3e-4,
                "clip": 5.0,
            },
            "evaluations": 300,
            "seed": 0,
        }
    )
