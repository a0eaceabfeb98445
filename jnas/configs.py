"""From a config to the objects of a run."""

import functools
import inspect
import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax
from ml_collections import ConfigDict

from jnas import data, tables
from jnas.base import Evaluator, InputError, Space, Strategy
from jnas.evaluators import (
    Augment,
    Training,
    joint,
    make_mesh,
    remembered,
    scored,
    tabular,
    train,
)
from jnas.evaluators.metrics import measured
from jnas.evaluators.training import check as check_training
from jnas.links import constrain, mnasnet, tunas_absolute, weighted_sum
from jnas.nets import NETS, Net
from jnas.problems import check_fit, dataset_of, examples, fitting, task_of
from jnas.recipes import STRATEGIES
from jnas.settings import call, resolve, section
from jnas.spaces import SPACES

OPTIONS = ("plan", "memory", "score", "remember")  # of a population, not of one training
FITNESS: dict[str, Callable[..., Strategy]] = {
    "constrain": constrain,
    "mnasnet": mnasnet,
    "tunas_absolute": tunas_absolute,
}
OPTIMIZERS = ("sgd", "adam", "adamw")
SEARCHED = ("learning_rate", "momentum", "weight_decay")


def read(file: str | Path) -> ConfigDict:
    """What `get_config()` of a file returns.

    Raises:
      InputError: there is no such file, or it does not give a config.
    """
    where = f"config {str(file)!r}"
    if not Path(file).is_file():
        raise InputError(f"{where}: no such file")
    try:
        config = runpy.run_path(str(file))["get_config"]()
    except InputError:
        raise
    except Exception as e:  # the config is the user's code: whatever it raises is theirs
        missing = isinstance(e, KeyError) and e.args == ("get_config",)
        what = "it has no function get_config()" if missing else f"{type(e).__name__}: {e}"
        raise InputError(f"{where}: {what}") from None
    if not isinstance(config, ConfigDict):
        raise InputError(f"{where}: get_config() has to return a ConfigDict")
    return config


def based_on(file: str, other: str, changes: Mapping[str, Any]) -> ConfigDict:
    """The config of a file beside this one, with changes.

    Args:
      file: this file, `__file__`.
      other: the name of the other file.
      changes: new values by key, such as `net.channels`; a dict takes the place of a section.

    Returns:
      The config.
    """
    config = read(Path(file).with_name(other))
    for key, value in changes.items():
        *path, last = key.split(".")
        part = functools.reduce(ConfigDict.__getitem__, path, config)
        part[last] = ConfigDict(value) if isinstance(value, Mapping) else value
    return config


def strategy_of(config: ConfigDict, space: Space) -> Strategy:
    """The strategy that `config.strategy` names, with its settings."""
    settings = section(config, "strategy")
    name = settings.pop("name", "random_search")
    return call("strategy", resolve("strategy", name, STRATEGIES), space, **settings)


def training_of(settings: dict[str, Any], kind: str) -> Training:
    """How a config trains: linear warm-up, then cosine to zero.

    Args:
      settings: of the optimizer `optimizer` (sgd with Nesterov momentum, adam or adamw),
        `learning_rate`, `momentum`, `weight_decay`, each a number or a tuple of values to search
        over, `warmup` (steps) and `clip` (the largest norm of a candidate's gradient, 0 for any);
        of the augmentation `flip`, `crop`, `cutout`, `mixup`; and `steps`, `batch_size`,
        `smoothing`, `ema`, `dtype`, `validate_at`, `auxiliary`.
      kind: the section of the config, for errors.

    Returns:
      The training, whose optimizer is a function of hyperparameters where any is searched.
    """
    if kind == "final":  # nothing is validated in it
        settings = {k: v for k, v in settings.items() if k != "validate_at"}
    return call(kind, _training, **settings)


