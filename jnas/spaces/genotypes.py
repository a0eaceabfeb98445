"""Published genotypes of the DARTS space, in the notation of their code."""

_LINES = {
    # Liu et al. 2019, arXiv 1806.09055, first and second order on CIFAR-10.
    "DARTS_V1": (
        "sep_conv_3x3 1 sep_conv_3x3 0 skip_connect 0 sep_conv_3x3 1 "
        "skip_connect 0 sep_conv_3x3 1 sep_conv_3x3 0 skip_connect 2",
        "max_pool_3x3 0 max_pool_3x3 1 skip_connect 2 max_pool_3x3 0 "
        "max_pool_3x3 0 skip_connect 2 skip_connect 2 avg_pool_3x3 0",
    ),
    "DARTS_V2": (
        "sep_conv_3x3 0 sep_conv_3x3 1 sep_conv_3x3 0 sep_conv_3x3 1 "
        "sep_conv_3x3 1 skip_connect 0 skip_connect 0 dil_conv_3x3 2",
        "max_pool_3x3 0 max_pool_3x3 1 skip_connect 2 max_pool_3x3 1 "
        "max_pool_3x3 0 skip_connect 2 skip_connect 2 max_pool_3x3 1",
    ),
    # Xie et al. 2019, arXiv 1812.09926, with the mild constraint.
    "SNAS": (
        "sep_conv_3x3 0 sep_conv_3x3 1 skip_connect 0 dil_conv_3x3 1 "
        "skip_connect 1 skip_connect 0 skip_connect 0 sep_conv_3x3 1",
        "max_pool_3x3 0 max_pool_3x3 1 max_pool_3x3 1 skip_connect 2 "
        "skip_connect 2 max_pool_3x3 1 max_pool_3x3 0 dil_conv_5x5 2",
    ),
    # Dong and Yang 2019, arXiv 1910.04465.
    "GDAS": (
        "skip_connect 0 skip_connect 1 skip_connect 0 sep_conv_5x5 2 "
        "sep_conv_3x3 3 skip_connect 0 sep_conv_5x5 4 sep_conv_3x3 3",
        "sep_conv_5x5 0 sep_conv_3x3 1 sep_conv_5x5 2 sep_conv_5x5 1 "
        "dil_conv_5x5 2 sep_conv_3x3 1 sep_conv_5x5 0 sep_conv_5x5 1",
    ),
    # Chen et al. 2019, arXiv 1904.12760, on CIFAR-10.
    "P_DARTS": (
        "skip_connect 0 dil_conv_3x3 1 skip_connect 0 sep_conv_3x3 1 "
        "sep_conv_3x3 1 sep_conv_3x3 3 sep_conv_3x3 0 dil_conv_5x5 4",
        "avg_pool_3x3 0 sep_conv_5x5 1 sep_conv_3x3 0 dil_conv_5x5 2 "
        "max_pool_3x3 0 dil_conv_3x3 1 dil_conv_3x3 1 dil_conv_5x5 3",
    ),
    # Xu et al. 2020, arXiv 1907.05737, on CIFAR-10 and on ImageNet.
    "PC_DARTS": (
        "sep_conv_3x3 1 skip_connect 0 sep_conv_3x3 0 dil_conv_3x3 1 "
        "sep_conv_5x5 0 sep_conv_3x3 1 avg_pool_3x3 0 dil_conv_3x3 1",
        "sep_conv_5x5 1 max_pool_3x3 0 sep_conv_5x5 1 sep_conv_5x5 2 "
        "sep_conv_3x3 0 sep_conv_3x3 3 sep_conv_3x3 1 sep_conv_3x3 2",
    ),
    "PC_DARTS_IMAGENET": (
        "skip_connect 1 sep_conv_3x3 0 sep_conv_3x3 0 skip_connect 1 "
        "sep_conv_3x3 1 sep_conv_3x3 3 sep_conv_3x3 1 dil_conv_5x5 4",
        "sep_conv_3x3 0 skip_connect 1 dil_conv_5x5 2 max_pool_3x3 1 "
        "sep_conv_3x3 2 sep_conv_3x3 1 sep_conv_5x5 0 sep_conv_3x3 3",
    ),
    # Chen et al. 2021, arXiv 2006.10355, on CIFAR-10.
    "DRNAS": (
        "sep_conv_3x3 0 sep_conv_5x5 1 sep_conv_3x3 1 sep_conv_3x3 2 "
        "skip_connect 0 sep_conv_3x3 1 sep_conv_3x3 2 dil_conv_5x5 3",
        "max_pool_3x3 0 sep_conv_5x5 1 dil_conv_5x5 2 sep_conv_5x5 1 "
        "sep_conv_5x5 1 dil_conv_5x5 3 skip_connect 4 sep_conv_5x5 1",
    ),
}


def _genotype(normal: str, reduce: str) -> str:
    def edges(line: str) -> list[tuple[str, int]]:
        words = line.split()
        return [(op, int(i)) for op, i in zip(words[::2], words[1::2], strict=True)]

    ends = "[2, 3, 4, 5]"
    cells = f"normal={edges(normal)}, normal_concat={ends}, reduce={edges(reduce)}"
    return f"Genotype({cells}, reduce_concat={ends})"


GENOTYPES: dict[str, str] = {name: _genotype(*cells) for name, cells in _LINES.items()}
