"""Injects faults into searches at random moments, and compares what they end with.

Command: python experiments/benchmarks/faults.py --rounds=50
Every round injects every fault once, each into a search of its own: a real `jnas search` in a
process of its own, which is hit, and then run again by the same command until it is complete. The
last line is JSON: how often each fault was injected, `rounds`, `lost` (trials or results that are
missing at the end), `unequal` (runs whose history or result differs from the undisturbed run) and
`unclear` (runs that did not end or did not speak as docs/faults.md says). All three have to be 0.
`missed` counts searches that ended before their moment came; they are begun again.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from _fault_runs import (
    Missed,
    Outcome,
    Run,
    Unclear,
    get_config,
    outcome,
    search_hungry,
    search_table,
)
from _lost_process import lost_process
from _timing import Parser, main, say

from jnas.base import InputError

IN_NAMESPACE = "JNAS_FAULTS_MAY_MOUNT"
DISK = 4 << 20  # bytes of the disk that is filled
ATTEMPTS = 10  # to hit a search before it ends


def begun(folder: Path, draw: random.Random, early: float = 0.0) -> Run:
    """A search that has come to a random moment of its life; `early`: how often while compiling."""
    config = get_config()
    lines = draw.randrange(1, config.seeds * config.evaluations + 2)
    if draw.random() < early:
        lines = 0
    return Run(folder).wait_until(lines, draw.uniform(0, 0.3))


def killed(folder: Path, draw: random.Random) -> list[str]:
    """Kills a search at a random moment; the numbers of the checkpoints it leaves, oldest first."""
    run = begun(folder, draw)
    run.signal(signal.SIGKILL)
    run.expect(-signal.SIGKILL, "")
    steps = [p.stem for p in (folder / "checkpoints").glob("*.json")]
    if len(steps) < 2:
        raise Missed
    return sorted(steps, key=int)


def flip(file: Path, draw: random.Random) -> None:
    """Flips one bit."""
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def truncate(file: Path, draw: random.Random) -> None:
    """Cuts a file to a random shorter length."""
    os.truncate(file, draw.randrange(file.stat().st_size))


def one_file(folder: Path, step: str, draw: random.Random) -> Path:
    """A random file of a checkpoint, or its seal."""
    inside = sorted(
        p for p in (folder / "checkpoints" / step).rglob("*") if p.is_file() and p.stat().st_size
    )
    return draw.choice([folder / "checkpoints" / f"{step}.json", *inside])


# ---------------------------------------------------------------------------- the faults


def sigterm(folder: Path, draw: random.Random) -> str:
    run = begun(folder, draw, early=0.2)
    run.signal(signal.SIGTERM)
    run.expect(143, "stopped by SIGTERM")
    return ""


def kill(folder: Path, draw: random.Random) -> str:
    run = begun(folder, draw, early=0.2)
    run.signal(signal.SIGKILL)
    run.expect(-signal.SIGKILL, "")
    return ""


def truncated_checkpoint(folder: Path, draw: random.Random) -> str:
    truncate(one_file(folder, killed(folder, draw)[-1], draw), draw)
    return "going on from checkpoint"


def flipped_checkpoint(folder: Path, draw: random.Random) -> str:
    flip(one_file(folder, killed(folder, draw)[-1], draw), draw)
    return "going on from checkpoint"


def no_sound_checkpoint(folder: Path, draw: random.Random) -> str:
    for step in killed(folder, draw):
        flip(one_file(folder, step, draw), draw)
    return "the run starts over"


def damaged_history(folder: Path, draw: random.Random) -> str:
    steps = killed(folder, draw)
    file = folder / "history.csv"
    counted = json.loads((folder / "checkpoints" / f"{steps[-1]}.json").read_text())["bytes"]
    os.truncate(file, counted)
    draw.choice([flip, truncate])(file, draw)
    return "is taken from its copy"


def damaged_config(folder: Path, draw: random.Random) -> str:
    killed(folder, draw)
    draw.choice([flip, truncate])(folder / "config.json", draw)
    return "config.json was damaged"


def damaged_result(folder: Path, draw: random.Random) -> str:
    Run(folder).expect(0, "")
    draw.choice([flip, truncate])(folder / "result.json", draw)
    return "result.json is damaged"


def full_disk(folder: Path, draw: random.Random) -> str:
    """A disk of its own, which something else fills at a random moment."""
    folder.mkdir()
    size = f"size={DISK}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    run = begun(folder, draw)
    with open(folder / "filler", "wb", buffering=0) as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(bytes(1 << 16))
        f.truncate(max(f.tell() - draw.randrange(1 << 16), 0))  # leaves room for a part of a save
    try:
        run.expect(74, "No space left on device")
    finally:
        (folder / "filler").unlink()
    return ""


def file_limit(folder: Path, draw: random.Random) -> str:
    """The user may write no file longer than a random length, from a random moment on."""
    run = begun(folder, draw)
    limit = draw.randrange(1 << draw.randrange(4, 14))
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    run.expect(74, "File too large")
    return ""


def full_memory(folder: Path, draw: random.Random) -> str:
    """The process may take no more than a random amount of memory, from a random round on."""
    run = Run(folder, search_hungry).wait_until(1 + 8 * draw.randrange(1, 5), 0)
    used = run.memory_between()
    limit = used + draw.randrange(200 << 20, 450 << 20)
    resource.prlimit(run.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        run.expect(0, "going on with half as many candidates")
    except Unclear:
        if run.process.exitcode != -signal.SIGABRT or b"std::bad_alloc" not in run.said:
            raise  # else native code had no memory at all, which docs/faults.md names
    return ""


def always() -> bool:
    return True


def mounts() -> bool:
    return IN_NAMESPACE in os.environ


def limits() -> bool:
    return hasattr(resource, "prlimit") and Path("/proc/self/statm").exists()


class Fault(NamedTuple):
    """A fault: injects itself, and returns words of the line that the next run has to say."""

    inject: Callable[[Path, random.Random], str]
    search: Callable[[Path], int] = search_table
    possible: Callable[[], bool] = always  # on this machine


FAULTS: dict[str, Fault] = {
    "sigterm": Fault(sigterm),
    "kill": Fault(kill),
    "truncated_checkpoint": Fault(truncated_checkpoint),
    "flipped_checkpoint": Fault(flipped_checkpoint),
    "no_sound_checkpoint": Fault(no_sound_checkpoint),
    "damaged_history": Fault(damaged_history),
    "damaged_config": Fault(damaged_config),
    "damaged_result": Fault(damaged_result),
    "full_disk": Fault(full_disk, possible=mounts),
    "file_limit": Fault(file_limit, possible=limits),
    "full_memory": Fault(full_memory, search_hungry, limits),
}
LOST = "lost_process"  # a search of several processes, which compares its histories itself
NAMES = [*FAULTS, LOST]


def hit(name: str, folder: Path, draw: random.Random) -> list[str]:
    """Injects one fault and gives the same command again; returns complaints about how they spoke.

    Raises:
      Missed: the search ended before its moment.
    """
    fault, words, complaints = FAULTS[name], "", []
    try:
        words = fault.inject(folder, draw)
    except Unclear as e:
        complaints.append(str(e))
    try:
        Run(folder, fault.search).expect(0, words)
    except Unclear as e:
        complaints.append(str(e))
    return complaints


class Trace(NamedTuple):
    """What one fault has left."""

    found: Outcome | None  # None where every moment was missed, or the fault compares for itself
    complaints: list[str]
    missed: int
    unequal: int = 0  # histories that the fault itself found to differ


def lost(place: Path, seed: str) -> Trace:
    """A process of a search over two processes is lost; both searches are of one random seed."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        try:
            lost_process(Path(folder), random.Random(f"{seed} {LOST}"))
        except AssertionError as e:
            return Trace(None, [str(e)], 0, unequal=int("history" in str(e)))
    return Trace(None, [], 0)


