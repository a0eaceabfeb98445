"""Local search of NAS-Bench-201 cells on handwritten digits.

Command: jnas search --config=experiments/configs/digits_local_search.py --workdir=runs/local_search
Cost: 1 to 2 minutes on 2 cores.
Result: test_accuracy of 0.99.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "nas_bench_201",
            "net": {"channels": 16, "cells": 1},
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {"name": "local_search", "starts": 12},
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
            "batch": 12,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
