"""Searches of a table in plain Python, one seed after another, for the benchmark beside jnas.

`table` is a dict from a cell, a tuple of operations, to its score. A search returns the best score.
"""

import itertools
import math
import random
from collections import deque
from collections.abc import Callable

import numpy as np

Table = dict[tuple[int, ...], float]
EDGES, OPERATIONS = 6, 5


def _any_cell(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randrange(OPERATIONS) for _ in range(EDGES))


def _mutated(rng: random.Random, cell: tuple[int, ...]) -> tuple[int, ...]:
    edge = rng.randrange(EDGES)
    new = rng.choice([op for op in range(OPERATIONS) if op != cell[edge]])
    return (*cell[:edge], new, *cell[edge + 1 :])


def evolution(seed: int, table: Table, evaluations: int, population: int, sample: int) -> float:
    """Regularized evolution, as the recipe of jnas."""
    rng, alive, best = random.Random(seed), [], -math.inf
    for i in range(evaluations):
        if i < population:
            cell = _any_cell(rng)
        else:
            rivals = [rng.choice(alive) for _ in range(sample)]
            cell = _mutated(rng, max(rivals, key=lambda row: row[0])[1])
        score = table[cell]
        alive.append((score, cell))
        if len(alive) > population:
            alive.pop(0)
        best = max(best, score)
    return best


def tuned_evolution(
    seed: int, table: list[float], evaluations: int, population: int, sample: int
) -> float:
    """The same with all that Python has for speed: a cell is a number in base 5, a row a tuple."""
    draw = random.Random(seed).random
    powers = [5**i for i in range(6)]
    alive: deque[tuple[float, int]] = deque(maxlen=population)  # appending drops the oldest
    best = -1.0
    for _ in range(min(population, evaluations)):
        cell = int(draw() * 15625)
        score = table[cell]
        alive.append((score, cell))
        if score > best:
            best = score
    rivals = range(sample - 1)
    for _ in range(evaluations - population):
        parent = alive[int(draw() * population)]
        for _ in rivals:
            rival = alive[int(draw() * population)]
            if rival > parent:
                parent = rival
        cell = parent[1]
        power = powers[int(draw() * 6)]
        old = cell // power % 5
        cell += ((old + 1 + int(draw() * 4)) % 5 - old) * power
        score = table[cell]
        alive.append((score, cell))
        if score > best:
            best = score
    return best


def genetic(seed: int, table: Table, evaluations: int, population: int, crossover: float) -> float:
    """The recipe `genetic`: generations, roulette, two-point crossover, mutation, one elite."""
    rng, best = random.Random(seed), (-math.inf, ())
    parents: list[tuple[float, tuple[int, ...]]] = []
    done = 0
    while done < evaluations:
        children = []
        worst = min((row[0] for row in parents), default=0.0)
        shares = [row[0] - worst for row in parents]
        shares = shares if sum(shares) > 0 else None
        for _ in range(min(population, evaluations - done)):
            if not parents:
                cell = _any_cell(rng)
            else:
                a, b = (row[1] for row in rng.choices(parents, shares, k=2))
                if rng.random() < crossover:
                    i, j = sorted(rng.sample(range(EDGES + 1), 2))
                    a = (*a[:i], *b[i:j], *a[j:])
                cell = tuple(
                    rng.randrange(OPERATIONS) if rng.random() < 1 / EDGES else op for op in a
                )
            children.append((table[cell], cell))
        done += len(children)
        best = max(best, *children)
        parents = [*children, best]
    return best[0]


def reinforce(
    seed: int, table: Table, evaluations: int, learning_rate: float, decay: float
) -> float:
    """Independent categorical choices, an averaged baseline, Adam on their logits."""
    rng, best = random.Random(seed), -math.inf
    logits = [[0.0] * OPERATIONS for _ in range(EDGES)]
    first = [[0.0] * OPERATIONS for _ in range(EDGES)]
    second = [[0.0] * OPERATIONS for _ in range(EDGES)]
    numerator = denominator = 0.0
    for step in range(1, evaluations + 1):
        chances = []
        for row in logits:
            powers = [math.exp(x) for x in row]
            chances.append([x / sum(powers) for x in powers])
        cell = tuple(rng.choices(range(OPERATIONS), p)[0] for p in chances)
        score = table[cell]
        best = max(best, score)
        numerator = decay * numerator + (1 - decay) * score
        denominator = decay * denominator + (1 - decay)
        advantage = score - numerator / denominator
        for e in range(EDGES):
            for k in range(OPERATIONS):
                gradient = advantage * (chances[e][k] - (k == cell[e]))
                first[e][k] = 0.9 * first[e][k] + 0.1 * gradient
                second[e][k] = 0.999 * second[e][k] + 0.001 * gradient**2
                mean = first[e][k] / (1 - 0.9**step)
                root = math.sqrt(second[e][k] / (1 - 0.999**step)) + 1e-8
                logits[e][k] -= learning_rate * mean / root
    return best


