"""Parameters and multiply-adds of the published mobile networks, beside the published figures.

Command: python experiments/benchmarks/mobile.py [--json] [--real]
Cost: seconds; with --real, minutes: each network is also built, and counted on itself.
Result: the table of docs/mobile.md. `exact` says whether the parameters equal those counted on an
  implementation (torchvision, timm, imgclsmob), where there is one.
"""

import argparse
import json
import math
from typing import Any

import jax

from jnas.nets.mobile import decided_network
from jnas.spaces.mobile_blocks import costs
from jnas.spaces.mobile_networks import NETWORKS, published


def measured(name: str, real: bool) -> dict[str, Any]:
    """The row of a network."""
    paper, made = NETWORKS[name], published(name)
    params, adds = costs(made)
    row = {
        "network": name,
        "image": made.image,
        "params": params,
        "exact": None if paper.params is None else params == paper.params,
        "counted_on": paper.source,
        "paper_params_millions": paper.paper_params,
        "flops": adds,
        "paper_flops_millions": paper.paper_adds,
        "paper": paper.paper,
    }
    if real:
        shapes, _ = jax.eval_shape(decided_network(made, name).init, jax.random.key(0))
        row["real_params"] = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
    return row


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--real", action="store_true", help="count on the built networks too")
    args = parser.parse_args()
    rows = [measured(name, args.real) for name in NETWORKS]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        real = f"{row['real_params']:14,d}" if args.real else ""
        exact = {None: "", True: f"= {row['counted_on']}", False: f"not {row['counted_on']}"}
        print(
            f"{row['network']:24s}{row['image']:4d}{row['params']:13,d}{real} "
            f"{exact[row['exact']]:14s}{row['paper_params_millions']:6.1f}M"
            f"{row['flops']:17,d}{row['paper_flops_millions']:9.0f}M  {row['paper']}"
        )


if __name__ == "__main__":
    main()
