"""The reproduction of NAS-Bench-201: the clock, what is kept, the files, mistakes."""

import csv
from pathlib import Path

import numpy as np
import pytest
from test_tables import NPZ, needs_npz

from jnas.cli import main
from jnas.reproduce import nas_bench_201 as reproduction


def found(clock: list[list[float]], cell: list[list[int]]) -> reproduction.Found:
    return reproduction.Found(np.asarray(cell), np.asarray(clock), 0.0, 0.0)


def test_the_best_cell_is_that_of_the_evaluations_that_the_seconds_suffice_for() -> None:
    two = found([[10, 20, 30], [5, 25, 26]], [[1, 2, 3], [7, 8, 9]])
    assert two.at(20).tolist() == [2, 7] and two.at(26).tolist() == [2, 9]
    assert two.evaluations(20) == 1.5


@needs_npz
def test_random_search_equals_a_loop_in_numpy_over_the_same_cells(monkeypatch, tmp_path) -> None:
    """The cells are the program's own; clock, choice and look-up are done again."""
    columns = [reproduction.tables.TABLES["nas_bench_201"](NPZ, d) for d in reproduction.DATASETS]
    ours = reproduction._search(reproduction.METHODS[0], 12000, columns[0], 3, 5)
    cost = columns[0]["train_time_200"] * 12 / 200
    assert (ours.clock[:, -1] > 12000).all()
    score = columns[0]["val_acc_12"]
    for cell, clock in zip(ours.cell, ours.clock, strict=True):
        # The best so far never falls, and changes to the cell that was just paid for.
        assert (np.diff(score[cell]) >= 0).all()
        steps = np.diff(clock, prepend=0.0)
        changed = np.flatnonzero(np.diff(cell, prepend=-1))
        np.testing.assert_allclose(steps[changed], cost[cell[changed]], rtol=1e-3)


@needs_npz
def test_the_command_writes_its_files_and_goes_on(monkeypatch, tmp_path, capsys) -> None:
    few = reproduction.METHODS[:2]
    monkeypatch.setattr(reproduction, "METHODS", few)
    args = ["reproduce", "nas_bench_201", f"--table={NPZ}", "--seeds=20", f"--workdir={tmp_path}"]
    assert main(args) == 0
    first = capsys.readouterr().out
    assert "93.70 ± 0.36" in first and "94.37, 73.51, 47.31" in first
    with open(tmp_path / "results.csv") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == len(few) * 2 * 3
    for row in rows:  # 20 searches: three standard errors of the published spread
        distance = abs(float(row["test_mean"]) - float(row["published_mean"]))
        assert distance < 3.5 * float(row["published_std"]) / 20**0.5 + 0.2, row
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    monkeypatch.setattr(reproduction, "_search", lambda *a: pytest.fail("it was kept"))
    assert main(args) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ([], "which experiment"),
        (["darts"], "darts"),
        (["nas_bench_201"], "--table=FILE is missing"),
        (["nas_bench_201", "--table=none.npz"], "none.npz"),
        (["nas_bench_201", "--table=none.npz", "--seeds=0"], "seeds"),
        (["nas_bench_201", "--table=none.npz", "--seedz=3"], "seedz"),
        (["nas_bench_201", "--table=none.npz", "more"], "more"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args, word, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *args]) == 2
    error = capsys.readouterr().err
    assert word in error and error.startswith("jnas: ") and error.count("\n") == 1
    assert not list(Path(tmp_path).iterdir())
