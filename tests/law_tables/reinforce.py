"""Policy gradients."""

import optax

from jnas.base import chain
from jnas.links import ppo, reinforce, subtract_ema, subtract_mean
from jnas.links.policies import categorical_policy, lstm_controller
from law_tables.entry import Entry, Recipe

# Adam divides by the size of a gradient, so the order of a sum shows where a gradient is near 0.
RTOL = 1e-3

# XLA fuses Adam with the gradients of a controller, and under vmap rounds the last bit of a step in
# another way; steps of Adam enlarge that where a gradient is near 0, and PPO where a ratio is near
# the clip. The architectures that are proposed stay the same, which the law checks bit for bit.
VMAP_RTOL = 0.1

LINKS: dict[str, Entry] = {
    "reinforce": Entry(
        lambda space: chain(
            reinforce(lstm_controller(space, 4, 2, 2.0, 3.0, shared=True), optax.adam(0.1), 0.01),
            subtract_ema(0.8),
        ),
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
    ),
    "ppo": Entry(
        lambda space: chain(
            ppo(lstm_controller(space, 4), optax.adam(0.03), epochs=4, entropy=0.01),
            subtract_mean(),
        ),
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
    ),
    "subtract_ema": Entry(
        lambda space: chain(
            reinforce(categorical_policy(space), optax.sgd(20.0)), subtract_ema(0.8, True)
        ),
        rtol=1e-5,
    ),
    "subtract_mean": Entry(
        lambda space: chain(
            reinforce(categorical_policy(space, 0.1), optax.adam(0.2)), subtract_mean()
        ),
        rtol=RTOL,
    ),
}
RECIPES: dict[str, Recipe] = {
    "reinforce": Recipe({"learning_rate": 0.1}, rtol=RTOL, on_table={"learning_rate": 0.1}),
    "reinforce_rnn": Recipe(
        {"learning_rate": 0.05, "hidden": 4},
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
        on_table={"learning_rate": 0.01, "hidden": 16},
        batch=5,
        slow=True,
    ),
    "enas_controller": Recipe(
        {"learning_rate": 0.1, "hidden": 4, "temperature": 1.0},
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
        on_table={"learning_rate": 0.03, "hidden": 16},
        batch=5,
        slow=True,
    ),
    "ppo": Recipe(
        {"learning_rate": 0.03, "hidden": 4, "epochs": 3},
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
        on_table={"learning_rate": 0.01, "hidden": 16, "epochs": 5},
        batch=10,
        slow=True,
    ),
}
