"""Spaces of cells of blocks: published sizes, numbers of parameters, isomorphism, texts."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jnas import spaces
from jnas.base import InputError, from_index, sample, size, to_vector
from jnas.spaces.nasnet import AMOEBANET, ENAS_MICRO, NASNET, PNAS

MAKERS = {
    "nasnet": spaces.nasnet,
    "amoebanet": spaces.amoebanet,
    "pnas": spaces.pnas,
    "enas_micro": spaces.enas_micro,
}
PUBLISHED_CELLS = {"normal": [0], "reduce": [3]}  # what the published NASNet-A keeps
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_operations_are_as_many_as_in_the_papers() -> None:
    found = {f.name: len(f.operations) for f in (NASNET, AMOEBANET, PNAS, ENAS_MICRO)}
    assert found == {"nasnet": 13, "amoebanet": 8, "pnas": 8, "enas_micro": 5}


def test_sizes_are_the_published_ones() -> None:
    # arXiv 1712.00559, section 3.1: 2^2 8^2 * 3^2 8^2 * ... * 6^2 8^2 = 5.6e14.
    assert size(spaces.pnas()) == 720**2 * 64**5 and f"{size(spaces.pnas()):.1e}" == "5.6e+14"
    # Two cells of 5 blocks with 13 operations.
    assert size(spaces.nasnet()) == (720**2 * 13**10) ** 2
    assert size(spaces.enas_micro(blocks=4)) == ((2 * 3 * 4 * 5) ** 2 * 5**8) ** 2


def test_one_block_of_pnas_has_the_published_136_cells() -> None:
    space = spaces.pnas(blocks=1)  # arXiv 1712.00559, section 4.2
    forms = to_vector(space, jax.jit(space.canonical)(from_index(space, jnp.arange(256))))
    assert size(space) == 256 and len(np.unique(forms, axis=0)) == 136


def _nasnet_a(width: int, normals: int, stem: int) -> int:
    """The parameters of NASNet-A for ImageNet in a plain count, as its published code makes it."""
    normal = [(5, 1), (3, 0), (5, 0), (3, 0), "pool", "id", "pool", "pool", (3, 1), "id"]
    sources = [1, 0, 0, 0, 1, 0, 0, 0, 1, 1]
    reduce = [(5, 1), (7, 0), "pool", (7, 0), "pool", (5, 0), "id", "pool", (3, 2), "pool"]
    reads = [1, 0, 1, 0, 1, 0, 3, 2, 2, 1]
    cells = [("reduce", width // 4), ("reduce", width // 2)]
    for stage in range(3):
        cells += [("reduce", width * 2**stage)] * (stage > 0)
        cells += [("normal", width * 2**stage)] * normals
    total, outputs = 27 * stem + 2 * stem, [stem, stem]
    for i, (kind, c) in enumerate(cells):
        before, last = outputs[-2:]
        is_raw = i == 0  # the stem is read as it is
        total += last * c + 2 * c + (0 if is_raw else before * c + 2 * c)
        for op, source in zip(*((normal, sources) if kind == "normal" else (reduce, reads)),
                              strict=True):  # fmt: skip
            into = before if is_raw and source == 0 else c
            if isinstance(op, tuple):
                k = op[0] ** 2
                total += k * into + into * c + k * c + c * c + 4 * c
            elif into != c or (op == "id" and kind == "reduce" and source < 2):
                total += into * c + 2 * c
        outputs.append(c * (6 if kind == "normal" else 4))
    return total + (outputs[-1] + 1) * 1000


@pytest.mark.parametrize(
    ("width", "normals", "stem", "published"),
    # Keras' trainable parameters of NASNetMobile and NASNetLarge.
    [(44, 4, 32, 5_289_978), (168, 6, 96, 88_753_150)],
    ids=["mobile", "large"],
)
def test_nasnet_a_has_its_published_parameters(
    width: int, normals: int, stem: int, published: int
) -> None:
    assert _nasnet_a(width, normals, stem) == published
    space = spaces.nasnet(width, normals, 1000, 224, imagenet=True, stem=stem, keep=PUBLISHED_CELLS)
    assert int(space.counts["params"](space.parse("NASNET_A"))) == published


def test_pnasnet_5_has_its_published_parameters() -> None:
    space = spaces.pnas(216, 4, 1000, 352, imagenet=True, stem=96)
    # timm's pnasnet5large.
    assert int(space.counts["params"](space.parse("PNASNET_5"))) == 86_057_668


AMOEBANET_CELLS = {"normal": [0], "reduce": [2, 3, 4, 5, 6]}  # what AmoebaNet-A keeps


def _amoebanet_a(width: int, normals: int, classes: int, imagenet: bool) -> int:
    """The parameters of AmoebaNet-A in a plain count, as its published code makes it.

    Here 0 is the last cell's output and 1 the one before, as there.
    """
    normal = ["avg0", "max0", "sep3_1", "id1", "id0"]
    normal += ["avg1", "sep3_0", "sep5_2", "avg5", "sep3_0"]
    reduce = [
        "sep3_1",
        "avg0",
        "max0",
        "sep7_2",
        "max1",
        "max0",
        "sep3_4",
        "lines0",
        "avg1",
        "sep7_0",
    ]
    stem = 32 if imagenet else 3 * width
    total, outputs = 27 * stem + 2 * stem, [0, stem]
    cells = [(True, width // 4), (True, width // 2)] if imagenet else []
    for stage in range(3):
        cells += [(True, width * 2**stage)] * (stage > 0) + [(False, width * 2**stage)] * normals
    for reduces, c in cells:
        before, last = outputs[-2:]
        total += last * c + 2 * c
        total += before * c + 2 * c if before else 0
        for op in reduce if reduces else normal:
            source = int(op[-1])
            into = last if source == 1 and not before else c
            if op.startswith("sep"):
                k = int(op[3]) ** 2
                total += k * into + into * c + k * c + c * c + 4 * c
            elif op.startswith("lines"):
                q = c // 4
                total += into * q + 2 * 7 * q * q + q * c + 2 * (3 * q + c)
            elif into != c or (op.startswith("id") and reduces and source < 2):
                total += into * c + 2 * c
        if not (reduces or before):
            total += last * c + 2 * c  # what is before goes into the output too
        outputs.append(c * (5 if reduces else 4))
    return total + (outputs[-1] + 1) * classes


@pytest.mark.parametrize(
    ("width", "normals", "imagenet", "millions"),
    # Tables of arXiv 1802.01548.
    [(32, 6, False, 2.6), (36, 6, False, 3.2), (50, 4, True, 5.1), (190, 6, True, 86.7)],
)
def test_amoebanet_a_has_its_published_size(
    width: int, normals: int, imagenet: bool, millions: float
) -> None:
    classes, image, stem = (1001, 224, 32) if imagenet else (10, 32, 0)
    space = spaces.amoebanet(
        *(width, normals, classes, image), imagenet=imagenet, stem=stem, keep=AMOEBANET_CELLS
    )
    arch = space.parse("AMOEBANET_A")
    found = int(space.counts["params"](arch))
    assert found == _amoebanet_a(width, normals, classes, imagenet)
    assert round(found / 1e6, 1) == millions
    if width == 50:
        assert round(float(space.counts["flops"](arch)) / 1e6) == 555  # million multiply-adds


def _enas(width: int, repeats: int) -> int:
    """The parameters of ENAS' micro network in a plain count, as its published code makes it."""
    text = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
    numbers = [int(word) for word in text.split()]
    total, outputs, kept = 27 * 3 * width + 6 * width, [3 * width] * 2, 0
    for layer in range(3 * repeats + 2):
        reduces = layer in (repeats, 2 * repeats + 1)
        c = width * 2 ** ((layer >= repeats) + (layer >= 2 * repeats + 1))
        total += sum(before * c + 2 * c for before in outputs) + c * c + 2 * c
        cell = numbers[20:] if reduces else numbers[:20]
        for source, op in zip(cell[::2], cell[1::2], strict=True):
            if op < 2:
                total += 2 * ((3 + 2 * op) ** 2 * c + c * c + 2 * c)
            elif op == 4 and reduces and source < 2:
                total += c * c + 2 * c
        kept = len({2, 3, 4, 5, 6} - set(cell[::2]))
        outputs = [outputs[-1], kept * c]
    return total + outputs[-1] * 10