def one(name: str, place: Path, seed: str) -> Trace:
    """One fault at a random moment, in a folder of its own."""
    if name == LOST:
        return lost(place, seed)
    for attempt in range(ATTEMPTS):
        folder = place / f"{name}-{seed.split()[-1]}-{attempt}"
        try:
            complaints = hit(name, folder, random.Random(f"{seed} {name} {attempt}"))
            return Trace(outcome(folder), complaints, attempt)
        except Missed:
            continue
        finally:
            if os.path.ismount(folder):
                subprocess.run(["umount", str(folder)], check=True)
            shutil.rmtree(folder, ignore_errors=True)
    return Trace(None, [], ATTEMPTS)


def undisturbed(search: Callable[[Path], int], place: Path) -> Outcome:
    """What a search leaves that nothing befalls."""
    folder = place / search.__name__
    Run(folder, search).expect(0, "")
    return outcome(folder)


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """Injects all faults and returns what the last line shows."""
    names = flags.only.split(",") if flags.only else NAMES
    for name in names:
        if name not in NAMES:
            raise InputError(f"--only: unknown fault {name!r}; allowed: {', '.join(NAMES)}")
    possible = [name for name in names if name == LOST or FAULTS[name].possible()]
    if len(possible) < len(names):
        say(f"not possible on this machine: {', '.join(sorted({*names} - {*possible}))}")
    injected, started = Counter(dict.fromkeys(possible, 0)), time.perf_counter()
    totals = dict.fromkeys(("lost", "unequal", "unclear", "missed"), 0)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(flags.workers) as pool:
        place = Path(temporary)
        searches = {FAULTS[name].search for name in possible if name != LOST}
        whole = {search: undisturbed(search, place) for search in searches}
        # All of them at once, so that no worker waits for the slowest fault of a round.
        run = lambda name, number: one(name, place, f"{flags.seed} {number}")
        jobs = [[pool.submit(run, n, i) for n in possible] for i in range(flags.rounds)]
        for number, traces in enumerate(jobs):
            for name, trace in ((n, t.result()) for n, t in zip(possible, traces, strict=True)):
                totals["missed"] += trace.missed
                totals["unequal"] += trace.unequal
                if trace.found is not None:
                    expected = whole[FAULTS[name].search]
                    totals["lost"] += expected.lost(trace.found)
                    totals["unequal"] += expected != trace.found
                if trace.found is not None or name == LOST:
                    injected[name] += 1
                    totals["unclear"] += bool(trace.complaints)
                for text in trace.complaints:
                    say(f"unclear after {name}: {text}")
            spent = round(time.perf_counter() - started)
            say(f"round {number + 1} of {flags.rounds}: {spent} s, {json.dumps(totals)}")
    seconds = round(time.perf_counter() - started)
    return {**injected, "rounds": flags.rounds, **totals, "seed": flags.seed, "seconds": seconds}


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--rounds", 50, "how often every fault is injected")
    flags.add_count("--workers", os.cpu_count() or 1, "how many faults run side by side")
    flags.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    flags.add_argument(
        "--only", default="", metavar="FAULT,...", help=f"some of {', '.join(NAMES)}"
    )
    return flags


def may_mount() -> None:
    """Starts this program again where it may mount a disk of its own, if there is such a place."""
    enter = ["unshare", "--user", "--map-root-user", "--mount"]
    if IN_NAMESPACE in os.environ or shutil.which("unshare") is None:
        return
    with tempfile.TemporaryDirectory() as place:
        probe = [*enter, "mount", "-t", "tmpfs", "tmpfs", place]
        if subprocess.run(probe, capture_output=True).returncode:
            return
    os.environ[IN_NAMESPACE] = "1"
    os.execvp(enter[0], [*enter, sys.executable, *sys.argv])


if __name__ == "__main__":
    may_mount()
    with tempfile.TemporaryDirectory() as cache:  # so that a search is compiled once
        os.environ |= {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        sys.exit(main("faults", parser(), measure))
