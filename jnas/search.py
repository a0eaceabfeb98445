"""The loop: `search` as one scan, `run` as a host loop that can be killed and goes on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jnas import cluster
from jnas.base import Evaluator, InputError, Space, Strategy, Trials, settle, template
from jnas.compiling import jit
from jnas.errors import positive
from jnas.faults import out_of_memory, warn
from jnas.history import Result, Table, result_of
from jnas.quick_keys import QUICK, quick
from jnas.runs import Progress, RunFolder

Look = Callable[[tuple, Trials], Trials]  # of the carry after a round, and the round's trials
Over = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]  # from one row to a batch of rows
STRATEGIES = 2**31  # folded into a search's key for the keys of its strategy; rounds count from 1


def search(
    key: jax.Array,
    strategy: Strategy,
    evaluator: Evaluator,
    space: Space,
    *,
    steps: int,
    batch: int = 1,
    every: int = 1,
    look: Look | None = None,
) -> tuple[tuple[Any, Any], Trials]:
    """A whole search as one `lax.scan`; jit it, vmap it over keys or hyperparameters.

    Args:
      key: of the search.
      strategy: what proposes and learns.
      evaluator: what scores; it has to be jittable.
      space: shows the strategy the form of an architecture.
      steps: rounds of ask, evaluate and tell.
      batch: proposals in a round.
      every: rounds for one row of the history: it shows the last of so many. A divisor of `steps`.
      look: what the history shows of a round, as `run` has it.

    Returns:
      `((strategy state, evaluator state), history)`, with leaves `[steps / every, batch, ...]`.
    """
    start = _init(key, strategy, evaluator, space)
    return _rounds(key, strategy, evaluator, start, jnp.int32(0), steps, batch, every, look)


def _init(key: jax.Array, strategy: Strategy, evaluator: Evaluator, space: Space) -> tuple:
    k_strategy, k_evaluator = jax.random.split(jax.random.fold_in(key, 0))
    return strategy.init(quick(k_strategy), template(space)), evaluator.init(k_evaluator)


def _rounds(
    key: jax.Array,
    strategy: Strategy,
    evaluator: Evaluator,
    carry: tuple,
    start: jax.Array,
    steps: int,
    batch: int,
    every: int = 1,
    look: Look | None = None,
) -> tuple[tuple, Trials]:
    """Rounds `start` to `start + steps`; the key of a round depends on its number alone.

    Of every `every` rounds the trials of the last are given back, as `look` sees them.
    """

    # All hashed before the loop, at once; as data, since JAX's check for reused keys takes keys
    # that a vmapped scan runs over for used ones. A strategy's are quick ones.
    own = quick(jax.random.fold_in(key, STRATEGIES))

    def hashes(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        strategic = jax.random.split(jax.random.fold_in(own, i + 1))
        return jax.random.key_data(strategic), jax.random.key_data(jax.random.fold_in(key, i + 1))

    def step(carry: tuple, hashed: tuple) -> tuple[tuple, Trials]:
        strategic, evaluating = carry
        k_ask, k_tell = jax.random.wrap_key_data(hashed[0], impl=QUICK)
        k_evaluate = jax.random.wrap_key_data(hashed[1], impl=jax.random.key_impl(key))
        trials = strategy.ask(k_ask, strategic, batch)
        trials, evaluating = evaluator.evaluate(k_evaluate, trials, evaluating)
        trials = settle(trials, "search")
        _, strategic = strategy.tell(k_tell, trials, strategic)
        return (strategic, evaluating), trials._replace(trace=(), grad=None)

    hashed = jax.vmap(hashes)(start + jnp.arange(steps))
    if every == 1 and look is None:
        return jax.lax.scan(step, carry, hashed)

    def span(carry: tuple, hashed: tuple) -> tuple[tuple, Trials]:
        first = jax.tree.map(lambda x: x[0], hashed)
        carry, trials = step(carry, first)
        replace = lambda pair, one: (step(pair[0], one), None)
        rest = jax.tree.map(lambda x: x[1:], hashed)
        carry, trials = jax.lax.scan(replace, (carry, trials), rest)[0]
        return carry, trials if look is None else look(carry, trials)

    spans = jax.tree.map(lambda x: x.reshape(steps // every, every, *x.shape[1:]), hashed)
    return jax.lax.scan(span, carry, spans)


def run(
    strategy: Strategy,
    evaluator: Evaluator,
    space: Space,
    *,
    evaluations: int,
    batch: int = 1,
    seed: int = 0,
    seeds: int = 1,
    chunk: int | None = None,
    workdir: str | Path | None = None,
    setting: dict[str, Any] | None = None,
    verbose: bool = True,
    every: int = 1,
    look: Look | None = None,
    over: Over = jax.vmap,
    what: str = "search",
) -> Result:
    """Searches in chunks of rounds, shows progress, and goes on where it was stopped.

    With a `workdir`, the history and a checkpoint are on disk after every chunk; the same call on
    the same folder goes on from there, and its history equals, bit for bit, that of a run that
    was never stopped.

    Args:
      strategy: what proposes and learns.
      evaluator: what scores; it has to be jittable.
      space: the space searched.
      evaluations: trials for each seed, a multiple of `batch`.
      batch: proposals in a round.
      seed: the first seed.
      seeds: how many searches run side by side in the one program, with seeds `seed`, `seed + 1`...
      chunk: rounds in a compiled call, a divisor of the number of rounds; by default about a
        twentieth of them.
      workdir: the folder of the run.
      setting: what has to be equal for the run in `workdir` to go on, such as a config; by
        default the numbers above.
      verbose: print progress to standard error.
      every: rounds for one row of the history, a divisor of their number: of so many rounds it
        shows the trials of the last.
      look: what the history shows of a round, `(carry, trials) -> trials` with architectures of
        `space`, where the strategy proposes others, such as relaxed ones; `carry` holds the state
        of strategy and evaluator after the round.
      over: how several seeds share the one program: from a function of a row to one of a batch of
        rows. `functools.partial(population, plan="map", mesh=make_mesh(0))` spreads the seeds over
        all devices, on each of which they take turns, which suits heavy supernets.
      what: the word for it in the line of progress.

    Returns:
      The result.

    Raises:
      InputError: numbers that do not fit, or a folder that holds another run.
    """
    positive(evaluations=evaluations, batch=batch, seeds=seeds)
    if evaluations % batch:
        raise InputError(
            f"evaluations={evaluations} is not a multiple of batch={batch}: use "
            f"{evaluations // batch * batch or batch} or {(evaluations // batch + 1) * batch}"
        )
    rounds = evaluations // batch
    if every < 1 or rounds % every:
        raise InputError(f"every={every} does not divide the {rounds} rounds of the search")
    if chunk is None:
        spans = rounds // every
        chunk = every * max(c for c in range(1, max(spans // 20, 1) + 1) if spans % c == 0)
    if chunk < 1 or rounds % chunk or chunk % every:
        raise InputError(
            f"chunk={chunk} does not divide the {rounds} rounds of the search"
            + (f" into pieces of every={every}" if every > 1 else "")
        )

    program = _Program(strategy, evaluator, space, seed, seeds, chunk, batch, every, look, over)
    carry = program.begin()
    table = Table(space, seed, seeds, batch)
    numbers = {"evaluations": evaluations, "batch": batch, "seed": seed, "seeds": seeds}
    with RunFolder(workdir, numbers if setting is None else setting) as folder:
        carry, done, seconds = folder.restore(carry)
        table.extend(folder.rows())
        if done < rounds:
            program.compile(carry)
        meter = Progress(what, rounds * batch * seeds, done * batch * seeds, seconds, verbose)
        while done < rounds:
            started = time.perf_counter() - program.compile_seconds
            carry, trials = program.advance(carry, done)
            new = table.add(trials, done * batch, every)
            done += chunk
            seconds += time.perf_counter() - program.compile_seconds - started
            folder.save(carry, done, seconds, new)
            meter.show(done * batch * seeds, f"best {table.best_score:.4f}")
        meter.end()
        history = table.columns()
    return result_of(
        history,
        space,
        evaluations=evaluations,
        seconds=seconds,
        compile_seconds=program.compile_seconds,
        seed=seed,
        state=carry,
    )


class _Program:
    """The compiled rounds of a search, with an evaluator that the memory has room for.

    Where it has none, the evaluator is halved and the same rounds run again: nothing that they
    were given has changed, and a smaller evaluator gives the same numbers.
    """

    def __init__(
        self,
        strategy: Strategy,
        evaluator: Evaluator,
        space: Space,
        seed: int,
        seeds: int,
        chunk: int,
        batch: int,
        every: int,
        look: Look | None,
        over: Over,
    ):
        self.strategy, self.evaluator, self.space = strategy, evaluator, space
        self.chunk, self.batch, self.compile_seconds = chunk, batch, 0.0
        self.every, self.look = every, look
        self._compiled: Any = None
        self._keys = jnp.stack([jax.random.key(s) for s in range(seed, seed + seeds)])
        self._over = over
        if seeds == 1:  # a plain program: a batched switch would run every branch
            self._keys, self._over = self._keys[0], lambda one: one

    def begin(self) -> tuple:
        """The carry before the first round."""

        def attempt() -> tuple:
            start = lambda key: _init(key, self.strategy, self.evaluator, self.space)
            return jax.block_until_ready(jax.jit(self._over(start))(self._keys))

        return self._fitting(attempt)

    def compile(self, carry: tuple) -> None:
        """Compiles a chunk of rounds, for a carry of this form."""
        self._fitting(lambda: self._compile(carry))

    def advance(self, carry: tuple, done: int) -> tuple[tuple, Trials]:
        """The carry after the next chunk of rounds, and their trials on the host."""

        def attempt() -> tuple[tuple, Trials]:
            if self._compiled is None:
                self._compile(carry)
            given = cluster.everywhere((self._keys, carry, jnp.int32(done)))
            new, trials = self._compiled(*jax.device_put(given, self._compiled.input_shardings[0]))
            return jax.block_until_ready(new), jax.device_get(trials)

        return self._fitting(attempt)

    def _compile(self, carry: tuple) -> None:
        started = time.perf_counter()
        sizes = self.chunk, self.batch, self.every, self.look

        def rounds(keys: jax.Array, carry: tuple, start: jax.Array) -> tuple[tuple, Trials]:
            one = lambda row: _rounds(row[0], self.strategy, self.evaluator, row[1], start, *sizes)
            return self._over(one)((keys, carry))

        lifted = jit(rounds, out_shardings=cluster.replicated())
        given = cluster.everywhere((self._keys, carry, jnp.int32(0)))
        self._compiled = lifted.lower(*given).compile()
        self.compile_seconds += time.perf_counter() - started

    def _fitting(self, attempt: Callable[[], Any]) -> Any:
        """The value of `attempt()`, after as many halvings as the memory asks for."""
        while True:
            try:
                return attempt()
            except (jax.errors.JaxRuntimeError, MemoryError) as e:
                if not out_of_memory(e):
                    raise
            smaller = self.evaluator.halve() if self.evaluator.halve else None
            if smaller is None:
                raise InputError(
                    "out of memory, and the evaluator cannot be halved any more: choose a smaller "
                    "batch, batch_size, network, or fewer seeds"
                )
            warn("out of memory: going on with half as many candidates at once")
            self.evaluator, self._compiled = smaller, None
