"""Search on the host: whenever a worker is free, it gets the next proposal."""

import contextlib
import heapq
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Evaluator, InputError, Space, Strategy, Trials, template, to_vector
from jnas.compiling import jit
from jnas.errors import positive
from jnas.faults import warn
from jnas.history import Result, Table, result_of
from jnas.runs import Progress, RunFolder

SAVE_EVERY = 2.0  # seconds
MOST_ROWS = 64  # that are asked for at once, for each worker


class Job(NamedTuple):
    """A proposal that a worker is at."""

    row: Trials  # leaves [1, ...], on the host
    arch: Any
    budget: float
    code: bytes  # of the architecture
    new: bool  # it was never evaluated before


Outcome = tuple[Job, Any, float]  # the value or the exception, and when it was there


class _Real:
    """A pool of threads or processes, on the clock of the wall."""

    def __init__(self, evaluate: Callable, workers: int, processes: bool, seconds: float):
        self._workers, self._processes = workers, processes
        self._evaluate, self._pool = evaluate, self._make()
        self._jobs: dict[Future, Job] = {}
        self._start = time.perf_counter() - seconds

    def _make(self) -> Executor:
        if self._processes:  # forked ones could not use JAX
            return ProcessPoolExecutor(self._workers, multiprocessing.get_context("spawn"))
        return ThreadPoolExecutor(self._workers)

    def submit(self, job: Job) -> None:
        try:
            future = self._pool.submit(self._evaluate, job.arch, job.budget)
        except BrokenExecutor:  # a process was killed
            self._pool = self._make()
            future = self._pool.submit(self._evaluate, job.arch, job.budget)
        self._jobs[future] = job

    def results(self) -> list[Outcome]:
        wait(self._jobs, return_when=FIRST_COMPLETED)
        now = time.perf_counter() - self._start
        ended = [future for future in self._jobs if future.done()]
        return [(self._jobs.pop(f), f.exception() or f.result(), now) for f in ended]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Simulated:
    """Workers on a simulated clock: an evaluation takes the seconds of its metric `cost`."""

    def __init__(self, evaluate: Callable):
        self._evaluate, self._now, self._number = evaluate, 0.0, 0
        self._events: list[tuple[float, int, Job, Any]] = []

    def submit(self, job: Job) -> None:
        try:
            value = self._evaluate(job.arch, job.budget)
        except Exception as e:
            value = e
        seconds = 0.0 if isinstance(value, Exception) else _parts(value)[1].get("cost")
        if seconds is None:
            raise InputError("simulate: evaluate has to return (score, metrics) with 'cost'")
        self._number += 1  # of events at the same time, the first to begin comes first
        heapq.heappush(self._events, (self._now + float(seconds), self._number, job, value))

    def results(self) -> list[Outcome]:
        self._now, _, job, value = heapq.heappop(self._events)
        return [(job, value, self._now)]

    def close(self) -> None:
        pass


