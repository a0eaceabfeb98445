"""`jnas search` with a supernet: gradient and sampling methods end in a trained network."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jnas import nets, recipes
from jnas.analysis.weights import column, of_history
from jnas.base import InputError, Space, argmax
from jnas.cli import main
from jnas.links.descend import Descent
from jnas.supernet_search import Supernet, find, frequencies, weights_of

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({
        "space": "nas_bench_201",
        "net": {"channels": 2, "cells": 1, "stages": 1},
        "data": {"name": "digits", "data_dir": "", "validation_fraction": 0.5},
        "strategy": {"name": "darts", "learning_rate": 0.5},
        "supernet": {
            "channels": 2, "cells": 1, "stages": 1, "every": 2,
            "evaluator": {}, "train": {"batch_size": 32, "learning_rate": 0.1},
        },
        "final": {"steps": 4, "batch_size": 32},
        "evaluations": 6, "seed": 0, "seeds": 1,
    })
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("configs") / "tiny.py"
    file.write_text(CONFIG)
    return file


def _search(config: Path, folder: Path, *more: str) -> int:
    return main(["search", f"--config={config}", f"--workdir={folder}", *more])


def test_a_gradient_search_ends_in_the_strongest_operations(config, tmp_path, capsys):
    pandas = pytest.importorskip("pandas")
    assert _search(config, tmp_path) == 0
    found = json.loads((tmp_path / "result.json").read_text())
    assert {"best_architecture", "test_accuracy", "params"} <= set(found)
    history = pandas.read_csv(tmp_path / "history.csv")
    assert history["evaluation"].tolist() == [2, 4, 6]
    places = of_history(history)
    assert len(places) == 6
    for row in range(3):
        words = []
        for place in ("0→1", "0→2", "1→2", "0→3", "1→3", "2→3"):
            choices = places[place]
            weights = {name: values[row] for name, values in choices.items()}
            assert sum(weights.values()) == pytest.approx(1, abs=1e-5)
            words.append(max(weights, key=weights.get))
        space = nets.nas_bench_201(channels=2, cells=1, stages=1, image=8, inputs=1).space
        arch = space.parse(history["architecture"][row])
        assert [space.labels[k] for k in np.asarray(arch)] == words
    assert found["best_architecture"] == history["architecture"][2]  # the last, not the best
    for name in ("weights.png", "best.png", "search.png"):
        assert (tmp_path / name).stat().st_size > 1000
    capsys.readouterr()
    assert _search(config, tmp_path) == 0
    assert "complete already" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"),
    [("spos", {"population": 4, "generations": 2, "parents": 2}), ("enas", {"batch": 3})],
)
def test_a_sampling_search_trains_a_supernet_and_searches_it(tmp_path, method, settings):
    given = [f"--config.strategy.{name}={value}" for name, value in settings.items()]
    text = CONFIG.replace(
        '"learning_rate": 0.5', ", ".join(f'"{k}": {v}' for k, v in settings.items())
    )
    file = tmp_path / "sampling.py"
    file.write_text(text.replace('"darts"', f'"{method}"'))
    assert _search(file, tmp_path / "run", *given) == 0
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["evaluations"] == (8 if method == "spos" else 10)
    rows = (tmp_path / "run" / "supernet_1" / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + 6  # the steps of the weights
    assert (tmp_path / "run" / "weights.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "strategy.name=genetic",
            "name 'genetic': with a supernet, allowed are asap",
        ),
        ("seeds=2", "seeds=2: with a supernet, one seed"),
        ("supernet.every=4", "every=4 does not divide the 6 rounds"),
        ("supernet.channels=0", "channels=0"),
    ],
)
def test_a_wrong_setting_is_one_line_and_claims_nothing(config, tmp_path, capsys, change, told):
    assert _search(config, tmp_path / "run", f"--config.{change}") == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "result.json").exists()


def test_an_unknown_setting_of_a_supernet_is_named(config, tmp_path):
    from jnas.configs import read

    wrong = read(config)
    wrong.supernet["depth"] = 3
    with pytest.raises(InputError, match=r"supernet\.depth: no such setting; allowed: channels"):
        find(wrong, tmp_path, {})
    wrong = read(config)
    wrong.supernet.evaluator = ConfigDict({"order": "third"})
    with pytest.raises(InputError, match="third"):
        find(wrong, tmp_path, {})


@pytest.mark.parametrize(
    ("part", "settings", "told"),
    [
        ("stop", {"name": "never"}, r"supernet\.stop\.name='never': allowed are eigenvalue, skips"),
        ("stop", {"name": "eigenvalue", "window": 0}, "window=0"),
        ("stop", {"name": "skips", "most": 2}, r"supernet\.stop\.most: no such setting"),
        ("select", {"name": "best"}, r"supernet\.select\.name='best': allowed is perturbation"),
        ("select", {"name": "perturbation", "steps": 3}, r"supernet\.select\.steps: no such"),
    ],
)
def test_a_wrong_end_of_a_search_is_named_before_it(config, tmp_path, part, settings, told):
    from jnas.configs import read

    wrong = read(config)
    wrong.supernet[part] = ConfigDict(settings)
    with pytest.raises(InputError, match=told):
        find(wrong, tmp_path, {})
    assert not list(tmp_path.iterdir())


def _ended(config: Path, folder: Path, part: str, settings: dict[str, Any]) -> Any:
    from jnas.configs import read

    changed = read(config)
    changed.supernet[part] = ConfigDict(settings)
    changed.supernet.every = 1
    return find(changed, folder, {}, verbose=False).result


@pytest.mark.slow
def test_a_search_that_stops_by_skips_ends_before_too_many(config, tmp_path):
    result = _ended(config, tmp_path, "stop", {"name": "skips", "allowed": 1})
    skips = [text.count("skip_connect") for text in result.history["architecture"]]
    over = [i for i, n in enumerate(skips) if n > 1]
    row = max(over[0] - 1, 0) if over else len(skips) - 1
    assert result.best_architecture == result.history["architecture"][row]
    assert result.best_score == pytest.approx(float(result.history["score"][row]))


@pytest.mark.slow
def test_a_search_that_stops_by_the_eigenvalue_shows_it_and_obeys_it(config, tmp_path):
    settings = {"name": "eigenvalue", "window": 1, "ratio": 0.9, "examples": 16, "steps": 4}
    result = _ended(config, tmp_path, "stop", settings)
    values = np.asarray(result.history["eigenvalue"], float)
    assert np.isfinite(values).all() and (values != 0).any()
    stops = [i for i in range(1, len(values)) if values[i - 1] < 0.9 * values[i] > 0]
    row = stops[0] - 1 if stops else len(values) - 1
    assert result.best_architecture == result.history["architecture"][row]


@pytest.mark.slow
def test_a_selection_by_perturbation_ends_in_an_architecture_of_the_space(config, tmp_path):
    result = _ended(config, tmp_path, "select", {"name": "perturbation", "tune": 1})
    space = nets.nas_bench_201(channels=2, cells=1, stages=1).space
    assert space.describe(space.parse(result.best_architecture)) == result.best_architecture
    again = _ended(config, tmp_path / "again", "select", {"name": "perturbation", "tune": 1})
    assert again.best_architecture == result.best_architecture


SMALL = Space("small", {"a": np.asarray([3, 2]), "b": 2}, labels={"a": ("x", "y", "z"), "b": None})


@pytest.mark.parametrize("method", ["darts", "drnas", "fair_darts"])
def test_the_weights_of_a_state_are_what_its_logits_mean(method: str) -> None:
    strategy = recipes.GRADIENT[method](SMALL)
    state = strategy.init(jax.random.key(0), None)
    held = next(
        x for x in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Descent))
        if isinstance(x, Descent)
    )  # fmt: skip
    logits = np.asarray(held.logits["a"], np.float64)
    found = weights_of(SMALL, method, state)
    for place, many in enumerate((3, 2)):
        x = logits[place, :many]
        mass = {
            "darts": np.exp(x) / np.exp(x).sum(),
            "drnas": np.where(x > 0, x + 1, np.exp(x)) / np.where(x > 0, x + 1, np.exp(x)).sum(),
            "fair_darts": 1 / (1 + np.exp(-x)),
        }[method]
        np.testing.assert_allclose(found["a"][place, :many], mass, rtol=1e-5)
        assert (np.asarray(found["a"][place, many:]) == 0).all()


def test_frequencies_count_the_choices_of_a_search() -> None:
    net: Any = type("Net", (), {"space": SMALL})
    supernet = Supernet(net, net, lambda x: argmax(SMALL, x), ("a0", "a1", "b"))
    codes = [([0, 0], 1), ([2, 0], 1), ([2, 1], 0), ([2, 1], 0)]
    texts = [
        SMALL.describe({"a": np.asarray(a, np.int32), "b": np.asarray(b, np.int32)})
        for a, b in codes
    ]
    found = frequencies(supernet, {"architecture": np.asarray(texts)}, bins=2)
    assert found["evaluation"].tolist() == [2, 4]
    assert found[column("a0", "z")].tolist() == [0.5, 1]
    assert found[column("a1", "x")].tolist() == [1, 0]
    assert found[column("b", "1")].tolist() == [1, 0]
    assert column("a1", "z") not in found
