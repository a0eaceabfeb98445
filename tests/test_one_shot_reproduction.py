"""The reproduction of one-shot methods: real, tiny searches, and what it says of mistakes."""

import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_tables import NPZ, needs_npz

from jnas.base import InputError

ROOT = Path(__file__).parents[1]
TINY = "--stages=1 --cells=1 --steps=20 --every=10 --seeds=2 --images=64 --data=digits --pool=1"


def _run(*flags: str) -> subprocess.CompletedProcess:
    script = str(ROOT / "experiments" / "reproduce" / "one_shot_nb201.py")
    setting = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.run(
        [sys.executable, script, *flags], env=setting, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@needs_npz
def test_searches_give_a_table_and_a_figure_and_finished_ones_stay(tmp_path: Path) -> None:
    flags = (f"--table={NPZ}", f"--workdir={tmp_path}", "--methods=gdas,enas", *TINY.split())
    first = _run(*flags)
    assert first.returncode == 0, first.stderr
    assert "gdas 192/192" in first.stderr and "2/2 enas" in first.stderr
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["gdas", "enas"]
    for row in rows:
        assert 0 <= float(row["skips"]) <= float(row["without_weights"]) <= 6
        assert 10 <= float(row["cifar10_mean"]) <= 94.37
        assert row["cells"].count("|nor_conv") + row["cells"].count("~") >= 12
    assert (tmp_path / "collapse.png").stat().st_size > 10_000
    again = _run(*flags)
    assert again.returncode == 0 and again.stdout == first.stdout
    assert "gdas 192/192" not in again.stderr


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--seeds=0", "--seeds=0: it has to be at least 1"),
        ("--every=7", "--every=7: it has to divide --steps=600"),
        ("--methods=dart", "'dart': allowed are darts_first"),
        ("--steps=many", "invalid int value: 'many'"),
    ],
)
def test_a_flag_that_cannot_be_is_refused(
    flag: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "reproduce"))
    script = importlib.import_module("one_shot_nb201")
    with pytest.raises(InputError, match=told):
        script.flags_of([f"--table={NPZ}", flag])


def test_a_mistake_is_one_line_and_makes_no_folder(tmp_path: Path) -> None:
    found = _run("--table=none.npz", f"--workdir={tmp_path / 'run'}")
    lines = found.stderr.strip().splitlines()
    assert found.returncode == 2 and len(lines) == 1 and "none.npz" in lines[0], found.stderr
    assert not (tmp_path / "run").exists()
