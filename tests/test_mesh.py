"""The mesh and the cluster: the same numbers on any devices and processes, and clear ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jnas import cluster, supervisor
from jnas.base import InputError
from jnas.cli import main
from jnas.evaluators.mesh import deal
from jnas.evaluators.plans import PLANS

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
DIGITS = f"--config={ROOT / 'experiments' / 'configs' / 'digits_evolution.py'}"


def environment(folder: Path, devices: int = 0) -> dict[str, str]:
    found = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", supervisor.CHILD)}
    found |= {"JAX_PLATFORMS": "cpu", "JNAS_DATA_DIR": str(folder / "data")}
    found |= {"PYTHON": sys.executable}
    found["PYTHONPATH"] = os.pathsep.join(map(str, (folder, ROOT, ROOT / "tests")))
    if devices:
        found["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return found


# ------------------------------------------------------------------- devices of one process


@pytest.fixture(scope="module")
def probe(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("probe")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "mesh_probe.py")],
        env=environment(folder, devices=8),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mesh", ["2x1", "4x1", "8x1", "3x1"])
def test_candidates_spread_over_devices_have_the_same_bits(probe, mesh):
    # On 8 devices each has a single row; 3 devices need a padded one.
    one, many = probe["runs"]["map 1x1"], probe["runs"][f"map {mesh}"]
    assert many["metrics"] == one["metrics"] and many["weight"] == one["weight"]
    assert many["devices"] == int(mesh[0]) and many["replicated"]
    assert many["sums"] == 0  # candidates exchange nothing while they train


def test_candidates_dealt_out_by_cost_come_back_in_order_with_the_same_bits(probe):
    one, dealt = probe["runs"]["map 1x1"], probe["runs"]["dealt 3x1"]
    flops = dealt["metrics"].pop("flops")
    assert flops == [7, 5, 3, 1, 5, 3, 7, 5]
    assert dealt["metrics"] == one["metrics"] and dealt["weight"] == one["weight"]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 1000))
def test_dealing_gives_every_group_as_many_rows_and_nearly_equal_work(n, groups, seed):
    ranks = deal(n, groups)
    rounds = -(-n // groups)
    assert ranks.size == groups * rounds and set(ranks.tolist()) == set(range(n))
    # To and fro, two groups never differ by more than the dearest row.
    cost = np.append(np.sort(np.random.default_rng(seed).random(n))[::-1], 0.0)
    real = np.where(np.bincount(ranks, minlength=n)[ranks] > 1, n, ranks)
    work = cost[real].reshape(groups, rounds).sum(1)
    repeated = cost[n - 1]
    assert work.max() - work.min() <= cost[0] + repeated + 1e-9


@pytest.mark.parametrize("run", ["map 2x2", "map 0x4", "vmap 2x2"])
def test_a_batch_split_over_devices_gives_the_same_numbers(probe, run):
    one, split = probe["runs"]["map 1x1"], probe["runs"][run]
    assert split["weight"] == one["weight"]
    for name, value in one["metrics"].items():
        np.testing.assert_allclose(split["metrics"][name], value, rtol=2e-3, atol=1e-5)
    assert split["sums"] > 0 and split["replicated"]


def test_a_mesh_that_does_not_fit_is_refused_with_what_is_allowed(probe):
    expected = [
        "mesh.pop=9, mesh.data=1: .* at most the 8 devices",
        "mesh.pop=-1: it has to be a whole number from 0 up",
        "mesh.pop=3, mesh.data=3: .* at most the 8 devices",
        "mesh.data=0: it has to be a whole number from 1 up",
        "mesh.pop=1.5: it has to be a whole number from 0 up",
        "mesh.data=16: it has to divide the 8 devices",
        "mesh.data=3: it has to divide the batch of 16 examples",
    ]
    assert len(probe["refused"]) == len(expected)
    for told, pattern in zip(probe["refused"], expected, strict=True):
        assert re.match(pattern, told), told


# ----------------------------------------------------------------------- several processes


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A search of dense networks that takes seconds; `rounds` more make it last."""
    (tmp_path / "dense_net.py").write_text(
        "from flax import nnx\n"
        "from jnas.nets import OneOf, functional\n"
        "def make(classes, image, inputs):\n"
        "    class Dense(nnx.Module):\n"
        "        def __init__(self, rngs):\n"
        "            self.first = nnx.Linear(image * image, 8, rngs=rngs)\n"
        "            options = {'relu': nnx.relu, 'tanh': nnx.tanh, 'none': lambda x: x}\n"
        "            self.act = OneOf(options, name='act')\n"
        "            self.also = OneOf({'linear': nnx.Linear(8, 8, rngs=rngs),\n"
        "                               'skip': lambda x: x}, name='also')\n"
        "            self.last = nnx.Linear(8, classes, rngs=rngs)\n"
        "        def __call__(self, x):\n"
        "            x = self.first(x.reshape(x.shape[0], -1))\n"
        "            return self.last(self.also(self.act(x)))\n"
        "    return functional(Dense)\n"
    )
    config = tmp_path / "dense.py"
    config.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    return ConfigDict(dict(space='dense_net:make', net={},\n"
        "        strategy={'name': 'regularized_evolution', 'population': 8, 'sample': 3},\n"
        "        data={'name': 'digits', 'data_dir': ''},\n"
        "        train={'plan': 'map', 'steps': 30, 'batch_size': 32},\n"
        "        mesh={'pop': 0, 'data': 1},\n"
        "        final={'steps': 30}, evaluations=24, batch=8, chunk=1, seed=0))\n"
    )
    return config


def search(tiny: Path, name: str, *more: str) -> list[str]:
    return ["search", f"--config={tiny}", f"--workdir={tiny.parent / name}", *more]


def launch(tiny: Path, name: str, processes: int, devices: int, *more: str) -> tuple[str, str]:
    """Runs a search to its end by the launcher for hosts; its output and errors."""
    script, flag = str(SCRIPTS / "launch_hosts.sh"), f"--processes={processes}"
    done = subprocess.run(
        ["bash", script, flag, *search(tiny, name, *more)],
        env=environment(tiny.parent, devices),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def history(tiny: Path, name: str) -> bytes:
    return (tiny.parent / name / "history.csv").read_bytes()


@pytest.mark.slow
def test_history_does_not_depend_on_processes_and_devices(tiny):
    outputs = {}
    for processes, devices in [(1, 1), (1, 8), (2, 1), (2, 2), (4, 1)]:
        name = f"{processes}x{devices}"
        outputs[name], errors = launch(tiny, name, processes, devices)
        device = json.loads((tiny.parent / name / "versions.json").read_text())["device"]
        assert device == f"{processes * devices} x cpu"
        assert errors.count("24/24") == 1  # one process shows the progress
    whole = history(tiny, "1x1")
    assert whole.count(b"\n") == 25
    for name, printed in outputs.items():
        assert history(tiny, name) == whole, name
        assert printed.count("test_accuracy") == 1, name
    found = [json.loads((tiny.parent / n / "result.json").read_text()) for n in outputs]
    assert len({(r["best_architecture"], r["test_loss"]) for r in found}) == 1
    again, _ = launch(tiny, "2x1", 2, 1)
    assert again.count("complete already") == 1


@pytest.mark.slow
def test_processes_agree_on_a_plan_that_one_of_them_measured(tiny):
    launch(tiny, "measured", 2, 1, "--config.train.plan=auto")
    kept = json.loads((tiny.parent / "measured" / "plan.json").read_text())
    assert list(kept) == ["8"] and kept["8"][0] in PLANS
    assert history(tiny, "measured").count(b"\n") == 25


@pytest.mark.slow
def test_a_batch_split_over_two_processes_gives_the_same_scores(tiny):
    launch(tiny, "whole", 1, 1)
    launch(tiny, "split", 2, 1, "--config.mesh.data=2")
    whole, split = (history(tiny, name).decode().splitlines() for name in ("whole", "split"))
    assert [row.split(",")[:3] for row in split] == [row.split(",")[:3] for row in whole]
    numbers = lambda rows: np.asarray([[float(x) for x in r.split(",")[3:]] for r in rows[1:]])
    np.testing.assert_allclose(numbers(split), numbers(whole), rtol=2e-3, atol=1e-5)


class Processes:
    """The processes of one search, started by hand."""

    def __init__(self, args: list[str], folder: Path, n: int = 2):
        port = 20000 + (os.getpid() * 7 + time.monotonic_ns() // 1000) % 20000
        flags = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={n}"]
        self.all = [
            subprocess.Popen(
                [sys.executable, "-m", "jnas", *args, *flags, f"--process_id={i}"],
                env=environment(folder),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(n)
        ]

    def wait_for(self, file: Path, size: int) -> None:
        deadline = time.monotonic() + 120
        while not file.exists() or file.stat().st_size <= size:
            assert time.monotonic() < deadline, [p.communicate()[1] for p in self.all]
            assert all(p.poll() is None for p in self.all), [p.communicate()[1] for p in self.all]
            time.sleep(0.02)

    def ends(self, i: int, seconds: float) -> tuple[int, str]:
        _, errors = self.all[i].communicate(timeout=seconds)
        return self.all[i].returncode, errors

    def stop(self) -> None:
        for process in self.all:
            process.kill()
            process.communicate()


@pytest.fixture
def started() -> Iterator[list[Processes]]:
    found: list[Processes] = []
    yield found
    for processes in found:
        processes.stop()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_others_and_the_same_command_goes_on(tiny, started, victim):
    longer = ("--config.evaluations=800", "--config.train.steps=120")
    launch(tiny, "whole", 2, 1, *longer)
    args = search(tiny, "cut", *longer, "--config.mesh.pop=2")
    started.append(Processes(args, tiny.parent))
    started[-1].wait_for(tiny.parent / "cut" / "history.csv", 3000)
    started[-1].all[victim].send_signal(signal.SIGKILL)
    code, errors = started[-1].ends(1 - victim, cluster.SILENT + 40)
    assert code == cluster.LOST
    told = [line for line in errors.splitlines() if not line.startswith("search ")]
    assert len(told) == 1 and told[0].startswith("jnas: ") and cluster.ADVICE in told[0]
    assert not (tiny.parent / "cut" / "result.json").exists()
    started.append(Processes(args, tiny.parent))
    assert [started[-1].ends(i, 200)[0] for i in (0, 1)] == [0, 0]
    assert history(tiny, "cut") == history(tiny, "whole")


@pytest.mark.slow
def test_a_folder_that_is_not_shared_is_one_line(tiny, started):
    started.append(Processes(search(tiny, "here"), tiny.parent))
    other = started[-1].all[1]
    other.kill()
    other.communicate()
    args = [*other.args[:-1], other.args[-1]]
    args[5] = f"--workdir={tiny.parent / 'there'}"
    started[-1].all[1] = subprocess.Popen(
        args,
        env=environment(tiny.parent),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    code, errors = started[-1].ends(1, 100)
    assert code == 2 and "process 1 does not see what process 0 wrote" in errors
    assert started[-1].ends(0, cluster.SILENT + 40)[0] == cluster.LOST


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--coordinator=here"], "--coordinator=here: it has the form HOST:PORT"),
        (["--coordinator=a:65536"], "--coordinator=a:65536: it has the form HOST:PORT"),
        (["--coordinator=a:1"], "--num_processes is missing beside --coordinator"),
        (["--coordinator=a:1", "--num_processes=0"], "--num_processes=0: it has to be a whole"),
        (["--coordinator=a:1", "--num_processes=2"], "--process_id is missing"),
        (
            ["--coordinator=a:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2: it has to be a whole number from 0 to 1",
        ),
        (["--process_id=0"], "--process_id=0: it has no meaning without --coordinator"),
        (["--distributed", "--process_id=0"], "--process_id=0: it has no meaning beside"),
        (["--config.mesh.pop=-2"], "mesh.pop=-2: it has to be a whole number from 0 up"),
        (["--config.mesh.data=0"], "mesh.data=0: it has to be a whole number from 1 up"),
        (["--config.mesh.size=1"], "config key 'mesh.size' does not exist; allowed: mesh.data"),
    ],
)
def test_a_wrong_place_in_the_cluster_is_one_line(tmp_path, monkeypatch, capsys, flags, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JNAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv(supervisor.CHILD, "1")
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # put back afterwards
    assert main(["search", DIGITS, "--workdir=w", *flags]) == 2
    printed = capsys.readouterr()
    assert told in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "w").exists()


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: Address already in use"):
            cluster.address(f"127.0.0.1:{port}", "2", "0")
        assert cluster.address(f"127.0.0.1:{port}", "2", "1")["process_id"] == 1


@pytest.mark.slow
def test_without_a_cluster_manager_a_process_is_told_what_to_give(tmp_path):
    environ = {k: v for k, v in environment(tmp_path).items() if not k.startswith("SLURM")}
    code = "from jnas import cluster; cluster.start({})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert "InputError: --distributed: none of SLURM" in done.stderr


# ------------------------------------------------------------------- supervisor and launchers


def child(tmp_path: Path, monkeypatch, code: str) -> int:
    """Supervises a stand-in for the jnas command."""
    package = tmp_path / "jnas"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    try:
        return supervisor.supervise([])
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


NATIVE = (
    "import os, sys\n"
    "print('search 1/2', file=sys.stderr, flush=True)\n"
    "print('E1124 12:49:19.656152 26 agent.cc:289] Polled an error', file=sys.stderr)\n"
    "print('F1124 12:49:19.656605 26 client.h:80] Terminating process because the JAX'\n"
    "      ' distributed service detected fatal errors. {0}', file=sys.stderr, flush=True)\n"
    "print('    @ 0x7f2be3440634 abort', file=sys.stderr, flush=True)\n"
    "os.abort()\n"
)


@pytest.mark.parametrize(
    ("detail", "told"),
    [("PollForError", "another process was lost"), ("RegisterTask", "not all processes came")],
)
def test_a_page_of_native_log_becomes_one_line(tmp_path, monkeypatch, capsys, detail, told):
    assert child(tmp_path, monkeypatch, NATIVE.format(detail)) == cluster.LOST
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "search 1/2" and told in lines[1] and len(lines) == 2


def test_what_native_code_logs_after_our_own_line_is_held_back(tmp_path, monkeypatch, capsys):
    ours = f"jnas: process 1 lost another one (closed); {cluster.ADVICE}"
    code = NATIVE.format("PollForError").replace(
        "print('    @", f"print({ours!r}, file=sys.stderr)\n"
        "print('*** Check failure stack trace: ***', file=sys.stderr)\nprint('    @"
    )  # fmt: skip
    assert child(tmp_path, monkeypatch, code) == cluster.LOST
    assert capsys.readouterr().err.splitlines() == ["search 1/2", ours]


def test_another_crash_shows_its_log(tmp_path, monkeypatch, capsys):
    code = "import os, sys\nprint('F1124 12:49:19.6 1 x.cc:1] odd', file=sys.stderr, flush=True)\n"
    assert child(tmp_path, monkeypatch, code + "os.abort()\n") == 128 + signal.SIGABRT
    assert "odd" in capsys.readouterr().err


def test_output_and_exit_code_of_a_child_are_passed_on(tmp_path, monkeypatch, capsys):
    code = "import sys\nprint('found')\nprint('jnas: no', file=sys.stderr)\nsys.exit(2)\n"
    assert child(tmp_path, monkeypatch, code) == 2
    printed = capsys.readouterr()
    assert printed.out == "found\n" and printed.err == "jnas: no\n"


def script(name: str, *args: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(SCRIPTS / name), *args],
        env={"PATH": os.environ["PATH"], "PYTHON": "python3", **more},
        capture_output=True,
        text=True,
        check=False,
    )


LAUNCHERS = {
    "launch_hosts.sh": ["--hosts=me@a,b"],
    "launch_slurm.sh": ["--nodes=2", "--tasks-per-node=4", "--sbatch=--time=1:00:00"],
    "launch_tpu_pod.sh": ["--name=pod", "--zone=z"],
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_explain_themselves_and_refuse_what_they_do_not_know(name):
    helped = script(name, "--help")
    assert helped.returncode == 0 and helped.stdout.startswith(f"usage: scripts/{name}")
    for wrong in (["--node=1"], [*LAUNCHERS[name], "serch"], LAUNCHERS[name]):
        done = script(name, *wrong)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and name in done.stderr


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_print_what_they_would_start(name):
    args = ["search", "--config=my config.py", "--workdir=w"]
    done = script(name, *LAUNCHERS[name], "--dry-run", *args)
    assert done.returncode == 0, done.stderr
    expected = {
        "launch_hosts.sh": ["ssh -tt", "me@a", "--coordinator=a:8476", "--num_processes=2"],
        "launch_slurm.sh": ["sbatch", "--nodes=2", "--ntasks-per-node=4", "--time=1:00:00",
                            "srun", "requeue", "--distributed"],
        "launch_tpu_pod.sh": ["gcloud compute tpus tpu-vm ssh pod --zone=z --worker=all",
                              "--distributed"],
    }  # fmt: skip
    for word in expected[name]:
        assert word in done.stdout
    assert len(done.stdout.splitlines()) == (2 if name == "launch_hosts.sh" else 1)


def test_inside_an_allocation_slurm_starts_the_steps_at_once(tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    args = ["--nodes=3", "search", "--config=my config.py", "--workdir=w"]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = script("launch_slurm.sh", *args, SLURM_JOB_ID="1", PATH=path)
    told = done.stdout.splitlines()
    assert done.returncode == 0 and told[:2] == ["--nodes=3", "--ntasks-per-node=1"]
    assert told[-4:] == ["search", "--config=my config.py", "--workdir=w", "--distributed"]
