"""The `jnas` command, as a user runs it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jnas
from jnas.cli import main

ROOT = Path(__file__).parents[1]
TABLE = ROOT / ".." / "shared" / "data" / "nb201.npz"
CONFIGS = ROOT / "experiments" / "configs"
DIGITS = f"--config={CONFIGS / 'digits_evolution.py'}"
DARTS = f"--config={CONFIGS / 'digits_darts_genotype.py'}"
EVOLUTION = f"--config={CONFIGS / 'nas_bench_201_evolution.py'}"

needs_table = pytest.mark.skipif(not TABLE.exists(), reason="the shared table is not here")


def table_search(folder: Path, *more: str) -> list[str]:
    return ["search", EVOLUTION, f"--config.table={TABLE}", f"--workdir={folder}", *more]


@pytest.fixture
def tiny(tmp_path):
    """A search with training that takes seconds: a net of one choice, few steps."""
    net = tmp_path / "tiny_net.py"
    net.write_text(
        "from flax import nnx\n"
        "from jnas.nets import OneOf, functional\n"
        "def make(classes, image, inputs):\n"
        "    class Tiny(nnx.Module):\n"
        "        def __init__(self, rngs):\n"
        "            wide = lambda n: nnx.Sequential(nnx.Linear(image * image, n, rngs=rngs),\n"
        "                                            nnx.Linear(n, classes, rngs=rngs))\n"
        "            self.op = OneOf({str(n): wide(n) for n in (1, 2, 4, 32)}, name='width')\n"
        "        def __call__(self, x):\n"
        "            return self.op(x.reshape(x.shape[0], -1))\n"
        "    return functional(Tiny)\n"
    )
    config = tmp_path / "tiny.py"
    config.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    return ConfigDict(dict(space='tiny_net:make', net={},\n"
        "        strategy={'name': 'regularized_evolution', 'population': 4, 'sample': 2},\n"
        "        data={'name': 'digits', 'data_dir': '', 'train': 'train'},\n"
        "        train={'steps': 60, 'batch_size': 32, 'score': 'accuracy', 'plan': 'map'},\n"
        "        mesh={'pop': 1, 'data': 1},\n"
        "        final={'steps': 120}, evaluations=12, batch=4, chunk=1, seed=0))\n"
    )
    return config


def run(args: list[str], tmp_path: Path, **more) -> subprocess.CompletedProcess:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JNAS_DATA_DIR": str(tmp_path / "data")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "jnas", *args]
    return subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, **more
    )


@needs_table
def test_table_search_reports_the_test_accuracy_of_the_best(tmp_path, capsys):
    assert main(table_search(tmp_path, "--config.seeds=40", "--config.evaluations=100")) == 0
    found = json.loads((tmp_path / "result.json").read_text())
    assert {"best_architecture", "best_score", "evaluations", "seconds", "seed"} <= set(found)
    assert 93.9 < found["mean_test"] < 94.3 and found["compile_seconds"] > 0
    for name in ("search.png", "best.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    assert "compile_seconds" in capsys.readouterr().out
    assert main(table_search(tmp_path, "--config.seeds=40", "--config.evaluations=100")) == 0
    assert "complete already" in capsys.readouterr().out
    assert json.loads((tmp_path / "result.json").read_text()) == found


def test_search_trains_retrains_and_tests(tmp_path, tiny):
    args = ["search", f"--config={tiny}", f"--workdir={tmp_path / 'run'}"]
    done = run(args, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["best_architecture"].startswith("width=") and found["evaluations"] == 12
    assert 0.8 < found["test_accuracy"] <= 1
    assert (tmp_path / "run" / "search.png").exists() and "left" in done.stderr
    again = run(args, tmp_path)
    assert "complete already" in again.stdout
    alone = ["train", f"--config={tiny}", f"--arch={found['best_architecture']}"]
    trained = run([*alone, f"--workdir={tmp_path / 'alone'}"], tmp_path)
    assert trained.returncode == 0, trained.stderr
    result = json.loads((tmp_path / "alone" / "result.json").read_text())
    assert result["test_accuracy"] == found["test_accuracy"]  # same seed, same numbers


@pytest.mark.slow
def test_history_does_not_depend_on_the_devices(tmp_path, tiny):
    histories = []
    for devices in (1, 2, 3):  # a batch of 4 on 3 devices is padded
        args = ["search", f"--config={tiny}", f"--workdir={tmp_path / str(devices)}"]
        done = run([*args, f"--config.mesh.pop={devices}"], tmp_path)
        assert done.returncode == 0, done.stderr
        versions = json.loads((tmp_path / str(devices) / "versions.json").read_text())
        assert versions["device"] == f"{devices} x cpu"
        histories.append((tmp_path / str(devices) / "history.csv").read_bytes())
    assert histories[0] == histories[1] == histories[2]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["search", "--config=nope.py", "--workdir=w"], "config 'nope.py': no such file"),
        (["search", "--workdir=w"], "--config=FILE is missing"),
        (["search", DIGITS], "--workdir=... is missing"),
        (["search", DIGITS, "--workdir=w", "--config.nope=1"], "config key 'nope' does not exist"),
        (["search", DIGITS, "--workdir=w", "--config.train.step=1"], "'train.step' does not exist"),
        (["search", DIGITS, "--workdir=w", "--config.seeds=x"], "--config.seeds=x"),
        (["search", DIGITS, "--workdir=w", "--other=x"], "'other'"),
        (["search", DIGITS, "--workdir=w", "--config.strategy.name=x"], "unknown strategy 'x'"),
        (["search", DIGITS, "--workdir=w", "--config.strategy.sample=0"], "sample"),
        (["search", DIGITS, "--workdir=w", "--config.train.optimizer=x"], "unknown optimizer 'x'"),
        (["search", DIGITS, "--workdir=w", "--config.train.plan=x"], "plan 'x'"),
        (["search", DIGITS, "--workdir=w", "--config.train.score=x"], "score 'x'"),
        (["search", DIGITS, "--workdir=w", "--config.data.name=x"], "unknown data set 'x'"),
        (["search", DIGITS, "--workdir=w", "--config.batch=7"], "use 91 or 98"),
        (["search", EVOLUTION, "--workdir=w", "--config.table=x.npz"], "x.npz"),
        (["search", EVOLUTION, "--workdir=w", "--config.dataset=x"], "'x'"),
        (["train", DIGITS, "--arch=|nor_conv_9x9~0|+|none~0|none~1|"], "'nor_conv_9x9'"),
        (["train", DIGITS], "one of --arch=STRING and --genotype=NAME_OR_STRING is needed"),
        (["train", DARTS, "--arch=GDAS", "--genotype=GDAS"], "is needed, not both"),
        (["train", DIGITS, "--genotype=GDAS"], "--genotype is for the space darts"),
        (["train", DARTS, "--genotype=DARTS_V9"], "'DARTS_V9': no such name; allowed: DARTS_V1"),
        (["train", DARTS, "--genotype=Genotype(normal=[])"], "the form is Genotype("),
        (["train", DARTS, "--genotype=GDAS", "--config.final.auxiliary=-1.0"], "auxiliary=-1.0"),
        (["train", DARTS, "--genotype=GDAS", "--config.net.drop_path=1.5"], "drop_path=1.5"),
        (["list", "everything"], "allowed: spaces, strategies"),
        (["search", DIGITS, "--workdir=/proc/jnas"], "/proc/jnas"),
        (["serch"], "unknown command 'serch'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, args, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JNAS_DATA_DIR", str(tmp_path / "data"))
    assert main(args) == 2
    printed = capsys.readouterr()
    assert words in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "w").exists()  # a mistake claims no folder


@pytest.mark.slow
def test_a_genotype_is_trained_by_its_name(tmp_path):
    small = ["--config.net.channels=2", "--config.net.layers=1", "--config.final.steps=3"]
    flags = ["--genotype=PC_DARTS", f"--workdir={tmp_path}"]
    assert main(["train", DARTS, *flags, *small]) == 0
    found = json.loads((tmp_path / "result.json").read_text())
    space = jnas.spaces.darts(2, 1, 10, 8, 1)
    arch = space.parse(found["architecture"])
    assert space.describe(arch) == space.describe(space.parse("PC_DARTS"))
    assert found["params"] == int(space.counts["params"](arch)) and 0 <= found["test_accuracy"] <= 1


@pytest.mark.slow
def test_a_search_cannot_see_the_test_split(tmp_path, tiny):
    args = ["search", f"--config={tiny}", f"--workdir={tmp_path / 'w'}", "--config.data.train=test"]
    done = run(args, tmp_path)
    assert done.returncode == 2 and "test" in done.stderr and done.stderr.count("\n") == 1


def test_an_error_inside_a_config_is_one_line(tmp_path, capsys):
    bad = tmp_path / "bad.py"
    bad.write_text("def get_config():\n    return 1 / 0\n")
    assert main(["search", f"--config={bad}", f"--workdir={tmp_path / 'w'}"]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


@needs_table
def test_a_truncated_table_is_one_line(tmp_path, capsys):
    part = tmp_path / "part.npz"
    part.write_bytes(TABLE.read_bytes()[:100_000])
    flags = [EVOLUTION, f"--config.table={part}", f"--workdir={tmp_path / 'w'}"]
    assert main(["search", *flags]) == 2
    error = capsys.readouterr().err
    assert "part.npz" in error and error.count("\n") == 1


@pytest.mark.parametrize("what", ["spaces", "strategies", "datasets", "tables"])
def test_list_names_what_there_is(what, capsys):
    assert main(["list", what]) == 0
    known = {"spaces": "nas_bench_201", "strategies": "regularized_evolution"}
    known |= {"datasets": "digits", "tables": "nas_bench_201"}
    assert known[what] in capsys.readouterr().out


def kill_at_random(args: list[str], folder: Path, tmp_path: Path, kills: int, longest: float):
    """Starts the command and kills it with SIGKILL, `kills` times; then lets it end."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    moments = random.Random(str(args)).choices(range(1000), k=kills)
    hits = 0
    for moment in moments:
        command = [sys.executable, "-m", "jnas", *args]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen(command, cwd=tmp_path, env=environment, **quiet)
        deadline = time.monotonic() + 120
        history = folder / "history.csv"
        before = history.stat().st_size if history.exists() else 0
        while child.poll() is None and time.monotonic() < deadline:
            if history.exists() and history.stat().st_size > before:
                break  # it is searching now: kill it somewhere in the next rounds
            time.sleep(0.01)
        time.sleep(moment / 1000 * longest)
        if child.poll() is None:
            hits += 1
            child.send_signal(signal.SIGKILL)
        child.wait()
    assert hits, "the command ended before it could be killed: the test tests nothing"
    assert run(args, tmp_path).returncode == 0


