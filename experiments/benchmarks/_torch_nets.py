"""The networks of the population benchmark in PyTorch, and their training one after another."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from jnas.spaces.nas_bench_201 import AVG_POOL, CONV_1X1, CONV_3X3, EDGES, NONE

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution, batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(outputs))


class Cell(nn.Module):
    """A cell that has just the operations that it chose; an edge of `none` costs nothing."""

    def __init__(self, cell: list[int], channels: int):
        super().__init__()
        make = {
            CONV_1X1: lambda: ReLUConvBN(channels, channels, 1),
            CONV_3X3: lambda: ReLUConvBN(channels, channels, 3),
            AVG_POOL: lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        }
        self.kinds = cell
        self.edges = nn.ModuleList([make.get(op, nn.Identity)() for op in cell])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = {0: x}
        for (a, b), op, edge in zip(EDGES, self.kinds, self.edges, strict=True):
            if op != NONE and a in nodes:
                y = edge(nodes[a])
                nodes[b] = nodes[b] + y if b in nodes else y
            elif b == a + 1 and b not in nodes:
                nodes[b] = torch.zeros_like(x)
        return nodes[3]


class Reduction(nn.Module):
    """Halves height and width: two 3x3 convolutions beside a pooled 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first, self.second = ReLUConvBN(inputs, outputs, 3, 2), ReLUConvBN(outputs, outputs, 3)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(F.avg_pool2d(x, 2)) + self.second(self.first(x))


