"""A joint search from a config, its final training, and mistakes in the training's settings."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jnas.cli import main

CONFIG = Path(__file__).parents[1] / "experiments" / "configs" / "digits_joint.py"

TINY_NET = """
from flax import nnx
from jnas.nets import OneOf, functional

def make(classes, image, inputs):
    class Tiny(nnx.Module):
        def __init__(self, rngs):
            layer = lambda n: nnx.Sequential(nnx.Linear(image * image, n, rngs=rngs), nnx.relu,
                                             nnx.Linear(n, classes, rngs=rngs))
            self.op = OneOf({str(n): layer(n) for n in (4, 32)}, name="width")

        def __call__(self, x):
            return self.op(x.reshape(x.shape[0], -1))

    return functional(Tiny)
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flags of a tiny joint search."""
    (tmp_path / "tiny_joint_net.py").write_text(TINY_NET)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JNAS_DATA_DIR", str(tmp_path / "data"))
    source = CONFIG.read_text().replace('"nas_bench_201"', '"tiny_joint_net:make"', 1)
    source = source.replace('{"channels": 8, "cells": 1}', "{}")
    (tmp_path / "joint.py").write_text(source)
    return ["--config=joint.py", "--config.mesh.pop=1"]


SMALL = ["evaluations=12", "batch=4", "train.steps=40", "final.steps=80", "strategy.population=4"]
SMALL = [f"--config.{flag}" for flag in [*SMALL, "strategy.sample=2", "train.validate_at=(10, 20)"]]


@pytest.mark.slow
def test_a_tuple_in_a_config_is_searched_over_and_trained_at_last(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert main(["search", *command, *SMALL, "--workdir=run"]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    width, rate, decay = found["best_architecture"].split()
    assert width in ("width=4", "width=32")
    assert rate in {f"learning_rate={v:g}" for v in (0.01, 0.03, 0.1, 0.3)}
    assert decay in {f"weight_decay={v:g}" for v in (0, 5e-4, 5e-3)}
    assert found["test_accuracy"] > 0.7
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["architecture"].str.split().str[1].nunique() > 1
    assert np.all(history["loss_at_10"] > 0) and (tmp_path / "run" / "best.png").exists()
    arch = f"--arch={found['best_architecture']}"
    assert main(["train", *command, *SMALL, arch, "--workdir=alone"]) == 0
    alone = json.loads((tmp_path / "alone" / "result.json").read_text())
    assert alone["architecture"] == found["best_architecture"]
    assert alone["test_loss"] == found["test_loss"]


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("train.smoothing=1.5", "smoothing=1.5: it has to be at least 0 and less than 1"),
        ("train.ema=1.0", "ema=1.0: it has to be at least 0 and less than 1"),
        ("final.ema=1.0", "ema=1.0: it has to be at least 0 and less than 1"),
        ("train.dtype=half", "dtype 'half': allowed are float32, bfloat16"),
        ("train.crop=9", "crop=9: allowed are 0 to 8"),
        ("train.cutout=-1", "cutout=-1: allowed are 0 to 8"),
        ("train.mixup=-1.0", "mixup=-1.0: it has to be at least 0"),
        ("train.clip=-1.0", "clip=-1.0: a number of at least 0"),
        (
            "train.validate_at=(17, 99)",
            "validate_at=(17, 99): different whole numbers from 1 to 68",
        ),
        ("train.learning_rate=(0.1, 0.1)", "learning_rate=(0.1, 0.1): finite numbers, no two"),
        ("train.learning_rate=(0.1, -0.1)", "learning_rate=-0.1: a number of at least 0"),
        ("train.learning_rate=()", "learning_rate=(): a tuple of at least one number"),
        ("train.score=loss_at_18", "score 'loss_at_18': allowed are accuracy"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(
    command: list[str], capsys: pytest.CaptureFixture, flag: str, told: str
) -> None:
    assert main(["search", *command, "--workdir=w", f"--config.{flag}"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not Path("w").exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"warmup": 4', '"warmup": (1, 4)', "train.warmup=(1, 4): values can be searched of"),
        ('"ema": 0.99', '"momentum": (0.5, 0.9)', "final.momentum=(0.5, 0.9): values to search"),
        ('"flip": False', '"flip": "x"', "flip='x': allowed are True and False"),
    ],
)
def test_values_to_search_over_stand_where_they_can_be_searched(
    command: list[str], capsys: pytest.CaptureFixture, old: str, new: str, told: str
) -> None:
    file = Path("joint.py")
    file.write_text(file.read_text().replace(old, new))
    assert main(["search", *command, "--workdir=w"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
