"""A fitness of several terms and a memory, by config: on a table and with real training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from ml_collections import ConfigDict

import jnas
from jnas.cli import main
from jnas.configs import job_of, strategy_of

TABLE = Path(__file__).parents[1] / ".." / "shared" / "data" / "nb201.npz"

needs_table = pytest.mark.skipif(not TABLE.exists(), reason="the shared table is not here")


def config_file(folder: Path, **more: Any) -> str:
    """A search of the table."""
    base: dict[str, Any] = {
        "space": "nas_bench_201",
        "table": str(TABLE),
        "strategy": {"name": "regularized_evolution", "population": 4, "sample": 2},
        "evaluations": 40,
        "seeds": 2,
    }
    file = folder / "config.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict({base | more!r})\n"
    )
    return f"--config={file}"


@pytest.mark.slow
@needs_table
def test_a_table_search_maximises_the_fitness_and_knows_what_it_has_seen(tmp_path: Path) -> None:
    fitness = {"val_acc_200": 1.0, "params": -20.0, "per": {"params": 1e6}}
    flag = config_file(tmp_path, fitness=fitness, remember=100)
    assert main(["search", flag, f"--workdir={tmp_path / 'run'}"]) == 0
    history = pandas.read_csv(tmp_path / "run" / "history.csv")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    weighted = history["val_acc_200"] - 20 * history["params"] / 1e6
    np.testing.assert_allclose(history["score"], weighted, rtol=1e-5)
    assert result["best_score"] == pytest.approx(weighted.max(), rel=1e-5)
    raw_best = history.loc[history["val_acc_200"].idxmax(), "architecture"]
    assert result["best_architecture"] != raw_best
    space = jnas.spaces.nas_bench_201()
    form = lambda text: tuple(np.asarray(space.canonical(space.parse(text))).tolist())
    for _, rows in history.groupby("seed"):
        forms = rows["architecture"].map(form)
        np.testing.assert_array_equal(rows["repeated"], forms.duplicated())
    assert result["repeated"] == history["repeated"].sum() > 0


@needs_table
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"fitness": {"accuracy": 1.0}}, "no metric 'accuracy'; there are score, "),
        ({"fitness": {"name": "nope"}}, "unknown fitness 'nope'; allowed: constrain, mnasnet"),
        ({"fitness": {"name": "mnasnet", "metric": "latency"}}, "fitness.target is missing"),
        ({"fitness": {"name": "mnasnet", "metric": "x", "target": 1.0}}, "no metric 'x'"),
        ({"fitness": {"name": "constrain", "metric": "params"}}, "at_most or at_least"),
        ({"fitness": {"name": "mnasnet", "beta": 1, "t": 1}}, "fitness.t: no such setting"),
        ({"fitness": {"params": "small"}}, "params='small'"),
        ({"remember": -1}, "size=-1"),
    ],
)
def test_a_mistake_in_it_is_one_line(
    tmp_path: Path, capsys: Any, more: dict[str, Any], words: str
) -> None:
    assert main(["search", config_file(tmp_path, **more), f"--workdir={tmp_path / 'w'}"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_search_with_training_maximises_the_fitness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JNAS_DATA_DIR", str(tmp_path))
    config = ConfigDict(
        {
            "space": "mlp",
            "net": {"depth": 1, "widths": (8, 64), "activations": ("relu",)},
            "train": {"steps": 60, "plan": "map"},
            "fitness": {"accuracy": 1.0, "recall": 0.5, "params": -1e-3},
            "remember": 10,
            "batch": 4,
        }
    )
    job = job_of(config)
    strategy = strategy_of(config, job.space)
    result = jnas.run(
        strategy, job.evaluator, job.space, evaluations=8, batch=4, seed=1, verbose=False
    )
    of = result.history
    fitness = of["accuracy"] + 0.5 * of["recall"] - 1e-3 * of["params"]
    np.testing.assert_allclose(of["score"], fitness, rtol=1e-5)
    small, large = (of["architecture"] == f"activation=[relu] width=[{w}]" for w in (8, 64))
    assert small.any() and large.any() and of["accuracy"][large].min() > of["accuracy"][small].max()
    assert result.best_architecture == "activation=[relu] width=[8]"
    assert of["repeated"].sum() == 6 and len(set(of["score"].tolist())) == 2
