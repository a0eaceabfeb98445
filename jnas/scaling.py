"""`jnas scale`: the search of alpha, beta and gamma for compound scaling, by small trainings.

Tan and Le 2019, arXiv 1905.11946, section 3.3: with phi = 1, the baseline is trained at every
(alpha, beta, gamma) of a grid with alpha * beta^2 * gamma^2 near 2, and the best triple then scales
it up with phi = 2, 3, ...
"""

import csv
import io
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jnas import compiling
from jnas.analysis import figures
from jnas.analysis.scaling import scaling_figure
from jnas.base import InputError
from jnas.configs import training_of
from jnas.errors import positive
from jnas.evaluators import Examples
from jnas.files import write_json, write_whole
from jnas.final import train_final
from jnas.nets.elastic import resize
from jnas.nets.mobile import decided_network
from jnas.problems import dataset_of, examples, shape_of
from jnas.runs import check, clock, result_of
from jnas.settings import call, section
from jnas.spaces.compound import Scale, compound, efficientnet, scaled_baseline, scales
from jnas.spaces.mobile_blocks import Network, costs
from jnas.spaces.mobile_registry import of_settings
from jnas.spaces.mobile_stages import decide
from jnas.spaces.mobile_text import parse

MEASURED = ("accuracy", "std", "seconds")
COLUMNS = (
    *("alpha", "beta", "gamma", "product", "depth", "width", "image", "layers"),
    *("params", "flops", "ratio", *MEASURED),
)


def network_at(scale: Scale, baseline: Mapping[str, Any], data: Mapping[str, int]) -> Network:
    """The baseline's network, scaled, for data of `image`, `inputs` and `classes`."""
    settings = scaled_baseline(scale, data["image"], baseline)
    rest = {"inputs": data["inputs"], "classes": data["classes"]}
    spec = call("net", of_settings(efficientnet, lambda spec: spec), **settings, **rest)
    return decide(spec, parse(spec, spec.points["EfficientNet"]))


def row_of(scale: Scale, baseline: Mapping[str, Any], data: Mapping[str, int]) -> dict[str, Any]:
    """A row of the table, without what is measured: the network as it really comes out.

    Channels and layers are whole numbers, so `ratio`, how many times the baseline's multiply-adds
    there are, differs from `product`.
    """
    network = network_at(scale, baseline, data)
    settings = scaled_baseline(scale, data["image"], baseline)
    params, flops = costs(network)
    first = costs(network_at(Scale(1, 1, 1), baseline, data))[1]
    return {
        **dict(zip(("alpha", "beta", "gamma"), scale, strict=True)),
        "product": round(scale.cost, 4),
        "depth": round(settings["depth"], 4),
        "width": round(settings["width"], 4),
        "image": network.image,
        "layers": len(network.blocks),
        "params": params,
        "flops": flops,
        "ratio": round(flops / first, 4),
    }


