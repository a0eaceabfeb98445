"""The example of a space of one's own: it trains, and a wrong flag is one line."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "examples" / "own_space.py"


def _run(*flags: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [sys.executable, str(SCRIPT), *flags],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_it_finds_a_network_that_is_as_good_as_it_says(tmp_path: Path) -> None:
    done = _run(f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    text, _, accuracy = done.stdout.splitlines()[0].partition("  validation accuracy ")
    assert float(accuracy) > 0.97
    example = runpy.run_path(str(SCRIPT))
    space = example["network"]().space
    arch = space.parse(text)
    assert space.is_valid(arch) and example["widening"](space.values(arch))
    assert (tmp_path / "run" / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_wrong_flag_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    for flag, word in (("--steps=many", "many"), ("--speed=1", "--speed"), ("--steps=0", "steps")):
        assert main([flag]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and len(printed.err.splitlines()) == 1 and word in printed.err