@pytest.mark.slow
@needs_table
def test_killed_table_search_ends_with_the_same_history(tmp_path):
    more = ("--config.seeds=2", "--config.evaluations=400", "--config.chunk=4")
    assert main(table_search(tmp_path / "whole", *more)) == 0
    cut = tmp_path / "cut"
    kill_at_random(table_search(cut, *more), cut, tmp_path, kills=4, longest=0.6)
    whole, killed = ((tmp_path / d / "history.csv").read_bytes() for d in ("whole", "cut"))
    assert whole == killed


@pytest.mark.slow
def test_killed_demo_ends_with_the_same_history(tmp_path):
    small = ["--config.evaluations=24", "--config.batch=4", "--config.net.channels=4"]
    small += ["--config.train.steps=17", "--config.final.steps=150"]
    args = lambda name: ["search", DIGITS, f"--workdir={tmp_path / name}", *small]
    assert run(args("whole"), tmp_path).returncode == 0
    kill_at_random(args("cut"), tmp_path / "cut", tmp_path, kills=3, longest=3)
    whole, killed = ((tmp_path / d / "history.csv").read_bytes() for d in ("whole", "cut"))
    assert whole == killed
    found = [json.loads((tmp_path / d / "result.json").read_text()) for d in ("whole", "cut")]
    keys = ("best_architecture", "best_score", "test_accuracy", "test_loss")
    assert [found[0][k] for k in keys] == [found[1][k] for k in keys]
