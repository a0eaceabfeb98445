"""Regularized evolution of perceptrons on the series of MNIST-1D.

Command: jnas search --config=experiments/configs/mnist_1d_evolution.py --workdir=runs/mnist_1d
Needs: pip install --no-deps mnist1d
Cost: about 2 minutes on 2 cores, by what a share of them took.
Result: validation accuracy of 0.637, where the median of the first 24, which are random, is 0.346;
    test_accuracy of 0.71.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "mlp",
            "net": {"depth": 3, "widths": (16, 32, 64, 96, 128)},
            "data": {"name": "mnist_1d", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {"name": "regularized_evolution", "population": 24, "sample": 6},
            "train": {
                "steps": 400,
                "batch_size": 64,
                "optimizer": "adam",
                "learning_rate": 5e-3,
                "plan": "vmap",
                "score": "accuracy",
            },
            "mesh": {"pop": 0, "data": 1},
            "final": {"steps": 2000},
            "evaluations": 96,
            "batch": 12,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
