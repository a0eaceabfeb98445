"""One-shot methods searched on real images, their cells looked up in the NAS-Bench-201 table.

Command: python experiments/reproduce/one_shot_nb201.py --table=FILE.npz
  (--methods=darts_first,gdas --seeds=2 --steps=500 for a shorter one)
Cost: half an hour on 2 cores with other work beside it, of which the second order of DARTS takes a
  third; --methods=darts_first,gdas takes 6 minutes. The searches of --seeds=2 take half as long.
What it does: every method searches a NAS-Bench-201 supernet on images of MNIST at 8x8 pixels
  (--data and --pool for others), several seeds each; the cell that it derives is looked up in the
  table, which has the accuracies of all cells on CIFAR-10, CIFAR-100 and ImageNet16-120 after 200
  epochs. So the images that steer a search are smaller than those of the papers, and its steps
  fewer; the question is whether the methods behave as published: DARTS ends in operations without
  weights, GDAS and DrNAS do not.
Result: a line for each method, results.csv and collapse.png in the folder --workdir, and what
  docs/reproductions.md says. The same command goes on where it was stopped.
"""

import argparse
import csv
import functools
import inspect
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnas import base, data, nets, recipes, tables
from jnas.analysis import figures
from jnas.analysis.collapse import collapse_figure
from jnas.base import InputError, Space
from jnas.compiling import jit
from jnas.evaluators import Examples, Training, bilevel, make_mesh, shared_scores, weight_sharing
from jnas.evaluators.plans import population
from jnas.files import write_json, write_whole
from jnas.history import Result
from jnas.problems import examples
from jnas.runs import clock
from jnas.search import run, search
from jnas.supernet_search import weights_of

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
TEST = "test_acc_200"
OPTIMUM = 94.37  # CIFAR-10 test accuracy of the best cell, arXiv 2001.00326, table 5
SKIP, CONVOLUTIONS = 1, (2, 3)  # numbers of operations
# The paper's DARTS searches for 50 epochs of 391 steps, at a rate of 3e-4 for architectures (3.5e-4
# for ENAS' controller). With a part of the steps the rate is as much higher: the way is as long.
EPOCHS, RATE, CONTROLLER_RATE = 50, 3e-4, 3.5e-4
STEPS = EPOCHS * 391
# Cells that a method of two phases scores with the shared weights: select_num in AutoDL-Projects,
# exps/NAS-Bench-201-algos, quoted from memory. SPOS' evolution gets as many.
SCORED = 100


class Cells(NamedTuple):
    """What the searches of a method derive.

    cells: of every seed the cells on the way, by their number; the last is what is found.
    """

    cells: list[list[int]]
    seconds: float
    compile_seconds: float


Search = Callable[..., Cells]  # of (task, flags, name, folder)


