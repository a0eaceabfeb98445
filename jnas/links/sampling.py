"""Samplers of shared weights: which architectures a supernet trains on, whatever they score."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import (
    Architecture,
    InputError,
    Space,
    Strategy,
    Trials,
    below,
    choice_counts,
    from_vector,
    on_ask,
    propose,
    repaired,
    sample,
    settle,
    template,
    to_vector,
)
from jnas.links.variation import by_place


def largest(space: Space) -> Architecture:
    """The architecture whose every choice is the last: the largest where choices rise."""
    return repaired(space, jax.tree.map(lambda c: jnp.asarray(c - 1, jnp.int32), space.num_choices))


def smallest(space: Space) -> Architecture:
    """The architecture whose every choice is the first: the smallest where choices rise."""
    return template(space)


def enlarge(space: Space, ordered: Any) -> Callable[[Architecture], Architecture]:
    """A function that makes the choices of ordered places the last, and leaves the others.

    Args:
      space: of the architectures.
      ordered: see `sample_sandwich`.
    """
    rising, counts = _rising(space, ordered), choice_counts(space)
    last = jnp.asarray(counts - 1, jnp.int32)
    top = lambda arch: from_vector(space, jnp.where(rising, last, to_vector(space, arch)))
    return lambda arch: repaired(space, top(arch))


def fair_rows(space: Space) -> int:
    """K, the rows of a fair round: the most choices that a place has."""
    return int(choice_counts(space).max())


def sample_fairly(space: Space) -> Strategy:
    """Proposes rows that together activate all choices equally often: strict fairness.

    FairNAS: Chu, Zhang and Xu 2021, arXiv 1907.01845, definition 2 and algorithm 1. Of every `K`
    rows (`fair_rows`), each place takes a permutation of its choices, drawn for itself: a place of
    `K` choices has each exactly once. A place of fewer takes one permutation after another, so that
    in `K` rows no choice has more than one row more than another. Ask for a multiple of `K` rows,
    and let them take one step together (`weight_sharing(rows="sum")`): the rows of a last, partial
    permutation are fair on average only.

    Args:
      space: of the architectures.

    Returns:
      A strategy that proposes from nothing and learns nothing.
    """
    counts, most = choice_counts(space), fair_rows(space)
    absent = np.where(np.arange(most) < counts[:, None], 0.0, np.inf)  # [L, K]

    def fair(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        del trials
        blocks, turns = -(-n // most), most  # of places of one choice, K permutations make a block
        drawn = jax.random.uniform(key, (blocks, turns, *absent.shape)) + absent
        order = jnp.argsort(drawn, -1).astype(jnp.int32)  # permutations [blocks, turns, L, K]
        row = np.arange(most)
        turn, at = row[:, None] // counts, row[:, None] % counts  # [K, L]
        rows = order[:, turn, np.arange(counts.size), at]
        fair = from_vector(space, rows.reshape(-1, counts.size)[:n])
        return propose(repaired(space, fair))

    return on_ask(fair)


def sample_sandwich(space: Space, ordered: Any = None) -> Strategy:
    """Proposes the largest architecture, the smallest one, and random ones between: the sandwich.

    Yu and Huang 2019, "Universally Slimmable Networks and Improved Training Techniques", arXiv
    1903.05134: whatever lies between performs between the two. Choices have to rise, as widths of
    `Slim` and depths of `Repeat` do. With `weight_sharing(rows="sum", teacher=largest(space))` the
    largest teaches the others (in-place distillation); the paper has 4 rows in a step.

    Args:
      space: of the architectures.
      ordered: a tree like `space.num_choices` of booleans, or of boolean arrays, that says which
        places have rising choices; None for all. The others are random in every row.

    Returns:
      A strategy: row 0 is the largest, row 1 the smallest, and the rest are uniform.
    """
    rising = _rising(space, ordered)
    counts = choice_counts(space)

    def between(key: jax.Array, trials: Trials | None, n: int) -> Trials:
        del trials
        x = to_vector(space, sample(space, key, n))
        row = jnp.arange(n)[:, None]
        x = jnp.where((row == 0) & rising, counts - 1, x)
        x = jnp.where((row == 1) & rising, 0, x)
        return propose(repaired(space, from_vector(space, x)))

    return on_ask(between)


class Told(NamedTuple):
    told: jax.Array  # int32[], rows of weight > 0 so far


def open_gradually(space: Space, stages: Sequence[tuple[int, Any]]) -> Strategy:
    """Opens the choices of a space in stages, from the largest down: progressive shrinking.

    Once-for-all networks: Cai et al. 2020, arXiv 1908.09791, section 3.3. A supernet trains as the
    largest network first, then smaller ones join. In a stage each place has its last so many
    choices open. Behind a sampler, `chain(sample_sandwich(space), open_gradually(space, stages))`,
    a proposal is squeezed into what is open: its largest and smallest choices become the largest
    and smallest open ones, and uniform choices stay uniform. With nothing to its left, it proposes
    uniformly what is open.

    Args:
      space: of the architectures, with rising choices.
      stages: `(first, open)` in rising order: from trial number `first` on, so many choices are
        open, a tree like `space.num_choices` of ints or int arrays. The first stage starts at 0.

    Returns:
      A link, or a strategy.

    Raises:
      InputError: stages out of order, or numbers of choices that a place does not have.
    """
    firsts, opened = _stages(space, stages)
    counts = choice_counts(space)

    def init(key: jax.Array, arch: Architecture) -> Told:
        del key, arch
        return Told(jnp.int32(0))

    def ask(key: jax.Array, state: Told, n: int, trials: Trials | None = None) -> Trials:
        k_sample, k_squeeze = jax.random.split(key)
        arch = sample(space, k_sample, n) if trials is None else trials.arch
        x = to_vector(space, arch)
        if x.shape[0] != n:
            raise ValueError(
                f"open_gradually was given {x.shape[0]} proposals for {n}: put it behind a sampler."
            )
        stage = jnp.sum(firsts <= (state.told + jnp.arange(n))[:, None], -1) - 1
        room = jnp.asarray(opened)[stage]  # [n, L]
        # Choice c of C stands for a random point of [c/C, (c+1)/C). Of the open ones, that with
        # this point is taken: in whole numbers, so that the ends stay where they are.
        fine = x * room
        within = below(k_squeeze, x.shape, room)
        x = jnp.asarray(counts) - room + (fine + within) // counts
        return propose(repaired(space, from_vector(space, x)))

    def tell(key: jax.Array, trials: Trials, state: Told) -> tuple[Trials, Told]:
        del key
        trials = settle(trials, "open_gradually")
        return trials, Told(state.told + jnp.sum(trials.weight > 0, dtype=jnp.int32))

    return Strategy(init, ask, tell)


def frozen(strategy: Strategy, state: Any) -> Strategy:
    """A strategy that goes on proposing from a state and learns nothing any more.

    Such as a controller's policy after its search: ENAS derives its architecture from samples of
    it (Pham et al. 2018, arXiv 1802.03268, section 2.2).

    Args:
      strategy: any.
      state: of it, of `jnas.search`: `carry[0]`.

    Returns:
      A strategy that proposes from nothing.
    """

    def ask(key: jax.Array, state: Any, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError("frozen proposes from its own state: put it first in the chain.")
        return propose(strategy.ask(key, state, n).arch)

    tell = lambda key, trials, state: (settle(trials, "frozen"), state)
    return Strategy(lambda key, arch: state, ask, tell)


def _rising(space: Space, ordered: Any) -> np.ndarray:
    """Which places have rising choices: bool[L]."""
    if ordered is None:
        return np.ones(choice_counts(space).size, bool)
    return by_place(space, ordered, bool, "ordered", "booleans")


def _stages(space: Space, stages: Sequence[tuple[int, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The first trial of every stage, int32[S], and the open choices, int32[S, L]."""
    firsts = np.asarray([first for first, _ in stages], np.int32)
    if not firsts.size or firsts[0] != 0 or (np.diff(firsts) < 0).any():
        raise InputError(f"stages start at {firsts.tolist()}: 0 first, and then rising numbers")
    opened = np.stack([by_place(space, tree, np.int32, "open", "ints") for _, tree in stages])
    counts = choice_counts(space)
    if (opened < 1).any() or (opened > counts).any():
        raise InputError(
            f"stages open {opened.tolist()} choices: from 1 to all of {counts.tolist()} are allowed"
        )
    return firsts, opened
