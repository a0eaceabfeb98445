"""EfficientNet-B0's grid of (alpha, beta, gamma) at 224x224, and the family that they give.

Command: jnas scale --config=experiments/configs/efficientnet_scaling.py --dry
Cost: seconds; without --dry it trains the networks on the data set, which takes accelerators.
Result: 170 triples whose product is within 10% of 2, which are 87 different networks, and those of
  alpha 1.2, beta 1.1, gamma 1.15 for phi = 0 to 7: 385,814,752 to 39,663,901,696 multiply-adds.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        {
            "net": {"variant": "b0"},
            "scale": {
                "low": 1.0,
                "high": 1.5,
                "step": 0.05,
                "target": 2.0,
                "slack": 0.1,
                "seeds": 1,
                "phi": 7,
                "image": 224,
            },
            "data": {"name": "imagenet2012", "data_dir": ""},
            "train": {
                "steps": 100000,
                "batch_size": 256,
                "optimizer": "sgd",
                "learning_rate": 0.1,
                "momentum": 0.9,
                "weight_decay": 1e-5,
                "warmup": 5000,
                "flip": True,
                "ema": 0.9999,
            },
            "seed": 0,
        }
    )
