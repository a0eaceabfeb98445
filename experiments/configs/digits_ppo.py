"""PPO of a recurrent controller: NAS-Bench-201 cells on handwritten digits.

Command: jnas search --config=experiments/configs/digits_ppo.py --workdir=DIR
Cost: about 2 minutes on 2 cores.
Result: test_accuracy of 0.98 to 0.99.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "nas_bench_201",
            "net": {"channels": 8, "cells": 1},
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {
                "name": "ppo",
                "learning_rate": 0.01,
                "hidden": 32,
                "decay": 0.8,
                "entropy": 0.0001,
            },
            "train": {
                "steps": 68,
                "batch_size": 64,
                "optimizer": "sgd",
                "learning_rate": 0.1,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "warmup": 0,
                "plan": "map",
                "score": "accuracy",
            },
            "mesh": {"pop": 0, "data": 1},
            "final": {"steps": 660},
            "evaluations": 96,
            "batch": 8,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