def run_async(
    strategy: Strategy,
    evaluate: Callable[[Any, float], Any],
    space: Space,
    *,
    evaluations: int,
    workers: int = 2,
    seed: int = 0,
    processes: bool = False,
    simulate: bool = False,
    workdir: str | Path | None = None,
    setting: dict[str, Any] | None = None,
    verbose: bool = True,
) -> Result:
    """Searches with a Python function that workers run side by side, none waiting for another.

    The strategy is asked whenever a worker is free and is told each result as it arrives, so with
    `jnas.links.asha` this is ASHA as published. A proposal that somebody is working on is not
    given out again, and neither is one whose evaluation failed.

    With a `workdir`, history and state are on disk with every result (but not more often than
    every two seconds); the same call on the same folder goes on from there. What was being
    evaluated is proposed anew.

    Args:
      strategy: what proposes and learns.
      evaluate: `(architecture, budget) -> score` or `(score, metrics)`, with an architecture of
        NumPy ints and a budget in (0, 1]. An exception or a score that is not finite makes the
        trial a failed one.
      space: the space searched.
      evaluations: trials, failed ones included.
      workers: evaluations at the same time.
      seed: of the search.
      processes: run `evaluate` in processes of their own (it has to be importable there) instead
        of threads.
      simulate: no waiting: an evaluation takes as many simulated seconds as its metric `cost`
        says. The search is then deterministic.
      workdir: the folder of the run.
      setting: what has to be equal for the run in `workdir` to go on.
      verbose: print progress to standard error.

    Returns:
      The result; the column `clock` of its history is when each trial was done, in seconds.

    Raises:
      InputError: numbers that do not fit, or a folder that holds another run.
    """
    positive(evaluations=evaluations, workers=workers)
    if simulate and workdir is not None:
        raise InputError(f"workdir={str(workdir)!r}: a simulated search has none, it is repeatable")
    numbers = {"evaluations": evaluations, "workers": workers, "seed": seed}
    loop = _Loop(strategy, space, workers, seed)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(RunFolder(workdir, numbers if setting is None else setting))
        seconds = loop.restore(folder)
        pool: Any = _Simulated(evaluate) if simulate else None
        pool = pool or _Real(evaluate, workers, processes, seconds)
        stack.callback(pool.close)
        meter = Progress("search", evaluations, loop.done, seconds, verbose)
        saved, unsaved = time.perf_counter(), list[dict[str, Any]]()
        while loop.done < evaluations:
            while len(loop.pending) < min(workers, evaluations - loop.done):
                pool.submit(loop.next())
            for job, value, seconds in pool.results():
                unsaved += loop.told(job, value, seconds)
            late = time.perf_counter() - saved >= SAVE_EVERY or loop.done == evaluations
            if late and unsaved:
                folder.save(loop.carry, loop.done, seconds, unsaved)
                saved, unsaved = time.perf_counter(), []
            meter.show(loop.done, f"best {loop.table.best_score:.4f}")
        meter.end()
    history = loop.history()
    return result_of(
        history, space, evaluations=evaluations, seconds=seconds, compile_seconds=0.0, seed=seed
    )


