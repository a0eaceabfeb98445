"""torchvision's models, where it is installed, and their weights for the networks of jnas."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest

SCHEMAS = (  # of operators that a torchvision of another build lacks; no model here runs them
    "nms(Tensor a, Tensor b, float c) -> Tensor",
    "qnms(Tensor a, Tensor b, float c) -> Tensor",
    "roi_align(Tensor a) -> Tensor",
    "_roi_align_backward(Tensor a) -> Tensor",
    "roi_pool(Tensor a) -> (Tensor, Tensor)",
    "_roi_pool_backward(Tensor a) -> Tensor",
    "ps_roi_align(Tensor a) -> (Tensor, Tensor)",
    "_ps_roi_align_backward(Tensor a) -> Tensor",
    "ps_roi_pool(Tensor a) -> (Tensor, Tensor)",
    "_ps_roi_pool_backward(Tensor a) -> Tensor",
    "deform_conv2d(Tensor a) -> Tensor",
    "_deform_conv2d_backward(Tensor a) -> Tensor",
)


def models() -> Any:
    """`torchvision.models`; the test is skipped where the extra `compare` is not installed."""
    torch = pytest.importorskip("torch", reason="the extra `compare` is not installed")
    try:
        import torchvision.models as found
    except ImportError:
        pytest.skip("the extra `compare` is not installed")
    except RuntimeError:  # its compiled operators do not fit this torch
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            try:
                library.define(schema)
            except RuntimeError:
                continue
        import torchvision.models as found

        found._library = library  # kept, or the schemas would go with it
    return found


def stirred(model: Any, images: Any, seed: int = 0) -> Any:
    """The model in evaluation mode, with weights and statistics that all matter.

    The statistics are those of the images, so that the outputs depend on what is seen.
    """
    import torch

    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, 0, 0.1)
            module.momentum = 1.0
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0, 0.03)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    with torch.no_grad():
        model.train()(images)
    return model.eval()


class Weights:
    """The weights of a torch model, one layer after the other as the model holds them."""

    def __init__(self, model: Any):
        import torch

        kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
        self.layers = [m for m in model.modules() if isinstance(m, kinds)]
        self.layers.reverse()

    def _next(self, kind: str) -> dict[str, np.ndarray]:
        layer = self.layers.pop()
        assert type(layer).__name__ == kind, f"{type(layer).__name__} is next, not {kind}"
        return {k: v.numpy() for k, v in layer.state_dict().items()}

    def conv_norm(self) -> tuple[dict, dict]:
        """Parameters and statistics of a convolution and its norm."""
        kernel = self._next("Conv2d")["weight"].transpose(2, 3, 1, 0)
        norm = self._next("BatchNorm2d")
        kernel = kernel[:, :, 0] if kernel.shape[2] == 1 else kernel
        params = {
            "conv": {"kernel": kernel},
            "norm": {"scale": norm["weight"], "bias": norm["bias"]},
        }
        return params, {"norm": {"mean": norm["running_mean"], "variance": norm["running_var"]}}

    def dense(self, kind: str = "Linear") -> dict:
        """A dense layer, which in squeeze and excitation is a 1x1 convolution."""
        found = self._next(kind)
        weight = found["weight"]
        return {"kernel": weight.reshape(weight.shape[:2]).T, "bias": found["bias"]}

    def network(self, made: Any) -> tuple[dict, dict]:
        """Parameters and state of `jnas.nets.mobile.decided_network(made)`."""
        params: dict[str, Any] = {"stages": {}}
        state: dict[str, Any] = {"stages": {}}
        params["stem"], state["stem"] = self.conv_norm()
        groups = [list(same) for _, same in itertools.groupby(made.blocks)]
        for i, same in enumerate(groups):
            rows = [self._block(b) for b in same]
            stack = lambda *leaves: np.stack(leaves)
            for into, part in zip((params, state), zip(*rows, strict=True), strict=True):
                into["stages"][i] = {"block": {"parts": jax.tree.map(stack, *part)}}
        params["head"], state["head"] = self.conv_norm()
        if made.family.features:
            params["features"] = {"linear": self.dense()}
        params["classifier"] = self.dense()
        assert not self.layers, f"{len(self.layers)} layers are left"
        return params, state

    def _block(self, b: Any) -> tuple[dict, dict]:
        params: dict[int, Any] = {}
        state: dict[int, Any] = {}
        for kind in (*["conv"] * (b.kind == "mb"), "conv", *["squeeze"] * bool(b.squeeze), "conv"):
            at = len(params)
            if kind == "conv":
                params[at], state[at] = self.conv_norm()
            else:
                first, second = self.dense("Conv2d"), self.dense("Conv2d")
                params[at] = {"reduce": {"linear": first}, "expand": second}
        return params, state
