"""A fault for the faults benchmark: one process of a search over two is killed, and all go on."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scale import CONFIG, NET, ROOT, free_port

LOST = 75  # the exit code of a process that lost another
PATIENCE = 300  # seconds, for whatever is waited for


def lost_process(folder: Path, rng: random.Random) -> None:
    """Kills a random process of a search at a random moment, starts it again, compares histories.

    Args:
      folder: where the runs go, empty.
      rng: chooses process and moment.

    Raises:
      AssertionError: the other process does not end with its line and exit code, the search does
        not go on, or its history is not that of an undisturbed one.
    """
    train = {"steps": 100, "batch_size": 64, "plan": "map"}
    setting = {
        "space": "scale_net:make",
        "net": {"width": 16},
        "strategy": {"name": "regularized_evolution", "population": 8, "sample": 3},
        "data": {"name": "digits", "data_dir": ""},
        "mesh": {"pop": 2, "data": 1},
        "train": train,
        "final": {"steps": 1},
        **{"evaluations": 160, "batch": 4, "chunk": 1, "seed": rng.randrange(1000)},
    }
    (folder / "scale_net.py").write_text(NET)
    (folder / "scale.py").write_text(CONFIG.format(setting=setting))
    with _started(folder, "undisturbed", 1) as alone:
        _end(alone[0], 0)
    with _started(folder, "killed", 2) as processes:
        victim = rng.randrange(2)
        _wait_for(folder / "killed" / "history.csv", processes)
        time.sleep(rng.random() * 2)
        processes[victim].send_signal(signal.SIGKILL)
        code, errors = _ended(processes[1 - victim])
        if code != 0:  # 0: the search was over before the signal came
            told = [line for line in errors.splitlines() if line.startswith("jnas: ")]
            assert code == LOST and len(told) == 1, f"exit code {code}: {errors}"
    with _started(folder, "killed", 2) as processes:
        for process in processes:
            _end(process, 0)
    histories = [(folder / name / "history.csv").read_bytes() for name in ("undisturbed", "killed")]
    assert histories[0] == histories[1], "the history is not that of the undisturbed search"


@contextlib.contextmanager
def _started(folder: Path, name: str, n: int) -> Iterator[list[subprocess.Popen]]:
    """The processes of a search, which are killed where they are still there at the end."""
    path = os.pathsep.join(map(str, (folder, ROOT, os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    environment |= {"JNAS_DATA_DIR": str(folder / "data")}
    environment.pop("XLA_FLAGS", None)
    command = [sys.executable, "-m", "jnas", "search", f"--config={folder / 'scale.py'}"]
    command.append(f"--workdir={folder / name}")
    if n > 1:
        command += [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={n}"]
    found = [
        subprocess.Popen(
            [*command, f"--process_id={i}"] if n > 1 else command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(n)
    ]
    try:
        yield found
    finally:
        for process in found:
            process.kill()
            process.communicate()


def _wait_for(file: Path, processes: list[subprocess.Popen]) -> None:
    """Waits until a file has content, or a process has ended."""
    deadline = time.monotonic() + PATIENCE
    while not (file.exists() and file.stat().st_size):
        if any(p.poll() is not None for p in processes):
            return
        assert time.monotonic() < deadline, f"{file}: nothing after {PATIENCE} s"
        time.sleep(0.01)


def _ended(process: subprocess.Popen) -> tuple[int, str]:
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def _end(process: subprocess.Popen, expected: int) -> None:
    code, errors = _ended(process)
    assert code == expected, f"exit code {code}: {errors}"
