"""An evaluator that evaluates no architecture twice."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import lookup
from jnas.base import Evaluator, Space, Trials, propose, rows, sample, settle, to_vector
from jnas.errors import positive

REPEATED = "repeated"


class Remembered(NamedTuple):
    inner: Any  # the state of the evaluator
    seen: lookup.Lookup  # of canonical forms with budgets
    found: Any  # scores and metrics, f32[size] each


def remembered(evaluator: Evaluator, space: Space, size: int, batch: int = 1) -> Evaluator:
    """Remembers what has been evaluated, so that an isomorphic architecture costs nothing.

    A row whose canonical form was evaluated before, at the same budget, or stands further up in
    its batch, gets that score and those metrics. The evaluator is given it with weight 0, and is
    to leave such rows out; `jnas.evaluators.train` does. Rows that failed are not remembered.

    Args:
      evaluator: evaluates what is new.
      space: says which architectures are isomorphic.
      size: how many architectures are remembered, the last ones evaluated.
      batch: the rows of a batch, for which an evaluator may have to measure a plan.

    Returns:
      An evaluator with one metric more, `repeated`: 1 for a row that was not evaluated, else 0.

    Raises:
      InputError: `size` is less than 1.
    """
    positive(**{"remembered: size": size})

    def forms(trials: Trials) -> jax.Array:
        form = to_vector(space, jax.vmap(space.canonical)(trials.arch))
        budget = jnp.ones(form.shape[0]) if trials.budget is None else trials.budget
        bits = jax.lax.bitcast_convert_type(jnp.asarray(budget, jnp.float32), jnp.int32)
        return jnp.concatenate([form, bits[:, None]], -1)

    def init(key: jax.Array) -> Remembered:
        inner = evaluator.init(key)
        trials = propose(sample(space, jax.random.key(0), batch))
        given, _ = jax.eval_shape(evaluator.evaluate, jax.random.key(0), trials, inner)
        one = lambda x: jnp.zeros(size, x.dtype)
        found = jax.tree.map(one, (given.score, given.metrics))
        return Remembered(inner, lookup.empty(size, forms(trials).shape[1]), found)

    def evaluate(key: jax.Array, trials: Trials, state: Remembered) -> tuple[Trials, Remembered]:
        form, weight = forms(trials), _weight(trials)
        number = jax.vmap(lambda v: lookup.find(state.seen, v))(form)
        known = number != lookup.NONE
        asked = jnp.where((weight > 0)[:, None], form, -1)  # a row of weight 0 speaks for nobody
        first = lookup.repeats(asked)
        again = first < jnp.arange(first.size)
        new = (weight > 0) & ~known & ~again
        given, inner = evaluator.evaluate(
            key, trials._replace(weight=jnp.where(new, weight, 0.0)), state.inner
        )
        if given.grad is not None:
            raise ValueError("remembered cannot remember the gradients that its evaluator gives.")
        given = settle(given, "remembered")
        found = jax.tree.map(lambda x: x[first], (given.score, given.metrics))
        fine = known | (given.weight[first] > 0)
        stored = jax.tree.map(lambda x: x[number % size], state.found)
        score, metrics = rows(known, stored, found)
        seen, place = lookup.insert(state.seen, form, new & (given.weight > 0))
        put = lambda old, x: old.at[place].set(x, mode="drop")
        kept = jax.tree.map(put, state.found, (given.score, given.metrics))
        metrics = {**metrics, REPEATED: ((weight > 0) & ~new).astype(jnp.float32)}
        weight = jnp.where(new, given.weight, jnp.where(fine, weight, 0.0))
        told = given._replace(score=score, metrics=metrics, weight=weight)
        return told, Remembered(inner, seen, kept)

    def halve() -> Evaluator | None:
        smaller = evaluator.halve() if evaluator.halve else None
        return None if smaller is None else remembered(smaller, space, size, batch)

    return Evaluator(init, evaluate, halve)


def _weight(trials: Trials) -> jax.Array:
    n = jax.tree.leaves(trials.arch)[0].shape[0]
    return jnp.ones(n) if trials.weight is None else jnp.asarray(trials.weight, jnp.float32)
