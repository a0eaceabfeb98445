"""Encoder-decoders from images to images: exact counts, isomorphic choices, learning to segment."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnas import nets, spaces
from jnas.base import InputError, from_vector, one_hot, propose, sample, size, to_vector
from jnas.data import generated
from jnas.evaluators import Examples, Training, tasks, train
from jnas.nets import count_flops, count_params, forms

SMALL: dict[str, Any] = {
    "channels": 4,
    "levels": 2,
    "widths": (2, 6),
    "classes": 3,
    "image": 8,
    "inputs": 2,
}
SPACE, NET = spaces.dense(**SMALL), nets.dense(**SMALL)


def _random(n: int, seed: int = 0) -> list[Any]:
    archs = sample(SPACE, jax.random.key(seed), n)
    return [jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), archs) for i in range(n)]


def test_the_space_has_the_choices_of_all_stages_and_reads_back() -> None:
    assert size(SPACE) == (4 * 2 * 3) ** 3 * 2
    assert size(spaces.dense()) == (4 * 3 * 3) ** 5 * 2**2
    text = "bridge=[add] depth=[0,2,1] operation=[sep_3x3,conv_1x1,sep_5x5] width=[6,2,6]"
    arch = SPACE.parse(text)
    assert SPACE.describe(arch) == text
    assert to_vector(SPACE, arch).tolist() == [1, 0, 2, 1, 2, 0, 3, 1, 0, 1]


def test_parameters_are_those_of_the_network_and_of_a_count_by_hand() -> None:
    for arch in _random(4):
        assert int(SPACE.counts["params"](arch)) == int(count_params(NET, arch))
    arch = SPACE.parse(
        "bridge=[add] depth=[0,2,1] operation=[sep_3x3,conv_1x1,sep_5x5] width=[6,2,6]"
    )
    stem, head = 9 * 2 * 4 + 8, 8 + 4 * 3 + 3
    middle = 4 * 2 + 4 + 2 * 4 + 8  # 1x1 to 2 channels, norm, 1x1 back, norm
    last = 25 * 4 + 4 * 6 + 12 + 6 * 4 + 8
    assert int(SPACE.counts["params"](arch)) == stem + head + 2 * middle + last


def test_multiply_adds_are_those_of_the_traced_program() -> None:
    with forms.using(depthwise="lax"):
        for arch in _random(3, seed=1):
            assert int(SPACE.counts["flops"](arch)) == count_flops(NET, arch, (8, 8, 2))


@pytest.mark.slow
def test_stages_without_blocks_are_alike_and_the_network_is_the_same() -> None:
    vector = jnp.asarray([1, 0, 1, 2, 3, 0, 1, 1, 0, 1])
    arch = jax.tree.map(np.asarray, from_vector(SPACE, vector))
    same = jax.tree.map(np.asarray, SPACE.canonical(arch))
    assert to_vector(SPACE, same).tolist() == [1, 0, 1, 2, 0, 0, 1, 0, 0, 1]
    assert int(SPACE.counts["params"](same)) == int(SPACE.counts["params"](arch))
    params, state = NET.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 2))
    run = jax.jit(lambda a: NET.apply(params, state, a, x, train=True)[0])
    whole = run(jax.tree.map(jnp.asarray, arch))
    np.testing.assert_array_equal(whole, run(jax.tree.map(jnp.asarray, same)))
    alone = NET.apply(params, state, arch, x, train=True)[0]  # cut to its widths, a net of its own
    np.testing.assert_allclose(alone, whole, rtol=1e-3, atol=1e-4)
    corner = one_hot(SPACE, jax.tree.map(jnp.asarray, arch))
    relaxed = NET.apply(params, state, corner, x, train=True)[0]
    np.testing.assert_allclose(relaxed, whole, rtol=1e-3, atol=1e-4)


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong, match in (
        ({"image": 9}, "image=9: it has to be a multiple of 2"),
        ({"widths": (4, 2)}, "in rising order"),
        ({"least": 3}, "least=3, most=2"),
        ({"operations": ("conv",)}, "each once, of conv_1x1"),
    ):
        with pytest.raises(InputError, match=match):
            spaces.dense(**{**SMALL, **wrong})


@pytest.mark.slow
def test_a_population_learns_to_segment_shapes_in_every_plan() -> None:
    made = generated.shapes(16, 120).make().splits
    parts = [Examples(part["image"], part["mask"].astype(np.int32), 127.0, 70.0)
             for part in made.values()]  # fmt: skip
    net = nets.dense(**{**SMALL, "classes": 4, "image": 16, "inputs": 3})
    training = Training(optax.adam(1e-2), 60, 16)
    archs = sample(net.space, jax.random.key(3), 4)
    found = {}
    for plan in ("map", "vmap", "grouped"):
        evaluator = train(net, training, *parts, task=tasks.segmentation(4), plan=plan)
        found[plan] = jax.jit(evaluator.evaluate)(jax.random.key(0), propose(archs), ())[0]
        loss = found[plan].metrics["loss"]
        np.testing.assert_allclose(loss, found["map"].metrics["loss"], rtol=0.05)
    shares = np.bincount(parts[-1].y.ravel()) / parts[-1].y.size
    assert (found["map"].metrics["loss"] < -np.sum(shares * np.log(shares))).all()
    assert found["map"].score.max() > 0.165  # all of one class: 0.16 and less
