"""Q-learning."""

import optax

from jnas.links import (
    edit_environment,
    edit_q_learning,
    linear_q,
    mlp_q,
    q_learning,
    tabular_q,
)
from law_tables.entry import Entry, Recipe

# Adam divides by the size of a gradient, so the order of a sum shows where a gradient is near 0.
RTOL = 1e-3

# XLA rounds the steps of Adam inside a search of perceptrons in another way (a last bit) where
# there are many of them. The architectures that are proposed have to stay the same.
VMAP_RTOL = 1e-2

SCHEDULE = optax.linear_schedule(1.0, 0.05, 100)

LINKS: dict[str, Entry] = {
    "q_learning": Entry(
        lambda space: q_learning(
            space, linear_q(space), 0.3, SCHEDULE, shaped=True, normalise=True
        ),
        rtol=1e-5,
    ),
    "tabular_q": Entry(
        lambda space: q_learning(
            space, tabular_q(space, "last"), 0.3, SCHEDULE, shaped=True, normalise=True
        ),
        rtol=1e-5,
    ),
    "linear_q": Entry(
        lambda space: q_learning(
            space, linear_q(space), 0.3, SCHEDULE, target_period=2, shaped=True, normalise=True
        ),
        rtol=1e-5,
    ),
    "mlp_q": Entry(
        lambda space: q_learning(
            space,
            mlp_q(space, (6, 5)),
            optax.adam(0.03),
            0.1,
            target_period=3,
            double=True,
            shaped=True,
            normalise=True,
        ),
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
    ),
    "edit_q_learning": Entry(
        lambda space: edit_q_learning(
            edit_environment(space),
            linear_q(space),
            0.3,
            0.2,
            walkers=6,
            episode=40,
            discount=0.1,
            normalise=True,
        ),
        rtol=1e-5,
    ),
    "edit_environment": Entry(
        lambda space: edit_q_learning(
            edit_environment(space, {"depth": None, "ops": 0}, {"depth": True, "ops": False}),
            tabular_q(space, "architecture", size=64),
            0.5,
            0.2,
            walkers=2,
            episode=3,
        ),
        learns=False,
    ),
}
RECIPES: dict[str, Recipe] = {
    "q_learning": Recipe(
        settings={
            "evaluations": 200,
            "learning_rate": 0.2,
            "initial": 0.1,
            "replayed": 12,
            "shaped": True,
        },
        on_table={"evaluations": 300, "learning_rate": 0.1, "initial": 50.0, "shaped": True},
    ),
    "dqn": Recipe(
        settings={
            "evaluations": 150,
            "hidden": 6,
            "minibatch": 8,
            "learning_rate": 0.03,
            "shaped": True,
        },
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
        on_table={"evaluations": 300, "hidden": 16, "minibatch": 16, "learning_rate": 0.02},
        slow=True,
    ),
    "double_dqn": Recipe(
        settings={"evaluations": 100, "hidden": 6, "minibatch": 8, "updates": 2},
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
        on_table={"evaluations": 300, "hidden": 16, "minibatch": 16, "learning_rate": 0.02},
        slow=True,
    ),
    "edit_q_learning": Recipe(
        settings={"walkers": 6, "replayed": 8, "memory": 50}, rtol=1e-5, slow=True
    ),
    "edit_dqn": Recipe(
        settings={"hidden": 6, "walkers": 6, "minibatch": 8, "memory": 50},
        rtol=RTOL,
        vmap_rtol=VMAP_RTOL,
        on_table={"hidden": 16, "minibatch": 16},
        slow=True,
    ),
}
