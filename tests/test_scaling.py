"""`jnas scale`: the grid, the counts, small real trainings, and going on where it stopped."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from jnas.cli import main

NET = {"width": 0.25, "divisor": 1, "depth": 1.0, "stages": 2, "halvings": 1, "head": 8}
TRAIN = {"steps": 3, "batch_size": 16, "optimizer": "adam", "learning_rate": 0.01}


def config_file(folder: Path, **more: Any) -> str:
    """A baseline of two stages on digits."""
    base: dict[str, Any] = {
        "net": NET,
        "scale": {"low": 1.0, "high": 1.4, "step": 0.2, "slack": 0.05, "phi": 2},
        "data": {"name": "digits"},
        "train": TRAIN,
    }
    file = folder / "config.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict({base | more!r})\n"
    )
    return f"--config={file}"


def test_without_training_the_grid_and_the_family_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["scale", config_file(tmp_path), "--dry", f"--workdir={folder}"]) == 0
    rows = pandas.read_csv(folder / "scale.csv")
    result = json.loads((folder / "result.json").read_text())
    triples = {(1.0, 1.0, 1.4), (1.0, 1.2, 1.2), (1.0, 1.4, 1.0), (1.4, 1.0, 1.2), (1.4, 1.2, 1.0)}
    assert set(rows[["alpha", "beta", "gamma"]].itertuples(index=False, name=None)) == triples
    products = rows["alpha"] * rows["beta"] ** 2 * rows["gamma"] ** 2
    assert products.between(1.9, 2.1).all() and rows["accuracy"].isna().all()
    family = pandas.DataFrame(result["family"])
    assert family["phi"].tolist() == [0, 1, 2] and not result["trained"]
    assert family["flops"].is_monotonic_increasing and (folder / "scale.png").stat().st_size > 5000
    first, second = (family["flops"][k] / family["flops"][0] for k in (1, 2))
    assert family["ratio"].tolist() == pytest.approx([1, first, second], abs=1e-3)
    assert f"{family['params'][2]:,}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "flags", "told"),
    [
        ({}, [], "--workdir=DIR is missing"),
        ({"net": {"wide": 2}}, ["--dry"], "net.wide: no such setting; allowed: variant"),
        ({"scale": {"high": 1.1}}, ["--dry"], "no (alpha, beta, gamma) from 1.0 to 1.1"),
        ({"scale": {"seeds": 0}}, ["--dry"], "scale.seeds=0: a whole number of at least 1"),
        ({"scale": {"tall": 1}}, ["--dry"], "scale.tall: no such setting"),
        ({"net": {"stages": 9}}, ["--dry"], "stages=9: efficientnet has 7"),
        ({"net": {"depth": 1e30}}, ["--dry"], "divisor=8: depth above 0 and at most 100"),
        ({"scale": {"image": 0}}, ["--dry"], "scale.image=0: a whole number of at least 1"),
        ({"scale": {"phi": 60}}, ["--dry"], "phi=21: from 0 to 20"),
        ({"scale": {"step": 1e-9}}, ["--dry"], "values for each of three; at most 101 can be"),
        ({"net": {"variant": "b9"}}, ["--dry"], "variant='b9': allowed are b0, b1"),
        ({}, ["--dry", "--workdir=/proc/jnas"], "/proc/jnas: No such file"),
    ],
)
def test_a_mistake_is_one_line(
    more: dict, flags: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scale", config_file(tmp_path, **more), *flags]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and told in lines[0]


def test_a_mistake_leaves_the_folder_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    train = {**TRAIN, "warmup": 5}
    assert main(["scale", config_file(tmp_path, train=train), f"--workdir={folder}"]) == 2
    assert "warmup=5" in capsys.readouterr().err and not folder.exists()


@pytest.mark.slow
def test_the_best_triple_is_that_of_the_best_network_and_nothing_is_trained_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two triples of which one is equal to the other in its network; stopped and gone on."""
    grid = {"low": 1.0, "high": 1.4, "step": 0.4, "slack": 0.05, "phi": 1}
    flags = [config_file(tmp_path, scale=grid), f"--workdir={tmp_path / 'run'}"]
    assert main(["scale", *flags]) == 0
    said = capsys.readouterr().err
    folder = tmp_path / "run"
    rows = pandas.read_csv(folder / "scale.csv")
    result = json.loads((folder / "result.json").read_text())
    assert said.count("scale ") == result["networks"] + 1  # and the baseline
    assert rows["accuracy"].between(0, 1).all()
    assert result["accuracy"] == pytest.approx(rows["accuracy"].max())
    best = rows.loc[rows["accuracy"].idxmax()]
    assert result["accuracy"] == pytest.approx(best["accuracy"])
    assert main(["scale", *flags]) == 0 and not capsys.readouterr().err  # it is complete
    before = rows.drop(columns="seconds")
    (folder / "result.json").unlink()
    (folder / ".result.json.sha256").unlink()
    last = sorted((folder / "networks").iterdir())[-1]
    (last / "result.json").unlink()  # as if stopped in its training
    assert main(["scale", *flags]) == 0
    after = pandas.read_csv(folder / "scale.csv").drop(columns="seconds")
    pandas.testing.assert_frame_equal(after, before)
    assert main(["scale", *flags, "--config.train.steps=4"]) == 2
    assert "train.steps=3, this one has" in capsys.readouterr().err
