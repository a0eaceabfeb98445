"""From a config to what is to be learned: data set, task, and what a network has to know."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jnas import data
from jnas.base import InputError, template
from jnas.data.builders import SOURCES, made_by
from jnas.data.reading import check_test
from jnas.evaluators import TASKS, Examples, Task
from jnas.nets import Net
from jnas.settings import call, section

# What a network may have to know of its inputs.
WORDS = ("image", "inputs", "length", "features", "vocabulary", "target_length")


def dataset_of(config: ConfigDict, test: bool = True) -> data.Dataset:
    """The data set of `config.data`, its test split closed.

    Raises:
      InputError: no such data set, or one without the test split that the end of a run needs.
    """
    name, settings = _data(config)
    found = call("data", data.load, name, **settings)
    if test:
        check_test(found.name, found.splits)
    return found


def _data(config: ConfigDict) -> tuple[str, dict[str, Any]]:
    """The name of the data set, and its settings: what `load` does not take are its options."""
    settings = section(config, "data")
    name, task = settings.pop("name", "digits"), section(config, "task")
    takes = inspect.signature(data.load).parameters
    asks = inspect.signature(made_by(name)).parameters if name in SOURCES else {}
    own = {k: settings.pop(k) for k in list(settings) if k not in takes or k in asks}
    if own:
        settings["options"] = own
    if task.get("name"):
        settings["task"] = task["name"]
    return name, settings


def task_of(config: ConfigDict, dataset: data.Dataset) -> Task:
    """What is to be learned: what the data set is for, or `config.task`, with its settings."""
    settings = section(config, "task")
    settings.pop("name", None)
    make = TASKS[dataset.task]
    facts = {
        "classes": dataset.num_classes,
        "vocabulary": dataset.num_classes,
        "length": dataset.shape[0],
        "mean": dataset.facts.get("target_mean"),
        "std": dataset.facts.get("target_std"),
    }
    known = {k: facts[k] for k in inspect.signature(make).parameters if k in facts}
    return call("task", make, **{**settings, **known})


def shape_of(dataset: data.Dataset) -> dict[str, Any]:
    """What a network has to know of a data set: `classes`, its outputs, and of its inputs

    - images: `image` (height and width) and `inputs` (channels);
    - vectors: the same, as images of 1 x 1;
    - series: `length` (frames), `features`, whether the last of these says where frames are
      (`padded`), and `output`, which is `ctc` for that task, else `classes`;
    - tokens: `length` and `vocabulary`; of two sequences `target_length` too.

    Raises:
      InputError: its images are not square, or its inputs are none of these.
    """
    shape, told = dataset.shape, f"data {dataset.name!r} has shape {dataset.shape}"
    found: dict[str, Any] = {"classes": dataset.num_classes}
    if dataset.task == "sequence_to_sequence":
        lengths = {"length": shape[0], "target_length": dataset.facts["target_length"]}
        return {**found, **lengths, "vocabulary": dataset.num_classes}
    if dataset.task == "language_model":
        return {**found, "length": shape[0], "vocabulary": dataset.num_classes}
    if len(shape) == 2:
        kind = "ctc" if dataset.task == "ctc" else "classes"
        series = {"length": shape[0], "features": shape[1], "output": kind}
        return {**found, **series, "padded": bool(dataset.facts.get("mask"))}
    whole = (1, 1, *shape) if len(shape) == 1 else shape  # a vector: 1 x 1
    if len(whole) != 3 or whole[0] != whole[1]:
        raise InputError(f"{told}: square images, vectors, series or tokens needed")
    return {**found, "image": whole[0], "inputs": whole[2]}


def fitting(make: Callable, dataset: data.Dataset) -> dict[str, Any]:
    """Of `shape_of` what a network's factory takes.

    A factory that knows images alone gets series as vectors.

    Raises:
      InputError: it takes none of the words for these inputs.
    """
    shape, takes = shape_of(dataset), inspect.signature(make).parameters
    if any(takes[k].kind is takes[k].VAR_KEYWORD for k in takes):
        return shape
    if "length" in shape and "features" in shape and "features" not in takes:
        flat = {"image": 1, "inputs": shape["length"] * shape["features"]}
        shape = {"classes": shape["classes"], **flat}
    found = {k: v for k, v in shape.items() if k in takes}
    if not any(k in WORDS for k in found):
        needs = ", ".join(k for k in shape if k in WORDS)
        raise InputError(
            f"space {make.__name__!r} is not for data {dataset.name!r} of shape {dataset.shape}: "
            f"it takes none of {needs}"
        )
    return found


def check_fit(net: Net, dataset: data.Dataset, task: Task) -> None:
    """Raises `InputError` where a network does not take the inputs or has other outputs."""
    some = examples(dataset, jax.tree.map(lambda a: a[:1], dataset.train))

    def run(key: jax.Array) -> Any:
        params, state = net.init(key)
        rows: Any = np.zeros(2, int)
        outputs, _ = net.apply(params, state, template(net.space), some.inputs(rows))
        y = some.labels(rows)
        if task.name != "ctc" and jax.tree.leaves(y)[0].ndim + 1 < outputs.ndim:
            raise ValueError(f"outputs of shape {outputs.shape[1:]}")
        return task.loss(outputs, y, 0.0, None)

    try:
        jax.eval_shape(run, jax.random.key(0))
    except InputError:
        raise
    except Exception as e:  # whatever the network raises for inputs it is not made for
        what = " ".join(str(e).split())[:200] or type(e).__name__
        raise InputError(
            f"space {net.space.name!r} is not for the task {task.name} on data {dataset.name!r} of "
            f"shape {dataset.shape}: {what}"
        ) from None


def examples(dataset: data.Dataset, split: data.Split) -> Examples:
    """A split with the scaling of the data set's training split."""
    return Examples(split.x, split.y, dataset.mean, dataset.std)


def final_examples(config: ConfigDict, dataset: data.Dataset) -> tuple[Examples, Examples]:
    """Training and validation split together, and the test split."""
    name, settings = _data(config)
    keep = {k: settings[k] for k in settings if k in inspect.signature(data.load_test).parameters}
    test = data.load_test(name, like=dataset, **keep)
    joined = jax.tree.map(lambda *part: np.concatenate(part), dataset.train, dataset.validation)
    return examples(dataset, joined), examples(dataset, test)
