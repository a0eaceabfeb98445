"""Cells of NAS-Bench-201 on handwritten digits, searched together with their learning rate.

Command: jnas search --config=experiments/configs/digits_joint.py --workdir=runs/joint
Cost: 2 to 3 minutes on 2 cores.
Result: the best cell with its own learning rate and weight decay.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; a setting of the optimizer given as a tuple is searched over."""
    return ConfigDict(
        {
            "space": "nas_bench_201",
            "net": {"channels": 8, "cells": 1},
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {"name": "regularized_evolution", "population": 24, "sample": 6},
            "train": {
                "steps": 68,
                "batch_size": 64,
                "optimizer": "sgd",
                "learning_rate": (0.01, 0.03, 0.1, 0.3),
                "momentum": 0.9,
                "weight_decay": (0.0, 5e-4, 5e-3),
                "warmup": 4,
                "clip": 5.0,
                "flip": False,
                "crop": 1,
                "cutout": 0,
                "mixup": 0.0,
                "smoothing": 0.1,
                "ema": 0.9,
                "dtype": "float32",
                "validate_at": (17, 34),
                "plan": "map",
                "score": "accuracy",
            },
            "mesh": {"pop": 0, "data": 1},
            "final": {"steps": 660, "ema": 0.99},
            "evaluations": 96,
            "batch": 12,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
