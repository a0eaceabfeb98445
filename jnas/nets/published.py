"""Published networks as points of the spaces, with the parameters that they have to have.

A file of `jnas.nets` may have a tuple `PUBLISHED` of its own; `every()` collects them.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jnas.nets
from jnas.nets.cells import nas_bench_201
from jnas.nets.counting import params_of
from jnas.nets.darts import darts


class Published(NamedTuple):
    """A network whose parameters are known to the last one.

    name: as it is known.
    params: counts them on the network itself.
    number: the published number.
    source: where it is from.
    """

    name: str
    params: Callable[[], Any]
    number: int
    source: str


_BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|"
_BEST += "nor_conv_1x1~2|"  # the cell of the best validation accuracy on CIFAR-10
PUBLISHED: tuple[Published, ...] = (
    Published(
        "DARTS_V2",
        params_of(lambda: darts(36, 20, 10, 32, 3), "DARTS_V2"),
        3_349_342,
        "printed by the code of arXiv 1806.09055 for CIFAR-10",
    ),
    Published(
        "P_DARTS",
        params_of(lambda: darts(36, 20, 10, 32, 3), "P_DARTS"),
        3_433_798,
        "printed by the code of arXiv 1904.12760 for CIFAR-10",
    ),
    Published(
        "NAS-Bench-201 cell 6111",
        params_of(nas_bench_201, _BEST),
        1_073_466,
        "the table of arXiv 2001.00326 for CIFAR-10",
    ),
    Published(
        "NAS-Bench-201 cell 1462",
        params_of(
            nas_bench_201, _BEST.replace("skip_connect", "nor_conv_3x3").replace("1x1", "3x3")
        ),
        1_531_546,
        "the table of arXiv 2001.00326 for CIFAR-10",
    ),
)


def every() -> list[Published]:
    """All published networks of all files, in the order of the files."""
    found: list[Published] = []
    for module in pkgutil.iter_modules(jnas.nets.__path__):
        file = importlib.import_module(f"jnas.nets.{module.name}")
        found += [Published(*row) for row in getattr(file, "PUBLISHED", ())]
    return found
