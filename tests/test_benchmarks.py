"""Benchmarks: the last line is JSON with its keys, jnas and the baseline agree. Never the times."""

import importlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from test_tables import NPZ, needs_npz, needs_package

ROOT = Path(__file__).parents[1]
SIZES = {"population": 4, "sample": 2, "evaluations": 12, "seeds": 3, "rounds": 1}
TABLE_KEYS = {
    *("us_per_evaluation", "python_us_per_evaluation", "ratio_python", "compile_seconds"),
    *("mean_best", "mean_best_se", "python_mean_best", "python_mean_best_se"),
    *("python_seeds", "dataset", "device", *SIZES),
}
POPULATION_KEYS = {
    *("jnas_us", "spread_us", "vmap_us", "each_us", "jnas_same_us", "devices"),
    *("compile_seconds", "end_to_end_seconds"),
    *("flops_per_candidate_step", "matmul_gflops", "floor_us", "largest_accuracy_difference"),
    *("ratio_compile_each", "floor_ratio", "each", "candidates", "compiled_each"),
    *("vmap_candidates", "steps", "batch", "channels", "cells", "rounds", "device"),
}


def _run(script: str, *flags: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [sys.executable, f"experiments/benchmarks/{script}.py", *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def _results(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _search(*flags: str, **sizes: int) -> dict:
    sizes = {**SIZES, **sizes}
    found = _results(_run("table_search", *(f"--{k}={v}" for k, v in sizes.items()), *flags))
    assert {k: found[k] for k in sizes} == sizes
    return found


@needs_package
def test_search_of_the_installed_table_has_its_keys():
    found = _search("--json", "--python-seeds=2")
    assert set(found) == TABLE_KEYS
    assert found["python_seeds"] == 2


@needs_npz
def test_jnas_and_the_python_loop_find_equally_good_cells():
    found = _search(
        f"--table={NPZ}", "--python-seeds=300", population=10, sample=3, evaluations=100, seeds=300
    )
    assert set(found) == TABLE_KEYS | {"mean_test", "std_test"}
    error = (found["mean_best_se"] ** 2 + found["python_mean_best_se"] ** 2) ** 0.5
    assert abs(found["mean_best"] - found["python_mean_best"]) < 5 * error


@pytest.mark.parametrize(
    ("script", "flag", "word"),
    [
        ("table_search", "--table=missing.npz", "missing.npz"),
        ("table_search", "--dataset=mnist", "mnist"),
        ("table_search", "--seeds=0", "--seeds"),
        ("population", "--steps=many", "many"),
        ("population", "--candidates=7000", "7000"),
        ("population", "--step=5", "--step"),
        ("scale", "--candidates=9", "--candidates=9"),
        ("pods", "--devices=none", "none"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(script, flag, word):
    done = _run(script, flag)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert word in done.stderr


@pytest.mark.slow
def test_population_trained_together_equals_each_compiled_alone():
    sizes = {"channels": 4, "cells": 1, "candidates": 2, "steps": 4, "rounds": 1}
    flags = {**sizes, "compiled-each": 2, "vmap-candidates": 1}
    found = _results(_run("population", *(f"--{k}={v}" for k, v in flags.items())))
    assert set(found) == POPULATION_KEYS
    assert {k: found[k] for k in sizes} == sizes
    assert found["largest_accuracy_difference"] <= 0.02  # of 359 examples, rounding may flip a few


@pytest.mark.slow
def test_histories_of_all_layouts_are_equal():
    found = _results(_run("scale", "--candidates=8", "--generations=2", "--steps=20", "--width=8"))
    assert found["equal"] is True and found["data_difference"] < 2e-3
    rate = found["candidate_steps_per_second"]
    assert list(rate) == ["1x1", "1x2", "1x4", "1x8", "2x1", "4x1", "2x2", "2x1 data"]
    assert all(value > 0 for value in rate.values())
    assert found["gathered_bytes"] == 4 * 4 * 8 and found["checkpoint_bytes"] > 1000


def test_what_a_pod_costs_follows_the_formulas():
    found = _results(_run("pods", "--devices=64"))
    efficiency, in_order = found["efficiency"], found["efficiency_in_order"]
    assert efficiency["1"] == in_order["1"]  # with one candidate each there is nothing to deal
    assert all(efficiency[k] > in_order[k] for k in ("2", "4", "8", "16", "32"))
    assert found["gathered_bytes"]["4"] == 64 * 4 * 4 * 4
    for population, saved in found["saved"].items():
        assert 32 * int(population) <= saved["state_bytes"] <= 32 * int(population) + 100


@pytest.mark.slow
def test_a_search_that_lost_a_process_goes_on_with_the_same_history(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "benchmarks"))
    fault = importlib.import_module("_lost_process").lost_process
    fault(tmp_path, random.Random(0))
