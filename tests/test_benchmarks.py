"""Benchmarks: the last line is JSON with its keys, jnas and the baseline agree. Never the times."""

import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from test_tables import NPZ, needs_npz, needs_package

from jnas.spaces import SPACES

ROOT = Path(__file__).parents[1]
SIZES = {"population": 4, "sample": 2, "evaluations": 12, "seeds": 3, "rounds": 1}
TABLE_KEYS = {
    *("us_per_evaluation", "python_us_per_evaluation", "ratio_python", "compile_seconds"),
    *("mean_best", "mean_best_se", "python_mean_best", "python_mean_best_se", "python_seeds"),
}
EVOLUTION_KEYS = TABLE_KEYS | {"tuned_python_us_per_evaluation", "ratio_tuned_python", "others"}
EVOLUTION_KEYS |= {"dataset", "device", *SIZES}
POPULATION_KEYS = {
    *("jnas_us", "each_us", "floor_us", "floor_ratio", "ratio_compile_each"),
    *("compile_seconds", "end_to_end_seconds", "flops_per_candidate_step", "matmul_gflops"),
    *("largest_accuracy_difference", "space", "plan", "devices", "candidates", "compiled_each"),
    *("steps", "batch", "image", "rounds", "device"),
}
CELL_KEYS = {"channels", "cells", "stages"}
TORCH_KEYS = {"torch_us", "ratio_torch", "largest_loss_difference", "torch_threads"}
TORCH_KEYS |= {"torch_device", "torch", "median_loss_difference"}
SUPERNET_KEYS = {
    *("ratio_torch", "ratios", "jnas_seconds", "torch_seconds", "largest_loss_difference"),
    *("ratio_20_over_8", "compile_seconds", "ratio_gdas", "gdas_seconds", "memory_mb"),
    *("torch_threads", "torch", "channels", "layers", "images", "batches", "rounds", "device"),
}
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: jnas[bench]"
)


def _run(script: str, *flags: str, path: str = "") -> subprocess.CompletedProcess:
    path = os.pathsep.join(p for p in (path, str(ROOT), os.environ.get("PYTHONPATH")) if p)
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


@pytest.mark.slow
@needs_package
def test_search_of_the_installed_table_has_its_keys():
    found = _search("--json", "--python-seeds=2", "--others=")
    assert set(found) == EVOLUTION_KEYS and found["others"] == {}
    assert found["python_seeds"] == 2


@pytest.mark.slow
@needs_npz
def test_jnas_and_the_python_loop_find_equally_good_cells():
    found = _search(
        *(f"--table={NPZ}", "--python-seeds=300", "--others=genetic,reinforce,local_search"),
        *("--other-seeds=300", "--other-evaluations=100"),
        **{"population": 10, "sample": 3, "evaluations": 100, "seeds": 300},
    )
    assert set(found) == EVOLUTION_KEYS | {"mean_test", "std_test"}
    for side in (found, *found["others"].values()):
        assert set(side) >= TABLE_KEYS | {"mean_test", "std_test"}
        error = (side["mean_best_se"] ** 2 + side["python_mean_best_se"] ** 2) ** 0.5
        assert abs(side["mean_best"] - side["python_mean_best"]) < 5 * error


@needs_npz
@pytest.mark.slow
def test_asha_has_its_first_full_evaluation_before_halving_in_rounds():
    found = _results(_run("asha_clock", f"--table={NPZ}", "--evaluations=120", "--seeds=2"))
    assert found["asha"]["first_full_hours"] < found["halving"]["first_full_hours"]
    assert found["seeds"] == 2 and found["asha"]["full"] > 5


