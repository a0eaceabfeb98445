"""NSGA-II on NAS-Bench-201 cells and handwritten digits: accuracy against parameters.

Command: jnas search --config=experiments/configs/digits_nsga2.py --workdir=runs/nsga2
Cost: 1 to 2 minutes on 2 cores.
Result: a front from about 19,000 parameters at a validation accuracy of 0.98 to 31,000 at 0.99 in
  the history, which `jnas.analysis.pareto.front_figure` draws; test_accuracy of 0.98 to 0.99 for
  the most accurate network, which is trained at the end.
"""

from ml_collections import ConfigDict

from jnas.configs import based_on


def get_config() -> ConfigDict:
    """The config of `digits_evolution.py` with another strategy."""
    return based_on(
        __file__,
        "digits_evolution.py",
        {
            "strategy": {
                "name": "nsga2",
                "objectives": {"params": "min", "score": "max"},
                "population": 12,
            },
            "net.channels": 8,
        },
    )