class _Loop:
    """The strategy, one row at a time, and what is pending."""

    def __init__(self, strategy: Strategy, space: Space, workers: int, seed: int):
        self._strategy, self._space, self._workers = strategy, space, workers
        self._key = jax.random.key(seed)
        self._asks: dict[int, Callable] = {}
        self._tell = jit(lambda k, i, row, s: strategy.tell(jax.random.fold_in(k, i), row, s)[1])
        state = jit(strategy.init)(jax.random.fold_in(self._key, 0), template(space))
        self.carry = (state, jnp.int32(0))  # and how often it was asked
        self.pending: list[Job] = []
        self.done = 0
        self.table = Table(space, seed, 1, 1)
        self._known: set[str] = set()  # architectures evaluated
        self._failed: set[tuple[str, float]] = set()
        self._metrics: list[str] | None = None
        self._early: list[tuple[Job, float]] = []  # failed before any metrics were known

    def restore(self, folder: RunFolder) -> float:
        """Goes on from a folder; the seconds that were spent."""
        self.carry, self.done, seconds = folder.restore(self.carry)
        rows = folder.rows()
        self.table.extend(rows)
        for row in rows:
            self._note(row)
        if rows:
            own = ("seed", "evaluation", "architecture", "score", "weight", "budget", "clock")
            self._metrics = [name for name in rows[0] if name not in own]
        return seconds

    def next(self) -> Job:
        """A proposal that nobody works on."""
        state, asked = self.carry
        n = self._workers
        while True:
            ask = self._asks.setdefault(n, jit(lambda k, i, s, n=n: self._strategy.ask(
                jax.random.fold_in(k, i), s, n)))  # fmt: skip
            batch = jax.device_get(ask(_stream(self._key, 1), asked, state))
            jobs = [self._job(batch, i) for i in range(n)]
            free = list(self._free(jobs))
            if free or n >= self._workers * MOST_ROWS:
                break
            n *= 4
        self.carry = (state, asked + 1)
        job = free[0] if free else jobs[0]
        self.pending.append(job)
        return job

    def _job(self, batch: Trials, i: int) -> Job:
        row = jax.tree.map(lambda x: x[i : i + 1], batch)
        arch = jax.tree.map(lambda x: x[0], row.arch)
        budget = 1.0 if row.budget is None else float(row.budget[0])
        code = np.asarray(to_vector(self._space, row.arch), np.int32).tobytes()
        return Job(row, arch, budget, code, self._space.describe(arch) not in self._known)

    def _free(self, jobs: list[Job]) -> Iterator[Job]:
        """The jobs of a batch less those that are being done or have failed.

        A job equals a pending one by architecture and budget. A new candidate that is pending
        stands for one of the batch's new ones of its budget: a rung needs so many fewer.
        """
        left = list(jobs)
        for busy in self.pending:
            same = [j for j in left if (j.code, j.budget) == (busy.code, busy.budget)]
            like = [j for j in left if busy.new and j.new and j.budget == busy.budget]
            if found := (same or like):
                left = [j for j in left if j is not found[0]]
        for job in left:
            if (self._space.describe(job.arch), job.budget) not in self._failed:
                yield job

    def told(self, job: Job, value: Any, seconds: float) -> list[dict[str, Any]]:
        """Tells a result; the rows that it adds to the history."""
        self.pending = [j for j in self.pending if j is not job]
        self.done += 1
        try:
            if isinstance(value, BaseException):
                raise value
            score, metrics = _parts(value)
            names = sorted(metrics)
            if self._metrics is not None and names != self._metrics:
                raise ValueError(f"the metrics are {names}, before they were {self._metrics}")
        except InputError:
            raise
        except Exception as e:
            about = " ".join(f"{type(e).__name__}: {e}".split())[:200]
            warn(f"an evaluation of {self._space.describe(job.arch)} failed: {about}")
            score, metrics = np.nan, None
        if metrics is None:
            self._failed.add((self._space.describe(job.arch), job.budget))
            self._early.append((job, seconds))
            return self._flush() if self._metrics is not None else []
        self._metrics = names
        rows = self._flush()
        row = self._filled(job, score, metrics)
        state, asked = self.carry
        self.carry = (self._tell(_stream(self._key, 2), self.done, row, state), asked)
        return rows + self._add(row, seconds)

    def _flush(self) -> list[dict[str, Any]]:
        rows = []
        for job, seconds in self._early:
            zeros = dict.fromkeys(self._metrics or [], 0.0)
            rows += self._add(self._filled(job, np.nan, zeros), seconds)
        self._early = []
        return rows

    def _filled(self, job: Job, score: float, metrics: Mapping[str, float]) -> Trials:
        """The row of a job with its score, weight 0 where it is not finite."""
        fine = bool(np.isfinite(score))
        number = lambda x: np.asarray([x], np.float32)
        return job.row._replace(
            score=number(score if fine else 0.0),
            weight=job.row.weight * np.float32(fine),
            metrics={name: number(metrics[name]) for name in sorted(metrics)},
        )

    def _add(self, row: Trials, seconds: float) -> list[dict[str, Any]]:
        metrics = {**row.metrics, "clock": np.asarray([seconds], np.float32)}
        shown = row._replace(metrics=metrics, trace=(), grad=None)
        new = self.table.add(jax.tree.map(lambda x: x[None], shown), len(self.table.rows))
        for found in new:
            self._note(found)
        return new

    def _note(self, row: dict[str, Any]) -> None:
        self._known.add(row["architecture"])
        if row["weight"] == 0:
            self._failed.add((row["architecture"], row.get("budget", 1.0)))

    def history(self) -> dict[str, np.ndarray]:
        """All rows as columns."""
        self._flush()
        return self.table.columns()


def _stream(key: jax.Array, number: int) -> jax.Array:
    return jax.random.fold_in(key, number)


def _parts(value: Any) -> tuple[float, dict[str, float]]:
    """Score and metrics of what `evaluate` returned."""
    score, metrics = value if isinstance(value, tuple) else (value, {})
    return float(score), {k: float(v) for k, v in metrics.items() if k != "clock"}


def as_function(evaluator: Evaluator, seed: int = 0) -> Callable[[Any, float], Any]:
    """An evaluator such as a table as a function for `run_async`, with its state inside.

    It is not for threads or processes side by side: simulate.
    """
    key = jax.random.key(seed)
    state, calls = evaluator.init(jax.random.fold_in(key, 0)), 0

    @jit
    def one(number: jax.Array, arch: Any, budget: jax.Array, state: Any) -> tuple:
        row = Trials(jax.tree.map(lambda x: x[None], arch), weight=jnp.ones(1), budget=budget[None])
        return evaluator.evaluate(jax.random.fold_in(key, number), row, state)

    def evaluate(arch: Any, budget: float) -> tuple[float, dict[str, float]]:
        nonlocal state, calls
        calls += 1
        trials, state = one(calls, arch, jnp.float32(budget), state)
        return float(trials.score[0]), {k: float(v[0]) for k, v in trials.metrics.items()}

    return evaluate
