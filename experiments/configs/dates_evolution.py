"""Regularized evolution of encoder-decoder transformers that write dates as 2015-03-24.

Command: jnas search --config=experiments/configs/dates_evolution.py --workdir=runs/dates
Cost: not measured yet.
Result: not measured yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "transformer",
            "net": {
                "kind": "encoder_decoder",
                "depth": 2,
                "widths": (16, 32),
                "heads": (1, 2),
                "ratios": (1, 2),
                "kernels": (3, 7),
                "activations": ("relu", "gelu"),
                "positions": ("learned", "sinusoidal"),
            },
            "data": {
                "name": "dates",
                "data_dir": "",
                "rows": 6000,
                "validation_fraction": 0.1,
            },
            "strategy": {"name": "regularized_evolution", "population": 10, "sample": 4},
            "train": {
                "steps": 120,
                "batch_size": 32,
                "optimizer": "adam",
                "learning_rate": 1e-2,
                "warmup": 10,
                "plan": "map",
                "score": "loss",
            },
            "mesh": {"pop": 0, "data": 1},
            "final": {"steps": 1500},
            "evaluations": 30,
            "batch": 5,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
