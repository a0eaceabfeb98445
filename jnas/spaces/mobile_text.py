"""The text form of mobile architectures: a word for each stage."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jnas.base import InputError
from jnas.spaces.mobile_stages import LAYER, Mobile, Reader, layer_words, places


def describe(spec: Mobile, arch: Any) -> str:
    """The text of an architecture: a word for each stage."""
    reader, arch = Reader(spec), jax.tree.map(np.asarray, arch)
    words = [f"{spec.images[int(arch['image'])]}px"] if len(spec.images) > 1 else []
    for i, stage in enumerate(spec.stages):
        depth = stage.depths[int(reader.number(arch, "depth", i))]
        size = f"c{stage.widths[int(reader.number(arch, 'width', i))]}_r{depth}"
        numbers = lambda j, i=i: {n: int(reader.layer(arch, n, i, j)) for n in LAYER}
        if not stage.each:
            words.append("_".join([*layer_words(stage, 0, numbers(0)), size]))
            continue
        shown = [j for j in range(stage.depths[-1]) if j < depth or any(numbers(j).values())]
        layers = ["_".join(layer_words(stage, j, numbers(j))) for j in range(max(shown) + 1)]
        words.append(f"{size}:{','.join(layers)}")
    return " ".join(words)


def parse(spec: Mobile, text: str) -> Any:
    """The architecture of a text, or of the name of a published one: the inverse of `describe`.

    Raises:
      InputError: an unknown name or word, or another form.
    """
    text = text.strip()
    if text in spec.points:
        return parse(spec, spec.points[text])
    words = text.split()
    shown = text if len(text) < 60 else f"{text[:57]}..."
    who = f"architecture {shown!r} of {spec.name}"
    many = len(spec.stages) + (len(spec.images) > 1)
    if len(words) != many:
        known = f", or a name of {', '.join(spec.points)}" if spec.points else ""
        form = describe(spec, jax.tree.map(lambda c: np.zeros(c.shape, int), _zeros(spec)))
        raise InputError(f"{who}: {many} words are needed, as in {form!r}{known}")
    reader = Reader(spec)
    found: dict[str, Any] = {name: np.zeros(len(p), np.int32) for name, p in reader.places.items()}
    if len(spec.images) > 1:
        sizes = [f"{image}px" for image in spec.images]
        found["image"] = np.int32(_one_of(words.pop(0), sizes, who))

    def put(name: str, i: int, j: int | None, number: int) -> None:
        if (name, i, j) in reader.at:
            found[name][reader.at[name, i, j]] = number

    for i, (stage, word) in enumerate(zip(spec.stages, words, strict=True)):
        here = f"{who}: stage {i}"
        head, colon, rest = word.partition(":")
        ends = re.fullmatch(r"(?:(.*)_)?(c\d+)_(r\d+)", head)
        if not ends or bool(colon) != stage.each or (ends[1] is None) != stage.each:
            form = "cWIDTH_rDEPTH:LAYER,LAYER,..." if stage.each else "LAYER_cWIDTH_rDEPTH"
            raise InputError(f"{here}: {word!r}: the form is {form}")
        put("width", i, None, _one_of(ends[2], [f"c{w}" for w in stage.widths], here))
        depth = _one_of(ends[3], [f"r{d}" for d in stage.depths], here)
        put("depth", i, None, depth)
        layers = rest.split(",") if stage.each else [ends[1]]
        least, most = (stage.depths[depth], stage.depths[-1]) if stage.each else (1, 1)
        if not least <= len(layers) <= most:
            raise InputError(f"{here}: {len(layers)} layers: {least} to {most} are needed")
        for j, layer in enumerate(layers):
            for name, number in _layer(stage.rest if j else stage.first, layer, here).items():
                put(name, i, j if stage.each else None, number)
    return found


def _zeros(spec: Mobile) -> Any:
    found: dict[str, Any] = {name: np.zeros(len(p)) for name, p in places(spec).items()}
    return found | ({"image": np.zeros(())} if len(spec.images) > 1 else {})


def _one_of(word: str, allowed: list[str], who: str) -> int:
    if word not in allowed:
        raise InputError(f"{who}: {word!r}: allowed: {', '.join(allowed)}")
    return allowed.index(word)


def _layer(options: Mapping[str, tuple[str, ...]], text: str, who: str) -> dict[str, int]:
    """The numbers of the choices of a layer by its text, a word for each."""
    found, rest = {}, f"{text}_"
    for name in LAYER:
        if name in options:
            fits = [w for w in options[name] if rest.startswith(f"{w}_")]
            if not fits:
                allowed = ", ".join(options[name])
                raise InputError(f"{who}: {text!r}: {name} has to be one of {allowed}")
            word = max(fits, key=len)
            found[name], rest = options[name].index(word), rest[len(word) + 1 :]
    if rest:
        raise InputError(f"{who}: {text!r}: {rest[:-1]!r} is too much")
    return found
