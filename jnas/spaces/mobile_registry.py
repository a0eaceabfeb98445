"""The mobile spaces by name, made from their specifications."""

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jnas.base import Space
from jnas.spaces.compound import efficientnet as _efficientnet
from jnas.spaces.mobile import mobile_space
from jnas.spaces.mobile_blocks import Network, costs
from jnas.spaces.mobile_families import FAMILIES, small
from jnas.spaces.mobile_networks import published
from jnas.spaces.mobile_stages import Mobile

SPECIFICATIONS: dict[str, Callable[..., Mobile]] = {**FAMILIES, "efficientnet": _efficientnet}


def of_settings(make: Callable[..., Any], build: Callable[..., Any]) -> Callable[..., Any]:
    """`build(make(**settings), **more)` as one function with the settings of both.

    Args:
      make: makes a specification; its `**data` stands for the settings of `small`.
      build: takes it, and settings of its own by keyword.
    """
    takes = [p for p in inspect.signature(make).parameters.values() if p.kind != p.VAR_KEYWORD]
    data = list(inspect.signature(small).parameters.values())[1:]
    more = list(inspect.signature(build).parameters.values())[1:]
    named = [p.replace(kind=p.KEYWORD_ONLY) for p in (*data, *more)]
    own = {p.name for p in more}

    def made(*args: Any, **kwargs: Any) -> Any:
        given = {k: kwargs.pop(k) for k in own & set(kwargs)}
        return build(make(*args, **kwargs), **given)

    public: Any = made
    public.__name__ = public.__qualname__ = make.__name__
    public.__doc__ = make.__doc__
    public.__signature__ = inspect.Signature([*takes, *named])
    return public


fbnet = of_settings(FAMILIES["fbnet"], mobile_space)
mnasnet = of_settings(FAMILIES["mnasnet"], mobile_space)
mobilenet_v2 = of_settings(FAMILIES["mobilenet_v2"], mobile_space)
mobilenet_v3 = of_settings(FAMILIES["mobilenet_v3"], mobile_space)
ofa = of_settings(FAMILIES["ofa"], mobile_space)
proxylessnas = of_settings(FAMILIES["proxylessnas"], mobile_space)
efficientnet = of_settings(_efficientnet, mobile_space)


def single_network(network: Network, name: str) -> Space:
    """The space of one network with everything decided, whose only architecture is its name."""
    params, adds = costs(network)
    constant = lambda n: (
        lambda arch: jnp.full(
            jnp.shape(arch["network"]), n, jnp.int32 if n < 2**31 else jnp.float32
        )
    )
    return Space(
        name="mobile_network",
        num_choices={"network": np.asarray(1)},
        labels={"network": (name,)},
        counts={"params": constant(params), "flops": constant(adds)},
    )


def mobile_network(
    name: str = "efficientnet_b0",
    image: int | None = None,
    inputs: int = 3,
    classes: int = 1000,
    eps: float | None = None,
) -> Space:
    """One published mobile network, such as `efficientnet_b0` or `mobilenet_v2`, to be trained.

    Its only architecture is written `network=NAME`.

    Args:
      name: of `jnas.spaces.mobile_networks.NETWORKS`.
      image: height and width of the images, by default those of the paper.
      inputs: the channels of the images.
      classes: the outputs.
      eps: of batch normalisation, instead of the paper's.
    """
    sizes = {} if image is None else {"image": image}
    return single_network(published(name, eps, inputs=inputs, classes=classes, **sizes), name)
