"""Single path one-shot: a NAS-Bench-201 supernet trains on uniform paths, evolution searches it.

Command: jnas search --config=experiments/configs/digits_spos.py --workdir=DIR
Cost: 1 to 2 minutes on 2 cores.
Result: test_accuracy of 0.99. DIR/weights.png shows how often evolution proposed each
  operation.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "nas_bench_201",
            "net": {"channels": 16, "cells": 1, "stages": 3},
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {"name": "spos", "population": 20, "generations": 10},
            "supernet": {
                "channels": 8,
                "cells": 1,
                "stages": 3,
                "evaluator": {"recalibrate": 4},
                "train": {
                    "batch_size": 64,
                    "optimizer": "sgd",
                    "learning_rate": 0.05,
                    "momentum": 0.9,
                    "weight_decay": 4e-5,
                    "clip": 5.0,
                },
            },
            "mesh": {"pop": 0, "data": 1},
            "final": {
                "steps": 660,
                "batch_size": 64,
                "optimizer": "sgd",
                "learning_rate": 0.1,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "clip": 5.0,
            },
            "evaluations": 1500,
            "seed": 0,
        }
    )
