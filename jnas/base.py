"""The core types of jnas: a search is a loop of ask, evaluate and tell over plain pytrees.

Proposals flow left to right through `ask`, feedback flows right to left through `tell`, and every
function here is pure. So a whole search is one `lax.scan`, many seeds are one `vmap`, and a slow
evaluator in Python is an ordinary loop over the same three calls.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import notation
from jnas.errors import InputError

__all__ = [
    "Architecture",
    "Evaluator",
    "Graph",
    "InputError",
    "MixtureState",
    "Space",
    "Strategy",
    "Trials",
    "argmax",
    "below",
    "chain",
    "choice_counts",
    "first",
    "from_index",
    "from_vector",
    "index",
    "mixture",
    "neighbours",
    "no_init",
    "on_ask",
    "on_tell",
    "one_hot",
    "pass_on",
    "propose",
    "repaired",
    "repairs",
    "replay",
    "rows",
    "sample",
    "settle",
    "size",
    "template",
    "to_vector",
]

Architecture = Any  # a pytree of int32 choices, or of simplices, in the structure of num_choices


class Trials(NamedTuple):
    """A batch of `n` architectures on their way through a search; every leaf leads with `[n]`.

    A higher score is better. A row of weight 0 is empty, failed or somebody else's, and teaches
    nothing.
    """

    arch: Architecture  # leaves [n, ...]
    score: Any = None  # f32[n]; None until evaluated
    grad: Any = None  # like a relaxed arch: the gradient of the loss, where there is one
    weight: Any = None  # f32[n]
    metrics: Any = ()  # dict of f32[n]
    trace: Any = ()  # what the links that proposed a row want to see again with its feedback
    budget: Any = None  # f32[n], the part of a full evaluation asked for, in (0, 1]; None = all
    live: Any = None  # int32[], where only the first so many rows of a memory hold a trial


class Strategy(NamedTuple):
    """Three pure functions that search; a link of a chain has the same type.

    init: `(key, arch) -> state`, where `arch` is one architecture that shows shapes and dtypes.
    ask: `(key, state, n, trials=None) -> trials` proposes; it never writes state.
    tell: `(key, trials, state) -> (trials, state)` learns, and passes feedback on to the left.
    """

    init: Callable[..., Any]
    ask: Callable[..., Trials]
    tell: Callable[..., tuple[Trials, Any]]


class Evaluator(NamedTuple):
    """Two pure functions that score proposals, and a way to need less memory.

    init: `key -> state`.
    evaluate: `(key, trials, state) -> (trials, state)`.
    halve: makes an evaluator of the same numbers and the same form of state that needs about half
      the memory, None where there is none; `run` calls it where the memory does not do.
    """

    init: Callable[..., Any]
    evaluate: Callable[..., tuple[Trials, Any]]
    halve: Callable[[], "Evaluator | None"] | None = None


# ------------------------------------------------------------------------------------ spaces


def _always_valid(arch: Architecture) -> jax.Array:
    del arch
    return jnp.bool_(True)


def _itself(arch: Architecture) -> Architecture:
    return arch


class Graph(NamedTuple):
    """A cell as a directed acyclic graph whose edges carry operations.

    Nodes are numbered so that every edge goes up; 0 is the input and the last one the output.

    edges: `(from, to, place)`; the operation of the edge is the choice at that place of the
      architecture's vector (`to_vector`).
    absent: the choice that takes an edge away, None where there is none.
    """

    edges: tuple[tuple[int, int, int], ...]
    absent: int | None = None


@dataclasses.dataclass(frozen=True)
class Space:
    """A search space: how many choices there are at every place of an architecture.

    Attributes:
      name: the name that `jnas list spaces` shows.
      num_choices: a pytree of NumPy int arrays. An architecture has the same structure, with an
        int32 in `[0, num_choices)` at every place.
      is_valid: `arch -> bool`, jittable.
      canonical: `arch -> arch`, jittable; one representative for each isomorphism class.
      repair: `arch -> arch`, jittable; any tree of ints within `num_choices` becomes a valid
        architecture, and one that is valid stays as it is. Needed where not all are valid.
      describe: `arch -> str` in the field's own notation; `parse` is its inverse and raises
        `InputError`. By default both are derived from `num_choices` and `labels`.
      labels: a pytree like `num_choices` (or None) with the names of the choices of every leaf, or
        where they differ those of every place of it.
      order: int32[size] or None; the mixed-radix number of the architecture at each index, where
        the field numbers the space in an order of its own.
      counts: functions `arch -> number` by name, such as `params` and `flops`, all jittable.
      edges: `arch -> [(from, to, operation)]` for drawing, where an architecture is a graph.
      graph: the same as data for encodings and predictors, where the graph is the same for all.
      ordered: a tree like `num_choices` of booleans, or None: which places' choices are a scale
        that a mutation may step along.
      distinct: how many architectures differ, of the valid ones, where that is known: isomorphic
        ones, and those that differ in choices without an effect, count as one.
    """

    name: str
    num_choices: Any
    is_valid: Callable[[Architecture], jax.Array] = _always_valid
    canonical: Callable[[Architecture], Architecture] = _itself
    repair: Callable[[Architecture], Architecture] = _itself
    describe: Callable[[Architecture], str] = notation.derived
    parse: Callable[[str], Architecture] = notation.derived
    labels: Any = None
    order: np.ndarray | None = None
    counts: dict[str, Callable] = dataclasses.field(default_factory=dict)
    edges: Callable[[Architecture], list[tuple[str, str, str]]] | None = None
    graph: Graph | None = None
    ordered: Any = None
    distinct: int | None = None

    def __post_init__(self) -> None:
        fixed = jax.tree.map(lambda c: np.asarray(c, np.int32), self.num_choices)
        if not jax.tree.leaves(fixed):
            raise InputError(f"space {self.name!r}: there is nothing to choose")
        if any((c < 1).any() for c in jax.tree.leaves(fixed)):
            raise InputError(f"space {self.name!r}: every place needs at least one choice")
        object.__setattr__(self, "num_choices", fixed)
        if self.describe is notation.derived:
            rows = notation.places(fixed, self.labels)
            tree = jax.tree.structure(fixed)
            write = lambda arch: notation.describe(rows, jax.tree.leaves(arch))
            read = lambda text: jax.tree.unflatten(tree, notation.parse(rows, text))
            object.__setattr__(self, "describe", write)
            object.__setattr__(self, "parse", read)


def places(space: Space) -> list[notation.Place]:
    """The leaves of a space, with the words for the choices of every place."""
    return notation.places(space.num_choices, space.labels)


def choice_counts(space: Space) -> np.ndarray:
    """The number of choices at every place, as one vector: int32[L]."""
    return np.concatenate([np.ravel(c) for c in jax.tree.leaves(space.num_choices)])


def size(space: Space) -> int:
    """How many architectures there are (an exact Python int).

    Isomorphic ones count apart, and so do those that are not valid, where a space has such.
    """
    return math.prod(int(c) for c in choice_counts(space))


def template(space: Space) -> Architecture:
    """The architecture whose every choice is 0, made valid; it shows shapes and dtypes."""
    zero = jax.tree.map(lambda c: jnp.zeros(c.shape, jnp.int32), space.num_choices)
    return repaired(space, zero)


def repairs(space: Space) -> bool:
    """Whether a space has architectures that are not valid, and a repair for them."""
    return space.repair is not _itself


def repaired(space: Space, arch: Architecture) -> Architecture:
    """Architectures made valid, with any leading axes; of spaces without a repair, themselves.

    Every link does this to what it proposes.
    """
    if not repairs(space):
        return arch
    leaf, count = jax.tree.leaves(arch)[0], jax.tree.leaves(space.num_choices)[0]
    repair = space.repair
    for _ in range(jnp.ndim(leaf) - count.ndim):
        repair = jax.vmap(repair)
    return repair(arch)


TRIES = 16  # draws of an architecture before an invalid one is repaired


def sample(space: Space, key: jax.Array, n: int) -> Architecture:
    """Draws `n` architectures uniformly; leaves `[n, ...]`.

    Where not all are valid, an invalid one is drawn again, 16 times at most, and then repaired:
    the valid ones are as likely as each other where a good part of all are valid.
    """
    counts = choice_counts(space)
    if not repairs(space):
        return from_vector(space, below(key, (n, counts.size), counts))
    # As data, since JAX's check for reused keys takes keys that a loop runs over for used.
    hashed = jax.random.key_data(jax.random.split(key, TRIES))

    def again(carry: tuple) -> tuple:
        i, x, fine = carry
        k = jax.random.wrap_key_data(hashed[i], impl=jax.random.key_impl(key))
        x = jnp.where(fine[:, None], x, below(k, (n, counts.size), counts))
        return i + 1, x, jax.vmap(space.is_valid)(from_vector(space, x))

    goes_on = lambda carry: (carry[0] < TRIES) & ~jnp.all(carry[2])
    start = jnp.int32(0), jnp.zeros((n, counts.size), jnp.int32), jnp.zeros(n, bool)
    return repaired(space, from_vector(space, jax.lax.while_loop(goes_on, again, start)[1]))


def below(key: jax.Array, shape: tuple[int, ...], bound: Any) -> jax.Array:
    """Random integers in `[0, bound)`, int32 of a shape that `bound` broadcasts to.

    One draw of 32 bits for each, where `jax.random.randint` hashes three times: random bits are
    most of what a search on a table costs. An outcome is off by at most `bound / 2^32`.
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    return (bits % jnp.asarray(bound, jnp.uint32)).astype(jnp.int32)


