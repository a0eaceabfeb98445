"""Mobile networks against torchvision's: the same weights give the same outputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_models import Weights, models, stirred

from jnas.nets.mobile import decided_network
from jnas.spaces.mobile_networks import published

OTHERS = ("mobilenet_v2", "efficientnet_b0", "efficientnet_b3", "mnasnet_b1")
EPS = dict.fromkeys(OTHERS, 1e-5)  # of torchvision's norms, where it is not the papers'
TORCH = {"mnasnet_b1": "mnasnet1_0"}
SLOW = ("mnasnet_b1", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b3")
CASES = [
    "mobilenet_v2",
    "efficientnet_b0",
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_torchvision_with_its_weights(name: str) -> None:
    found: Any = models()
    import torch

    images = np.random.default_rng(0).normal(size=(8, 49, 49, 3)).astype(np.float32)
    given = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    model = stirred(getattr(found, TORCH.get(name, name))(weights=None), given)
    with torch.no_grad():
        expected = model(given).numpy()
    assert np.std(expected, 0).mean() > 0.02  # over the images
    made = published(name, EPS.get(name), image=49)
    params, state = Weights(model).network(made)
    net = decided_network(made, name)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), shapes, (params, state))
    y, _ = jax.jit(lambda p, s, x: net.apply(p, s, {"network": np.int32(0)}, x))(
        params, state, jnp.asarray(images)
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
