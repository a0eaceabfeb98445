"""Networks over a joint space, whose architectures bring hyperparameters of their own."""

from collections.abc import Sequence
from typing import Any

from jnas import spaces
from jnas.base import Architecture
from jnas.nets import Net


def joint(net: Net, **values: Sequence[float]) -> Net:
    """The same network over `jnas.spaces.joint(net.space, **values)`.

    `train` then wants `Training.optimizer` as a function of the hyperparameters, and every
    candidate trains with its own.

    Args:
      net: the network.
      **values: the values that each hyperparameter may have.

    Returns:
      The net, whose architectures hold a choice for each hyperparameter too.
    """

    def apply(
        params: Any, state: Any, arch: Architecture, x: Any, train: bool = False
    ) -> tuple[Any, Any]:
        return net.apply(params, state, arch["architecture"], x, train=train)

    alone = net.alone
    return net._replace(
        apply=apply,
        space=spaces.joint(net.space, **values),
        bind=lambda arch: net.bind(arch["architecture"]),
        alone=None if alone is None else lambda arch: alone(arch["architecture"]),
    )