def to_vector(space: Space, arch: Architecture) -> jax.Array:
    """Flattens an architecture (leaves `[..., *shape]`) into one vector of choices `[..., L]`."""
    pairs = zip(jax.tree.leaves(arch), jax.tree.leaves(space.num_choices), strict=True)
    parts = [jnp.reshape(x, (*jnp.shape(x)[: jnp.ndim(x) - c.ndim], c.size)) for x, c in pairs]
    return jnp.concatenate(parts, -1)


def from_vector(space: Space, vector: jax.Array) -> Architecture:
    """The inverse of `to_vector`: `[..., L]` to an architecture."""
    leaves, tree = jax.tree.flatten(space.num_choices)
    parts = jnp.split(vector, np.cumsum([c.size for c in leaves])[:-1], -1)
    shaped = zip(parts, leaves, strict=True)
    return jax.tree.unflatten(tree, [p.reshape((*vector.shape[:-1], *c.shape)) for p, c in shaped])


def neighbours(space: Space, arch: Architecture) -> Architecture:
    """All architectures that differ from `arch` in exactly one choice, valid or not.

    Args:
      space: the space.
      arch: one architecture.

    Returns:
      An architecture with leaves `[m, ...]`, `m` = the sum of `num_choices - 1`.
    """
    counts = choice_counts(space)
    place = np.repeat(np.arange(counts.size), counts - 1)
    step = np.concatenate([np.arange(1, c) for c in counts])
    x = jnp.broadcast_to(to_vector(space, arch), (place.size, counts.size))
    rows = np.arange(place.size)
    return from_vector(space, x.at[rows, place].set((x[rows, place] + step) % counts[place]))


