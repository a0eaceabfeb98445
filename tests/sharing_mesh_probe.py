"""Shared weights scored on several meshes of 4 devices; prints one line of JSON.

`test_weight_sharing.py` runs it in a process of its own: the number of devices is fixed at the
start.
"""

import json
from typing import Any

import jax
import numpy as np
from quick import QUICK
from test_weight_sharing import CLASSES, FIT, HELD_OUT, NET, TRAINING

from jnas.base import propose, sample
from jnas.evaluators import make_mesh, shared_scores, weight_sharing


def numbers(pop: int) -> dict[str, Any]:
    """The scores of a round and of frozen weights, and the weights' sum."""
    mesh = make_mesh(pop)
    trials = propose(sample(NET.space, jax.random.key(1), 5))
    evaluator = weight_sharing(NET, TRAINING, FIT, HELD_OUT, classes=CLASSES, mesh=mesh)
    evaluate = jax.jit(evaluator.evaluate, compiler_options=QUICK)
    scored, shared = evaluate(jax.random.key(2), trials, evaluator.init(jax.random.key(3)))
    frozen = shared_scores(NET, shared, HELD_OUT, classes=CLASSES, mesh=mesh)
    evaluate = jax.jit(frozen.evaluate, compiler_options=QUICK)
    found, _ = evaluate(jax.random.key(4), trials, frozen.init(jax.random.key(5)))
    lists = lambda metrics: {k: np.asarray(v, float).tolist() for k, v in metrics.items()}
    weights = [float(np.abs(np.asarray(p)).sum()) for p in jax.tree.leaves(shared.params)]
    devices = len(found.score.sharding.device_set)
    return {"round": lists(scored.metrics), "frozen": lists(found.metrics), "weights": weights,
            "devices": devices}  # fmt: skip


if __name__ == "__main__":
    jax.config.update("jax_debug_key_reuse", True)
    print(json.dumps({pop: numbers(pop) for pop in (1, 2, 4)}))