def _training(
    steps: int = 100,
    batch_size: int = 64,
    optimizer: str = "sgd",
    learning_rate: float | Sequence[float] = 0.1,
    momentum: float | Sequence[float] = 0.9,
    weight_decay: float | Sequence[float] = 0.0,
    warmup: int = 0,
    clip: float = 0.0,
    flip: bool = False,
    crop: int = 0,
    cutout: int = 0,
    mixup: float = 0.0,
    smoothing: float = 0.0,
    ema: float = 0.0,
    dtype: str = "float32",
    validate_at: tuple[int, ...] = (),
    auxiliary: float = 0.0,
) -> Training:
    for name, whole in (("steps", steps), ("batch_size", batch_size), ("warmup", warmup)):
        if type(whole) is not int:
            raise InputError(f"{name}={whole!r}: a whole number is needed")
    if steps < 1 or batch_size < 1:
        raise InputError(f"steps={steps}, batch_size={batch_size}: both have to be at least 1")
    if not 0 <= warmup < steps:
        raise InputError(f"warmup={warmup}: it has to be at least 0 and less than steps={steps}")
    if optimizer not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {optimizer!r}; allowed: {', '.join(OPTIMIZERS)}")
    known = {"learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
    for name, given in known.items():
        for value in given if isinstance(given, tuple | list) else [given]:
            _at_least_0(name, value, 1 if name == "momentum" else np.inf)
    _at_least_0("clip", clip)
    fixed = {k: v for k, v in known.items() if not isinstance(v, tuple | list)}
    make = functools.partial(_rule, optimizer, steps, warmup, clip, **fixed)
    names = [k for k in known if k not in fixed]
    rule = (lambda values: make(**{k: values[k] for k in names})) if names else make()
    return Training(
        optimizer=rule,
        steps=steps,
        batch_size=batch_size,
        augment=Augment(flip, crop, cutout, mixup),
        smoothing=smoothing,
        ema=ema,
        dtype=dtype,
        validate_at=validate_at,
        auxiliary=auxiliary,
    )


def _at_least_0(name: str, value: Any, below: float = np.inf) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < below:
        limit = " and less than 1" if below == 1 else ""
        raise InputError(f"{name}={value!r}: a number of at least 0{limit} is needed")


def _rule(
    optimizer: str,
    steps: int,
    warmup: int,
    clip: float,
    *,
    learning_rate: Any,
    momentum: Any,
    weight_decay: Any,
) -> optax.GradientTransformation:
    """An optimizer, whose last three settings may be arrays."""
    start = learning_rate if warmup == 0 else 0.0
    parts = [
        optax.linear_schedule(start, learning_rate, warmup),
        optax.cosine_decay_schedule(learning_rate, steps - warmup),
    ]
    rate = optax.join_schedules(parts, [warmup])
    decay = optax.add_decayed_weights(weight_decay)
    if optimizer == "adamw":
        rule = optax.adamw(rate, weight_decay=weight_decay)
    elif optimizer == "adam":
        rule = optax.chain(decay, optax.adam(rate))
    else:
        moves = not isinstance(momentum, int | float) or momentum > 0
        sgd = optax.sgd(rate, momentum=momentum if moves else None, nesterov=moves)
        rule = optax.chain(decay, sgd)
    return optax.chain(optax.clip_by_global_norm(clip), rule) if clip else rule


def searched(config: ConfigDict) -> dict[str, Sequence[float]]:
    """The hyperparameters of `config.train` that are given as values to search over.

    Raises:
      InputError: such values in `config.final`, or for a setting that cannot be searched.
    """
    for kind in ("train", "final"):
        for name, value in section(config, kind).items():
            if isinstance(value, tuple | list) and name != "validate_at":
                if name not in SEARCHED:
                    allowed = ", ".join(SEARCHED)
                    raise InputError(f"{kind}.{name}={value}: values can be searched of {allowed}")
                if kind == "final":
                    raise InputError(f"final.{name}={value}: values to search over go into train")
    given = section(config, "train")
    return {k: v for k in SEARCHED if isinstance(v := given.get(k), tuple | list)}


class Job(NamedTuple):
    """All that a search needs, and what its final training needs."""

    space: Space
    evaluator: Evaluator
    net: Net | None = None
    dataset: data.Dataset | None = None


def job_of(config: ConfigDict, folder: Path | None = None) -> Job:
    """Space and evaluator: a table where `config.table` names one, else training on data.

    Args:
      config: of the search.
      folder: of the run, where a plan that was measured is kept for the next time.
    """
    name = config.get("space", "nas_bench_201")
    if config.get("table"):
        space = resolve("space", name, SPACES)()
        load = resolve("table", name, tables.TABLES)
        columns = load(config.table, config.get("dataset", "cifar10"))
        score = config.get("score", "val_acc_200")
        names = [name for name, column in columns.items() if np.ndim(column) == 1]
        return Job(space, judged(config, space, _tabular(config, space, columns), names, score))
    net, dataset = network_of(config)
    if config.get("final_net"):
        network_of(config, "final", dataset)  # a mistake shows before hours of search
    settings = section(config, "train")
    options = {k: settings.pop(k) for k in OPTIONS if k in settings}
    options.setdefault("plan", "auto")
    if folder is not None:
        options["plan_file"] = folder / "plan.json"
    fit_on = examples(dataset, dataset.train)
    last = {k: v for k, v in section(config, "final").items() if k not in options}
    task = task_of(config, dataset)
    after = training_of({**settings, **last}, "final")
    check_training(after, fit_on, task)  # before hours of search
    training = training_of(settings, "train")
    evaluator = train(
        net,
        training,
        fit_on,
        examples(dataset, dataset.validation),
        task=task,
        mesh=call("mesh", make_mesh, **section(config, "mesh")),
        **options,
    )
    names = [*measured(task, training.validate_at), *net.space.counts]
    return Job(net.space, judged(config, net.space, evaluator, names), net, dataset)


def judged(
    config: ConfigDict, space: Space, evaluator: Evaluator, names: Sequence[str], raw: str = ""
) -> Evaluator:
    """The evaluator with the memory of `config.remember` and the fitness of `config.fitness`.

    Args:
      config: `remember` is a number of architectures, 0 for none; `fitness` has the weights of
        `jnas.links.weighted_sum`, or a `name` (of `FITNESS`, or `module:function`, which makes a
        feedback link) with its settings.
      space: says which architectures are isomorphic.
      evaluator: that of the score.
      names: the metrics that there are.
      raw: see `jnas.evaluators.scored`.
    """
    remember = config.get("remember", 0)
    if remember != 0:
        evaluator = remembered(evaluator, space, remember, config.get("batch", 1))
    settings = section(config, "fitness")
    if not settings:
        return evaluator
    name = settings.pop("name", None)
    terms = [k for k in settings if k != "per"] if name is None else [settings.get("metric")]
    for term in terms:
        if term not in ("score", None, *names):
            allowed = ", ".join(["score", *sorted(names)])
            raise InputError(f"fitness: there is no metric {term!r}; there are {allowed}")
    if name is None:
        return scored(evaluator, weighted_sum(**settings), raw)
    make = resolve("fitness", name, FITNESS)
    return scored(evaluator, call("fitness", make, **settings), raw)


def _tabular(config: ConfigDict, space: Space, columns: dict[str, np.ndarray]) -> Evaluator:
    """A table; `config.fidelities` names columns and their parts of a full evaluation."""
    parts = section(config, "fidelities")
    for column, part in parts.items():
        if list(parts.values()).count(part) > 1:
            raise InputError(f"fidelities.{column}={part}: another column has the same part")
    return tabular(
        space,
        columns,
        config.get("score", "val_acc_200"),
        fidelities={part: column for column, part in parts.items()},
        cost=config.get("cost") or None,
        resume=config.get("resume", True),
        workers=config.get("workers", 1),
    )


def network_of(
    config: ConfigDict, kind: str = "train", dataset: data.Dataset | None = None
) -> tuple[Net, data.Dataset]:
    """The network, over a joint space where hyperparameters are searched, and its data set.

    The test split stays closed.

    Args:
      config: its section `net` has the settings of the network.
      kind: of training, `train` or `final`, whose number of steps a network that takes `steps` is
        given. The settings of `final_net`, where there are any, are those of the final network.
      dataset: where it is loaded already.
    """
    if dataset is None:
        dataset = dataset_of(config)
    make = resolve("space", config.get("space", "nas_bench_201"), NETS)
    own, shape = section(config, "net"), fitting(make, dataset)
    if kind == "final":
        own |= section(config, "final_net")
    if "steps" in inspect.signature(make).parameters:
        known = section(config, "train")
        known |= section(config, "final") if kind == "final" else {}
        shape["steps"] = known.get("steps", 100)
    net, values = call("net", make, **{**own, **shape}), searched(config)
    check_fit(net, dataset, task_of(config, dataset))
    return (joint(net, **values) if values else net), dataset
