"""With which architecture a gradient search ends: its last, an earlier one, or one selected."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.analysis.early_stopping import (
    darts_plus_stop,
    robust_darts_stop,
    settled_stop,
    skip_connections,
)
from jnas.analysis.weights import of_history
from jnas.base import Architecture, InputError, Space, choice_counts, one_hot
from jnas.errors import positive
from jnas.evaluators import Examples, Training
from jnas.evaluators.curvature import architecture_curvature
from jnas.evaluators.one_shot_selection import (
    edge_selection,
    from_weights,
    perturbation_selection,
    to_weights,
)
from jnas.evaluators.shared import Shared
from jnas.nets import Net
from jnas.settings import call
from jnas.spaces.darts import CELLS, EDGES, NODES

EIGENVALUE = "eigenvalue"  # the column of the history that `stop.name=eigenvalue` adds
Row = Callable[[Mapping[str, np.ndarray], Space], int]
Measure = Callable[[Shared, Any], jax.Array]


class Stop(NamedTuple):
    """When a search should have stopped.

    row: `(history, space of what is derived) -> ` the row whose architecture is taken.
    measure: `(shared, logits) -> f32[]`, a column of the history that `row` needs, or None.
    """

    row: Row
    measure: Measure | None = None


def stop_of(
    settings: Mapping[str, Any],
    net: Net,
    training: Training,
    score_on: Examples,
    relax: Callable[[Any], Architecture],
) -> Stop:
    """The rule that `supernet.stop` of a config names.

    Args:
      settings: `name`: `eigenvalue` (RobustDARTS; `window`, `ratio`, `since` in rows of the
        history, `examples` of the validation split, `steps` and `method` of
        `jnas.evaluators.curvature`), `skips` (DARTS+; `allowed`) or `settled` (DARTS+;
        `patience`); empty for none.
      net: the supernet.
      training: of its weights.
      score_on: the validation examples.
      relax: from the logits of the strategy to a relaxed architecture.

    Raises:
      InputError: an unknown rule or setting.
    """
    options = dict(settings)
    if not options:
        return Stop(lambda history, space: len(history["score"]) - 1)

    def eigenvalue(
        window: int = 5,
        ratio: float = 0.75,
        since: int = 0,
        examples: int = 256,
        steps: int = 20,
        method: str = "lanczos",
    ) -> Stop:
        positive(**{"supernet.stop.examples": examples})
        robust_darts_stop(jnp.zeros(1), window, ratio, since)  # its check, before the search
        part = score_on._replace(x=score_on.x[:examples], y=score_on.y[:examples])
        start = jax.random.key_data(jax.random.key(0))

        def measure(shared: Shared, logits: Any) -> jax.Array:
            key = jax.random.wrap_key_data(start)
            how: Any = {"steps": steps, "method": method}
            return architecture_curvature(net, training, shared, part, relax, logits, key, **how)

        find = lambda history, space: int(
            robust_darts_stop(jnp.asarray(history[EIGENVALUE]), window, ratio, since)
        )
        return Stop(find, measure)

    def skips(allowed: int = 1) -> Stop:
        return Stop(lambda history, space: int(darts_plus_stop(_skips(history, space), allowed)))

    def settled(patience: int = 10) -> Stop:
        settled_stop(jnp.zeros((1, 1)), patience)
        return Stop(lambda history, space: int(settled_stop(_orders(history), patience)))

    rules: dict[str, Callable[..., Stop]] = {
        "eigenvalue": eigenvalue,
        "skips": skips,
        "settled": settled,
    }
    name = options.pop("name", None)
    if name not in rules:
        raise InputError(f"supernet.stop.name={name!r}: allowed are {', '.join(rules)}")
    return call("supernet.stop", rules[name], **options)


def _skips(history: Mapping[str, np.ndarray], space: Space) -> jax.Array:
    """Skip-connections in the (normal) cell of every row."""
    arch = [space.parse(str(text)) for text in history["architecture"]]
    many = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *arch)
    if space.name.split()[0] == "darts":
        reduce = jax.tree.map(jnp.zeros_like, many["reduce"])  # of 0, max pooling, none is a skip
        many = {**many, "reduce": reduce}
    return skip_connections(space, many)


def _orders(history: Mapping[str, np.ndarray]) -> jax.Array:
    """The choices of every place in order of weight, in every row: int32[T, ...]."""
    orders = [
        np.argsort(np.stack(list(weights.values()), -1), -1)
        for weights in of_history(history).values()
    ]
    return jnp.asarray(np.concatenate(orders, -1), jnp.int32)


def check_select(settings: Mapping[str, Any]) -> None:
    """Raises `InputError` for a `supernet.select` that there is not."""
    given = dict(settings)
    if not given:
        return
    name = given.pop("name", None)
    if name != "perturbation":
        raise InputError(f"supernet.select.name={name!r}: allowed is perturbation")
    unknown = [key for key in given if key not in ("tune", "criterion")]
    if unknown:
        raise InputError(f"supernet.select.{unknown[0]}: no such setting; allowed: tune, criterion")


def selected(
    settings: Mapping[str, Any],
    net: Net,
    training: Training,
    fit_on: Examples,
    score_on: Examples,
    key: jax.Array,
    shared: Shared,
    relaxed: Architecture,
) -> Architecture:
    """What DARTS-PT selects of a searched supernet, jittable.

    Args:
      settings: of `supernet.select`: `tune` and `criterion` of
        `jnas.evaluators.one_shot_selection.perturbation_selection`.
      net: the supernet.
      training: of its weights.
      fit_on: the training examples.
      score_on: the validation examples.
      key: of the order of places and of the batches.
      shared: the supernet after the search.
      relaxed: the architecture after the search.

    Returns:
      One-hot weights of the selected choices, over the space of the supernet; of DARTS' cells an
      edge that is not kept has none. `derive` of the supernet makes the architecture of them.
    """
    options = {k: v for k, v in settings.items() if k != "name"}
    found = perturbation_selection(net, training, fit_on, score_on, key, shared, relaxed, **options)
    chosen = one_hot(net.space, found.arch)
    if not net.space.name.startswith("darts"):
        return chosen
    criterion = options.get("criterion", "accuracy")
    nodes = _incoming(net.space)
    stays = edge_selection(
        net, training, score_on, found.shared, chosen, nodes, criterion=criterion
    )
    return from_weights(net.space, to_weights(net.space, chosen) * stays[:, None])


def _incoming(space: Space) -> list[list[int]]:
    """The places of the edges into every node of both cells of DARTS' supernet."""
    places = np.arange(choice_counts(space).size)
    at, found = 0, []
    for name in sorted(space.num_choices):
        count = space.num_choices[name].size
        if name in CELLS:
            own = places[at : at + count]
            found += [
                [int(own[i]) for i, (_, b) in enumerate(EDGES) if b == node]
                for node in range(2, 2 + NODES)
            ]
        at += count
    return found
