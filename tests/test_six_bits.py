"""The example of six bits: every agent finds the best network, and the command says so."""

import itertools
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "examples" / "six_bits.py"
EXAMPLE = runpy.run_path(str(SCRIPT))
BEST = [1, 1, 0, 1, 1, 1]


def _run(*flags: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [sys.executable, str(SCRIPT), *flags],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_network_is_best_and_its_parts_cannot_be_judged_one_by_one() -> None:
    every = np.array(list(itertools.product([0, 1], repeat=6)))
    accuracy = EXAMPLE["accuracy"](every)
    order = np.argsort(-accuracy)
    assert every[order[0]].tolist() == BEST and accuracy[order[0]] == pytest.approx(0.85)
    assert accuracy[order[1]] < accuracy[order[0]] - 0.004
    alone = EXAMPLE["accuracy"](np.eye(6, dtype=int)) > EXAMPLE["accuracy"](np.zeros(6, int))
    assert alone.astype(int).tolist() != BEST


@pytest.mark.parametrize("function", ["table", "linear", "dqn"])
@pytest.mark.parametrize("view", ["partial", "edit"])
def test_every_agent_finds_the_best_network_from_nearly_every_seed(
    view: str, function: str
) -> None:
    strategy, evaluator = EXAMPLE["strategy"](view, function), EXAMPLE["evaluator"]()

    def best(key: jax.Array) -> jax.Array:
        _, history = jnas.search(key, strategy, evaluator, EXAMPLE["SPACE"], steps=300)
        return history.arch[jnp.argmax(history.score), 0]

    found = jax.jit(jax.vmap(best))(jax.random.split(jax.random.key(1), 100))
    assert (np.asarray(found) == BEST).all(1).sum() >= 98


@pytest.mark.slow
def test_the_command_prints_the_best_network_and_draws_the_search(tmp_path: Path) -> None:
    done = _run("--view=edit", "--q=linear", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[110111]  accuracy 0.850"
    assert (tmp_path / "run" / "search.png").read_bytes().startswith(b"\x89PNG")
    again = _run("--view=edit", "--q=linear", f"--workdir={tmp_path / 'run'}")
    assert again.returncode == 0 and again.stdout == done.stdout


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--view=full", "full"),
        ("--q=deep", "deep"),
        ("--epsilon=2", "epsilon=2.0"),
        ("--evaluations=0", "evaluations=0"),
        ("--evaluations=many", "many"),
        ("--speed=1", "--speed"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(
    flag: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert EXAMPLE["main"]([flag]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1 and word in printed.err
