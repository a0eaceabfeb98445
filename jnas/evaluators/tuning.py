"""The plan of a population, chosen by a short measurement and remembered on disk."""

import contextlib
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from jnas import cache, cluster
from jnas._version import __version__
from jnas.base import InputError
from jnas.compiling import jit
from jnas.evaluators.plans import PLANS, Plan, chunk_of, population
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


class Tuner:
    """The plan of an evaluator for every size of its batches.

    Args:
      probe: a short piece of the work of one row.
      rows: makes a batch of any number of rows for it.
      plan: a plan, its name, or `auto`.
      memory: the bytes that the rows on one device may hold, 0 for `memory_budget()`.
      groups: over how many groups of devices a batch is spread.
      file: where plans are kept for a run that goes on; None for nowhere.
    """

    def __init__(
        self,
        probe: Callable[[Any], Any],
        rows: Callable[[int], Any],
        plan: str | Plan,
        memory: int = 0,
        groups: int = 1,
        file: Path | None = None,
    ):
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 0:
            raise InputError(f"memory={memory!r}: a number of bytes is needed, or 0")
        self._probe, self._rows, self._memory = probe, rows, memory
        self._asked = Plan(plan) if isinstance(plan, str) and plan != "auto" else plan
        self._groups, self._file = groups, file
        self._plans: dict[int, Plan] = {}

    def plan(self, n: int) -> Plan:
        """The plan for batches of n rows."""
        if n not in self._plans:
            if isinstance(self._asked, Plan) and self._asked.name == "map" and not self._memory:
                self._plans[n] = self._asked
            else:
                # In a thread of its own: in this one a search may be being traced.
                with ThreadPoolExecutor(1) as thread:
                    told = thread.submit(cluster.from_first, lambda: self._settle(n))
                    self._plans[n] = _read(told.result())
        return self._plans[n]

    def halved(self) -> Plan | None:
        """The plan with half the rows at once of the largest batch so far, if it can be halved."""
        if not self._plans:
            return None
        n = max(self._plans)
        plan, share = self._plans[n], -(-n // self._groups)
        size = chunk_of(plan, share)
        return None if plan.name == "map" or size < 2 else plan._replace(chunk=size // 2)

    def _settle(self, n: int) -> list:
        with remembered(self._file) as record:
            if str(n) not in record:
                batch = self._rows(min(n, ROWS))
                key = key_of(self._probe, batch, n)
                plan = choose(key, self._probe, batch) if self._asked == "auto" else self._asked
                assert isinstance(plan, Plan)
                record[str(n)] = _written(self._fitting(plan, key, batch, -(-n // self._groups)))
            return record[str(n)]

    def _fitting(self, plan: Plan, key: str, batch: Any, share: int) -> Plan:
        """The plan with a chunk that fits the memory."""
        budget = self._memory or memory_budget()
        few = jax.tree.map(lambda x: x[:2], batch)
        alone = plan.name == "map"
        at_once = 1 if alone else chunk_of(plan, share)
        if not self._memory and (alone or _bound(self._probe, few) * at_once <= budget):
            return plan
        each = row_bytes(key, plan, self._probe, few)
        if each > budget:
            raise InputError(f"memory={budget}: one candidate needs about {each} bytes")
        return plan if alone else plan._replace(chunk=min(at_once, budget // each))


def key_of(probe: Callable, batch: Any, *sizes: int) -> str:
    """A short name for a device, the versions and a piece of work."""
    device = jax.local_devices()[0]
    about = [__version__, jax.__version__, device.platform, device.device_kind, os.cpu_count()]
    row = jax.tree.map(lambda x: x[0], batch)
    work = re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(probe)(row)))
    return hashlib.sha256(repr([*about, *sizes, work]).encode()).hexdigest()[:24]


def choose(
    key: str, probe: Callable[[Any], Any], batch: Any, allowed: tuple[str, ...] = PLANS
) -> Plan:
    """The fastest plan for a batch.

    Args:
      key: the name under which the choice is remembered, of `key_of`.
      probe: a short piece of the work of one row.
      batch: its rows; the first few are run.
      allowed: the names of the plans to choose from.

    Returns:
      The plan, without a chunk.
    """
    with remembered(_named(key)) as record:
        if "plan" not in record:
            seconds = measure(probe, batch, allowed)
            best = min(seconds, key=lambda plan: seconds[plan])
            record["seconds"] = [[*_written(plan), s] for plan, s in seconds.items()]
            record["plan"] = _written(best)
        return _read(record["plan"])


def measure(
    probe: Callable[[Any], Any], batch: Any, allowed: tuple[str, ...] = PLANS
) -> dict[Plan, float]:
    """Seconds of every plan, with each form of the operations that it meets, for a few rows."""
    few = jax.tree.map(lambda x: x[:ROWS], batch)
    programs = {}
    for plan in _plans(probe, few, allowed):
        programs[plan] = jit(population(probe, plan)).lower(few).compile()
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
        for operation in sorted(asked - {"convs" if name == "map" else "conv"}):
            options: tuple[str, ...] = forms.FORMS[operation]
            if jax.default_backend() == "cpu" and operation in ("convs", "depthwise"):
                # XLA's grouped convolution is 20 to 100 times slower there.
                options = tuple(form for form in options if form != "lax")
            choices = [(*c, (operation, form)) for c in choices for form in options]
        yield from (Plan(name, forms=c) for c in choices)


def row_bytes(key: str, plan: Plan, probe: Callable[[Any], Any], few: Any) -> int:
    """The bytes that each row of a batch holds on a device while it runs, as XLA plans them."""
    with remembered(_named(key)) as record:
        name = json.dumps(["bytes", *_written(plan)])
        if name not in record:
            used = jit(population(probe, plan)).lower(few).compile().memory_analysis()
            total = 0 if used is None else used.temp_size_in_bytes + used.output_size_in_bytes
            many = 1 if plan.name == "map" else jax.tree.leaves(few)[0].shape[0]
            record[name] = max(1, int(total) // many)
        return record[name]


def _bound(probe: Callable, few: Any) -> int:
    """At least the bytes that a row holds: as if nothing that it computes were ever let go."""
    row = jax.tree.map(lambda x: x[0], few)
    return _made(jax.make_jaxpr(probe)(row).jaxpr)


def _made(program: Any) -> int:
    total = 0
    for equation in program.eqns:
        for made in equation.outvars:
            total += math.prod(made.aval.shape) * getattr(made.aval.dtype, "itemsize", 8)
        for value in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            total += _made(inner) if hasattr(inner, "eqns") else 0
    return total


def _written(plan: Plan) -> list:
    return [plan.name, plan.chunk, [list(pair) for pair in plan.forms]]


def _read(written: list) -> Plan:
    name, chunk, chosen = written
    return Plan(name, chunk, tuple((operation, form) for operation, form in chosen))


def _named(key: str) -> Path:
    return cache.folder() / "plans" / f"{key}.json"


@contextlib.contextmanager
def remembered(file: Path | None) -> Iterator[dict[str, Any]]:
    """A record on disk, read on entry and written on exit; without a file it is only a dict."""
    try:
        record = {} if file is None else json.loads(file.read_text())
    except (OSError, ValueError):
        record = {}
    before = json.dumps(record)
    yield record
    if file is not None and json.dumps(record) != before:
        # A folder that cannot be written costs time only.
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(record))
            os.replace(part, file)
