"""Searches with several supernets spread over two devices; prints what came out as JSON.

`test_bilevel.py` runs it in a process of its own, since the number of devices is fixed at first.
"""

import json

import jax
import numpy as np
from test_bilevel import searched

from jnas.evaluators import make_mesh
from jnas.evaluators.plans import population

if __name__ == "__main__":
    jax.config.update("jax_debug_key_reuse", True)
    search = lambda key: searched(key, order="second")[1].metrics
    keys = jax.random.split(jax.random.key(5), 4)
    spread = jax.jit(population(search, "vmap", make_mesh(pop=2)))(keys)
    alone = jax.jit(search)(keys[3])
    print(
        json.dumps(
            {
                "devices": len(spread["loss"].sharding.device_set),
                "spread": np.asarray(spread["loss"][3, :, 0], float).tolist(),
                "alone": np.asarray(alone["loss"][:, 0], float).tolist(),
                "seeds": len({float(x) for x in spread["loss"][:, -1, 0]}),
            }
        )
    )
