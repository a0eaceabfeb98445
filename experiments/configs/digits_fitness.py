"""Small and accurate cells: a fitness of several terms, and no isomorphic cell trained twice.

Command: jnas search --config=experiments/configs/digits_fitness.py --workdir=runs/fitness
Cost: about a minute on 2 cores.
Result: best_score 1.94 (of at most 2), a cell of 32,258 parameters with test_accuracy 0.989, where
  the most accurate cell of the search has 44,466; repeated 20, cells of 64 that cost no training.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "nas_bench_201",
            "net": {"channels": 8, "cells": 1},
            "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {"name": "regularized_evolution", "population": 16, "sample": 5},
            "train": {
                "steps": 51,
                "batch_size": 64,
                "learning_rate": 0.1,
                "weight_decay": 5e-4,
                "plan": "map",
            },
            "fitness": {
                "accuracy": 1.0,
                "recall": 0.5,
                "f1": 0.5,
                "params": -0.01,
                "per": {"params": 1e4},
            },
            "remember": 1000,
            "mesh": {"pop": 0, "data": 1},
            "final": {"steps": 340},
            "evaluations": 64,
            "batch": 8,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
