"""The supernet of DARTS in PyTorch, plainly, and a step of its search as the published code does.

Liu, Simonyan and Yang 2019, arXiv 1806.09055.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from jnas.spaces.darts import CANDIDATES, EDGES

Batch = tuple[torch.Tensor, torch.Tensor]
SMALL_STEP = 0.01  # of the finite difference, over the norm of the gradient (section 2.3)


class ReLUConvBN(nn.Sequential):
    """ReLU, 1x1 convolution, batch normalisation without scale and bias."""

    def __init__(self, inputs: int, outputs: int):
        conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(outputs, affine=False))


class Separable(nn.Sequential):
    """ReLU, depthwise and 1x1 convolution, batch normalisation; once or twice."""

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int, layers: int):
        parts: list[nn.Module] = []
        for i in range(layers):
            pad, step = dilation * (kernel // 2), stride if i == 0 else 1
            how = {"groups": channels, "bias": False}
            parts += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, step, pad, dilation, **how),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels, affine=False),
            ]
        super().__init__(*parts)


class FactorizedReduce(nn.Module):
    """ReLU and two 1x1 convolutions at stride 2, a pixel apart; batch normalisation."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.second = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], 1))


class Zero(nn.Module):
    """Nothing, in the shape of the other operations."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


def _operation(name: str, c: int, stride: int) -> nn.Module:
    norm = lambda: nn.BatchNorm2d(c, affine=False)
    made: dict[str, Callable[[], nn.Module]] = {
        "none": lambda: Zero(stride),
        "max_pool_3x3": lambda: nn.Sequential(nn.MaxPool2d(3, stride, 1), norm()),
        "avg_pool_3x3": lambda: nn.Sequential(
            nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm()
        ),
        "skip_connect": lambda: nn.Identity() if stride == 1 else FactorizedReduce(c, c),
        "sep_conv_3x3": lambda: Separable(c, 3, stride, 1, 2),
        "sep_conv_5x5": lambda: Separable(c, 5, stride, 1, 2),
        "dil_conv_3x3": lambda: Separable(c, 3, stride, 2, 1),
        "dil_conv_5x5": lambda: Separable(c, 5, stride, 2, 1),
    }
    return made[name]()


class Cell(nn.Module):
    """A cell whose edges add all operations by weight."""

    def __init__(self, older: int, newer: int, c: int, reduce: bool, reduced: bool):
        super().__init__()
        self.older = FactorizedReduce(older, c) if reduced else ReLUConvBN(older, c)
        self.newer = ReLUConvBN(newer, c)
        self.edges = nn.ModuleList()
        for a, _ in EDGES:
            stride = 2 if reduce and a < 2 else 1
            self.edges.append(nn.ModuleList([_operation(n, c, stride) for n in CANDIDATES]))

    def forward(self, a: torch.Tensor, b: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        states: list[Any] = [self.older(a), self.newer(b), 0, 0, 0, 0]
        for (i, j), edge, row in zip(EDGES, self.edges, weights, strict=True):
            y = sum(w * op(states[i]) for w, op in zip(row, edge, strict=True))  # type: ignore
            states[j] = states[j] + y
        return torch.cat(states[2:], 1)


class Supernet(nn.Module):
    """The supernet."""

    def __init__(self, channels: int, layers: int, classes: int, inputs: int):
        super().__init__()
        older = newer = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, newer, 3, padding=1, bias=False), nn.BatchNorm2d(newer)
        )
        self.reductions = (layers // 3, 2 * layers // 3)
        self.cells, reduced, c = nn.ModuleList(), False, channels
        for i in range(layers):
            reduce = i in self.reductions
            c = 2 * c if reduce else c
            self.cells.append(Cell(older, newer, c, reduce, reduced))
            older, newer, reduced = newer, 4 * c, reduce
        self.classifier = nn.Linear(newer, classes)

    def forward(self, x: torch.Tensor, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        normal, reduction = (F.softmax(part, -1) for part in logits)
        a = b = self.stem(x)
        for i, cell in enumerate(self.cells):
            a, b = b, cell(a, b, reduction if i in self.reductions else normal)
        return self.classifier(b.mean((2, 3)))


class Search:
    """The alternating search of DARTS, first or second order.

    Args:
      size: channels, layers, classes and inputs of the supernet.
      params: the weights of the supernet of jnas.
      logits: of the architecture, f32[14, 8] for the normal and the reduction cells.
      rates: of learning: `weights`, `momentum`, `decay`, `clip`, `arch`, `arch_decay`.
    """

    def __init__(self, size: tuple, params: Any, logits: Sequence[Any], rates: dict[str, float]):
        self.net, self.unrolled, self.rates = Supernet(*size), Supernet(*size), rates
        load(self.net, params)
        self.logits = [torch.tensor(np.array(part), requires_grad=True) for part in logits]
        self.sgd = torch.optim.SGD(
            self.net.parameters(),
            rates["weights"],
            momentum=rates["momentum"],
            weight_decay=rates["decay"],
        )
        self.adam = torch.optim.Adam(
            self.logits, rates["arch"], betas=(0.5, 0.999), weight_decay=rates["arch_decay"]
        )

    def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
        """The cross entropy of a batch."""
        return F.cross_entropy(net(batch[0], self.logits), batch[1])

    def step(self, train: Batch, valid: Batch, second: bool) -> float:
        """A step of the architecture and one of the weights; returns the loss of the latter."""
        if second:
            grads = self._second_order(train, valid)
        else:
            grads = torch.autograd.grad(self.loss(self.net, valid), self.logits)
        for part, grad in zip(self.logits, grads, strict=True):
            part.grad = grad
        self.adam.step()
        self.sgd.zero_grad()
        loss = self.loss(self.net, train)
        inputs = list(self.net.parameters())
        loss.backward(inputs=inputs)
        nn.utils.clip_grad_norm_(inputs, self.rates["clip"])
        self.sgd.step()
        return float(loss.detach())

    def _second_order(self, train: Batch, valid: Batch) -> list[torch.Tensor]:
        weights, rates = list(self.net.parameters()), self.rates
        grads = torch.autograd.grad(self.loss(self.net, train), weights)
        with torch.no_grad():
            moved = self.unrolled.parameters()
            for new, w, g in zip(moved, weights, grads, strict=True):
                velocity = self.sgd.state[w].get("momentum_buffer", torch.zeros_like(w))
                step = rates["momentum"] * velocity + g + rates["decay"] * w
                new.copy_(w - rates["weights"] * step)
        inputs = [*self.logits, *self.unrolled.parameters()]
        found = torch.autograd.grad(self.loss(self.unrolled, valid), inputs)
        direct, vector = found[:2], found[2:]
        size = SMALL_STEP / torch.cat([v.flatten() for v in vector]).norm()

        def shifted(by: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with torch.no_grad():
                for w, v in zip(weights, vector, strict=True):
                    w.add_(by * v)
            return torch.autograd.grad(self.loss(self.net, train), self.logits)

        above = shifted(size)
        below = shifted(-2 * size)
        with torch.no_grad():
            for w, v in zip(weights, vector, strict=True):
                w.add_(size * v)
        rows = zip(direct, above, below, strict=True)
        return [d - rates["weights"] * (p - n) / (2 * size) for d, p, n in rows]


def load(net: Supernet, params: Any) -> None:
    """Gives the supernet the weights of its jnas twin."""
    params = _numpy(params)

    def put(parameter: torch.Tensor, value: np.ndarray) -> None:
        with torch.no_grad():
            parameter.copy_(torch.tensor(np.ascontiguousarray(value)))

    def pointwise(conv: nn.Module, kernel: np.ndarray) -> None:
        put(conv.weight, kernel.T[:, :, None, None])  # type: ignore

    def entry(layer: Any, kernel: np.ndarray) -> None:
        if isinstance(layer, FactorizedReduce):
            pointwise(layer.first, kernel[0])
            pointwise(layer.second, kernel[1])
        else:
            pointwise(layer[1], kernel)

    put(net.stem[0].weight, params["stem"]["kernel"].transpose(3, 2, 0, 1))  # type: ignore
    put(net.stem[1].weight, params["stem"]["scale"])  # type: ignore
    put(net.stem[1].bias, params["stem"]["bias"])  # type: ignore
    put(net.classifier.weight, params["classifier"]["kernel"].T)
    put(net.classifier.bias, params["classifier"]["bias"])
    for i, cell in enumerate(net.cells):
        older, newer, edges = _layer(params, net.reductions, i)
        entry(cell.older, older)
        entry(cell.newer, newer)
        for edge, weights in zip(cell.edges, edges, strict=True):  # type: ignore
            for name, op in zip(CANDIDATES, edge, strict=True):
                if isinstance(op, FactorizedReduce):
                    entry(op, weights[name])
                if not isinstance(op, Separable):
                    continue
                for k, depth in enumerate(weights[name]["depthwise"]):
                    put(op[4 * k + 1].weight, depth.transpose(2, 0, 1)[:, None])  # type: ignore
                    pointwise(op[4 * k + 2], weights[name]["pointwise"][k])


def _numpy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _numpy(part) for name, part in tree.items()}
    return [_numpy(part) for part in tree] if isinstance(tree, list | tuple) else np.asarray(tree)


def _at(tree: Any, *index: int) -> Any:
    if isinstance(tree, dict):
        return {name: _at(part, *index) for name, part in tree.items()}
    return tree[index]


def _layer(params: Any, reductions: tuple[int, int], i: int) -> tuple[Any, Any, list]:
    """Kernels for the older and the newer input of a cell, and the weights of its edges."""
    first, second = reductions
    if i in reductions:
        part = params["reductions"][i == second]
        counts, edges = {"strided": 0, "plain": 0}, []
        for a, _ in EDGES:
            kind = "strided" if a < 2 else "plain"
            edges.append(_at(part["cells"][kind], counts[kind]))
            counts[kind] += 1
        return *part["entry"], edges
    stage = (i > first) + (i > second)
    part, k = params["stages"][stage], i - (0, first + 1, second + 1)[stage]
    edges = [_at(part["cells"]["plain"], k, e) for e in range(len(EDGES))]
    if k == 0:
        return *part["entry"], edges
    return (part["second"] if k == 1 else part["older"][k - 2]), part["newer"][k - 1], edges
