"""The searches that the benchmark of faults hits: made up, small, each in a process of its own."""

import csv
import json
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import jnas
from jnas import cli, recipes
from jnas.base import Evaluator, Space, Trials, index, size
from jnas.files import write_json

HERE = Path(__file__).resolve()
SPACE = Space("made_up", np.full(6, 4))
FRESH = multiprocessing.get_context("forkserver")  # clean processes, with the imports done once
FRESH.set_forkserver_preload([HERE.stem])
TIMES = ("seconds", "compile_seconds")
NUMBERS = 16 << 20  # that a candidate of the hungry evaluator holds, of 4 bytes each


def get_config() -> ConfigDict:
    """The search: this file is its own config. 10 checkpoints, some seconds."""
    return ConfigDict(
        {
            "space": f"{HERE.stem}:made_up",
            "table": "made_up",
            "strategy": {"name": "regularized_evolution", "population": 8, "sample": 3},
            "evaluations": 80,
            "batch": 2,
            "chunk": 4,
            "seed": 0,
            "seeds": 2,
        }
    )


def made_up(table: str = "", dataset: str = "") -> Any:
    """The space, or its table."""
    del dataset
    if not table:
        return SPACE
    draw = np.random.default_rng(0)
    return {name: draw.uniform(50, 95, size(SPACE)) for name in ("val_acc_200", "test_acc_200")}


def hungry(at_once: int) -> Evaluator:
    """Scores by many numbers for each candidate, held in memory for `at_once` candidates."""

    def evaluate(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        del key
        times = 2 + (trials.weight[0] > 0)  # not known when it is compiled, so no loop is unrolled

        def one(i: jax.Array) -> jax.Array:
            numbers = jnp.arange(NUMBERS, dtype=jnp.uint32) + i.astype(jnp.uint32)
            held = jax.lax.fori_loop(0, times, lambda _, x: x * 5 + 1, numbers)
            return jnp.sum(held[:: NUMBERS // 64] // 7 % 1000).astype(jnp.float32)

        score = jax.lax.map(one, index(SPACE, trials.arch), batch_size=at_once)
        return trials._replace(score=score), state

    halve = None if at_once == 1 else lambda: hungry(at_once // 2)
    return Evaluator(lambda key: (), evaluate, halve)


def search_table(folder: Path) -> int:
    """`jnas search` of the config above."""
    return cli.main(["search", f"--config={HERE}", f"--workdir={folder}"])


def search_hungry(folder: Path) -> int:
    """A search whose evaluator can be halved."""
    strategy = recipes.regularized_evolution(SPACE, population=8, sample=3)
    found = jnas.run(
        strategy, hungry(8), SPACE, evaluations=48, batch=8, chunk=1, workdir=folder, verbose=False
    )
    write_json(folder / "result.json", {"best_architecture": found.best_architecture})
    return 0


class Missed(Exception):
    """The search ended before the fault could be injected."""


class Unclear(Exception):
    """A run did not end, or did not speak, as it is documented."""


class Run:
    """A search in a process of its own; what it says on standard error is kept."""

    def __init__(self, folder: Path, search: Callable[[Path], int] = search_table):
        self.folder, self.said = folder, b""
        receive, send = FRESH.Pipe(duplex=False)
        self.process = FRESH.Process(target=_child, args=(search, folder, send))
        self.process.start()
        send.close()
        self._reader = threading.Thread(target=self._read, args=(receive,), daemon=True)
        self._reader.start()

    def _read(self, receive: Connection) -> None:
        while text := os.read(receive.fileno(), 1 << 16):
            self.said += text

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait_until(self, lines: int, then: float) -> "Run":
        """Returns when the history has so many lines and so many seconds have passed."""
        history = self.folder / "history.csv"
        while self.process.is_alive():
            if history.exists() and history.read_bytes().count(b"\n") >= lines:
                break
            time.sleep(0.005)
        time.sleep(then)
        if not self.process.is_alive():
            raise Missed
        return self

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def memory_between(self) -> int:
        """The bytes of its address space as soon as the hungry evaluator gives its own back."""
        most = 0
        while self.process.is_alive():
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[0]
            now = int(pages) * resource.getpagesize()
            most = max(most, now)
            if now < most - 4 * NUMBERS:
                return now
            time.sleep(0.002)
        raise Missed

    def end(self) -> tuple[int, str]:
        """The exit code and what was said on standard error."""
        self.process.join(300)
        if self.process.is_alive():
            self.process.kill()
            raise Unclear("it hangs")
        assert self.process.exitcode is not None
        self._reader.join(10)
        return self.process.exitcode, self.said.decode(errors="replace")

    def expect(self, code: int, words: str) -> None:
        """Raises where the exit code or the line on standard error is another one."""
        found, text = self.end()
        lines = [line for line in text.splitlines() if line.startswith("jnas: ")]
        if found == 0 != code:
            raise Missed
        if found != code or "Traceback" in text or (words and not any(words in x for x in lines)):
            raise Unclear(f"exit code {found} in place of {code}, {words!r} not in: {text[:3000]}")


def _child(search: Callable[[Path], int], folder: Path, errors: Connection) -> None:
    os.dup2(errors.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(search(folder))


class Outcome(NamedTuple):
    """What a complete run has left."""

    history: bytes
    result: dict[str, Any]

    def lost(self, other: "Outcome") -> int:
        """Trials and results that are here and are not in the other."""
        rows = [Counter(map(tuple, csv.reader(x.history.decode(errors="replace").splitlines())))
                for x in (self, other)]  # fmt: skip
        return (rows[0] - rows[1]).total() + len(set(self.result) - set(other.result))


def outcome(folder: Path) -> Outcome:
    """Reads a folder; what is missing is empty."""
    read = lambda name: (folder / name).read_bytes() if (folder / name).exists() else b""
    found = json.loads(read("result.json") or b"{}")
    return Outcome(read("history.csv"), {k: v for k, v in found.items() if k not in TIMES})