def test_the_micro_network_of_enas_has_its_published_size() -> None:
    # Its published script has 5 normal cells a stage; 4.6M, of the paper, are those of 6.
    assert _enas(36, 5) == 3_894_372 and round(_enas(36, 6) / 1e6, 1) == 4.6
    for repeats in (5, 6):
        space = spaces.enas_micro(36, repeats)
        bias = 10  # of the classifier, which the published one has not
        assert int(space.counts["params"](space.parse("ENAS"))) == _enas(36, repeats) + bias


@pytest.mark.parametrize(
    ("space", "name", "millions"),
    [
        (spaces.nasnet(keep=PUBLISHED_CELLS), "NASNET_A", 3.3),  # 6 @ 768, arXiv 1707.07012
        (spaces.pnas(), "PNASNET_5", 3.2),  # N 3, F 48, arXiv 1712.00559
        (spaces.pnas(54, 3, 1000, 224, imagenet=True, stem=32), "PNASNET_5", 5.1),
    ],
    ids=["NASNet-A", "PNASNet-5", "PNASNet-5 mobile"],
)
def test_published_networks_have_their_published_size(
    space: Any, name: str, millions: float
) -> None:
    found = float(space.counts["params"](space.parse(name)))
    assert round(found / 1e6, 1) == millions


