"""Six parts of a network, each there or not: Q-learning looks for the best of 64 networks.

Command: python experiments/examples/six_bits.py --workdir=runs/six_bits
  (--view=edit walks from network to network; --q=linear or --q=dqn instead of a table)
Cost: seconds on 2 cores.
Result: [110111], accuracy 0.850, and the curve of the search in search.png.

The accuracy is a made-up function of the parts and of two pairs of them: dropout helps alone and
harms beside batch normalisation, and width pays only with a skip connection. So the parts cannot
be judged one by one.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import optax

from jnas import links, run
from jnas.analysis import figures
from jnas.base import Evaluator, InputError, Space, Strategy, chain, replay
from jnas.evaluators import tabular

PARTS = ("second convolution", "batch normalisation", "dropout", "width", "skip", "augmentation")
GAIN = np.array([40, 50, 15, -10, 10, 20])  # thousandths of accuracy, of each part
PAIRS = {(1, 2): -35, (3, 4): 40}
SPACE = Space("six_bits", np.full(len(PARTS), 2))
VIEWS, FUNCTIONS = ("partial", "edit"), ("table", "linear", "dqn")


def accuracy(bits: np.ndarray) -> np.ndarray:
    """The accuracy of networks int[..., 6]."""
    pairs = sum(gain * bits[..., a] * bits[..., b] for (a, b), gain in PAIRS.items())
    return (700 + bits @ GAIN + pairs) / 1000


def evaluator() -> Evaluator:
    """All 64 accuracies as a table."""
    bits = np.stack(np.unravel_index(np.arange(64), [2] * 6), -1)
    return tabular(SPACE, {"accuracy": accuracy(bits)}, "accuracy")


def strategy(view: str, function: str, epsilon: float = 0.1) -> Strategy:
    """Q-learning with replay of its last 100 steps.

    Args:
      view: "partial" decides part after part, "edit" switches one part of a network.
      function: "table", "linear", or "dqn", a perceptron with a target network.
      epsilon: the chance of a random action.

    Returns:
      The strategy.
    """
    state = "prefix" if view == "partial" else "architecture"
    # A first value above what is found, in standard deviations, has every choice tried.
    make: dict[str, Callable[[], tuple[Any, Any]]] = {
        "table": lambda: (links.tabular_q(SPACE, state, initial=2.0), 0.5),
        "linear": lambda: (links.linear_q(SPACE, pairs=True, initial=2.0), 0.2),
        "dqn": lambda: (links.mlp_q(SPACE, 16), optax.adam(0.01)),
    }
    q, rule = make[function]()
    settings: dict[str, Any] = {
        "normalise": True,
        "target_period": 10 if function == "dqn" else None,
        "experience": replay(chain(links.keep_youngest(100), links.select_uniform()), 32),
    }
    if view == "partial":
        return links.q_learning(SPACE, q, rule, epsilon, **settings)
    environment = links.edit_environment(SPACE, absent=0)
    return links.edit_q_learning(environment, q, rule, epsilon, episode=12, **settings)


class Flags(argparse.ArgumentParser):
    """Flags; a wrong one is an `InputError`."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    flags = Flags(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument("--view", choices=VIEWS, default="partial", help="what the agent does")
    flags.add_argument("--q", choices=FUNCTIONS, default="table", help="its Q-function")
    flags.add_argument("--epsilon", type=float, default=0.1, help="chance of a random action")
    flags.add_argument("--evaluations", type=int, default=300, help="networks to try")
    flags.add_argument("--seed", type=int, default=0, help="of the search")
    flags.add_argument("--workdir", default=None, help="folder of the run and its figure")
    return flags.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Searches and prints the best network; returns the exit code."""
    try:
        flags = parsed(argv)
        result = run(
            strategy(flags.view, flags.q, flags.epsilon),
            evaluator(),
            SPACE,
            evaluations=flags.evaluations,
            seed=flags.seed,
            workdir=flags.workdir,
            setting={k: v for k, v in vars(flags).items() if k != "workdir"},
        )
    except InputError as error:
        print(f"six_bits: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    there = [part for part, bit in zip(PARTS, result.best, strict=True) if bit]
    print(f"{result.best_architecture}  accuracy {result.best_score:.3f}")
    print(f"with {', '.join(there)}")
    if flags.workdir is not None:
        path = Path(flags.workdir) / "search.png"
        figures.save(result.plot("accuracy", f"Q-learning, {flags.view} view, {flags.q}"), path)
        print(f"curve of the search: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