class Method(NamedTuple):
    """One method.

    find: how it searches.
    epochs: of its search as published (AutoDL-Projects, configs/nas-benchmark/algos; of DrNAS its
      own code, 201-space/train_search_progressive.py; SPOS as RS-WS). Those that
      train one path a step have about five times as many as DARTS.
    published: CIFAR-10 test accuracy and its standard deviation.
    source: of these.
    """

    find: Search
    epochs: int
    published: tuple[float, float] | None
    source: str = "arXiv 2001.00326v2, table 5"

    def steps(self, flags: argparse.Namespace) -> tuple[int, int]:
        """Its steps, and those between two looks; `--steps` and `--every` are those of DARTS."""
        every = max(1, round(flags.every * self.epochs / EPOCHS))
        return every * (flags.steps // flags.every), every


class Task(NamedTuple):
    """What all methods search."""

    net: nets.Net
    fit_on: Any
    score_on: Any
    classes: int
    batch: int

    def training(self, steps: int) -> Training:
        """The paper's: SGD with Nesterov momentum 0.9, a cosine from 0.025, decay 5e-4, clip 5."""
        rate = optax.cosine_decay_schedule(0.025, steps, alpha=0.04)
        rule = optax.chain(
            optax.clip_by_global_norm(5.0),
            optax.add_decayed_weights(5e-4),
            optax.sgd(rate, momentum=0.9, nesterov=True),
            optax.masked(optax.set_to_zero(), norms_of_edges),
        )
        return Training(rule, steps, self.batch)


def norms_of_edges(params: Any) -> Any:
    """Which parameters are scales and biases on an edge: they stay 1 and 0 in the paper's supernet.

    A scale of its own would take over what the weight of an operation is to say.
    """
    words = lambda path: {getattr(key, "key", None) for key in path}
    return jax.tree_util.tree_map_with_path(
        lambda path, _: {"edges", "norm"} <= words(path), params
    )


def searches(
    strategy: base.Strategy,
    evaluator: base.Evaluator,
    space: Space,
    evaluations: int,
    batch: int,
    flags: argparse.Namespace,
    name: str,
    folder: Path,
    **how: Any,
) -> Result:
    """All seeds of a search, spread over the devices; goes on where it was stopped."""
    over = functools.partial(population, plan="map", mesh=make_mesh(0))
    seeds = {"seed": flags.seed, "seeds": flags.seeds, "over": over}
    numbers = {"evaluations": evaluations, "batch": batch}
    return run(strategy, evaluator, space, workdir=folder, what=name, **numbers, **seeds, **how)


def by_gradient(recipe: str, more: Callable = lambda steps: {}, **options: Any) -> Search:
    """A gradient method: the cell of the strongest operations after every so many steps.

    Args:
      recipe: of `recipes.GRADIENT`.
      more: the method's settings that follow from its steps.
      **options: of the evaluator.
    """

    def find(task: Task, flags: argparse.Namespace, name: str, folder: Path) -> Cells:
        space, (steps, every) = task.net.space, METHODS[name].steps(flags)
        make = recipes.GRADIENT[recipe]
        settings = {"learning_rate": RATE * STEPS / flags.steps, **more(steps)}
        if "rounds" in inspect.signature(make).parameters:
            settings["rounds"] = steps
        evaluator = bilevel(task.net, task.training(steps), task.fit_on, task.score_on, **options)

        def look(carry: tuple, trials: base.Trials) -> base.Trials:
            cell = base.argmax(space, weights_of(space, recipe, carry[0]))
            return trials._replace(arch=cell[None])

        how = {"every": every, "look": look}
        strategy = make(space, **settings)
        result = searches(strategy, evaluator, space, steps, 1, flags, name, folder, **how)
        rows = np.lexsort((result.history["evaluation"], result.history["seed"]))
        arch = [space.parse(word) for word in result.history["architecture"][rows]]
        cells = base.index(space, jnp.asarray(np.stack(arch))).reshape(flags.seeds, -1)
        return Cells(cells.tolist(), result.seconds, result.compile_seconds)

    return find


def by_sampling(recipe: str, rate: float = 0.0, **options: Any) -> Search:
    """A method of two phases: the cell of the best score with the shared weights."""

    def find(task: Task, flags: argparse.Namespace, name: str, folder: Path) -> Cells:
        space, (steps, _) = task.net.space, METHODS[name].steps(flags)
        rates = {"learning_rate": rate * STEPS / flags.steps} if rate else {}
        settings = {**options, **rates}
        method = recipes.SHARING[recipe](space, steps=steps, **settings)
        (stage,) = method.train
        data_of = task.net, task.training(stage.steps), task.fit_on, task.score_on
        evaluator = weight_sharing(*data_of, classes=task.classes, **stage.options)
        numbers = stage.evaluations, stage.batch
        trained = searches(stage.strategy, evaluator, space, *numbers, flags, name, folder)

        def best(row: tuple) -> jax.Array:
            key, (state, shared) = row
            last = method.find(state)
            options = {"classes": task.classes, "fit_on": task.fit_on, **last.options}
            judge = shared_scores(task.net, shared, task.score_on, **options)
            rounds = last.evaluations // last.batch
            key = jax.random.fold_in(key, steps)
            how: Any = {"steps": rounds, "batch": last.batch}
            _, trials = search(key, last.strategy, judge, space, **how)
            score = jnp.where(trials.weight > 0, trials.score, -jnp.inf)
            at = jnp.unravel_index(jnp.argmax(score), score.shape)
            return base.index(space, jax.tree.map(lambda x: x[at], trials.arch))

        keys = [jax.random.key(flags.seed + s) for s in range(flags.seeds)]
        state = trained.state
        if flags.seeds == 1:
            state = jax.tree.map(lambda x: x[None], state)
        rows = jnp.stack(keys), state
        started = time.perf_counter()
        program = jit(population(best, "map", make_mesh(0))).lower(rows).compile()
        compiled = time.perf_counter()
        cells = np.asarray(program(rows))[:, None]
        seconds = trained.seconds + time.perf_counter() - compiled
        return Cells(cells.tolist(), seconds, trained.compile_seconds + compiled - started)

    return find


def in_two_stages(steps: int) -> dict[str, Any]:
    """Of DrNAS' 100 epochs the architecture rests for 10; after 50, 3 operations of 5 stay."""
    return {"frozen": steps // 10, "keep": (3,), "after": (max(1, steps // 2),)}


METHODS = {
    "darts_first": Method(by_gradient("darts", order="first"), 50, (54.30, 0.0)),
    "darts_second": Method(by_gradient("darts", order="finite"), 50, (54.30, 0.0)),
    "gdas": Method(by_gradient("gdas", sparse=True), 240, (93.61, 0.09)),
    "drnas": Method(
        by_gradient("drnas", in_two_stages), 100, (94.36, 0.0), "arXiv 2006.10355, table 4"
    ),
    "rs_ws": Method(by_sampling("rs_ws", evaluations=SCORED, batch=20), 250, (87.66, 1.69)),
    "enas": Method(by_sampling("enas", rate=CONTROLLER_RATE, derive=SCORED), 310, (53.89, 0.58)),
    "spos": Method(by_sampling("spos", population=20, generations=SCORED // 20), 250, None),
}


COUNTS = (  # flags of at least 1: name, default, what it is
    ("seeds", 4, "searches of each method"),
    ("steps", 600, "of the weights of DARTS; the others' are as much longer as published"),
    ("every", 50, "steps of DARTS between two looks"),
    ("channels", 4, "C, of the supernet"),
    ("cells", 5, "N, of the supernet"),
    ("stages", 3, "of cells"),
    ("batch", 32, "images in a step"),
    ("images", 384, "that train the weights; with --steps and --batch this makes 50 epochs"),
    ("pool", 4, "pixels along each axis whose mean is one, so that images are small"),
)


class Parser(argparse.ArgumentParser):
    """Flags; a wrong one is an `InputError`."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def flags_of(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True, help="the path of an .npz")
    parser.add_argument("--workdir", default="runs/one_shot_nb201")
    parser.add_argument("--methods", default=",".join(METHODS), help="some of them")
    parser.add_argument("--seed", type=int, default=0, help="the first of them (0)")
    for name, value, about in COUNTS:
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{about} ({value})")
    parser.add_argument("--data", default="mnist_5k", help="a data set of images (mnist_5k)")
    parser.add_argument("--data_dir", help="the folder of TFDS data sets")
    flags = parser.parse_args(argv)
    for name, *_ in COUNTS:
        if getattr(flags, name) < 1:
            raise InputError(f"--{name}={getattr(flags, name)}: it has to be at least 1")
    if flags.steps % flags.every:
        raise InputError(f"--every={flags.every}: it has to divide --steps={flags.steps}")
    for name in flags.methods.split(","):
        if name not in METHODS:
            raise InputError(f"--methods: {name!r}: allowed are {', '.join(METHODS)}")
    return flags


def pooled(whole: Examples, side: int, multiple: int) -> Examples:
    """The images with the mean of every `side` x `side` pixels, with a border of zeros if needed.

    Their height and width are multiples of `multiple`.
    """
    x = np.asarray(whole.x, np.float32)
    missing = [-size % (side * multiple) for size in x.shape[1:3]]
    border = [(m // 2, m - m // 2) for m in missing]
    x = np.pad(x, ((0, 0), *border, (0, 0)))
    n, height, width, channels = x.shape
    parts = x.reshape(n, height // side, side, width // side, side, channels)
    return whole._replace(x=parts.mean((2, 4)))


def task_of(flags: argparse.Namespace) -> Task:
    """The supernet and its images."""
    folder = {} if flags.data_dir is None else {"data_dir": flags.data_dir}
    found = data.load(flags.data, validation_fraction=0.5, **folder)
    if found.task != "classification" or len(found.shape) != 3:
        raise InputError(f"--data={flags.data}: images to classify are needed")
    first = jax.tree.map(lambda part: part[: flags.images], found.train)
    splits = (examples(found, split) for split in (first, found.validation))
    parts = [pooled(split, flags.pool, 2 ** (flags.stages - 1)) for split in splits]
    net = nets.nas_bench_201(
        channels=flags.channels,
        cells=flags.cells,
        stages=flags.stages,
        classes=found.num_classes,
        image=parts[0].x.shape[1],
        inputs=found.shape[-1],
    )
    return Task(net, *parts, found.num_classes, flags.batch)


def kept(name: str, flags: argparse.Namespace) -> Path:
    """The file of a finished method; another setting is another file."""
    numbers = (flags.seeds, flags.seed, *METHODS[name].steps(flags))
    shape = (
        flags.channels,
        flags.cells,
        flags.stages,
        flags.batch,
        flags.data,
        flags.images,
        flags.pool,
    )
    return Path(flags.workdir) / f"{name}_{'-'.join(map(str, numbers + shape))}.json"


def counted(arch: Any) -> tuple[np.ndarray, np.ndarray]:
    """The edges of cells that are skip connections, and those that have no weights."""
    arch = np.asarray(arch)
    return (arch == SKIP).sum(-1), (~np.isin(arch, CONVOLUTIONS)).sum(-1)


def row_of(name: str, found: dict[str, Any], space: Space, test: np.ndarray) -> dict[str, Any]:
    """What the table says of the cells at the end."""
    last = np.asarray(found["cells"])[:, -1]
    arch = np.asarray(base.to_vector(space, base.from_index(space, jnp.asarray(last))))
    skips, weightless = counted(arch)
    row: dict[str, Any] = {"method": name, "seeds": len(last)}
    for d, dataset in enumerate(DATASETS):
        accuracy = test[last, d].astype(float)
        row |= {f"{dataset}_mean": accuracy.mean(), f"{dataset}_std": accuracy.std()}
    published = METHODS[name].published
    row |= {
        "skips": skips.mean(),
        "without_weights": weightless.mean(),
        "seconds": found["seconds"],
    }
    row |= {"compile_seconds": found["compile_seconds"]}
    row |= dict(zip(("published_mean", "published_std"), published or (None, None), strict=True))
    row["source"] = METHODS[name].source if published else ""
    cells = (space.describe(a) for a in arch)
    return row | {"cells": " ".join(cells)}


def summary(rows: list[dict[str, Any]], data: str) -> str:
    """The rows as a table for people."""
    lines = [
        f"test accuracy of the cells found by {rows[0]['seeds']} searches on {data}, %",
        f"  {'method':14s}" + "".join(f"{d:>16s}" for d in DATASETS)
        + f"{'CIFAR-10 published':>22s}{'skips':>8s}{'weightless':>12s}{'seconds':>9s}",
    ]  # fmt: skip
    for row in rows:
        ours = [f"{row[f'{d}_mean']:.2f} ± {row[f'{d}_std']:.2f}" for d in DATASETS]
        theirs = "-"
        if row["published_mean"] is not None:
            theirs = f"{row['published_mean']:.2f} ± {row['published_std']:.2f}"
        lines.append(
            f"  {row['method']:14s}" + "".join(f"{text:>16s}" for text in ours)
            + f"{theirs:>22s}{row['skips']:8.2f}{row['without_weights']:12.2f}"
            + f"{row['seconds']:9.1f}"
        )  # fmt: skip
    return "\n".join(lines)


def picture(results: dict[str, dict[str, Any]], space: Space, test: np.ndarray, title: str) -> Any:
    """CIFAR-10 test accuracy and edges without weights of the derived cells over time."""
    curves = {}
    for name, found in results.items():
        cells = np.asarray(found["cells"])
        arch = base.to_vector(space, base.from_index(space, jnp.asarray(cells)))
        many = cells.shape[1]
        parts = np.arange(1, many + 1) * (100 / many)
        curves[name] = parts, test[cells, 0].astype(float), *counted(arch)
    levels = [(OPTIMUM, "best cell"), (float(test[:, 0].mean()), "mean of all cells")]
    return collapse_figure(curves, levels=levels, title=title)


def main(argv: list[str] | None = None) -> int:
    """Runs what is not there yet, and shows all."""
    flags = flags_of(argv)
    columns = [tables.TABLES["nas_bench_201"](flags.table, name) for name in DATASETS]
    if TEST not in columns[0]:
        raise InputError(f"table {flags.table!r} lacks {TEST}, which this needs")
    test = np.stack([c[TEST] for c in columns], -1)
    task, names = task_of(flags), flags.methods.split(",")
    Path(flags.workdir).mkdir(parents=True, exist_ok=True)
    started, new, results = time.perf_counter(), 0, {}
    for i, name in enumerate(names):
        file = kept(name, flags)
        if not file.exists():
            found = METHODS[name].find(task, flags, name, file.with_suffix(""))
            write_json(file, found._asdict())
            new += 1
        results[name] = json.loads(file.read_text())
        left = (time.perf_counter() - started) / max(new, 1) * (len(names) - i - 1)
        took = "{seconds:.0f} s, compiled in {compile_seconds:.0f} s".format(**results[name])
        print(f"{i + 1}/{len(names)} {name}: {took}, about {clock(left)} left", file=sys.stderr)
    rows = [row_of(name, found, task.net.space, test) for name, found in results.items()]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(Path(flags.workdir) / "results.csv", text.getvalue().encode())
    title = f"One-shot search on {flags.data}"
    figure = picture(results, task.net.space, test, title)
    figures.save(figure, Path(flags.workdir) / "collapse.png")
    print(summary(rows, flags.data))
    print(f"{Path(flags.workdir) / 'results.csv'}  {Path(flags.workdir) / 'collapse.png'}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    split = f"--xla_force_host_platform_device_count={os.cpu_count() or 1}"
    os.environ["XLA_FLAGS"] = f"{split} {os.environ.get('XLA_FLAGS', '')}".strip()
    try:
        sys.exit(main())
    except InputError as error:
        print("one_shot_nb201: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
