"""`jnas describe`: what it prints of a space, and the picture of an example."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from jnas import notation
from jnas.cli import main

MODULE = """
import numpy as np
from jnas.base import Space
from jnas.spaces import choice, own

def block(widths=(8, 16)):
    if choice("kind", ["conv", "pool"]) == "conv":
        choice("width", widths)

def network(depth=2):
    part = own(block)
    return own(lambda: [choice(f"block_{i}", part) for i in range(depth)], name="stack")

bits = Space("bits", np.full(5, 2))
number = 3

def nothing():
    return 3


def broken():
    return {}["k"]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_space_of_describe.py").write_text(MODULE)
    (tmp_path / "my_wrong_module_of_describe.py").write_text("def space(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def described(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, str]:
    assert main(["describe", *args]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[:16].strip(): line[16:].strip() for line in lines}


def test_a_registered_space_with_settings_an_example_and_its_counts(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    found = described(capsys, "nas_bench_201", "--channels=4", "--cells=1", f"--arch={cell}")
    assert found["architectures"] == "15,625" and found["that differ"] == "6,466"
    assert found["choice"].startswith("6 times one of 5: none, skip_connect")
    assert found["example"] == cell and found["params"].replace(",", "").isdigit()
    wider = described(capsys, "nas_bench_201", "--channels=8", "--cells=1", f"--arch={cell}")
    number = lambda text: int(text.replace(",", ""))
    assert number(wider["params"]) > 3 * number(found["params"])
    assert imread(here / "nas_bench_201.png").shape[1] > 300


def test_a_space_of_ones_own_by_module_and_function(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = "my_space_of_describe"
    found = described(capsys, f"{module}:network", "--depth=3", "--picture=a.png")
    assert (found["space"], found["architectures"], found["that differ"]) == ("stack", "64", "27")
    assert found["block_2.width"] == "one of 2: 8, 16" and found["picture"] == "a.png"
    assert found["example"].startswith("block_0=(kind=") and (here / "a.png").exists()
    found = described(capsys, f"{module}:block", "--widths=(4, 8, 12)", "--seed=3")
    assert (found["space"], found["that differ"]) == ("block", "4")
    assert described(capsys, f"{module}:bits")["choice"] == "5 times one of 2: 0, 1"


def test_choices_have_the_words_of_every_place(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del here
    found = described(capsys, "ofa")
    assert found["depth"] == "5 times one of 3: r2, r3, r4"
    assert found["kernel"] == "20 times one of 3: k3, k5, k7"
    found = described(capsys, "resnet", "--widths=((8, 16), (16, 32), (32, 48))")
    assert found["width"] == "3 times one of 2: 8, 16; 16, 32; 32, 48"
    found = described(capsys, "mobilenet_v2")
    assert found["width"] == "7 times one of 3: c12, c16, c20; c20, c24, c32; ...; c240, c320, c400"
    assert found["depth"].startswith("7 times one of 2 to 3: r1, r2; r1, r2, r3; ")


def test_counts_beyond_32_bits_are_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arch = "block=bottleneck depth=[6,6,6,6] kernel=[7,7,7,7] width=[80,160,320,640]"
    found = described(capsys, "resnet", f"--arch={arch}")
    assert int(found["flops"].replace(",", "")) > 2**32 and (here / "resnet.png").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ("mobilenet_v2 --image=(96,128)", "space.image=(96, 128): int | None is needed"),
        ("mlp --widths=(8,'x')", "space.widths=(8, 'x'): Sequence[int] is needed"),
        ("series --depth=True", "space.depth=True: int is needed"),
        ("", "which space? allowed: amoebanet, "),
        ("nas_bench_999", "unknown space 'nas_bench_999'; allowed:"),
        ("mlp darts", "unexpected argument 'darts'"),
        ("mlp --layers=2", "space.layers: no such setting; allowed: depth"),
        ("mlp --depth=0", "depth=0"),
        ("mlp --depth", "settings have the form --name=value"),
        ("mlp --depth=2 -v=1", "settings have the form --name=value"),
        ("mlp --arch=none", "architecture 'none'"),
        ("mlp --seed=-1", "--seed=-1"),
        ("mlp --depth=3000000", "depth=3000000: from 1 to 1000"),
        ("mobile_network --eps=-1", "eps=-1: it has to be above 0"),
        ("mlp --depth={[]:1}", "depth='{[]:1}': a whole number"),
        (f"mlp --depth={'-' * 3000}1", "[...]"),
        ("enas_micro --arch=" + "9" * 5000, "the form is"),
        ("ofa --width=1e300", "width=1e+300: it has to be above 0, and at most 1000"),
        ("mlp --picture=missing/a.png", "there is no folder 'missing'"),
        ("mlp --picture=a.svg", "a file that ends in .png is needed"),
        ("mlp --picture=..", "a file that ends in .png is needed"),
        (f"mlp --picture={'a' * 300}.png", "File name too long"),
        (":space", "':space'"),
        (".describe:space", "'.describe:space'"),
        ("my_space_of_describe:broken", "broken': KeyError: 'k' (my_space_of_describe.py, line "),
        ("my_wrong_module_of_describe:space", "SyntaxError: "),
        ("my_space_of_describe:missing", "missing"),
        ("my_space_of_describe:number", "is no space and no function"),
        ("my_space_of_describe:nothing", "a space or a network is needed"),
        ("my_space_of_describe:bits --depth=2", "is made already"),
        ("no_such_module_at_all:space", "no_such_module_at_all"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    args: str, told: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", *args.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1 and told in printed.err
    assert not list(here.glob("*.png"))


def test_a_text_comes_apart_into_the_rows_of_a_picture() -> None:
    text = "depth=2 a=(b=(c=1 d=[2,3]) e=x) f=(|none~0|)"
    rows = [("depth", "2"), ("a.b.c", "1"), ("a.b.d", "[2,3]"), ("a.e", "x"), ("f", "(|none~0|)")]
    assert notation.rows(text) == rows
