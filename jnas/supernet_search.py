"""One-shot search from a config: a supernet is searched, and one architecture comes out of it.

A config with a section `supernet` goes this way. The gradient methods of `jnas.recipes.GRADIENT`
descend on a relaxed architecture; those of `jnas.recipes.SHARING` train the supernet on sampled
architectures and then search it with frozen weights.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jnas import data
from jnas.analysis.weights import column, weights_figure
from jnas.base import (
    Architecture,
    Evaluator,
    InputError,
    Space,
    Strategy,
    Trials,
    argmax,
    places,
    to_vector,
)
from jnas.compiling import jit
from jnas.configs import network_of, training_of
from jnas.evaluators import (
    Examples,
    Training,
    bilevel,
    make_mesh,
    shared_scores,
    weight_sharing,
)
from jnas.history import Result
from jnas.links.descend import Descent
from jnas.links.relaxation import concentration
from jnas.links.relaxed import exists, present, soft
from jnas.nets import NETS, SUPERNETS, Net
from jnas.problems import dataset_of, examples, fitting, task_of
from jnas.recipes import GRADIENT, SHARING, OneShot
from jnas.search import Look, run
from jnas.settings import call, resolve, section
from jnas.spaces.darts import CELLS, EDGES, NODES, top_two
from jnas.supernet_ends import EIGENVALUE, Measure, check_select, selected, stop_of


class Supernet(NamedTuple):
    """A supernet, and what comes out of it.

    net: over the space that is searched.
    final: over the space of what comes out.
    derive: from a relaxed architecture of the one to an architecture of the other, jittable.
    places: a word for each place of the first space, in the order of `to_vector`.
    """

    net: Net
    final: Net
    derive: Callable[[Architecture], Architecture]
    places: tuple[str, ...]


class Found(NamedTuple):
    """What a one-shot search gives to the final training and to the result."""

    result: Result
    final: Net
    dataset: data.Dataset
    figures: dict[str, Any]  # Matplotlib figures by name


# Settings of the section `supernet` that are not the network's.
OWN = ("train", "evaluator", "every", "stop", "select")


def supernet_of(config: ConfigDict, dataset: data.Dataset) -> Supernet:
    """The supernet of `config.supernet`, and the final network of `config.net`.

    A space that has no supernet of its own is searched by its network itself.
    """
    name = config.get("space", "nas_bench_201")
    settings = {k: v for k, v in section(config, "supernet").items() if k not in OWN}
    final, _ = network_of(config, "final", dataset)
    make = SUPERNETS.get(name) or resolve("space", name, NETS)
    net = call("supernet", make, **{**settings, **fitting(make, dataset)})
    if name == "darts":
        return Supernet(net, final, top_two, _darts_places(net.space))
    return Supernet(net, final, lambda relaxed: argmax(net.space, relaxed), _places(net.space))


def _darts_places(space: Space) -> tuple[str, ...]:
    words = {name: [f"{name} {a}→{b}" for a, b in EDGES] for name in CELLS}
    words |= {f"{name}_edges": [f"{name} into {k + 2}" for k in range(NODES)] for name in CELLS}
    return tuple(word for leaf in sorted(space.num_choices) for word in words[leaf])


def _places(space: Space) -> tuple[str, ...]:
    """Edges where the space is a graph, else the names of its places."""
    if space.graph is not None:
        return tuple(f"{a}→{b}" for a, b, _ in sorted(space.graph.edges, key=lambda e: e[2]))
    words = []
    for place in places(space):
        many = place.counts.size > 1
        words += [f"{place.name}[{i}]" if many else place.name for i in range(place.counts.size)]
    return tuple(words)


def weights_of(space: Space, method: str, state: Any) -> Architecture:
    """The relaxed architecture that a gradient method holds, without its noise.

    Args:
      space: the space that is searched.
      method: a name of `jnas.recipes.GRADIENT`; it says what the logits mean.
      state: of the strategy.

    Returns:
      Weights f32[..., K] for every leaf.
    """
    return relaxing(space, method)(logits_of(state))


def logits_of(state: Any) -> Any:
    """The logits that a gradient method holds, leaves f32[..., K]."""
    held = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Descent))
    (descent,) = [x for x in held if isinstance(x, Descent)]
    return descent.logits


def relaxing(space: Space, method: str) -> Callable[[Any], Architecture]:
    """From the logits of a method to the relaxed architecture that they mean."""

    def weights(logits: jax.Array, real: np.ndarray) -> jax.Array:
        mask = present(real, logits)
        if method == "fair_darts":
            return jnp.where(mask, jax.nn.sigmoid(logits), 0.0)
        if method == "drnas":
            mass = jnp.where(mask, concentration(logits), 0.0)
            return mass / jnp.sum(mass, -1, keepdims=True)
        return soft(logits, mask)

    def relax(logits: Any) -> Architecture:
        leaves, tree = jax.tree.flatten(logits)
        pairs = zip(leaves, exists(space), strict=True)
        return jax.tree.unflatten(tree, [weights(x, real) for x, real in pairs])

    return relax


def looking(supernet: Supernet, method: str, measure: Measure | None = None) -> Look:
    """What the history of a gradient search shows: the derived architecture, and all weights.

    And what `measure` gives, which the rule by which it stops needs.
    """
    space = supernet.net.space

    def look(carry: tuple, trials: Trials) -> Trials:
        relaxed = weights_of(space, method, carry[0])
        n = trials.weight.shape[0]
        rows = lambda tree: jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), tree)
        flat = [w for leaf in jax.tree.leaves(relaxed) for w in leaf.reshape(-1, leaf.shape[-1])]
        columns = {
            column(word, label): weight
            for (word, labels), weights in zip(_words(supernet), flat, strict=True)
            for label, weight in zip(labels, weights, strict=False)
        }
        if measure is not None:
            columns[EIGENVALUE] = measure(carry[1].shared, logits_of(carry[0]))
        arch = supernet.derive(relaxed)
        return trials._replace(arch=rows(arch), metrics={**trials.metrics, **rows(columns)})

    return look


def find(config: ConfigDict, workdir: Path, setting: dict[str, Any], verbose: bool = True) -> Found:
    """Searches as the config says; goes on where a search in `workdir` was stopped.

    Args:
      config: `supernet` has the settings of the supernet, and of its search: `train`, how the
        weights train; `evaluator`, the settings of `jnas.evaluators.bilevel`, or of
        `weight_sharing` and `shared_scores`; `every`, the rounds for a row of the history;
        `stop` and `select` of gradient methods, see `jnas.supernet_ends`. `evaluations` counts
        rounds of a gradient method, and steps of the weights of another.
      workdir: of the run.
      setting: the config as it is kept.
      verbose: print progress to standard error.

    Raises:
      InputError: a setting that cannot be.
    """
    method = section(config, "strategy").get("name", "darts")
    ways: dict[str, Callable] = {
        **dict.fromkeys(GRADIENT, _by_gradient),
        **dict.fromkeys(SHARING, _by_sampling),
    }
    if method not in ways:
        allowed = ", ".join(sorted(ways))
        raise InputError(f"strategy.name {method!r}: with a supernet, allowed are {allowed}")
    seeds = config.get("seeds", 1)
    if seeds != 1:
        raise InputError(f"seeds={seeds}: with a supernet, one seed is searched at a time")
    dataset = dataset_of(config)
    job = _Job(config, method, supernet_of(config, dataset), dataset, workdir, setting, verbose)
    return ways[method](job)


class _Job(NamedTuple):
    config: ConfigDict
    method: str
    supernet: Supernet
    dataset: data.Dataset
    workdir: Path
    setting: dict[str, Any]
    verbose: bool

    def own(self, name: str, otherwise: Any) -> Any:
        """A setting of the section `supernet`."""
        return section(self.config, "supernet").get(name, otherwise)

    def strategy(self, registry: Mapping[str, Callable], *args: Any, **own: Any) -> Any:
        settings = {**own, **section(self.config, "strategy")}
        settings.pop("name", None)
        return call("strategy", registry[self.method], self.supernet.net.space, *args, **settings)

    def splits(self) -> tuple[Examples, Examples]:
        dataset = self.dataset
        return examples(dataset, dataset.train), examples(dataset, dataset.validation)

    def training(self, steps: int) -> Training:
        settings = {**self.own("train", {}), "steps": steps}
        return training_of(settings, "supernet.train")

    def run(self, strategy: Strategy, evaluator: Evaluator, space: Space, **how: Any) -> Result:
        whole = {"seed": self.config.get("seed", 0), "workdir": self.workdir, **how}
        return run(strategy, evaluator, space, setting=self.setting, verbose=self.verbose, **whole)

    def found(self, result: Result, weights: Mapping[str, np.ndarray], **how: Any) -> Found:
        words = [column(place, k) for place, labels in _words(self.supernet) for k in labels]
        columns = {name: weights[name] for name in ("seed", "evaluation", *words)}
        picture = weights_figure(columns, title=self.method, **how)
        return Found(result, self.supernet.final, self.dataset, {"weights": picture})


def _by_gradient(job: _Job) -> Found:
    rounds, final = job.config.get("evaluations", 100), job.supernet.final.space
    timed = "rounds" in inspect.signature(GRADIENT[job.method]).parameters
    strategy = job.strategy(GRADIENT, **({"rounds": rounds} if timed else {}))
    task = task_of(job.config, job.dataset)
    options = {"sparse": job.method == "gdas", "task": task, **job.own("evaluator", {})}
    net, training, splits = job.supernet.net, job.training(rounds), job.splits()
    evaluator = call("supernet.evaluator", bilevel, net, training, *splits, **options)
    relax = relaxing(net.space, job.method)
    ending, select = job.own("stop", {}), job.own("select", {})
    check_select(select)
    stop = stop_of(ending, net, training, splits[1], relax)
    if select and ending:
        raise InputError("supernet.stop and supernet.select: one of the two at a time")
    result = job.run(
        strategy,
        evaluator,
        final,
        evaluations=rounds,
        chunk=job.config.get("chunk", 0) or None,
        every=job.own("every", 1),
        look=looking(job.supernet, job.method, stop.measure),
    )
    chosen = _chosen(result, final, stop.row(result.history, final))
    if select:
        key = jax.random.fold_in(jax.random.key(job.config.get("seed", 0)), rounds + 1)

        def ends(key: jax.Array, carry: tuple) -> Architecture:
            strategy, evaluator = carry
            given = evaluator.shared, relax(logits_of(strategy))
            return job.supernet.derive(selected(select, net, training, *splits, key, *given))

        best = jax.tree.map(np.asarray, jit(ends)(key, result.state))
        chosen = dataclasses.replace(chosen, best_architecture=final.describe(best), best=best)
    return job.found(chosen, result.history)


def _by_sampling(job: _Job) -> Found:
    for name in ("stop", "select"):
        if job.own(name, {}):
            raise InputError(f"supernet.{name}: only gradient methods, not {job.method}, take it")
    net, (fit_on, score_on) = job.supernet.net, job.splits()
    method: OneShot = job.strategy(SHARING, job.config.get("evaluations", 1000))
    options = dict(job.own("evaluator", {}))
    again = {"fit_on": fit_on, "recalibrate": options.pop("recalibrate", 0)}
    mesh = call("mesh", make_mesh, **section(job.config, "mesh"))
    common = {"task": task_of(job.config, job.dataset), "mesh": mesh, **options}
    call_own = functools.partial(call, "supernet.evaluator")
    begin, state = None, None
    learned: Mapping[str, np.ndarray] = {}
    for i, stage in enumerate(method.train):
        data_of = (net, job.training(stage.steps), fit_on, score_on)
        settings = {**common, **stage.options, "begin": begin}
        result = job.run(
            stage.strategy,
            call_own(weight_sharing, *data_of, **settings),
            net.space,
            evaluations=stage.evaluations,
            batch=stage.batch,
            workdir=job.workdir / f"supernet_{i + 1}",
            what="supernet",
        )
        (state, begin), learned = result.state, result.history
    last = method.find(state)
    result = job.run(
        last.strategy,
        call_own(shared_scores, net, begin, score_on, **{**common, **again, **last.options}),
        net.space,
        evaluations=last.evaluations,
        batch=last.batch,
    )
    if job.method != "enas":  # whose controller learns while the weights train
        learned = result.history
    words = {"label": "share of the proposals", "steps_label": "proposals"}
    return job.found(result, frequencies(job.supernet, learned), **words)


def frequencies(
    supernet: Supernet, history: Mapping[str, np.ndarray], bins: int = 30
) -> dict[str, np.ndarray]:
    """How often each choice was proposed, over the course of a search: columns of a history.

    Args:
      supernet: its space and the words for its places.
      history: of a search.
      bins: rows, at most; each of about as many trials.

    Returns:
      `seed`, `evaluation` (the last of the row) and a column for each choice.
    """
    space = supernet.net.space
    texts, row = np.unique(history["architecture"], return_inverse=True)
    codes = np.stack([np.asarray(to_vector(space, space.parse(str(t)))) for t in texts])[row]
    parts = np.array_split(codes, min(bins, len(codes)))
    ends = np.cumsum([len(part) for part in parts])
    columns = {"seed": np.zeros(len(parts)), "evaluation": ends.astype(float)}
    for place, (word, labels) in enumerate(_words(supernet)):
        for k, label in enumerate(labels):
            share = [np.mean(part[:, place] == k) for part in parts]
            columns[column(word, label)] = np.asarray(share)
    return columns


def _words(supernet: Supernet) -> list[tuple[str, tuple[str, ...]]]:
    """The word for each place, and those for its choices."""
    space = supernet.net.space
    labels = [labels for place in places(space) for labels in place.labels]
    return list(zip(supernet.places, labels, strict=True))


def _chosen(result: Result, space: Space, row: int) -> Result:
    """The result with the architecture of one row of its history as the best."""
    text = str(result.history["architecture"][row])
    return dataclasses.replace(
        result,
        best_architecture=text,
        best=space.parse(text),
        best_score=float(result.history["score"][row]),
    )
