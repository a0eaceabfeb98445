"""Compound scaling on handwritten digits: which of depth, width and resolution should grow.

Command: jnas scale --config=experiments/configs/digits_scaling.py --workdir=DIR
Cost: 10 minutes on 2 cores with other work beside it, most of it to compile 6 networks.
Result: 7 triples, which are 5 networks, of validation accuracy 0.992 to 0.997 against 0.983 of the
  baseline. The best is alpha = 1, beta = 1, gamma = 1.4: digits of 8x8 pixels, shown larger.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "net": {
                "width": 0.25,
                "depth": 1.0,
                "divisor": 1,
                "stages": 3,
                "halvings": 2,
                "head": 32,
            },
            "scale": {
                "low": 1.0,
                "high": 1.5,
                "step": 0.1,
                "target": 2.0,
                "slack": 0.1,
                "counted": True,
                "image": 16,
                "seeds": 1,
                "phi": 4,
            },
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "train": {
                "steps": 600,
                "batch_size": 64,
                "optimizer": "adamw",
                "learning_rate": 0.01,
                "weight_decay": 1e-3,
                "warmup": 20,
                "clip": 5.0,
            },
            "seed": 0,
        }
    )