def index(space: Space, arch: Architecture) -> jax.Array:
    """The number of an architecture in the space's own order; int32, batched like `arch`.

    The order is mixed radix with the last place varying fastest, unless the space sets `order`.
    Raises `InputError` where the space has more than 2^31 architectures.
    """
    i = jnp.sum(to_vector(space, arch) * _strides(space), -1)
    return i if space.order is None else jnp.asarray(np.argsort(space.order), jnp.int32)[i]


def from_index(space: Space, i: jax.Array) -> Architecture:
    """The architecture with number `i`, int32 of any shape: the inverse of `index`."""
    i = jnp.asarray(i, jnp.int32)
    if space.order is not None:
        i = jnp.asarray(space.order, jnp.int32)[i]
    return from_vector(space, i[..., None] // _strides(space) % choice_counts(space))


def _strides(space: Space) -> np.ndarray:
    if size(space) > np.iinfo(np.int32).max:
        raise InputError(f"space {space.name!r} has {size(space)} architectures: too many to index")
    return np.cumprod(np.append(1, choice_counts(space)[:0:-1]))[::-1].astype(np.int32)


def one_hot(space: Space, arch: Architecture) -> Architecture:
    """Relaxes an architecture: every choice becomes a corner of its simplex, f32[..., K].

    `K` is the largest number of choices in the leaf.
    """
    hot = lambda c, x: jax.nn.one_hot(x, int(c.max()), dtype=jnp.float32)
    return jax.tree.map(hot, space.num_choices, arch)


def argmax(space: Space, relaxed: Architecture) -> Architecture:
    """The architecture at the largest entry of every simplex: the inverse of `one_hot`.

    It is repaired where it is not valid.
    """

    def pick(c: np.ndarray, x: jax.Array) -> jax.Array:
        allowed = np.arange(int(c.max())) < c[..., None]
        return jnp.argmax(jnp.where(allowed, x, -jnp.inf), -1).astype(jnp.int32)

    return repaired(space, jax.tree.map(pick, space.num_choices, relaxed))


# ------------------------------------------------------------------------------------ trials


def propose(arch: Architecture) -> Trials:
    """Unevaluated trials of weight 1 for architectures with leaves `[n, ...]`."""
    return Trials(arch, weight=jnp.ones(jax.tree.leaves(arch)[0].shape[0]))


def settle(trials: Trials, who: str) -> Trials:
    """Feedback with failures made harmless: a score that is not finite gets weight 0, score 0.

    Args:
      trials: evaluated trials.
      who: the link that asks; it is named in the error.

    Returns:
      The trials with finite scores.

    Raises:
      ValueError: the trials have no scores.
    """
    if trials.score is None:
        raise ValueError(
            f"{who} learns from evaluated trials but was told unevaluated proposals: "
            "put an evaluator between ask and tell."
        )
    score = jnp.asarray(trials.score, jnp.float32)
    fine = jnp.isfinite(score)
    weight = jnp.ones_like(score) if trials.weight is None else trials.weight
    return trials._replace(
        score=jnp.where(fine, score, 0.0), weight=jnp.where(fine, weight, 0.0).astype(jnp.float32)
    )


def rows(mask: jax.Array, yes: Any, no: Any) -> Any:
    """Picks whole rows from one of two pytrees with leaves `[n, ...]` by a mask bool[n]."""
    pick = lambda a, b: jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)
    return jax.tree.map(pick, yes, no)


