"""One search on 1, 2, 4, 8 devices and on 1, 2, 4 processes: the same history, and how fast.

Command: python experiments/benchmarks/scale.py
Cost: 4 to 8 minutes on 2 cores, most of it start and compile of every layout.
Measured: `candidate_steps_per_second` of each layout, named `processes x devices of each` (and a
  split batch, `data`, last): the training steps of all candidates, over the seconds of the search
  as `result.json` counts them, compile apart; the best of `--rounds` runs. `equal`: the histories
  of all layouts that spread candidates are the same bytes. `data_difference`: the largest
  difference of a number in the history where a batch is split, relative to 1 or to the number.
  `checkpoint_bytes` and `gathered_bytes` (of the metrics of one generation, on every device) are
  what docs/pods.md reckons with.
Devices are forced parts of one CPU and share its cores, and so do processes: with 2 cores nothing
  past 2 can be faster, and what is lost there is what the layout costs.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _timing import Parser, device, main, rounded, say

from jnas.base import InputError

ROOT = Path(__file__).parents[2]
LAYOUTS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (4, 1), (2, 2))  # processes, devices of each
SPLIT = "2x1 data"

NET = """
from flax import nnx
from jnas.nets import OneOf, functional

def make(classes, image, inputs, width):
    class Dense(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(image * image * inputs, width, rngs=rngs)
            acts = {"relu": nnx.relu, "tanh": nnx.tanh, "swish": nnx.swish}
            self.act = OneOf(acts, name="act")
            wide = {"linear": nnx.Linear(width, width, rngs=rngs), "skip": lambda x: x}
            self.middle = OneOf(wide, name="middle")
            self.last = nnx.Linear(width, classes, rngs=rngs)

        def __call__(self, x):
            x = self.act(self.first(x.reshape(x.shape[0], -1)))
            return self.last(self.middle(x))

    return functional(Dense)
"""

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({setting!r})
"""


def setting(flags: argparse.Namespace) -> dict[str, Any]:
    """The config of the search."""
    return {
        "space": "scale_net:make",
        "net": {"width": flags.width},
        "strategy": {"name": "regularized_evolution", "population": 16, "sample": 4},
        "data": {"name": "digits", "data_dir": ""},
        "mesh": {"pop": 0, "data": 1},
        "train": {"steps": flags.steps, "batch_size": 64, "plan": "map"},
        "final": {"steps": 1},
        "evaluations": flags.candidates * flags.generations,
        "batch": flags.candidates,
        "chunk": 1,
        "seed": 0,
    }


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def search(folder: Path, name: str, processes: int, devices: int, data: int = 1) -> dict[str, Any]:
    """Runs the search as so many processes of so many devices; its `result.json`.

    Raises:
      RuntimeError: a process failed; the message is what it wrote.
    """
    path = os.pathsep.join(map(str, (folder, ROOT, os.environ.get("PYTHONPATH", ""))))
    split = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": split}
    environment["JNAS_DATA_DIR"] = str(folder / "data")
    command = [sys.executable, "-m", "jnas", "search", f"--config={folder / 'scale.py'}"]
    command += [f"--workdir={folder / name}", f"--config.mesh.data={data}"]
    if processes > 1:
        command += [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={processes}"]
    with contextlib.ExitStack() as stack:
        running = []
        for i in range(processes):
            log = stack.enter_context(tempfile.TemporaryFile("w+"))
            mine = [*command, f"--process_id={i}"] if processes > 1 else command
            child = subprocess.Popen(mine, env=environment, stdout=log, stderr=log)
            running.append((stack.enter_context(child), log))
        for child, log in running:
            if child.wait():
                log.seek(0)
                raise RuntimeError(f"{name}: exit code {child.returncode}: {log.read()}")
    return json.loads((folder / name / "result.json").read_text())


def numbers(history: bytes) -> np.ndarray:
    """The columns of a history that hold numbers: float[n, m]."""
    rows = [row.split(",") for row in history.decode().splitlines()[1:]]
    return np.asarray([[float(x) for x in row[3:]] for row in rows])


def folder_bytes(path: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def compare(flags: argparse.Namespace) -> dict[str, Any]:
    """Runs all layouts and returns what the last line shows."""
    steps = flags.candidates * flags.generations * flags.steps
    say(f"{flags.generations} generations of {flags.candidates} candidates on {device()}")
    layouts = {f"{p}x{d}": (p, d, 1) for p, d in LAYOUTS} | {SPLIT: (2, 1, 2)}
    rate: dict[str, float] = dict.fromkeys(layouts, 0.0)
    histories: dict[str, set[bytes]] = {name: set() for name in layouts}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "scale_net.py").write_text(NET)
        (folder / "scale.py").write_text(CONFIG.format(setting=setting(flags)))
        for i in range(flags.rounds):
            for name, (processes, devices, data) in layouts.items():
                run = f"{name} {i}".replace(" ", "_")
                found = search(folder, run, processes, devices, data)
                rate[name] = max(rate[name], steps / found["seconds"])
                histories[name].add((folder / run / "history.csv").read_bytes())
                say(f"{name}: {rate[name]:.0f} candidate-steps per second")
        kept = (folder / "1x1_0" / "checkpoints").iterdir()
        last = max((p for p in kept if p.is_dir()), key=lambda p: int(p.name))
        saved = folder_bytes(last)
    spread = set().union(*(histories[name] for name in layouts if name != SPLIT))
    one = numbers(next(iter(histories["1x1"])))
    split = numbers(next(iter(histories[SPLIT])))
    same_shape = one.shape == split.shape
    apart = float((np.abs(split - one) / np.maximum(np.abs(one), 1)).max()) if same_shape else 1e9
    metrics = one.shape[1] - 2  # score and weight follow from them
    return {
        "equal": len(spread) == 1,
        "candidate_steps_per_second": rounded(rate, 4),
        "data_difference": float(f"{apart:.2g}"),
        "checkpoint_bytes": saved,
        "gathered_bytes": 4 * metrics * flags.candidates,
        "cores": os.cpu_count(),
        "candidates": flags.candidates,
        "generations": flags.generations,
        "steps": flags.steps,
        "width": flags.width,
        "rounds": flags.rounds,
        "device": device(),
    }


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--candidates", 16, "candidates in a generation, a multiple of 8")
    flags.add_count("--generations", 4, "generations of the search")
    flags.add_count("--steps", 400, "training steps of a candidate")
    flags.add_count("--width", 64, "units of a hidden layer")
    flags.add_count("--rounds", 1, "times all layouts run, in turn; the best of each counts")
    return flags


def checked(flags: argparse.Namespace) -> dict[str, Any]:
    """`compare`, for a number of candidates that fills 8 devices evenly."""
    if flags.candidates % 8:
        raise InputError(f"--candidates={flags.candidates} is not a multiple of 8")
    return compare(flags)


if __name__ == "__main__":
    sys.exit(main("scale", parser(), checked))
