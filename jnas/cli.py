"""The `jnas` command: search, train, reproduce, describe, list."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jnas.commands.devices import CLUSTER
from jnas.commands.devices import join as _join
from jnas.commands.flags import config_flags as _config
from jnas.commands.flags import quiet as _quiet

USAGE = """usage: jnas COMMAND ...

  jnas search --config=FILE --workdir=DIR [--config.key=value ...]
      search, train the best architecture, write DIR/result.json and figures;
      the same command goes on where it was stopped
      several processes: --coordinator=HOST:PORT --num_processes=N --process_id=I for
      each, or --distributed alone on SLURM and TPU pods
  jnas train --config=FILE --arch=STRING [--workdir=DIR] [--config.key=value ...]
      train one architecture and measure it on the test split; of the space darts
      --genotype=NAME_OR_STRING, such as DARTS_V2, does as well
  jnas scale --config=FILE (--workdir=DIR | --dry) [--config.key=value ...]
      the search of compound scaling's alpha, beta, gamma by small trainings, the
      networks that the best scale up to; --dry counts and trains nothing
  jnas reproduce EXPERIMENT --table=FILE [--seeds=500] [--seed=0] [--workdir=DIR]
      a published experiment again, its figures beside the published ones
  jnas describe SPACE [--setting=value ...] [--arch=STRING] [--picture=FILE.png]
      the size and the choices of a space, such as nas_bench_201, and an example;
      of your own as module:function
  jnas list {spaces,strategies,datasets,tasks,tables,reproductions}
  jnas version

exit codes: 0 done, 2 a mistake or not enough memory, 74 the disk is full or fails,
130 stopped by Ctrl-C, 143 stopped by SIGTERM; after 74, 130, 143 and after any kill the same
command goes on"""


UNREACHABLE = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError,
               IsADirectoryError)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code, as `docs/faults.md` lists them."""
    from jnas import cluster, supervisor

    args = list(sys.argv[1:] if argv is None else argv)
    joins = any(a.partition("=")[0] in ("--coordinator", "--distributed") for a in args)
    if joins and not supervisor.is_child():
        return supervisor.supervise(args)
    code = _run(args)
    if code and cluster.joined():
        cluster.leave(code)
    return code


