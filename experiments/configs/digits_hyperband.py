"""Hyperband over NAS-Bench-201 cells on handwritten digits, with training that goes on.

Command: jnas search --config=experiments/configs/digits_hyperband.py --workdir=runs/hyperband
Cost: 1 to 2 minutes on 2 cores.
Result: test_accuracy of 0.99; of 132 trials about 45 have 1/9 of the training and 25 all of it, and
  promoted ones train only what is missing (`steps_done`).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; `train.remember` keeps the training of so many cells to go on from."""
    return ConfigDict(
        {
            "space": "nas_bench_201",
            "net": {"channels": 16, "cells": 1},
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {
                "name": "hyperband",
                "eta": 3.0,
                "min_budget": 1 / 9,
                "parallel": 3,
                "patience": 5,
            },
            "train": {
                "steps": 135,
                "batch_size": 64,
                "optimizer": "sgd",
                "learning_rate": 0.1,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "warmup": 0,
                "plan": "map",
                "score": "accuracy",
                "remember": 32,
            },
            "mesh": {"pop": 0, "data": 1},
            "final": {"steps": 660},
            "evaluations": 132,
            "batch": 6,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
