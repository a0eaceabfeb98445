"""Cells of NAS-Bench-201 on handwritten digits, chosen operation by operation by a deep Q-network.

Command: jnas search --config=experiments/configs/digits_dqn.py --workdir=runs/dqn
Cost: 1 to 2 minutes on 2 cores.
Result: validation accuracy of 0.994, test_accuracy of 0.99.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; epsilon falls from 1 to 0.1 within the first half of the evaluations."""
    return ConfigDict(
        {
            "space": "nas_bench_201",
            "net": {"channels": 8, "cells": 1},
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {
                "name": "double_dqn",
                "evaluations": 96,
                "hidden": 16,
                "learning_rate": 0.02,
                "target_period": 10,
                "minibatch": 16,
                "updates": 12,
                "shaped": True,
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
            "batch": 12,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
