"""Faults: whatever befalls a run, the same call goes on and ends with the same history."""

import contextlib
import errno
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_cli import run, tiny  # noqa: F401
from test_search import BITS, evolution, go, ones

import jnas
from jnas import checkpoints, cli
from jnas.base import Evaluator, InputError
from jnas.faults import disk_error, out_of_memory, said_once
from jnas.files import write_json
from jnas.runs import RunFolder, check, result_of

ROOT = Path(__file__).parents[1]


def three_saves(path: Path) -> None:
    """A folder with three saves of one row each; checkpoint 3 has the state [0, 1, 2] + 3."""
    with RunFolder(path, {"a": 1}) as folder:
        _, done, _ = folder.restore(jnp.zeros(3, int))
        for step in range(done + 1, 4):
            rows = [{"seed": 0, "evaluation": step, "score": step / 3}]
            folder.save(jnp.arange(3) + step, step, step * 1.5, rows)


def restored(path: Path) -> tuple[list[int], int, bytes]:
    """The state, the step and the history that a folder comes back with."""
    with RunFolder(path, {"a": 1}) as folder:
        state, done, seconds = folder.restore(jnp.zeros(3, int))
        assert seconds == done * 1.5 and len(folder.rows()) == done
    texts = [file.read_bytes() for file in checkpoints.histories(path)]
    assert texts[0] == texts[1]
    return state.tolist(), done, texts[0]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES = {"flipped": flip, "cut": lambda data: data[: len(data) // 2], "empty": lambda data: b""}


def damage(file: Path, kind: str) -> None:
    if kind == "gone":
        file.unlink()
    else:
        file.write_bytes(DAMAGES[kind](file.read_bytes()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    three_saves(path)
    return path


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    """A copy of a folder with two checkpoints, 2 and 3."""
    subprocess.run(["cp", "-r", str(whole), str(tmp_path / "run")], check=True)
    return tmp_path / "run"


# ------------------------------------------------------------------------------ damaged files


@pytest.mark.parametrize("kind", [*DAMAGES, "gone"])
def test_a_damaged_file_of_a_checkpoint_leads_back_to_the_one_before(whole, copied, kind, capfd):
    history = (whole / "history.csv").read_bytes()
    before = history[: history.rindex(b"0,3,")]
    inside = [p for p in (whole / "checkpoints" / "3").rglob("*") if p.is_file()]
    files = [p.relative_to(whole) for p in inside]
    assert len(files) > 5
    for i, name in enumerate(files if kind == "flipped" else files[:2]):
        again = copied.with_name(f"{i}")
        subprocess.run(["cp", "-r", str(copied), str(again)], check=True)
        damage(again / name, kind)
        assert restored(again) == ([2, 3, 4], 2, before), name
        said = capfd.readouterr().err
        assert said.count("\n") == 1 and "checkpoint 3; going on from checkpoint 2" in said
    three_saves(again)
    assert restored(again) == ([3, 4, 5], 3, history)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_seal_leads_back_too(copied, kind, capfd):
    damage(copied / "checkpoints" / "3.json", kind)
    assert restored(copied)[1] == 2
    assert "going on from checkpoint 2" in capfd.readouterr().err


def test_where_no_checkpoint_is_sound_the_run_starts_over(whole, copied, capfd):
    for step in "23":
        damage(copied / "checkpoints" / step / "state" / "manifest.ocdbt", "flipped")
    assert restored(copied) == ([0, 0, 0], 0, b"")
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "2, 3; none is left, so the run starts over" in said
    three_saves(copied)
    assert (copied / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


@pytest.mark.parametrize("kind", [*DAMAGES, "gone"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_history_is_taken_from_its_copy(whole, copied, which, kind, capfd):
    damage(checkpoints.histories(copied)[which], kind)
    assert restored(copied) == ([3, 4, 5], 3, (whole / "history.csv").read_bytes())
    assert "was damaged, it is taken from its copy" in capfd.readouterr().err


def test_histories_that_are_damaged_both_lead_back_to_where_they_are_sound(copied, capfd):
    for file in checkpoints.histories(copied):
        data = file.read_bytes()
        file.write_bytes(data[:-2] + flip(data[-2:]))
    assert restored(copied)[1] == 2
    assert "going on from checkpoint 2" in capfd.readouterr().err


def test_a_save_without_its_seal_does_not_count_and_two_are_left(copied, monkeypatch, capfd):
    def stop(*_):
        raise KeyboardInterrupt

    with RunFolder(copied, {"a": 1}) as folder:
        folder.restore(jnp.zeros(3, int))
        monkeypatch.setattr(checkpoints, "seal", stop)
        with pytest.raises(KeyboardInterrupt):
            folder.save(jnp.arange(3), 4, 1.0, [{"seed": 0, "evaluation": 4, "score": 0.5}])
        monkeypatch.undo()
    damage(copied / "checkpoints" / "3" / "state" / "manifest.ocdbt", "cut")
    assert restored(copied)[1] == 2
    assert "checkpoint 3, 4; going on from checkpoint 2" in capfd.readouterr().err


@pytest.mark.parametrize("kind", [*DAMAGES, "gone"])
def test_a_damaged_config_is_written_anew_or_refused(tmp_path, kind, capfd):
    setting = {"evaluations": 40, "strategy": {"name": "evolution"}}
    write_json(tmp_path / "config.json", setting)
    text = (tmp_path / "config.json").read_bytes()
    damage(tmp_path / "config.json", kind)
    with pytest.raises(InputError, match=r"config\.json is damaged, and it was not the config"):
        check(tmp_path, {**setting, "evaluations": 41})
    assert check(tmp_path, setting) and (tmp_path / "config.json").read_bytes() == text
    assert "config.json was damaged, it is written anew" in capfd.readouterr().err
    damage(tmp_path / ".config.json.sha256", kind)
    assert check(tmp_path, setting)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_result_counts_as_none(tmp_path, kind, capfd):
    assert result_of(tmp_path) is None
    write_json(tmp_path / "result.json", {"best_score": 93.25})
    assert result_of(tmp_path) == {"best_score": 93.25} and capfd.readouterr().err == ""
    damage(tmp_path / "result.json", kind)
    assert result_of(tmp_path) is None
    assert "it is written anew from the run" in capfd.readouterr().err


# ------------------------------------------------------------------------------ a full disk


@contextlib.contextmanager
def files_no_longer_than(size: int):
    """A disk with room for so many bytes in a file: an error of the real file system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Threads of the failed save may find its event loop closed, which `said_once` hides from users.
@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("room", [0, 60, 200, 300, 500, 900])
def test_a_disk_that_fills_in_a_save_loses_nothing(whole, copied, room, capfd):
    history = (copied / "history.csv").read_bytes()
    with RunFolder(copied, {"a": 1}) as folder:
        folder.restore(jnp.zeros(3, int))
        with files_no_longer_than(room), pytest.raises(OSError) as told:
            folder.save(jnp.arange(3), 4, 1.0, [{"seed": 0, "evaluation": 4, "score": 0.5}])
    assert told.value.errno == errno.EFBIG
    assert restored(copied) == ([3, 4, 5], 3, history)
    assert "Traceback" not in capfd.readouterr().err


def test_a_full_disk_is_one_line_and_exit_code_74(tmp_path, monkeypatch, capsys):
    def fill(args):
        with files_no_longer_than(10):
            write_json(tmp_path / "result.json", {"long": "x" * 100})

    monkeypatch.setattr(cli, "_list", fill)
    assert cli.main(["list"]) == 74
    assert capsys.readouterr().err.startswith("jnas: File too large: what is saved stays")
    assert list(tmp_path.iterdir()) == []  # no half of a file is left


def test_what_threads_of_a_failed_save_run_into_is_not_logged(caplog, monkeypatch):
    for place, hook in ((threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(place, hook, getattr(place, hook))  # they are put back afterwards
    log = logging.getLogger("absl")
    ending = RuntimeError("cannot schedule new futures after interpreter shutdown")
    with said_once():
        log.error("another", exc_info=ValueError("its own"))
    log.error("another", exc_info=ending)  # no save has failed
    assert [record.message for record in caplog.records] == ["another"] * 2
    caplog.clear()
    with pytest.raises(OSError), said_once():
        raise OSError(errno.ENOSPC, "No space left on device")
    log.error("of a thread", exc_info=ending)
    log.error("another", exc_info=ValueError("its own"))
    (left,) = caplog.records
    log.removeFilter(log.filters[-1])
    assert left.message == "another"


def test_errors_of_the_disk_are_recognised_wherever_they_hide():
    full = OSError(errno.ENOSPC, "No space left on device")
    of_tensorstore = ValueError("OUT_OF_RANGE: Error writing: x [os_error_code='28']")
    wrapped = RuntimeError("a save failed")
    wrapped.__cause__ = full
    for error in (full, of_tensorstore, wrapped, ExceptionGroup("two", [KeyError(), full])):
        found = disk_error(error)
        assert found is not None and found.errno == errno.ENOSPC
        assert found.strerror == "No space left on device"
    for error in (FileNotFoundError(errno.ENOENT, "x"), ValueError("[os_error_code='2']")):
        assert disk_error(error) is None


# ------------------------------------------------------------------------------ a full memory


def hungry(at_once: int, enough: int) -> Evaluator:
    """Counts ones, and asks for more memory than there is where more than `enough` are at once."""
    size = 1 << 24 if at_once > enough else 1

    def evaluate(key, trials, state):
        trials, state = ones().evaluate(key, trials, state)
        held = jnp.zeros((1 << 22, size), jnp.int32) if at_once > enough else jnp.zeros((1, 1))
        held = jax.lax.fori_loop(0, 1 + state % 2, lambda _, x: x * 3, held + state)
        return trials._replace(score=trials.score + jnp.minimum(held[-1, -1], 0)), state

    halve = None if at_once == 1 else lambda: hungry(at_once // 2, enough)
    return Evaluator(ones().init, evaluate, halve)


@pytest.mark.slow
def test_out_of_memory_halves_until_it_fits_and_changes_no_number(tmp_path, capfd):
    setting = {"evaluations": 8, "batch": 2, "seed": 3, "chunk": 2, "verbose": False}
    jnas.run(evolution(), hungry(8, 8), BITS, workdir=tmp_path / "roomy", **setting)
    assert capfd.readouterr().err == ""
    jnas.run(evolution(), hungry(8, 2), BITS, workdir=tmp_path / "tight", **setting)
    assert capfd.readouterr().err == 2 * (
        "jnas: out of memory: going on with half as many candidates at once\n"
    )
    roomy, tight = ((tmp_path / d / "history.csv").read_bytes() for d in ("roomy", "tight"))
    assert roomy == tight and roomy.count(b"\n") == 9


@pytest.mark.parametrize("enough", [0, 1])
def test_out_of_memory_with_nothing_left_to_halve_is_one_clear_error(enough):
    evaluator = hungry(1, 0) if enough else hungry(2, 0)._replace(halve=None)
    with pytest.raises(InputError, match="out of memory, and the evaluator cannot be halved"):
        jnas.run(evolution(), evaluator, BITS, evaluations=4, verbose=False)


@pytest.mark.slow
def test_out_of_memory_in_a_later_round_goes_on_from_that_round(tmp_path, monkeypatch, capfd):
    """As on an accelerator, where a program fails after it has handed its results out."""
    real, calls = jax.block_until_ready, []

    def fail(x):
        calls.append(1)
        if len(calls) in (5, 6):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return real(x)

    halved = []

    def counted(at_once: int) -> Evaluator:
        def halve():
            halved.append(at_once)
            return counted(at_once // 2)

        return ones(3)._replace(halve=halve)

    go(tmp_path / "whole")
    monkeypatch.setattr(jax, "block_until_ready", fail)
    setting = {"evaluations": 40, "batch": 2, "seed": 3, "chunk": 2, "verbose": False}
    jnas.run(evolution(), counted(8), BITS, workdir=tmp_path / "cut", **setting)
    assert halved == [8, 4] and capfd.readouterr().err.count("half as many") == 2
    whole, cut = ((tmp_path / d / "history.csv").read_bytes() for d in ("whole", "cut"))
    assert whole == cut


def test_other_errors_of_a_program_are_not_taken_for_a_full_memory(monkeypatch):
    def fail(x):
        raise jax.errors.JaxRuntimeError("INTERNAL: RESOURCE is fine")

    monkeypatch.setattr(jax, "block_until_ready", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        jnas.run(evolution(), hungry(8, 8), BITS, evaluations=4, verbose=False)
    assert out_of_memory(MemoryError()) and not out_of_memory(ValueError("RESOURCE_EXHAUSTED"))


def test_a_full_memory_elsewhere_is_one_line_and_exit_code_2(monkeypatch, capsys):
    def fill(args):
        np.empty(1 << 60, np.int8)

    monkeypatch.setattr(cli, "_list", fill)
    assert cli.main(["list"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jnas: out of memory: choose") and error.count("\n") == 1


# ------------------------------------------------------------------------------ SIGTERM

BUSY = """
import hashlib, sys, time
from jnas.preemption import leave_on_sigterm, saving
with leave_on_sigterm():
    if sys.argv[1] == "saving":
        with saving:
            print("ready", flush=True)
            time.sleep(1)
            print("saved", flush=True)
    else:
        print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)  # minutes in C, as a compiled program takes
"""


@pytest.mark.parametrize(("when", "printed"), [("busy", ""), ("saving", "saved\n")])
def test_sigterm_ends_a_busy_process_at_once_and_a_saving_one_after_the_save(when, printed):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", BUSY, when], env=environment, **pipes) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGTERM)
        out, error = child.communicate(timeout=30)
    assert child.returncode == 143 and out == printed
    assert error == "jnas: stopped by SIGTERM; the same command goes on from here\n"


def test_a_handler_of_ones_own_stays():
    mine = lambda *_: None
    before = signal.signal(signal.SIGTERM, mine)
    try:
        go(None)
        with jnas.preemption.leave_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_handler_of_sigterm_is_gone_after_the_run(tmp_path):
    go(tmp_path)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.slow
def test_sigterm_in_the_final_training_goes_on_to_the_same_numbers(tmp_path, tiny):  # noqa: F811
    args = lambda name: [
        "search",
        f"--config={tiny}",
        f"--workdir={tmp_path / name}",
        "--config.final.steps=600",
    ]
    assert run(args("whole"), tmp_path).returncode == 0
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JNAS_DATA_DIR": str(tmp_path / "data")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "jnas", *args("cut")]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as child:
        history = tmp_path / "cut" / "final" / "history.csv"
        while child.poll() is None and not (history.exists() and history.stat().st_size):
            time.sleep(0.005)
        child.send_signal(signal.SIGTERM)
        _, error = child.communicate(timeout=60)
    assert child.returncode == 143 and "stopped by SIGTERM" in error
    assert not (tmp_path / "cut" / "result.json").exists()
    assert run(args("cut"), tmp_path).returncode == 0
    for name in ("history.csv", "final/history.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    found = [json.loads((tmp_path / d / "result.json").read_text()) for d in ("whole", "cut")]
    assert found[0]["test_loss"] == found[1]["test_loss"]


# ------------------------------------------------------------------------------ the benchmark


def benchmark(*flags: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "experiments/benchmarks/faults.py", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_benchmark_names_a_fault_that_it_does_not_know():
    done = benchmark("--only=sigterm,earthquake")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "earthquake" in done.stderr


@pytest.mark.slow
def test_the_benchmark_loses_nothing():
    done = benchmark("--rounds=1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    names = {"sigterm", "kill", "truncated_checkpoint", "flipped_checkpoint", "damaged_history"}
    assert all(found[name] == 1 for name in names)
    assert (found["lost"], found["unequal"], found["unclear"]) == (0, 0, 0), done.stdout
