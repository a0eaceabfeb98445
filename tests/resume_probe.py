"""Trains a population by budgets on one device and on meshes of 4; prints a line of JSON.

`test_resume.py` runs it in a process of its own, since the number of devices is fixed at the start.
"""

import json

import jax
import numpy as np
from test_resume import ARCHS, BUDGETS, compiled
from test_train import CLASSES, FIT, HELD_OUT, NET, TRAINING

from jnas.evaluators import make_mesh, train

if __name__ == "__main__":
    jax.config.update("jax_debug_key_reuse", True)
    told = {}
    for name, plan, pop, data in [
        ("alone", "map", 1, 1),
        ("4x1", "map", 4, 1),
        ("2x2", "map", 2, 2),
        ("vmap 4x1", "vmap", 4, 1),
    ]:
        mesh = make_mesh(pop, data)
        evaluator = train(
            NET, TRAINING, FIT, HELD_OUT, classes=CLASSES, plan=plan, mesh=mesh, remember=5
        )
        go, state = compiled(evaluator)
        for i, budget in enumerate(BUDGETS):
            trials, state = go(jax.random.key(i), ARCHS, budget, state)
        told[name] = {k: np.asarray(v, float).tolist() for k, v in trials.metrics.items()}
    print(json.dumps(told))
