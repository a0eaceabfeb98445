"""What a pod costs, reckoned on paper from the real space: the numbers of docs/pods.md.

Command: python experiments/benchmarks/pods.py
Cost: 20 seconds on 2 cores; it starts no cluster.
Reckoned: `efficiency`, the share of the devices' time that trains, for 1, 2, 4... candidates on
  each of `--devices` devices, each device waiting for the slowest at the end of a generation:
  candidates drawn from all cells of NAS-Bench-201, time in proportion to multiply-adds, dealt out
  by cost as jnas does, or in the order they came (`efficiency_in_order`).
  `cost_variation` is the standard deviation of that time over its mean. `gathered_bytes`: metrics
  that each device receives in a generation, by candidates on each. `gradient_bytes`: what a split
  batch adds up in a step, the parameters of the largest cell in float32.
Measured: `checkpoint_bytes` and `save_seconds` (median of 5) of regularized evolution, by the size
  of its population; `state_bytes` of its arrays alone.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _timing import Parser, main, rounded, say

from jnas import base, recipes, spaces
from jnas.evaluators.mesh import deal
from jnas.runs import RunFolder

METRICS = 6  # accuracy, recall, f1, loss, precision, top5
SHARES = (1, 2, 4, 8, 16, 32)
POPULATIONS = (100, 1000, 10_000)
DRAWS = 200  # generations simulated


def efficiency(cost: np.ndarray, devices: int, share: int, dealt: bool) -> float:
    """The mean work of a device over that of the busiest, over many random generations."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(cost, (DRAWS, devices * share))
    if dealt:
        drawn = -np.sort(-drawn)[:, deal(devices * share, devices)]
    work = drawn.reshape(DRAWS, devices, share).sum(-1)
    return float(np.mean(work.mean(-1) / work.max(-1)))


def saved(population: int) -> tuple[int, int, float]:
    """Bytes of the state, bytes of its checkpoint on disk, and the seconds that saving takes."""
    space = spaces.nas_bench_201()
    strategy = recipes.regularized_evolution(space, population, 10)
    state = strategy.init(jax.random.key(0), base.template(space))
    rng = np.random.default_rng(0)  # a full memory: zeros would be compressed to nothing
    full = lambda x: (rng.random(x.shape) * 5).astype(x.dtype)
    state = jax.tree.map(full, state)
    arrays = jax.tree.leaves(state)
    seconds = []
    with tempfile.TemporaryDirectory() as folder, RunFolder(folder, {}) as run:
        run.restore(state)
        for i in range(5):
            started = time.perf_counter()
            run.save(state, i + 1, 0.0, [])
            seconds.append(time.perf_counter() - started)
        last = Path(folder) / "checkpoints" / "5"
        size = sum(f.stat().st_size for f in last.rglob("*") if f.is_file())
    return sum(x.nbytes for x in arrays), size, statistics.median(seconds)


def reckon(flags: argparse.Namespace) -> dict[str, Any]:
    """All numbers."""
    space = spaces.nas_bench_201(channels=16, cells=5, classes=10, image=32)
    cells = base.from_index(space, np.arange(base.size(space)))
    cost = np.asarray(jax.vmap(space.counts["flops"])(cells), np.float64)
    params = np.asarray(jax.vmap(space.counts["params"])(cells), np.float64)
    say(f"{len(cost)} cells, {cost.min() / 1e6:.1f} to {cost.max() / 1e6:.1f} M multiply-adds")
    of_shares = lambda dealt: rounded(
        {str(k): efficiency(cost, flags.devices, k, dealt) for k in SHARES}, 3
    )
    disk = {}
    for population in POPULATIONS:
        state, size, seconds = saved(population)
        disk[population] = {"state_bytes": state, "checkpoint_bytes": size, "save_seconds": seconds}
        say(f"population of {population}: {size} bytes in {seconds:.3f} s")
    return {
        "devices": flags.devices,
        "cost_variation": float(f"{cost.std() / cost.mean():.3g}"),
        "efficiency": of_shares(True),
        "efficiency_in_order": of_shares(False),
        "gathered_bytes": {str(k): 4 * METRICS * k * flags.devices for k in SHARES},
        "gradient_bytes": int(4 * params.max()),
        "mean_multiply_adds": int(cost.mean()),
        "saved": {str(k): rounded(v, 3) for k, v in disk.items()},
    }


def parser() -> Parser:
    """The flags."""
    flags = Parser(__doc__)
    flags.add_count("--devices", 256, "devices of the pod")
    return flags


if __name__ == "__main__":
    sys.exit(main("pods", parser(), reckon))