def local_search(seed: int, table: Table, evaluations: int, starts: int) -> float:
    """Moves to the first better neighbour, in random order; climbs from the best of some."""
    rng, best, done = random.Random(seed), -math.inf, 0
    while done < evaluations:
        rows = [(table[c], c) for c in (_any_cell(rng) for _ in range(starts))]
        done += starts
        score, cell = max(rows)
        moved = True
        while moved and done < evaluations:
            moved = False
            steps = [(e, op) for e in range(EDGES) for op in range(OPERATIONS) if op != cell[e]]
            rng.shuffle(steps)
            for edge, op in steps:
                other = (*cell[:edge], op, *cell[edge + 1 :])
                done += 1
                if table[other] > score:
                    score, cell, moved = table[other], other, True
                    break
                if done >= evaluations:
                    break
        best = max(best, score)
    return best


def bananas(
    seed: int,
    table: Table,
    evaluations: int,
    batch: int,
    pool: int,
    parents: int,
    members: int,
    depth: int,
    width: int,
    steps: int,
    learning_rate: float,
    inputs: Callable[[tuple[int, ...]], np.ndarray],
) -> float:
    """An ensemble of perceptrons in NumPy, trained anew for every batch; Thompson sampling."""
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    known = {c: table[c] for c in (_any_cell(rng) for _ in range(batch))}
    while len(known) < evaluations:
        x = np.stack([inputs(c) for c in known])
        y = np.asarray(list(known.values()), np.float32)
        top = sorted(known, key=known.__getitem__)[-parents:]
        fresh = {_mutated(rng, rng.choice(top)) for _ in range(pool)} - set(known)
        if not fresh:
            fresh = {_any_cell(rng) for _ in range(pool)} - set(known)
        candidates = list(fresh)
        asked = np.stack([inputs(c) for c in candidates])
        nets = [_fitted(draw, x, y, depth, width, steps, learning_rate) for _ in range(members)]
        guesses = np.stack([_forward(net, asked)[-1][:, 0] for net in nets])
        sampled = draw.normal(guesses.mean(0), guesses.std(0))
        for i in np.argsort(-sampled)[:batch]:
            known[candidates[i]] = table[candidates[i]]
    return max(known.values())


def _forward(net: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> list[np.ndarray]:
    """The outputs of all layers, the input first."""
    outputs = [x]
    for i, (w, b) in enumerate(net):
        x = outputs[-1] @ w + b
        outputs.append(x if i == len(net) - 1 else np.maximum(x, 0))
    return outputs


def _fitted(
    draw: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
    depth: int,
    width: int,
    steps: int,
    learning_rate: float,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """A perceptron trained by Adam on batches of 32, for the mean absolute error."""
    sizes = [x.shape[1], *[width] * depth, 1]
    scale = lambda n: np.sqrt(2 / n)
    flat: list[np.ndarray] = []
    for n, m in itertools.pairwise(sizes):
        flat += [(draw.standard_normal((n, m)) * scale(n)).astype(np.float32)]
        flat += [np.zeros(m, np.float32)]
    first = [np.zeros_like(p) for p in flat]
    second = [np.zeros_like(p) for p in flat]
    target = (y - y.mean()) / (y.std() + 1e-6)
    for step in range(1, steps + 1):
        rows = draw.integers(0, len(x), 32)
        net = list(zip(flat[::2], flat[1::2], strict=True))
        outputs = _forward(net, x[rows])
        back = np.sign(outputs[-1] - target[rows, None]) / len(rows)
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(net))):
            gradients = [outputs[i].T @ back, back.sum(0), *gradients]
            back = (back @ net[i][0].T) * (outputs[i] > 0)
        for i, g in enumerate(gradients):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g * g
            mean, square = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
            flat[i] = flat[i] - learning_rate * mean / (np.sqrt(square) + 1e-8)
    net = list(zip(flat[::2], flat[1::2], strict=True))
    w, b = net[-1]
    net[-1] = w * (y.std() + 1e-6), b * (y.std() + 1e-6) + y.mean()
    return net
