"""Compound scaling on handwritten digits: which of depth, width and resolution should grow.

Command: jnas scale --config=experiments/configs/digits_scaling.py --workdir=DIR
Cost: to be measured.
Result: to be measured.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "net": {
                "width": 0.25,
                "depth": 1.0,
                "divisor": 2,
                "stages": 4,
                "halvings": 2,
                "head": 32,
            },
            "scale": {
                "low": 1.0,
                "high": 1.5,
                "step": 0.1,
                "counted": True,
                "seeds": 1,
                "phi": 4,
            },
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "train": {
                "steps": 300,
                "batch_size": 64,
                "optimizer": "adamw",
                "learning_rate": 0.01,
                "weight_decay": 1e-3,
                "warmup": 30,
                "clip": 5.0,
            },
            "seed": 0,
        }
    )