# ------------------------------------------------------------------------------- combinators


def no_init(key: jax.Array, arch: Architecture) -> tuple[()]:
    """The state of a link that has none."""
    del key, arch
    return ()


def on_ask(f: Callable[[jax.Array, Trials | None, int], Trials]) -> Strategy:
    """A stateless link on the way of proposals: `f(key, trials, n) -> trials`."""

    def ask(key: jax.Array, state: Any, n: int, trials: Trials | None = None) -> Trials:
        del state
        return f(key, trials, n)._replace(trace=(), live=None)

    return Strategy(no_init, ask, lambda key, trials, state: (settle(trials, "a link"), state))


def on_tell(f: Callable[[Trials], Trials]) -> Strategy:
    """A stateless link on the way of feedback: `f(trials) -> trials`."""

    def tell(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        del key
        return settle(f(settle(trials, "a feedback link")), "a feedback link"), state

    return Strategy(no_init, pass_on, tell)


def pass_on(key: jax.Array, state: Any, n: int, trials: Trials | None = None) -> Trials:
    """The `ask` of a link that works on feedback only."""
    del key, state, n
    if trials is None:
        raise ValueError(
            "a feedback link has nothing to pass on: put a link that proposes to its left."
        )
    return trials._replace(trace=())


def chain(*links: Strategy) -> Strategy:
    """Joins links: `ask` folds from left to right, `tell` from right to left.

    Each link gets its own `trace` back with the rows that it helped to propose.

    Args:
      *links: at least one link; the first proposes from nothing.

    Returns:
      The strategy, which is a link again.
    """
    if not links:
        raise ValueError("chain() needs at least one link.")

    def init(key: jax.Array, arch: Architecture) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(links))
        return tuple(link.init(k, arch) for link, k in zip(links, keys, strict=True))

    def ask(key: jax.Array, state: Any, n: int, trials: Trials | None = None) -> Trials:
        traces = []
        for link, k, s in zip(links, jax.random.split(key, len(links)), state, strict=True):
            trials = link.ask(k, s, n, trials)
            traces.append(trials.trace)
        assert trials is not None
        return trials._replace(trace=tuple(traces))

    def tell(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        keys, traces, new = jax.random.split(key, len(links)), trials.trace, list(state)
        if len(traces) != len(links):
            raise ValueError(
                f"chain of {len(links)} links was told rows with the trace of {len(traces)}: pass "
                "on the trace that its own ask gave the rows."
            )
        trials = settle(trials, "chain")
        for i in reversed(range(len(links))):
            trials, new[i] = links[i].tell(keys[i], trials._replace(trace=traces[i]), state[i])
        return trials, tuple(new)

    return Strategy(init, ask, tell)


def first(n: int) -> Callable[[jax.Array], jax.Array]:
    """The schedule that is 1 for the first `n` trials and 0 afterwards."""
    return lambda count: (count < n).astype(jnp.float32)


class MixtureState(NamedTuple):
    a: Any
    b: Any
    told: jax.Array  # int32[], rows of weight > 0 so far


def mixture(
    a: Strategy,
    b: Strategy,
    prob: float | Callable[[jax.Array], jax.Array],
    learn_from_all: bool = True,
) -> Strategy:
    """Each proposal comes from `a` with probability `prob`, else from `b`.

    Warm-up (`first(n)`), epsilon-greedy and mixtures of strategies are this one combinator.

    Args:
      a: a strategy.
      b: a strategy.
      prob: a probability, or a schedule `count -> probability` of the number of trials told
        before the proposal (rows of one batch count on from there).
      learn_from_all: both learn from every row; else each from its own rows only.

    Returns:
      The strategy.
    """

    def init(key: jax.Array, arch: Architecture) -> MixtureState:
        ka, kb = jax.random.split(key)
        return MixtureState(a.init(ka, arch), b.init(kb, arch), jnp.int32(0))

    def ask(key: jax.Array, state: MixtureState, n: int, trials: Trials | None = None) -> Trials:
        ka, kb, kc = jax.random.split(key, 3)
        of_a, of_b = a.ask(ka, state.a, n, trials), b.ask(kb, state.b, n, trials)
        p = prob(state.told + jnp.arange(n)) if callable(prob) else prob
        from_a = jax.random.uniform(kc, (n,)) < p
        mixed = propose(rows(from_a, of_a.arch, of_b.arch))
        if of_a.budget is not None or of_b.budget is not None:
            whole = [jnp.ones(n) if x.budget is None else x.budget for x in (of_a, of_b)]
            mixed = mixed._replace(budget=rows(from_a, *whole))
        return mixed._replace(trace=(from_a, of_a.trace, of_b.trace))

    def tell(key: jax.Array, trials: Trials, state: MixtureState) -> tuple[Trials, MixtureState]:
        ka, kb = jax.random.split(key)
        from_a, trace_a, trace_b = trials.trace
        trials = settle(trials, "mixture")
        for_a = for_b = trials.weight
        if not learn_from_all:
            for_a, for_b = for_a * from_a, for_b * ~from_a
        _, of_a = a.tell(ka, trials._replace(trace=trace_a, weight=for_a), state.a)
        _, of_b = b.tell(kb, trials._replace(trace=trace_b, weight=for_b), state.b)
        told = jnp.sum(trials.weight > 0, dtype=jnp.int32)
        return trials, MixtureState(of_a, of_b, state.told + told)

    return Strategy(init, ask, tell)


def replay(memory: Strategy, n: int) -> Strategy:
    """Experience replay: stores the rows that arrive and passes on `n` rows of the memory.

    Args:
      memory: a chain that proposes evaluated trials, such as
        `chain(keep_youngest(2000), select_uniform())`.
      n: how many rows the links to the left learn from at each tell.

    Returns:
      A link for the feedback path.
    """

    def tell(key: jax.Array, trials: Trials, state: Any) -> tuple[Trials, Any]:
        k_trace, k_tell, k_ask = jax.random.split(key, 3)
        trials = settle(trials, "replay")
        trace = memory.ask(k_trace, state, trials.score.shape[0]).trace
        _, state = memory.tell(k_tell, trials._replace(trace=trace), state)
        past = settle(memory.ask(k_ask, state, n), "replay, from its memory,")
        return past._replace(weight=past.weight * jnp.any(trials.weight > 0)), state

    return Strategy(memory.init, pass_on, tell)