class CellNetwork(nn.Module):
    """The network of NAS-Bench-201, of any number of stages."""

    def __init__(
        self, cell: list[int], channels: int, cells: int, stages: int, classes: int, inputs: int
    ):
        super().__init__()
        widths = [channels * 2**i for i in range(stages)]
        self.stem = nn.Conv2d(inputs, channels, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        self.stages = nn.ModuleList(
            [nn.Sequential(*(Cell(cell, width) for _ in range(cells))) for width in widths]
        )
        self.reductions = nn.ModuleList([Reduction(c, 2 * c) for c in widths[:-1]])
        self.norm = nn.BatchNorm2d(widths[-1])
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages[0](self.stem_norm(self.stem(x)))
        for reduction, stage in zip(self.reductions, self.stages[1:], strict=True):
            x = stage(reduction(x))
        return self.classifier(torch.relu(self.norm(x)).mean((2, 3)))


def perceptron(inputs: int, widths: list[int], kinds: list[str], classes: int) -> nn.Sequential:
    """A perceptron of just the chosen widths."""
    layers: list[nn.Module] = [nn.Flatten()]
    for into, out, kind in zip([inputs, *widths[:-1]], widths, kinds, strict=True):
        layers += [nn.Linear(into, out), ACTIVATIONS[kind]()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def _put(parameter: torch.Tensor, value: Any) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(np.asarray(value)))


def _put_linear(layer: nn.Linear, values: Any) -> None:
    """The chosen units of a layer of jnas, whose kernel is `[inputs, outputs]`."""
    _put(layer.weight, np.asarray(values["kernel"])[: layer.in_features, : layer.out_features].T)
    _put(layer.bias, np.asarray(values["bias"])[: layer.out_features])


def _put_conv(conv: nn.Conv2d, values: Any) -> None:
    _put(conv.weight, np.transpose(values["kernel"], (3, 2, 0, 1)))


def _put_norm(norm: nn.BatchNorm2d, values: Any) -> None:
    _put(norm.weight, values["scale"])
    _put(norm.bias, values["bias"])


def _put_block(block: ReLUConvBN, values: Any) -> None:
    _put_conv(block[1], values["conv"])
    _put_norm(block[2], values["norm"])


def copy_perceptron(net: nn.Sequential, params: Any) -> None:
    """Gives a perceptron the weights of its jnas twin."""
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    hidden = [params["hidden"][i]["layer"]["linear"] for i in range(len(linear) - 1)]
    for layer, values in zip(linear, [*hidden, params["classifier"]], strict=True):
        _put_linear(layer, values)


def copy_cells(net: CellNetwork, params: Any) -> None:
    """Gives a network of cells the weights of its jnas twin."""
    _put_conv(net.stem, params["stem"])
    _put_norm(net.stem_norm, params["stem_norm"])
    for s, stage in enumerate(net.stages):
        for c, cell in enumerate(stage):
            for e, (op, edge) in enumerate(zip(cell.kinds, cell.edges, strict=True)):
                if op in (CONV_1X1, CONV_3X3):
                    values = params["stages"][s]["block"]["edges"][e]["options"][op]
                    one = {
                        part: {name: leaf[c] for name, leaf in leaves.items()}
                        for part, leaves in values.items()
                    }
                    _put_block(edge, one)
    for r, reduction in enumerate(net.reductions):
        values = params["reductions"][r]
        _put_block(reduction.first, values["first"])
        _put_block(reduction.second, values["second"])
        _put_conv(reduction.shortcut, values["shortcut"])
    _put_norm(net.norm, params["norm"])
    _put_linear(net.classifier, params["classifier"])


class Loop(NamedTuple):
    """Training of one network after another, in eager mode.

    Attributes:
      make: number of the candidate -> module.
      copy: `(module, params of jnas) -> None`.
      optimizer: parameters -> optimizer.
      fit_on: scaled images `[N, C, H, W]` and labels, on the device.
      score_on: the same of the validation split.
      batch: examples in a batch.
    """

    make: Callable[[int], nn.Module]
    copy: Callable[[nn.Module, Any], None]
    optimizer: Callable[[Any], torch.optim.Optimizer]
    fit_on: tuple[torch.Tensor, torch.Tensor]
    score_on: tuple[torch.Tensor, torch.Tensor]
    batch: int

    def _steps(self, net: nn.Module, orders: Any, steps: int) -> list[torch.Tensor]:
        """Steps over batches of the orders, one for each epoch; returns the losses."""
        x, y = self.fit_on
        optimizer, losses = self.optimizer(net.parameters()), []
        net.train()
        per_epoch = len(y) // self.batch
        for i in range(steps):
            if i % per_epoch == 0:
                order = next(orders)
            rows = order[i % per_epoch * self.batch :][: self.batch]
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses

    def train(self, candidate: int, steps: int) -> float:
        """Makes, trains and validates a candidate; returns its accuracy."""
        x, y = self.fit_on
        net = self.make(candidate).to(x.device)
        shuffled = (torch.randperm(len(y), device=x.device) for _ in iter(int, 1))
        self._steps(net, shuffled, steps)
        net.eval()
        with torch.no_grad():
            guesses = [net(part).argmax(-1) for part in self.score_on[0].split(256)]
        return (torch.cat(guesses) == self.score_on[1]).float().mean().item()

    def losses(self, candidate: int, params: Any, order: np.ndarray, steps: int) -> np.ndarray:
        """The losses of the first steps with the weights of jnas and an order of the examples."""
        net = self.make(candidate)
        self.copy(net, params)
        rows = torch.tensor(np.asarray(order), device=self.fit_on[0].device)
        found = self._steps(net.to(rows.device), iter([rows]), steps)
        return torch.stack(found).cpu().numpy()


def device(on_gpu: bool) -> torch.device:
    """The device beside the one that JAX uses."""
    return torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")


def tensors(x: np.ndarray, y: np.ndarray, where: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `[N, H, W, C]` as `[N, C, H, W]`, and labels."""
    moved = np.ascontiguousarray(np.moveaxis(x, -1, 1) if x.ndim == 4 else x)
    return torch.tensor(moved, device=where), torch.tensor(y, dtype=torch.int64, device=where)


def use_threads(n: int) -> None:
    """How many threads an operation may use."""
    torch.set_num_threads(n)