def _run(args: list[str]) -> int:
    """Runs a command and says in one line why it failed."""
    from jnas import cluster
    from jnas.base import InputError
    from jnas.faults import EXIT_DISK, disk_error, out_of_memory, warn
    from jnas.preemption import leave_on_sigterm

    commands: dict[str, Callable[[list[str]], None]] = {
        "search": _search,
        "train": _train,
        "scale": _scale,
        "reproduce": _reproduce,
        "describe": _describe,
        "list": _list,
        "version": _version,
    }
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if args else 2
    try:
        if args[0] not in commands:
            raise InputError(f"unknown command {args[0]!r}; allowed: {', '.join(commands)}")
        if any(a in ("-h", "--help", "-help") for a in args[1:]):
            print(USAGE)
            return 0
        with cluster.noticing(), leave_on_sigterm():
            commands[args[0]](args[1:])
    except cluster.Lost as e:
        warn(str(e))
        return cluster.LOST
    except InputError as e:
        warn(str(e))
        return 2
    except KeyboardInterrupt:
        print("\njnas: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as e:
        if found := disk_error(e):
            where = f" ({found.filename})" if found.filename else ""
            warn(f"{found.strerror}{where}: what is saved stays, the same command goes on from it")
            return EXIT_DISK
        if out_of_memory(e):
            warn("out of memory: choose a smaller batch_size, network or population")
            return 2
        if isinstance(e, UNREACHABLE) and e.filename:
            warn(f"{e.filename}: {e.strerror}")
            return 2
        raise
    return 0


def _search(args: list[str]) -> None:
    flags = _config(args, ["workdir"], CLUSTER, ["distributed"])
    _quiet()
    from jnas import cluster, notation
    from jnas.analysis import figures
    from jnas.configs import job_of, network_of, strategy_of
    from jnas.files import write_json
    from jnas.problems import task_of
    from jnas.runs import check, result_of
    from jnas.search import run

    config, workdir = flags["config"].value, Path(flags["workdir"].value)
    _join(flags, config)
    setting = json.loads(json.dumps(config.to_dict()))
    done = workdir / "result.json"
    if cluster.from_first(lambda: check(workdir, setting) and bool(result_of(workdir))):
        if cluster.is_first():
            _print(result_of(workdir) or {}, done, "the search is complete already")
        return
    net: Any
    dataset: Any
    if config.get("supernet"):
        from jnas.supernet_search import find

        one_shot = find(config, workdir, setting, cluster.is_first())
        result, pictures = one_shot.result, one_shot.figures
        space, net, dataset = one_shot.final.space, one_shot.final, one_shot.dataset
    else:
        job = job_of(config, workdir)
        space, net, dataset = job.space, job.net, job.dataset
        pictures = {}
        result = run(
            strategy_of(config, space),
            job.evaluator,
            space,
            evaluations=config.get("evaluations", 100),
            batch=config.get("batch", 1),
            seed=config.get("seed", 0),
            seeds=config.get("seeds", 1),
            chunk=config.get("chunk", 0) or None,
            workdir=workdir,
            setting=setting,
            verbose=cluster.is_first(),
        )
    summary: dict[str, Any] = {
        "best_architecture": result.best_architecture,
        "best_score": result.best_score,
        "evaluations": result.evaluations,
        "distinct_architectures": len(set(result.history["architecture"].tolist())),
        "seconds": round(result.seconds, 3),
        "compile_seconds": round(result.compile_seconds, 3),
        "seed": result.seed,
        "seeds": config.get("seeds", 1),
    }
    if "repeated" in result.history:
        summary["repeated"] = int(result.history["repeated"].sum())
    if net is not None:
        last, _ = network_of(config, "final", dataset)
        summary |= _final(config, last, dataset, result.best, workdir / "final")
        goal = task_of(config, dataset)
        metric = config.get("train", {}).get("score") or goal.score
        name, negated = f"validation {metric}", metric in goal.lower
    else:
        name, negated = config.get("score", "val_acc_200"), False
        test = config.get("test", "test_acc_200")
        best = result.best_rows()
        summary |= {"mean_best": float(result.history["score"][best].mean()),
                    "std_best": float(result.history["score"][best].std())}  # fmt: skip
        if test in result.history:
            found = result.history[test][best].astype(float)
            summary |= {"mean_test": float(found.mean()), "std_test": float(found.std())}
    if not cluster.is_first():
        return
    if config.get("fitness"):
        name, negated = "fitness", False
    if config.get("supernet"):
        name, negated = "score with shared weights", False
    figures.save(result.plot(name, negated=negated), workdir / "search.png")
    for word, picture in pictures.items():
        figures.save(picture, workdir / f"{word}.png")
    if space.edges is not None:
        drawing = figures.draw_cell(space.edges(result.best), title="best cell")
    else:
        rows = notation.rows(result.best_architecture)
        drawing = figures.draw_choices(rows, title="best architecture")
    figures.save(drawing, workdir / "best.png")
    write_json(done, summary)
    _print(summary, done)


def _final(config: Any, net: Any, dataset: Any, arch: Any, folder: Path | None) -> dict[str, Any]:
    """The final training, and its part of the result."""
    from jnas import cluster
    from jnas.configs import OPTIONS, training_of
    from jnas.final import train_final
    from jnas.problems import final_examples, task_of
    from jnas.settings import section

    settings = {**section(config, "train"), **section(config, "final")}
    for name in OPTIONS:
        settings.pop(name, None)
    both, test = final_examples(config, dataset)
    found = train_final(
        net,
        arch,
        training_of(settings, "final"),
        both,
        test,
        task=task_of(config, dataset),
        seed=config.get("seed", 0),
        workdir=folder,
        setting=json.loads(json.dumps(config.to_dict())),
        verbose=cluster.is_first(),
    )
    if code := dataset.facts.get("sha256"):
        found["data_sha256"] = code
    found["final_seconds"] = round(found.pop("seconds"), 3)
    return found


def _train(args: list[str]) -> None:
    flags = _config(args, [], ["arch", "genotype", "workdir"])
    _quiet()
    from jnas import compiling
    from jnas.base import InputError
    from jnas.configs import network_of
    from jnas.files import write_json
    from jnas.runs import check, result_of

    compiling.keep_programs()
    config, folder = flags["config"].value, flags["workdir"].value
    text, genotype = flags["arch"].value, flags["genotype"].value
    if (text is None) == (genotype is None):
        raise InputError("one of --arch=STRING and --genotype=NAME_OR_STRING is needed, not both")
    net, dataset = network_of(config, "final")
    if genotype is not None and net.space.name.split()[0] != "darts":
        raise InputError(f"--genotype is for the space darts, --arch for {net.space.name}")
    arch = net.space.parse(genotype if text is None else text)
    text = net.space.describe(arch)
    setting = {"config": json.loads(json.dumps(config.to_dict())), "architecture": text}
    path = None if folder is None else Path(folder)
    if path is not None:
        check(path, setting)
        if found := result_of(path):
            _print(found, path / "result.json", "the training is complete already")
            return
    found = _final(config, net, dataset, arch, None if path is None else path / "final")
    summary = {"architecture": text, "seed": config.get("seed", 0), **found}
    if path is not None:
        write_json(path / "config.json", setting)
        write_json(path / "result.json", summary)
    _print(summary, None if path is None else path / "result.json")


def _reproduce(args: list[str]) -> None:
    from jnas.commands.reproduce import reproduce

    reproduce(args)


def _describe(args: list[str]) -> None:
    from jnas.commands.describe import describe

    describe(args)


def _scale(args: list[str]) -> None:
    flags = _config(args, [], ["workdir"], ["dry"])
    _quiet()
    from jnas import scaling

    scaling.command(flags["config"].value, flags["workdir"].value, flags["dry"].value)


def _list(args: list[str]) -> None:
    _quiet()
    from jnas import data, recipes, reproduce, spaces, tables
    from jnas.base import InputError
    from jnas.evaluators import TASKS

    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "spaces": lambda: dict(spaces.SPACES),
        "strategies": lambda: {**recipes.STRATEGIES, **recipes.GRADIENT},
        "datasets": lambda: {n: data.made_by(n) for n in data.names()},
        "tasks": lambda: dict(TASKS),
        "tables": lambda: dict(tables.TABLES),
        "reproductions": lambda: dict(reproduce.REPRODUCTIONS),
    }
    if len(args) != 1 or args[0] not in kinds:
        raise InputError(f"jnas list {' '.join(args)}: allowed: {', '.join(kinds)}")
    for name, made in sorted(kinds[args[0]]().items()):
        about = (made.__doc__ or "").strip().split("\n")[0] if made else ""
        needs = " (needs a supernet)" if made in recipes.GRADIENT.values() else ""
        print(f"{name:24s}{about}{needs}".rstrip())
    if args[0] == "datasets":
        print("or any prepared TFDS name, such as cifar10, or the path of a prepared TFDS folder")


def _version(args: list[str]) -> None:
    from jnas._version import __version__

    del args
    print(__version__)


def _print(summary: dict[str, Any], path: Path | None, note: str = "") -> None:
    for key, value in summary.items():
        print(f"{key:24s}{value:.4f}" if isinstance(value, float) else f"{key:24s}{value}")
    if path is not None:
        print(f"{'result':24s}{path}" + (f"  ({note})" if note else ""))
