"""Settings from a config or a command: names, types and sizes that cannot be are one line."""

from collections.abc import Sequence
from typing import Any

import pytest

from jnas.errors import InputError
from jnas.nets import NETS
from jnas.settings import call


def made(
    depth: int = 1,
    rate: float = 0.5,
    widths: Sequence[int] = (8, 16),
    least: int | None = None,
    fair: bool = True,
    free: Any = None,
    bare=None,
) -> tuple:
    return depth, rate, widths, least, fair, free, bare


def test_what_fits_its_type_arrives_as_it_is() -> None:
    given = {"depth": 2, "rate": 1, "widths": [4, 8], "least": None, "fair": False}
    assert call("made", made, **given, free=made, bare="x") == (
        2,
        1,
        [4, 8],
        None,
        False,
        made,
        "x",
    )


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("depth", "3", "made.depth='3': int is needed"),
        ("depth", True, "made.depth=True: int is needed"),
        ("depth", 2.0, "made.depth=2.0: int is needed"),
        ("rate", "fast", "made.rate='fast': float is needed"),
        ("widths", 8, "made.widths=8: Sequence[int] is needed"),
        ("widths", (8, "x"), "made.widths=(8, 'x'): Sequence[int] is needed"),
        ("least", (1,), "made.least=(1,): int | None is needed"),
        ("fair", 1, "made.fair=1: allowed are True and False"),
        ("wide", 1, "made.wide: no such setting; allowed: depth, rate, widths, least, fair"),
    ],
)
def test_another_type_is_refused(name: str, value: Any, told: str) -> None:
    with pytest.raises(InputError) as caught:
        call("made", made, **{name: value})
    assert str(caught.value).startswith(told)


def picky(depth: int = 1) -> int:
    if depth == "deep":
        raise InputError("depth='deep': how deep?")
    return depth + 1


def test_a_factory_that_says_more_than_its_signature_is_heard() -> None:
    with pytest.raises(InputError, match=r"^depth='deep': how deep.$"):
        call("picky", picky, depth="deep")
    with pytest.raises(InputError, match=r"^picky.depth='3': int is needed$"):
        call("picky", picky, depth="3")


@pytest.mark.parametrize(
    ("net", "name", "value"),
    [
        *(("mlp", name, 0) for name in ("classes", "image", "inputs")),
        *(("darts", name, 0) for name in ("classes", "inputs", "layers")),
        *(("mobile_network", name, 0) for name in ("classes", "image", "inputs")),
        *((cell, "stem", -1) for cell in ("nasnet", "amoebanet", "pnas")),
        ("metaqnn", "dense_size", 0),
        ("nats_size", "widths", ()),
    ],
)
def test_a_network_of_a_size_that_cannot_be_is_refused(net: str, name: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        call("net", NETS[net], **{name: value})
    assert "\n" not in str(caught.value)
