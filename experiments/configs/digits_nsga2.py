"""NSGA-II on NAS-Bench-201 cells and handwritten digits: accuracy against parameters.

Command: jnas search --config=experiments/configs/digits_nsga2.py --workdir=runs/nsga2
Cost: 1 to 2 minutes on 2 cores.
Result: a front from about 19,000 parameters at a validation accuracy of 0.98 to 31,000 at 0.99 in
  the history, which `jnas.analysis.pareto.front_figure` draws; test_accuracy of 0.98 to 0.99 for
  the most accurate network, which is trained at the end.
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
                "name": "nsga2",
                "population": 12,
                "objectives": {"score": "max", "params": "min"},
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
