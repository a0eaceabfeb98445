"""EfficientNet: a space around its baseline, and compound scaling of depth, width and resolution.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv
1905.11946.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jnas.base import InputError
from jnas.spaces.mobile_blocks import Family, divisible
from jnas.spaces.mobile_families import CELLS, about, around, positive_width, small
from jnas.spaces.mobile_stages import Mobile, Stage

B0 = (  # table 1: operation, kernel, channels, layers, stride
    ("sep", 3, 16, 1, 1),
    ("mb6", 3, 24, 2, 2),
    ("mb6", 5, 40, 2, 2),
    ("mb6", 3, 80, 3, 2),
    ("mb6", 5, 112, 3, 1),
    ("mb6", 5, 192, 4, 2),
    ("mb6", 3, 320, 1, 1),
)
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # section 3.3
VARIANTS = {  # width, depth, resolution: tensorflow/tpu, efficientnet_builder.py
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
}


class Scale(NamedTuple):
    """How a baseline is scaled up: all layers, all channels, both sides of the image."""

    depth: float
    width: float
    resolution: float

    @property
    def cost(self) -> float:
        """About how many times more multiply-adds: depth * width^2 * resolution^2."""
        return self.depth * self.width**2 * self.resolution**2


GRID = 101  # values of alpha, beta and gamma each


def compound(phi: float, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA) -> Scale:
    """Compound scaling, equation 3: `alpha^phi` deeper, `beta^phi` wider, `gamma^phi` larger.

    >>> [round(float(x), 3) for x in compound(1)]
    [1.2, 1.1, 1.15]
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not value >= 1:
            raise InputError(f"{name}={value}: it has to be at least 1")
    if not 0 <= phi <= 20:
        raise InputError(f"phi={phi}: from 0 to 20, each about twice the work of the one before")
    return Scale(alpha**phi, beta**phi, gamma**phi)


def scales(
    low: float = 1.0,
    high: float = 1.5,
    step: float = 0.05,
    target: float = 2.0,
    slack: float = 0.1,
) -> list[Scale]:
    """The grid of section 3.3: all (alpha, beta, gamma) with alpha * beta^2 * gamma^2 near 2.

    Args:
      low: the least of each, at least 1.
      high: the most of each.
      step: between values.
      target: of the product.
      slack: how far from it a product may be, in parts of it.

    Returns:
      The triples, by alpha, beta and gamma.

    Raises:
      InputError: numbers that there cannot be, or a grid without any triple.

    >>> Scale(1.2, 1.1, 1.15) in scales()
    True
    """
    if not (1 <= low <= high and step > 0 and target >= 1 and slack >= 0):
        raise InputError(
            f"grid from {low} to {high} by {step}, target {target}, slack {slack}: "
            "1 <= low <= high, step > 0, target >= 1 and slack >= 0 are needed"
        )
    many = math.floor(min((high - low) / step, 1e6) + 1e-9) + 1
    if many > GRID:
        told = f"{many} values for each of three; at most {GRID} can be"
        raise InputError(f"grid from {low} to {high} by {step}: {told}")
    values = [round(low + i * step, 10) for i in range(many)]
    found = [Scale(a, b, c) for a in values for b in values for c in values]
    found = [s for s in found if abs(s.cost - target) <= slack * target + 1e-9]
    if not found:
        raise InputError(f"no (alpha, beta, gamma) from {low} to {high} by {step} is near {target}")
    return found


def repeats(layers: int, depth: float) -> int:
    """Layers times a multiplier, rounded up: the rule of the published code."""
    return math.ceil(layers * depth - 1e-9)


def efficientnet(
    variant: str = "b0",
    width: float | None = None,
    depth: float | None = None,
    divisor: int = 8,
    **data: Any,
) -> Mobile:
    """The space around EfficientNet's baseline, which MnasNet's space is (section 4), scaled.

    Args:
      variant: `b0` to `b7`, whose multipliers of width and depth are taken.
      width: multiplies all channels instead, as the nearest multiple of 8.
      depth: multiplies all numbers of layers instead, rounded up.
      divisor: of all channels; a smaller one lets small networks grow in small steps.
      **data: see `jnas.spaces.mobile_families.small`; the image is that of the variant by default.
    """
    wide, deep, image = _variant(variant)
    wide, deep = wide if width is None else width, deep if depth is None else depth
    positive_width(wide)
    if not 0 < deep <= 100 or divisor < 1:
        told = "depth above 0 and at most 100, divisor of at least 1"
        raise InputError(f"depth={deep}, divisor={divisor}: {told}")
    stages, words = [], []
    for op, kernel, c, n, s in B0:
        base, layers = divisible(c * wide, divisor), repeats(n, deep)
        stages.append(Stage(about(base), around(layers), s, CELLS, CELLS))
        words.append(f"{op}_k{kernel}_se0.25_id_c{base}_r{layers}")
    stem, head = (divisible(c * wide, divisor) for c in (32, 1280))
    family = Family("efficientnet", stem, head, "sw", squeeze_activation="swish", eps=1e-3)
    points = {"EfficientNet": " ".join(words), f"EfficientNet-{variant.upper()}": " ".join(words)}
    if width is not None or depth is not None:
        points.pop(f"EfficientNet-{variant.upper()}")
    return small(Mobile("efficientnet", family, tuple(stages), (image,), points=points), **data)


def _variant(name: Any) -> tuple[float, float, int]:
    """Multipliers of width and depth, and the image, of EfficientNet-B0 to B7."""
    if name not in VARIANTS:
        raise InputError(f"variant={name!r}: allowed are {', '.join(VARIANTS)}")
    return VARIANTS[name]


def scaled_baseline(scale: Scale, image: int, baseline: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `efficientnet` for a baseline of one's own that is scaled up.

    Args:
      scale: see `compound`.
      image: of the baseline.
      baseline: its settings; a `head` that is given is scaled as other channels are.

    Returns:
      The same with `width`, `depth` and `image` scaled, the image to the nearest size.
    """
    wide, deep, _ = _variant(baseline.get("variant", "b0"))
    width, depth = (baseline.get(k) or v for k, v in (("width", wide), ("depth", deep)))
    found = {
        **baseline,
        "width": width * scale.width,
        "depth": depth * scale.depth,
        "image": max(1, round(image * scale.resolution)),
    }
    if baseline.get("head"):
        found["head"] = divisible(baseline["head"] * scale.width, baseline.get("divisor", 8))
    return found
