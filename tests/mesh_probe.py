"""Trains one population on several meshes of 8 devices; prints what came out as one line of JSON.

`test_mesh.py` runs it in a process of its own, since the number of devices is fixed at the start.
"""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
from test_train import CLASSES, FIT, HELD_OUT, NET, TRAINING

from jnas.base import InputError, propose
from jnas.evaluators import make_mesh, train
from jnas.nets import Net

ARCHS = {"middle": np.asarray([0, 1, 2, 3, 1, 2, 0, 1], np.int32)}
MESHES = [(1, 1), (2, 1), (4, 1), (8, 1), (3, 1), (2, 2), (0, 4)]
WRONG = [{"pop": 9}, {"pop": -1}, {"pop": 3, "data": 3}, {"data": 0}, {"pop": 1.5}, {"data": 16}]


COSTED = NET._replace(
    space=dataclasses.replace(NET.space, counts={"flops": lambda arch: 7 - 2 * arch["middle"]})
)


def trained(plan: str, pop: int, data: int, net: Net = NET) -> dict[str, Any]:
    """The numbers of the population, and what its program looks like."""
    mesh = make_mesh(pop, data)
    evaluator = train(net, TRAINING, FIT, HELD_OUT, classes=CLASSES, plan=plan, mesh=mesh)
    run = lambda key: evaluator.evaluate(key, propose(ARCHS), ())[0]
    program = jax.jit(run).lower(jax.random.key(0)).compile()
    trials = program(jax.random.key(0))
    text = program.as_text()
    return {
        "metrics": {k: np.asarray(v, float).tolist() for k, v in trials.metrics.items()},
        "weight": trials.weight.tolist(),
        "devices": len(trials.score.sharding.device_set),
        "replicated": trials.score.sharding.is_fully_replicated,
        "sums": sum(text.count(name) for name in ("all-reduce(", "all-reduce-start(")),
    }


def refusals() -> list[str]:
    """What is said about meshes that cannot be made."""
    told = []
    for wrong in WRONG:
        try:
            told.append(f"made {make_mesh(**wrong)}")
        except InputError as e:
            told.append(str(e))
    try:
        train(NET, TRAINING, FIT, HELD_OUT, classes=CLASSES, mesh=make_mesh(1, 3))
    except InputError as e:
        told.append(str(e))
    return told


if __name__ == "__main__":
    jax.config.update("jax_debug_key_reuse", True)
    found = {f"map {p}x{d}": trained("map", p, d) for p, d in MESHES}
    found["vmap 2x2"] = trained("vmap", 2, 2)
    found["dealt 3x1"] = trained("map", 3, 1, COSTED)
    print(json.dumps({"runs": found, "refused": refusals()}))