def test_a_normal_cell_of_nasnet_has_the_channels_of_its_name() -> None:
    """NASNet-A (6 @ 768) has 768 channels before its classifier, at F = 32."""
    few, many = (spaces.nasnet(classes=k, keep=PUBLISHED_CELLS) for k in (10, 11))
    arch = few.parse("NASNET_A")
    assert int(many.counts["params"](arch)) - int(few.counts["params"](arch)) == 768 + 1


# --------------------------------------------------------------------------------- isomorphism


def _orders(cell: dict, blocks: int) -> set[tuple]:
    """All ways to write a cell: blocks in any order with edges up, and pairs in both orders."""
    inputs, ops = (np.asarray(cell[k]).tolist() for k in ("inputs", "ops"))
    pairs = list(zip(inputs, ops, strict=True))
    found = set()
    for order in itertools.permutations(range(blocks)):
        number = {0: 0, 1: 1} | {old + 2: new + 2 for new, old in enumerate(order)}
        moved = [
            tuple(sorted((number[s], op) for s, op in pairs[2 * b : 2 * b + 2])) for b in order
        ]
        if all(s < k + 2 for k, block in enumerate(moved) for s, _ in block):
            found.add(tuple(moved))
    return found


def test_the_canonical_cell_is_one_of_its_class_and_the_same_for_all_of_it() -> None:
    space = spaces.pnas(blocks=4)
    canonical = jax.jit(space.canonical)
    many = sample(space, jax.random.key(1), 200)
    found = canonical(many)
    same(canonical(found), found)
    rng = np.random.default_rng(0)
    for i in range(200):
        before, after = (jax.tree.map(lambda leaf, i=i: leaf[i], x) for x in (many, found))
        orders = sorted(_orders(before, 4))
        written = list(zip(*(np.asarray(after[k]).tolist() for k in ("inputs", "ops")),
                           strict=True))  # fmt: skip
        assert tuple(tuple(written[2 * k : 2 * k + 2]) for k in range(4)) == orders[0]
        if i < 5:  # another writing of the cell has the same form
            other = orders[rng.integers(len(orders))]
            flat = np.asarray([pair for block in other for pair in block], np.int32)
            same(canonical({"inputs": flat[:, 0], "ops": flat[:, 1]}), after)


