"""The plan of a population, chosen by a short measurement and remembered on disk."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from jnas import cache
from jnas._version import __version__
from jnas.evaluators.plans import PLANS, Plan, population
from jnas.nets import forms

ROWS = 8  # candidates in a measurement, at most
REPEATS = 3


def memory_budget() -> int:
    """The bytes that a population may hold on one device by default.

    On an accelerator 80 % of its memory; on CPU half of what is free, shared by the devices that
    the CPU is split into.
    """
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(0.8 * stats["bytes_limit"])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free // (2 * jax.local_device_count())


def key_of(*parts: Any) -> str:
    """A short name for device, versions and whatever else a measurement depends on."""
    device = jax.local_devices()[0]
    about = [__version__, jax.__version__, device.platform, device.device_kind, os.cpu_count()]
    return hashlib.sha256(repr([*about, *parts]).encode()).hexdigest()[:24]


def choose(key: str, probe: Callable[[Any], Any], batch: Any, allowed: tuple = PLANS) -> Plan:
    """The fastest plan for a batch.

    Args:
      key: the name under which the choice is remembered, from `key_of`.
      probe: a short piece of the work of one row.
      batch: its rows; the first few are run.
      allowed: the names of the plans to choose from.

    Returns:
      The plan, without a chunk.
    """
    with _remembered(key) as record:
        if "plan" not in record:
            seconds = measure(probe, batch, allowed)
            best = min(seconds, key=lambda plan: seconds[plan])
            record["seconds"] = [[*_written(plan), s] for plan, s in seconds.items()]
            record["plan"] = _written(best)
        name, chosen = record["plan"]
        return Plan(name, forms=tuple((operation, form) for operation, form in chosen))


def measure(
    probe: Callable[[Any], Any], batch: Any, allowed: tuple[str, ...] = PLANS
) -> dict[Plan, float]:
    """Seconds of every plan, with each form of the operations that it meets, for a few rows."""
    few = jax.tree.map(lambda x: x[:ROWS], batch)
    programs = {}
    for plan in _plans(probe, few, allowed):
        programs[plan] = jax.jit(population(probe, plan)).lower(few).compile()
        jax.block_until_ready(programs[plan](few))
    seconds = {plan: float("inf") for plan in programs}
    for _ in range(REPEATS):
        for plan, program in programs.items():
            started = time.perf_counter()
            jax.block_until_ready(program(few))
            seconds[plan] = min(seconds[plan], time.perf_counter() - started)
    return seconds


def _plans(probe: Callable, few: Any, allowed: tuple[str, ...]) -> Iterator[Plan]:
    for name in allowed:
        with forms.watched() as asked:
            jax.eval_shape(population(probe, name), few)
        choices: list[tuple[tuple[str, str], ...]] = [()]
        for operation in sorted(asked):
            options: tuple[str, ...] = forms.FORMS[operation]
            if jax.default_backend() == "cpu" and operation in ("convs", "depthwise"):
                options = options[:1]  # XLA's grouped convolution is 20 to 100 times slower there
            choices = [(*c, (operation, form)) for c in choices for form in options]
        yield from (Plan(name, forms=c) for c in choices)


def row_bytes(key: str, plan: Plan, probe: Callable[[Any], Any], batch: Any) -> int:
    """The bytes that each row of a batch holds on a device while it runs, as XLA plans them."""
    with _remembered(key) as record:
        name = json.dumps(["bytes", *_written(plan)])
        if name not in record:
            few = jax.tree.map(lambda x: x[:2], batch)
            used = jax.jit(population(probe, plan)).lower(few).compile().memory_analysis()
            n = jax.tree.leaves(few)[0].shape[0]
            total = 0 if used is None else used.temp_size_in_bytes + used.output_size_in_bytes
            record[name] = max(1, int(total) // n)
        return record[name]


def _written(plan: Plan) -> list:
    return [plan.name, [list(pair) for pair in plan.forms]]


class _remembered:
    """A record on disk, read on entry and written on exit; without a disk, it is only a dict."""

    def __init__(self, key: str):
        self.path = cache.folder() / "plans" / f"{key}.json"

    def __enter__(self) -> dict[str, Any]:
        try:
            self.record = json.loads(self.path.read_text())
        except (OSError, ValueError):
            self.record = {}
        self.before = dict(self.record)
        return self.record

    def __exit__(self, *error: Any) -> None:
        if error[0] is None and self.record != self.before:
            _write(self.path, json.dumps(self.record))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text)
        os.replace(part, path)
    except OSError:
        pass  # a cache that cannot be written costs time only