@pytest.mark.parametrize(
    ("script", "flags", "word"),
    [
        ("table_search", "--table=missing.npz", "missing.npz"),
        ("table_search", "--dataset=mnist", "mnist"),
        ("table_search", "--others=annealing", "annealing"),
        ("table_search", "--seeds=0", "--seeds"),
        ("asha_clock", "", "--table"),
        ("population", "--steps=many", "many"),
        ("population", "--no-torch --candidates=7000", "7000"),
        ("population", "--no-torch --space=mlp --candidates=577", "576"),
        ("population", "--no-torch --plan=pmap", "pmap"),
        ("population", "--space=darts", "darts"),
        ("population", "--step=5", "--step"),
        ("compile_time", "--rounds=0", "--rounds"),
        ("supernet", "--layers=2", "--layers"),
        ("supernet", "--images=8,32 --batches=4", "--batches"),
        ("scale", "--candidates=9", "--candidates=9"),
        ("spaces", "--spaces=mlp,nas", "nas"),
        ("pods", "--devices=none", "none"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(script, flags, word):
    done = _run(script, *flags.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert word in done.stderr


def test_without_pytorch_one_line_says_what_to_install(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    done = _run("population", path=str(tmp_path))
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "jnas[bench]" in done.stderr and "--no-torch" in done.stderr


def _population(*flags: str, **sizes: int) -> dict:
    found = _results(_run("population", *(f"--{k}={v}" for k, v in sizes.items()), *flags))
    assert {k: found[k] for k in sizes} == sizes
    assert found["largest_accuracy_difference"] <= 0.02  # of 359 examples, rounding may flip a few
    return found


@pytest.mark.slow
def test_perceptrons_trained_together_equal_each_compiled_alone():
    sizes = {"candidates": 3, "steps": 4, "rounds": 1, "devices": 2}
    found = _population("--space=mlp", "--no-torch", "--compiled-each=2", **sizes)
    assert set(found) == POPULATION_KEYS and found["plan"] == "vmap"


@pytest.mark.slow
def test_cells_trained_together_equal_each_compiled_alone():
    sizes = {"channels": 4, "candidates": 2, "steps": 4, "rounds": 1}
    found = _population("--no-torch", "--compiled-each=2", **sizes)
    assert set(found) == POPULATION_KEYS | CELL_KEYS and found["plan"] == "map"


@needs_torch
@pytest.mark.slow
def test_pytorch_trains_the_same_perceptrons():
    found = _population("--space=mlp", "--compiled-each=1", candidates=5, steps=2, rounds=1)
    assert set(found) == POPULATION_KEYS | TORCH_KEYS
    assert found["largest_loss_difference"] < 1e-4


@needs_torch
@pytest.mark.slow
def test_pytorch_trains_the_same_cells_in_all_stages():
    sizes = {"channels": 4, "cells": 2, "stages": 3, "image": 12, "candidates": 4}
    found = _population("--compiled-each=1", **sizes, steps=2, rounds=1)
    assert set(found) == POPULATION_KEYS | CELL_KEYS | TORCH_KEYS
    assert found["median_loss_difference"] < 1e-5
    assert found["largest_loss_difference"] < 1e-2  # of a network whose kink turned by rounding


@needs_torch
@pytest.mark.slow
def test_pytorch_searches_the_same_supernet():
    sizes = {"channels": 4, "layers": 3, "rounds": 1}
    flags = [f"--{name}={value}" for name, value in sizes.items()]
    found = _results(_run("supernet", *flags, "--images=8", "--batches=4"))
    assert set(found) == SUPERNET_KEYS and {name: found[name] for name in sizes} == sizes
    assert set(found["ratios"]) == {"first_8", "second_8"}
    assert found["largest_loss_difference"] < 1e-2  # rounding of finite differences
    assert set(found["memory_mb"]) == {"jnas_8", "jnas_process_8", "torch_process_8"}


@pytest.mark.slow
def test_the_training_program_does_not_grow_with_depth():
    flags = {"image": 8, "channels": 4, "rounds": 1}
    found = _results(_run("compile_time", *(f"--{k}={v}" for k, v in flags.items())))
    assert {"ratio_20_over_5", "seconds", "trace_seconds", "plan", "device", *flags} < set(found)
    assert list(found["seconds"]) == ["5", "10", "20"]
    size = found["program_bytes"]
    assert size["20"] < 1.02 * size["5"]


@pytest.mark.slow
def test_histories_of_all_layouts_are_equal():
    found = _results(_run("scale", "--candidates=8", "--generations=2", "--steps=20", "--width=8"))
    assert found["equal"] is True and found["data_difference"] < 2e-3
    rate = found["candidate_steps_per_second"]
    assert list(rate) == ["1x1", "1x2", "1x4", "1x8", "2x1", "4x1", "2x2", "2x1 data"]
    assert all(value > 0 for value in rate.values())
    assert found["gathered_bytes"] == 4 * 6 * 8 and found["checkpoint_bytes"] > 1000


@pytest.mark.slow
def test_what_a_pod_costs_follows_the_formulas():
    found = _results(_run("pods", "--devices=64"))
    efficiency, in_order = found["efficiency"], found["efficiency_in_order"]
    assert efficiency["1"] == in_order["1"]  # with one candidate each there is nothing to deal
    assert all(efficiency[k] > in_order[k] for k in ("2", "4", "8", "16", "32"))
    assert found["gathered_bytes"]["4"] == 64 * 4 * 4 * 6  # six metrics
    for population, saved in found["saved"].items():
        assert 32 * int(population) <= saved["state_bytes"] <= 32 * int(population) + 100


@pytest.mark.slow
def test_a_search_that_lost_a_process_goes_on_with_the_same_history(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "benchmarks"))
    fault = importlib.import_module("_lost_process").lost_process
    fault(tmp_path, random.Random(0))


@pytest.mark.slow
def test_the_benchmark_of_spaces_has_its_keys_and_the_published_parameters():
    found = _results(_run("spaces", "--json", "--spaces=mlp,nas_bench_201", "--samples=20000"))
    assert set(found) == {"spaces", "published", "samples", "device"}
    cells = found["spaces"]["nas_bench_201"]
    assert cells["architectures"] == "15625" and cells["distinct"] == 6466
    assert (
        set(cells)
        == set(found["spaces"]["mlp"])
        == {
            *("architectures", "distinct", "sample_seconds", "canonical_per_second"),
            *("compile_seconds", "population_seconds", "population_compile_seconds"),
            "population_alive",
        }
    )
    assert cells["population_alive"] > 0
    rows = {row["name"]: row for row in found["published"]}
    assert {"efficientnet_b7", "mobilenet_v2", "mnasnet_b1", "DARTS_V2", "GPT-2 small"} <= set(rows)
    assert all(row["equal"] for row in rows.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SPACES))
def test_the_benchmark_of_spaces_can_train_small_networks_of_every_space(monkeypatch, name):
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "benchmarks"))
    evaluator, trials = importlib.import_module("spaces").small_population(name)
    state = evaluator.init(jax.random.key(0))
    found, _ = jax.eval_shape(evaluator.evaluate, jax.random.key(1), trials, state)
    assert found.score.shape == (16,) and "loss" in found.metrics
