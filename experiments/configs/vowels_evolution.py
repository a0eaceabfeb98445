"""Regularized evolution of perceptrons that tell nine speakers apart, on JapaneseVowels.

Command: jnas search --config=experiments/configs/vowels_evolution.py --workdir=runs/vowels
Needs: pip install --no-deps aeon
Cost: COST
Result: RESULT
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "mlp",
            "net": {"depth": 2, "widths": (8, 16, 32, 64, 128)},
            "data": {"name": "japanese_vowels", "data_dir": "", "validation_fraction": 0.3},
            "strategy": {"name": "regularized_evolution", "population": 24, "sample": 6},
            "train": {
                "steps": 60,
                "batch_size": 32,
                "optimizer": "adam",
                "learning_rate": 2e-3,
                "plan": "vmap",
                "score": "loss",
            },
            "mesh": {"pop": 0, "data": 1},
            "final": {"steps": 200},
            "evaluations": 72,
            "batch": 12,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
