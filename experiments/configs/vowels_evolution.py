"""Regularized evolution of networks over series that tell nine speakers apart, on JapaneseVowels.

Command: jnas search --config=experiments/configs/vowels_evolution.py --workdir=runs/vowels
Needs: pip install --no-deps aeon
Cost: about 3 minutes on 2 cores with other work beside it, half of it compiling.
Result: validation loss of 0.19 and accuracy of 0.975 (median of the 12 random first ones: 1.24 and
  0.73); test_accuracy 0.981.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "series",
            "net": {
                "depth": 2,
                "widths": (8, 16, 24),
                "blocks": ("convolution", "gru", "bigru", "conformer"),
                "kernels": (3, 7),
                "heads": (1, 2),
                "ratios": (1, 2),
            },
            "data": {
                "name": "japanese_vowels",
                "data_dir": "",
                "mask": True,
                "validation_fraction": 0.3,
            },
            "strategy": {"name": "regularized_evolution", "population": 12, "sample": 4},
            "train": {
                "steps": 60,
                "batch_size": 32,
                "optimizer": "adam",
                "learning_rate": 5e-3,
                "plan": "map",
                "score": "loss",
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