# ---------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("name", MAKERS)
def test_every_text_reads_back(name: str) -> None:
    space = MAKERS[name]()
    many = jax.device_get(sample(space, jax.random.key(0), 20))
    for i in range(20):
        arch = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        text = space.describe(arch)
        assert "\n" not in text
        same(space.parse(text), arch)


def test_the_numbers_of_enas_scripts_are_read() -> None:
    space = spaces.enas_micro()
    text = space.describe(space.parse("ENAS"))
    assert text.startswith(
        "Genotype(normal=[('avg_pool_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 1), "
        "('sep_conv_5x5', 1)"
    )
    assert "normal_concat=[2, 3, 4, 5, 6]" in text and "reduce_concat=[2, 4, 5, 6]" in text
    with pytest.raises(InputError, match=r"40 numbers are needed, .* there are 3"):
        space.parse("0 1 2")


def test_what_is_concatenated_follows_from_what_is_read() -> None:
    text = spaces.nasnet().describe(spaces.nasnet().parse("NASNET_A"))
    assert "normal_concat=[0, 2, 3, 4, 5, 6]" in text and "reduce_concat=[4, 5, 6]" in text
    kept = spaces.nasnet(keep=PUBLISHED_CELLS)
    assert "reduce_concat=[3, 4, 5, 6]" in kept.describe(kept.parse("NASNET_A"))
    pnas = spaces.pnas()
    assert "normal_concat=[2, 3, 4, 5, 6]" in pnas.describe(pnas.parse("PNASNET_5"))
    with pytest.raises(InputError, match=r"normal_concat=\[5, 6\]: this cell concatenates \[2"):
        pnas.parse(pnas.describe(pnas.parse("PNASNET_5")).replace("[2, 3, 4, 5, 6]", "[5, 6]"))


CELL = "[" + "('conv_1x1', 1), " * 10 + "]"
MIXED = f"Genotype(normal={CELL}, normal_concat=['a', None, []], reduce={CELL})"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("NASNET_B", "the form is Genotype.* or NASNET_A"),
        ("Genotype(normal=[('conv_9x9', 0)] * 10)", "the form is"),
        ("Genotype(normal=[('conv_9x9', 0)], reduce=[])", "10 edges .* there are 1"),
        ("Genotype(normal=[" + "('conv_9x9', 0), " * 10 + "], reduce=[])", "unknown operation"),
        ("Genotype(normal=[" + "('conv_1x1', 5), " * 10 + "], reduce=[])", "input 5: allowed: 0"),
        ("__import__('os').getcwd()", "the form is"),
        (MIXED.replace(CELL, CELL.replace("[", "{").replace("]", "}")), "the form is"),
        (MIXED, r"normal_concat=\['a', None, \[\]\]: this cell concatenates"),
        ("(" * 5000, "the form is"),
    ],
)
def test_a_wrong_genotype_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        spaces.nasnet().parse(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30) | st.text("Genotype()[]=,'\\0 12", max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    for space in (spaces.nasnet(), spaces.enas_micro()):
        with pytest.raises(InputError):
            space.parse(text)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"blocks": 0}, "blocks=0: .* at least 1"),
        ({"blocks": 12}, "blocks=12: from 1 to 8"),
        ({"image": 30}, "image size 30: .* multiple of 4"),
        ({"image": 64, "imagenet": True, "channels": 2}, "channels=2: .* at least 4"),
        ({"keep": {"reduce": [0]}}, "keep=.* a reduce cell 2 to 6"),
        ({"keep": {"both": [0]}}, "keep="),
    ],
)
def test_a_space_that_cannot_be_is_refused(setting: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        spaces.nasnet(**setting)
