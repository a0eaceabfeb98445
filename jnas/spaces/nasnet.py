"""NASNet, AmoebaNet, PNAS and the micro space of ENAS: spaces of cells of blocks."""

from collections.abc import Mapping, Sequence

from jnas.base import Space
from jnas.spaces.blocks import Family, block_space, keeping
from jnas.spaces.blocks_counts import Stack, counts

# Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", arXiv
# 1707.07012, section 3. Blocks add; the paper's other way to combine, to concatenate, is not here.
# The normal cell also concatenates its first input, as the published network does: it has 6 F
# channels, from which the paper names it (6 @ 768 has F = 32).
NASNET = Family(
    "nasnet",
    (
        *("skip_connect", "conv_3x1_1x3", "conv_7x1_1x7", "dil_conv_3x3"),
        *("avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7"),
        *("conv_1x1", "conv_3x3", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7"),
    ),
    keep={"normal": (0,)},
    named={
        "NASNET_A": (
            "Genotype(normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), "
            "('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), "
            "('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 1)], "
            "reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), "
            "('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3), "
            "('avg_pool_3x3', 2), ('sep_conv_3x3', 2), ('max_pool_3x3', 1)])"
        ),
    },
)
# Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", arXiv
# 1802.01548, section 3.1. As in the published code, 7x1 and 1x7 convolutions have a bottleneck; the
# reduction cell of AMOEBANET_A there concatenates all of its blocks, which `keep` asks for. Both
# are needed for the sizes of the paper.
AMOEBANET = Family(
    "amoebanet",
    (
        *("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "avg_pool_3x3"),
        *("max_pool_3x3", "dil_conv_3x3", "conv_7x1_1x7"),
    ),
    keep={"normal": (0,)},
    bottled=("conv_7x1_1x7",),
    named={
        "AMOEBANET_A": (
            "Genotype(normal=[('avg_pool_3x3', 1), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), "
            "('skip_connect', 0), ('skip_connect', 1), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), "
            "('sep_conv_5x5', 2), ('avg_pool_3x3', 5), ('sep_conv_3x3', 1)], "
            "reduce=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 1), "
            "('sep_conv_7x7', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 4), "
            "('conv_7x1_1x7', 1), ('avg_pool_3x3', 0), ('sep_conv_7x7', 1)])"
        ),
    },
)
# Liu et al. 2018, "Progressive Neural Architecture Search", arXiv 1712.00559, section 3: one cell,
# which reduces where its stride is 2, and concatenates all of its blocks.
PNAS = Family(
    "pnas",
    (
        *("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "conv_7x1_1x7"),
        *("skip_connect", "avg_pool_3x3", "max_pool_3x3", "dil_conv_3x3"),
    ),
    cells=("normal",),
    loose=False,
    named={
        "PNASNET_5": (
            "Genotype(normal=[('sep_conv_5x5', 0), ('max_pool_3x3', 0), ('sep_conv_7x7', 1), "
            "('max_pool_3x3', 1), ('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 4), "
            "('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 1)])"
        ),
    },
)
# Pham et al. 2018, "Efficient Neural Architecture Search via Parameter Sharing", arXiv 1802.03268,
# section 2.4; the architecture and the second 1x1 convolution are those of the published code.
ENAS_MICRO = Family(
    "enas_micro",
    ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "skip_connect"),
    named={
        "ENAS": "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
    },
    code=True,
    twice=True,
)


def space_of(family: Family, blocks: int, stack: Stack) -> Space:
    """The space of a family, with the counts of its network."""
    return block_space(family, blocks, counts(family, blocks, stack))


def nasnet(
    channels: int = 32,
    repeats: int = 6,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    blocks: int = 5,
    imagenet: bool = False,
    stem: int = 0,
    keep: Mapping[str, Sequence[int]] | None = None,
) -> Space:
    """The space of NASNet: 13 operations, a normal and a reduction cell of 5 blocks.

    A block adds an operation on one earlier output to another on one, perhaps the same. A cell
    concatenates the blocks that no other reads, and a normal cell also its first input. The text is
    a `Genotype(...)`, or `NASNET_A`. `jnas.spaces.blocks.block_space` says more.

    Args:
      channels: F, of the first cells. For `counts` only, as all the rest but `blocks`.
      repeats: N, the normal cells of each of 3 stages; a reduction cell lies between two stages.
      classes: the classes of the data set.
      image: height and width of the images, a multiple of 4, with `imagenet` of 32.
      inputs: the channels of the images.
      blocks: of a cell.
      imagenet: the network for large images: a convolution of stride 2, and two more reduction
        cells in front. NASNet-A (4 @ 1056) has channels 44, repeats 4 and stem 32.
      stem: the channels of the first convolution; 0 for 3 F.
      keep: states that cells concatenate though others read them, `{"normal": [0]}` by default: 0
        is the first input, 2 the first block. The published NASNet-A keeps a block of its reduction
        cell, `{"normal": [0], "reduce": [3]}`.

    Returns:
      The space. Its counts are `params`, without an auxiliary head, and `flops` (multiply-adds of
      convolutions and of the classifier).

    Raises:
      InputError: a network that there cannot be.
    """
    stack = Stack(channels, repeats, classes, image, inputs, stem, imagenet)
    return space_of(keeping(NASNET, keep, blocks), blocks, stack)


def amoebanet(
    channels: int = 36,
    repeats: int = 6,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    blocks: int = 5,
    imagenet: bool = False,
    stem: int = 0,
    keep: Mapping[str, Sequence[int]] | None = None,
) -> Space:
    """The space of AmoebaNet-A: 8 operations, a normal and a reduction cell of 5 blocks.

    Args, text and counts are as in `nasnet`; the named architecture is `AMOEBANET_A`, which is the
    published one with `keep={"normal": [0], "reduce": [2, 3, 4, 5, 6]}`.
    """
    stack = Stack(channels, repeats, classes, image, inputs, stem, imagenet)
    return space_of(keeping(AMOEBANET, keep, blocks), blocks, stack)


def pnas(
    channels: int = 48,
    repeats: int = 3,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    blocks: int = 5,
    imagenet: bool = False,
    stem: int = 0,
) -> Space:
    """The space of PNAS: 8 operations, one cell of 5 blocks, 5.6e14 architectures.

    An architecture is one cell, `{"inputs": int32[10], "ops": int32[10]}`. The first of the N cells
    of the second and third stage has stride 2. Args, text and counts are else as in `nasnet`; the
    named architecture is `PNASNET_5`.
    """
    stack = Stack(channels, repeats, classes, image, inputs, stem, imagenet, within=True)
    return space_of(PNAS, blocks, stack)


def enas_micro(
    channels: int = 36,
    repeats: int = 5,
    classes: int = 10,
    image: int = 32,
    inputs: int = 3,
    blocks: int = 5,
) -> Space:
    """The micro space of ENAS: 5 operations, a normal and a reduction cell.

    The paper's B = 7 counts the two inputs of a cell: there are 5 blocks. The text is a
    `Genotype(...)`; the numbers of the published scripts are read too, and the name `ENAS`. Args
    and counts are as in `nasnet`.
    """
    stack = Stack(channels, repeats, classes, image, inputs, raw=False)
    return space_of(ENAS_MICRO, blocks, stack)
