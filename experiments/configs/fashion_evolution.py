"""Regularized evolution of NAS-Bench-201 cells on Fashion-MNIST, read from its IDX files.

Command: jnas search --config=experiments/configs/fashion_evolution.py --workdir=runs/fashion
Needs: the files in /usr/share/datasets/fashion-mnist (Debian's package dataset-fashion-mnist), or
    --config.data.path=FOLDER
Cost: 4 minutes on 2 cores with other work beside it, a quarter of it compiling.
Result: validation accuracy of 0.67 after 60 steps (median of the 12 random first ones: 0.55); the
  best, trained on for 300, has test_accuracy 0.80 to 0.81.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "nas_bench_201",
            "net": {"channels": 4, "cells": 1},
            "data": {
                "name": "fashion_mnist_idx",
                "path": "",
                "data_dir": "",
                "train": "train[:8000]",
                "validation": "train[8000:10000]",
            },
            "strategy": {"name": "regularized_evolution", "population": 12, "sample": 4},
            "train": {
                "steps": 60,
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
            "final": {"steps": 300},
            "evaluations": 36,
            "batch": 6,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
