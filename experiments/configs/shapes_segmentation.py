"""Regularized evolution of encoder-decoders that segment generated shapes.

Command: jnas search --config=experiments/configs/shapes_segmentation.py --workdir=runs/shapes
Cost: 9 minutes on 2 cores with other work beside it, hardly any of it compiling.
Result: validation mean IoU of 0.50 after 1,000 steps (median of the 12 random first ones: 0.31);
  the best, trained on for 3,000, has test_mean_iou 0.51 and tells 91% of the pixels. After 300
  steps, half of the networks still say background everywhere, and what is found is luck.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "space": "dense",
            "net": {"channels": 8, "levels": 3, "widths": (4, 8, 16), "most": 2},
            "data": {"name": "shapes", "data_dir": "", "validation_fraction": 0.25},
            "strategy": {"name": "regularized_evolution", "population": 12, "sample": 4},
            "train": {
                "steps": 1000,
                "batch_size": 16,
                "optimizer": "adam",
                "learning_rate": 1e-2,
                "plan": "map",
                "score": "mean_iou",
            },
            "mesh": {"pop": 0, "data": 1},
            "final": {"steps": 3000},
            "evaluations": 24,
            "batch": 6,
            "chunk": 1,
            "seed": 0,
            "seeds": 1,
        }
    )
