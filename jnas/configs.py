"""From a config to the objects of a run."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax
from ml_collections import ConfigDict

from jnas import data, tables
from jnas.base import Evaluator, InputError, Space, Strategy
from jnas.evaluators import Examples, Training, make_mesh, tabular, train
from jnas.nets import NETS, Net
from jnas.recipes import STRATEGIES
from jnas.spaces import SPACES

OPTIMIZERS = ("sgd", "adam", "adamw")


def resolve(kind: str, name: str, registry: Mapping[str, Callable]) -> Callable:
    """The registered function, or one of the user's own given as `module:function`."""
    if name in registry:
        return registry[name]
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as e:
            raise InputError(f"{kind} {name!r}: {e}") from None
    allowed = ", ".join(sorted(registry))
    raise InputError(f"unknown {kind} {name!r}; allowed: {allowed}, or your own as module:function")


def call(kind: str, f: Callable, *args: Any, **kwargs: Any) -> Any:
    """Calls a factory with the keys of a config; a key that it does not take is an `InputError`."""
    takes = inspect.signature(f).parameters
    unknown = [k for k in kwargs if k not in takes]
    if unknown:
        allowed = ", ".join(list(takes)[len(args) :])
        raise InputError(f"{kind}.{unknown[0]}: no such setting; allowed: {allowed}")
    return f(*args, **kwargs)


def section(config: ConfigDict, name: str) -> dict[str, Any]:
    """A section of a config as a dict; empty where it is missing."""
    found = config.get(name)
    return {} if found is None else dict(found.to_dict())


def strategy_of(config: ConfigDict, space: Space) -> Strategy:
    """The strategy that `config.strategy` names, with its settings."""
    settings = section(config, "strategy")
    name = settings.pop("name", "random_search")
    return call("strategy", resolve("strategy", name, STRATEGIES), space, **settings)


def training_of(settings: dict[str, Any], kind: str) -> Training:
    """Optimizer and schedule: linear warm-up, then cosine to zero.

    Args:
      settings: `steps`, `batch_size`, `optimizer` (sgd with Nesterov momentum, adam or adamw),
        `learning_rate`, `momentum`, `weight_decay`, `warmup` (steps).
      kind: the section of the config, for errors.

    Returns:
      The training.
    """
    return call(kind, _training, **settings)


def _training(
    steps: int = 100,
    batch_size: int = 64,
    optimizer: str = "sgd",
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    warmup: int = 0,
) -> Training:
    if steps < 1 or batch_size < 1:
        raise InputError(f"steps={steps}, batch_size={batch_size}: both have to be at least 1")
    if not 0 <= warmup < steps:
        raise InputError(f"warmup={warmup}: it has to be at least 0 and less than steps={steps}")
    if optimizer not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {optimizer!r}; allowed: {', '.join(OPTIMIZERS)}")
    rate = optax.warmup_cosine_decay_schedule(
        learning_rate if warmup == 0 else 0.0, learning_rate, warmup, steps
    )
    decay = optax.add_decayed_weights(weight_decay)
    if optimizer == "adamw":
        rule = optax.adamw(rate, weight_decay=weight_decay)
    elif optimizer == "adam":
        rule = optax.chain(decay, optax.adam(rate))
    else:
        rule = optax.chain(decay, optax.sgd(rate, momentum=momentum or None, nesterov=momentum > 0))
    return Training(rule, steps, batch_size)


class Job(NamedTuple):
    """All that a search needs, and what its final training needs."""

    space: Space
    evaluator: Evaluator
    net: Net | None = None
    dataset: data.Dataset | None = None


def job_of(config: ConfigDict) -> Job:
    """Space and evaluator: a table where `config.table` names one, else training on data."""
    name = config.get("space", "nas_bench_201")
    if config.get("table"):
        space = resolve("space", name, SPACES)()
        load = resolve("table", name, tables.TABLES)
        columns = load(config.table, config.get("dataset", "cifar10"))
        return Job(space, tabular(space, columns, config.get("score", "val_acc_200")))
    net, dataset = network_of(config)
    settings = section(config, "train")
    options = {k: settings.pop(k) for k in ("plan", "score") if k in settings}
    evaluator = train(
        net,
        training_of(settings, "train"),
        examples(dataset, dataset.train),
        examples(dataset, dataset.validation),
        classes=dataset.num_classes,
        mesh=call("mesh", make_mesh, **section(config, "mesh")),
        **options,
    )
    return Job(net.space, evaluator, net, dataset)


def network_of(config: ConfigDict) -> tuple[Net, data.Dataset]:
    """The network and its data set, test split left closed."""
    settings = section(config, "data")
    dataset = call("data", data.load, settings.pop("name", "digits"), **settings)
    if len(dataset.shape) != 3 or dataset.shape[0] != dataset.shape[1]:
        raise InputError(f"data {dataset.name!r} has shape {dataset.shape}: square images needed")
    make = resolve("space", config.get("space", "nas_bench_201"), NETS)
    shape = {"classes": dataset.num_classes, "image": dataset.shape[0], "inputs": dataset.shape[2]}
    return call("net", make, **{**section(config, "net"), **shape}), dataset


def examples(dataset: data.Dataset, split: data.Split) -> Examples:
    """A split with the scaling of the data set's training split."""
    return Examples(split.x, split.y, dataset.mean, dataset.std)


def final_examples(config: ConfigDict, dataset: data.Dataset) -> tuple[Examples, Examples]:
    """Training and validation split together, and the test split."""
    settings = section(config, "data")
    name = settings.pop("name", "digits")
    keep = {k: settings[k] for k in settings if k in inspect.signature(data.load_test).parameters}
    test = data.load_test(name, **keep)
    both = zip(dataset.train, dataset.validation, strict=True)
    joined = data.Split(*(np.concatenate(part) for part in both))
    return examples(dataset, joined), examples(dataset, test)