def family_of(
    best: Scale, most: int, baseline: Mapping[str, Any], data: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The networks of phi = 0, 1, ... with what they cost."""
    rows = []
    for phi in range(most + 1):
        row = row_of(compound(phi, *best), baseline, data)
        kept = ("depth", "width", "image", "layers", "params", "flops", "ratio")
        rows.append({"phi": phi, **{k: row[k] for k in kept}})
    return rows


def scale(config: ConfigDict, workdir: Path | None, dry: bool = False) -> dict[str, Any]:
    """Searches alpha, beta and gamma, writes `scale.csv`, `result.json` and `scale.png`.

    Every distinct network of the grid trains on the training split, `seeds` times, and is measured
    on the validation split; images are resized to the network's resolution. The same call on the
    same folder goes on where it stopped.

    Args:
      config: `net` has the baseline (see `jnas.spaces.compound.efficientnet`), `scale` the grid
        (`low`, `high`, `step`, `target`, `slack`), `seeds` and the largest `phi`; `data`, `train`
        and `seed` are as for a search. Where `scale.image` is given, images have that size at
        phi = 0, whatever the data's own. With `scale.counted` the networks' own multiply-adds have
        to be near `target` times the baseline's too: of small networks, whose channels and layers
        are few, they differ much from the product.
      workdir: the folder of the run; None writes nothing.
      dry: nothing is trained, only counted.

    Returns:
      What `result.json` holds.

    Raises:
      InputError: a setting that cannot be, or a folder with another run.
    """
    settings = section(config, "scale")
    seeds, most = settings.pop("seeds", 1), settings.pop("phi", 3)
    for name, value, least in (("seeds", seeds, 1), ("phi", most, 0)):
        if type(value) is not int or value < least:
            raise InputError(f"scale.{name}={value!r}: a whole number of at least {least}")
    side = settings.pop("image", None)
    if side is not None:
        positive(**{"scale.image": side})
    counted = settings.pop("counted", False)
    baseline = section(config, "net")
    dataset = None
    try:
        dataset = dataset_of(config, test=False)
        data = {**shape_of(dataset), **({} if side is None else {"image": side})}
    except InputError:
        if not dry or side is None:
            raise
        data = {"image": side, "inputs": 3, "classes": 1000}  # counting needs no data set
    grid = call("scale", scales, **settings)
    rows = [row_of(triple, baseline, data) for triple in grid]
    if counted:
        target, slack = settings.get("target", 2.0), settings.get("slack", 0.1)
        near = [abs(row["ratio"] - target) <= slack * target for row in rows]
        grid = [triple for triple, on in zip(grid, near, strict=True) if on]
        rows = [row for row, on in zip(rows, near, strict=True) if on]
        if not rows:
            raise InputError(f"scale: no network costs {target} times the baseline: more slack?")
    training = None if dry else training_of(section(config, "train"), "train")
    setting = {**json.loads(json.dumps(config.to_dict())), "command": "scale", "dry": dry}
    if workdir is not None and check(workdir, setting) and (found := result_of(workdir)):
        return found
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", setting)
    started = time.perf_counter()
    first: dict[str, float] | None = None
    if training is not None:
        assert dataset is not None
        splits = [examples(dataset, s) for s in (dataset.train, dataset.validation)]
        measure = _Measure(splits, training, data["classes"], seeds, config, workdir, setting)
        many = len({network_at(triple, baseline, data) for triple in grid}) + 1
        measure.total = many * seeds
        first = measure(network_at(Scale(1, 1, 1), baseline, data))
        for triple, row in zip(grid, rows, strict=True):
            row |= measure(network_at(triple, baseline, data))
            _write(workdir, rows)
        best = max(range(len(rows)), key=lambda i: (rows[i]["accuracy"], -rows[i]["flops"]))
    else:
        paper = Scale(1.2, 1.1, 1.15)
        away = lambda i: sum((a - b) ** 2 for a, b in zip(grid[i], paper, strict=True))
        best = min(range(len(grid)), key=away)
    _write(workdir, rows)
    result: dict[str, Any] = {
        **dict(zip(("alpha", "beta", "gamma"), grid[best], strict=True)),
        **({} if first is None else {"accuracy": rows[best]["accuracy"]}),
        **({} if first is None else {"baseline_accuracy": first["accuracy"]}),
        "triples": len(grid),
        "networks": len({network_at(triple, baseline, data) for triple in grid}),
        "seeds": seeds,
        "trained": not dry,
        "seconds": round(time.perf_counter() - started, 3),
        "family": family_of(grid[best], most, baseline, data),
    }
    if workdir is not None:
        figures.save(scaling_figure(rows, result["family"], first), workdir / "scale.png")
        write_json(workdir / "result.json", result)
    return result


class _Measure:
    """Trains a network with several seeds, each network once, and remembers in the folder."""

    def __init__(
        self,
        splits: list[Examples],
        training: Any,
        classes: int,
        seeds: int,
        config: ConfigDict,
        workdir: Path | None,
        setting: dict[str, Any],
    ):
        compiling.keep_programs()
        self.splits, self.training, self.classes = splits, training, classes
        self.seeds, self.seed = seeds, config.get("seed", 0)
        self.dropout = config.get("dropout", 0.0)
        self.workdir, self.setting = workdir, setting
        self.known: dict[Network, dict[str, float]] = {}
        self.total, self.done, self.started = 0, 0, time.perf_counter()

    def __call__(self, network: Network) -> dict[str, float]:
        """`accuracy`, the mean over seeds, `std` and `seconds`."""
        if network not in self.known:
            at = time.perf_counter()
            found = [self._train(network, self.seed + k) for k in range(self.seeds)]
            self.known[network] = {
                "accuracy": float(np.mean(found)),
                "std": float(np.std(found)),
                "seconds": round(time.perf_counter() - at, 1),
            }
        return self.known[network]

    def _train(self, network: Network, seed: int) -> float:
        fit_on, score_on = (
            split._replace(x=_resized(split.x, network.image)) for split in self.splits
        )
        net = decided_network(network, "network", self.dropout)
        name = f"{len(network.blocks)}_{network.family.stem}_{network.image}_{costs(network)[0]}"
        folder = None if self.workdir is None else self.workdir / "networks" / f"{name}_{seed}"
        found = None if folder is None else result_of(folder)
        if found is None:
            found = train_final(
                net,
                {"network": np.int32(0)},
                self.training,
                fit_on,
                score_on,
                classes=self.classes,
                seed=seed,
                workdir=folder,
                setting=self.setting,
                verbose=False,
            )
            if folder is not None:
                write_json(folder / "result.json", found)
        self.done += 1
        passed = time.perf_counter() - self.started
        left = passed / self.done * (self.total - self.done)
        print(
            f"scale {self.done}/{self.total}  {len(network.blocks)} layers, "
            f"{found['params']:,} parameters, {network.image} px: "
            f"accuracy {found['test_accuracy']:.4f}  elapsed {clock(passed)}  left {clock(left)}",
            file=sys.stderr,
            flush=True,
        )
        return found["test_accuracy"]


def _resized(x: Any, image: int) -> np.ndarray:
    """Images at another size, float32 where it is another, in blocks that fit the memory."""
    if x.shape[1] == image:
        return x
    change = jax.jit(lambda x: resize(x.astype(jnp.float32), image))
    return np.concatenate([np.asarray(change(x[i : i + 1000])) for i in range(0, len(x), 1000)])


def _write(workdir: Path | None, rows: list[dict[str, Any]]) -> None:
    if workdir is None:
        return
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(workdir / "scale.csv", text.getvalue().encode())


def table(result: Mapping[str, Any]) -> str:
    """The networks of the result as lines of text."""
    head = f"{'phi':>4s}{'depth':>8s}{'width':>8s}{'image':>7s}{'layers':>8s}{'params':>14s}"
    lines = [f"{head}{'multiply-adds':>18s}{'ratio':>9s}"]
    for row in result["family"]:
        lines.append(
            f"{row['phi']:4d}{row['depth']:8.3f}{row['width']:8.3f}{row['image']:7d}"
            f"{row['layers']:8d}{row['params']:14,d}{row['flops']:18,d}{row['ratio']:9.2f}"
        )
    return "\n".join(lines)


def command(config: ConfigDict, workdir: str | None, dry: bool) -> None:
    """The command: runs and prints."""
    if workdir is None and not dry:
        raise InputError("--workdir=DIR is missing (or --dry, to count and train nothing)")
    folder = None if workdir is None else Path(workdir)
    result = scale(config, folder, dry)
    for key, value in result.items():
        if key != "family":
            print(f"{key:20s}{value:.4f}" if isinstance(value, float) else f"{key:20s}{value}")
    print(table(result))
    if folder is not None:
        print(f"{folder / 'result.json'}  {folder / 'scale.csv'}  {folder / 'scale.png'}")
