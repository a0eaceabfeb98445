"""Weight sharing: every step against a plain loop, and what does not move, bit for bit."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from quick import QUICK
from test_mesh import environment

import jnas
from jnas.base import InputError, Trials, choice_counts, propose, sample, template
from jnas.evaluators import Examples, Training, shared_scores, weight_sharing
from jnas.evaluators.metrics import measure
from jnas.evaluators.shared import Shared
from jnas.evaluators.shuffle import shuffled
from jnas.evaluators.sub_supernets import pick
from jnas.evaluators.tasks import classification
from jnas.links import sample_uniform
from jnas.links.sampling import enlarge
from jnas.nets import Net, OneOf, Repeat, Slim, count_params, functional
from jnas.nets.layers import BatchNorm
from jnas.nets.usage import momenta, used_params

CLASSES = 3


class Layer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.linear, self.norm = nnx.Linear(6, 6, rngs=rngs), BatchNorm(6)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.linear(x))


class Small(nnx.Module):
    """A width, an operation with statistics of its own in one branch, a depth."""

    def __init__(self, rngs: nnx.Rngs):
        options = {"skip": lambda x: x, "linear": nnx.Linear(6, 6, rngs=rngs), "layer": Layer(rngs)}
        self.stem = Slim(nnx.Linear(4, 6, rngs=rngs), widths=[2, 4, 6], name="width")
        self.middle = OneOf(options, name="op")
        self.body = Repeat(Layer, 2, 0, rngs=rngs, name="depth")
        self.last = nnx.Linear(6, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(jax.nn.relu(self.body(self.middle(self.stem(x)))))


NET = functional(Small)  # depth 0, 1, 2; op; width 2, 4, 6
RULE = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, momentum=0.9, nesterov=True))
TRAINING = Training(RULE, steps=10, batch_size=8)
PLACES = ("depth", "op", "width")  # the order of `to_vector`


def _blobs(seed: int, n: int) -> Examples:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n).astype(np.int32)
    centres = np.array([[1, -1, 0, 0], [-1, 1, 0, 1], [0, 0, 1, -1]], np.float32)
    return Examples((centres[y] + rng.normal(0, 0.5, (n, 4))).astype(np.float32), y)


FIT, HELD_OUT = _blobs(0, 40), _blobs(1, 30)


def _archs(*rows: tuple[int, int, int]) -> dict[str, jax.Array]:
    columns = np.asarray(rows, np.int32).T
    return dict(zip(PLACES, map(jnp.asarray, columns), strict=True))


ROWS = ((2, 2, 2), (0, 1, 0), (1, 0, 1))


def _evaluator(**options: Any) -> Any:
    options = {"training": TRAINING, "score_batches": 0, **options}
    training = options.pop("training")
    return weight_sharing(NET, training, FIT, HELD_OUT, classes=CLASSES, **options)


@functools.cache
def _known(rows: str) -> tuple[Any, Any]:
    """An evaluator for several tests, compiled once."""
    evaluator = _evaluator(rows=rows)
    return evaluator, jax.jit(evaluator.evaluate, compiler_options=QUICK)


def _rounds(
    evaluator: Any, rounds: list[tuple], weight: Any = None
) -> tuple[list[Shared], list[Trials]]:
    """The states before and after each round, and the trials."""
    if isinstance(evaluator, str):
        evaluator, evaluate = _known(evaluator)
    else:
        evaluate = jax.jit(evaluator.evaluate, compiler_options=QUICK)
    states, done = [evaluator.init(jax.random.key(0))], []
    for i, rows in enumerate(rounds):
        live = jnp.ones(len(rows)) if weight is None else jnp.asarray(weight, jnp.float32)
        trials = propose(_archs(*rows))._replace(weight=live)
        trials, state = evaluate(jax.random.key(1 + i), trials, states[-1])
        states.append(state)
        done.append(trials)
    return states, done


def _same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def _close(a: Any, b: Any, rtol: float = 2e-4, atol: float = 1e-6) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, atol), a, b)


def _differ(a: Any, b: Any) -> bool:
    return any(
        (np.asarray(x) != y).any() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


# ----------------------------------------------------------------------- what a row uses


class _Inner(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        options = {"skip": lambda x: x, "own": nnx.Linear(6, 6, rngs=rngs)}
        options["norm"] = nnx.BatchNorm(6, rngs=rngs)
        self.width, self.op = Slim(nnx.Linear(6, 6, rngs=rngs), widths=[2, 4, 6]), OneOf(options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.op(self.width(x))


class _Nested(nnx.Module):
    """Choices within repeats, each block's own and all the same, and a repeat within a width."""

    def __init__(self, rngs: nnx.Rngs):
        self.own = Repeat(_Inner, 3, 1, rngs=rngs)
        self.same = Repeat(_Inner, 2, 2, shared=True, rngs=rngs)
        layers = Repeat(lambda rngs: nnx.Linear(6, 6, rngs=rngs), 3, 0, rngs=rngs)
        self.width = Slim(layers, widths=[3, 6])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.width(self.same(self.own(x)))


@pytest.mark.parametrize("net", [NET, functional(_Nested)], ids=["small", "nested"])
def test_the_parameters_used_are_those_that_count(net: Net) -> None:
    used, count = jax.jit(used_params(net)), jax.jit(functools.partial(count_params, net))
    params, _ = jax.eval_shape(net.init, jax.random.key(0))
    archs = sample(net.space, jax.random.key(1), 12)
    for i in range(12):
        arch = jax.tree.map(lambda x, i=i: x[i], archs)
        masks = jax.tree.map(lambda m, p: np.broadcast_to(m, p.shape), used(arch), params)
        assert sum(int(m.sum()) for m in jax.tree.leaves(masks)) == count(arch)


class _Twice(nnx.Module):
    """One layer at two places, and choices of their own in every repeat."""

    def __init__(self, rngs: nnx.Rngs):
        both = nnx.Linear(4, 4, rngs=rngs)
        self.a = OneOf({"skip": lambda x: x, "both": both}, name="a")
        self.b = OneOf({"skip": lambda x: x, "both": both}, name="b")
        block = lambda rngs: OneOf({"skip": lambda x: x, "own": nnx.Linear(4, 4, rngs=rngs)})
        self.body = Repeat(block, 3, 1, rngs=rngs, name="depth")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.body(self.b(self.a(x)))


def test_a_layer_at_two_places_is_used_where_either_is_chosen() -> None:
    net = functional(_Twice)
    place = next(name for name in net.space.num_choices if name.startswith("body"))
    used = used_params(net)

    def of(a: int, b: int, depth: int, own: list[int]) -> dict:
        arch = {"a": a, "b": b, "depth": depth, place: own}
        return used(jax.tree.map(jnp.int32, arch, is_leaf=lambda x: isinstance(x, list)))

    found = {(a, b): of(a, b, 2, [0, 1, 0]) for a in (0, 1) for b in (0, 1)}
    shared = {k: bool(np.ravel(v["a"]["options"][1]["bias"])[0]) for k, v in found.items()}
    assert shared == {(0, 0): False, (0, 1): True, (1, 0): True, (1, 1): True}
    stacked = lambda tree: np.ravel(tree["body"]["block"]["options"][1]["bias"]).tolist()
    assert stacked(of(0, 0, 2, [0, 1, 1])) == [False, True, True]
    assert stacked(of(0, 0, 1, [0, 1, 1])) == [False, True, False]  # the last does not run


def test_statistics_are_known_by_their_momentum() -> None:
    assert jax.tree.leaves(momenta(NET)) == [0.9] * 4
    assert jax.tree.leaves(momenta(functional(_Nested))) == [0.99] * 4  # of Flax
    dropped = functional(lambda rngs: OneOf([nnx.Dropout(0.1, rngs=rngs), lambda x: x], name="d"))
    assert np.isnan(jax.tree.leaves(momenta(dropped))).all()


# ---------------------------------------------------------------- steps against a plain loop


def _batches(shared: Shared, key: jax.Array, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The rows of the next training batches, by a plain reading of the rule of epochs."""
    order, out = np.asarray(shared.fit), []
    for i in range(int(shared.step), int(shared.step) + count):
        epoch, place = divmod(i, len(FIT.y) // 8)
        if place == 0:
            order = np.asarray(shuffled(jax.random.fold_in(key, epoch), len(FIT.y)))
        out.append(order[place * 8 :][:8])
    return out, order


def _loss(params: Any, state: Any, arch: Any, rows: np.ndarray, soft: Any = None) -> tuple:
    logits, new = NET.apply(params, state, arch, jnp.asarray(FIT.x)[rows], train=True)
    log_p = jax.nn.log_softmax(logits)
    labels = jax.nn.one_hot(jnp.asarray(FIT.y)[rows], CLASSES) if soft is None else soft
    return -jnp.mean(jnp.sum(labels * log_p, -1)), new


APPLY = jax.jit(functools.partial(NET.apply, train=True), compiler_options=QUICK)
GRAD = jax.jit(jax.value_and_grad(_loss, has_aux=True), compiler_options=QUICK)


def _is_used(arch: dict[str, int], path: tuple) -> Any:
    """By hand, which entries of a parameter of `Small` an architecture uses."""
    names = [str(p.key) for p in path]
    if names[0] == "stem":
        return np.arange(6) < [2, 4, 6][arch["width"]]
    if names[0] == "middle":
        return int(names[2]) == arch["op"]
    if names[0] == "body":
        runs = np.arange(2) < arch["depth"]
        return runs[:, None, None] if names[-1] == "kernel" else runs[:, None]
    return True


def _step(shared: Shared, grads: Any, archs: list[dict[str, int]]) -> Shared:
    """SGD with decay and Nesterov momentum, parameter by parameter, on what some row uses."""
    (_, (trace, *_rest)) = shared.optimizer
    momentum = trace.trace

    def one(path: tuple, p: Any, m: Any, g: Any) -> tuple:
        used = np.any([np.broadcast_to(_is_used(a, path), p.shape) for a in archs], 0)
        g = g + 0.01 * p
        new = 0.9 * m + g
        return np.where(used, p - 0.1 * (g + 0.9 * new), p), np.where(used, new, m)

    both = jax.tree_util.tree_map_with_path(one, shared.params, momentum, grads)
    pair = lambda i: jax.tree.map(lambda t: t[i], both, is_leaf=lambda x: isinstance(x, tuple))
    optimizer = (shared.optimizer[0], (trace._replace(trace=pair(1)), *_rest))
    return shared._replace(params=pair(0), optimizer=optimizer, step=shared.step + 1)


def _row(rows: tuple, i: int) -> tuple[dict[str, jax.Array], dict[str, int]]:
    return jax.tree.map(lambda x: x[i], _archs(*rows)), dict(zip(PLACES, rows[i], strict=True))


def _key_of_round(i: int) -> jax.Array:
    return jax.random.split(jax.random.key(1 + i))[0]


@pytest.fixture(scope="module")
def each() -> tuple[list[Shared], list[Trials]]:
    return _rounds(_evaluator(steps=2, score_batches=1), [ROWS, ROWS[::-1]])


@pytest.mark.slow
def test_every_row_takes_its_steps_as_in_a_plain_loop(each: tuple) -> None:
    states, done = each
    shared = states[0]
    for number, rows in enumerate([ROWS, ROWS[::-1]]):
        batches, order = _batches(shared, _key_of_round(number), 6)
        for i in range(3):
            arch, by_hand = _row(rows, i)
            found = []
            for batch in batches[2 * i : 2 * i + 2]:
                (loss, state), grads = GRAD(shared.params, shared.state, arch, batch)
                shared = _step(shared, grads, [by_hand])._replace(state=state)
                found.append(loss)
            np.testing.assert_allclose(
                done[number].metrics["fit_loss"][i], np.mean(found), rtol=1e-4
            )
        shared = shared._replace(fit=jnp.asarray(order))
    for name in ("params", "state", "optimizer", "fit", "step"):
        _close(getattr(states[-1], name), getattr(shared, name))


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["mean", "sum"])
def test_a_round_together_takes_one_step_down_the_gradient_of_all_rows(rows: str) -> None:
    states, _ = _rounds(rows, [ROWS])
    shared = states[0]
    (batch,), order = _batches(shared, _key_of_round(0), 1)
    total: Any = jax.tree.map(jnp.zeros_like, shared.params)
    for i in range(3):
        arch, _ = _row(ROWS, i)
        (_, state), grads = GRAD(shared.params, shared.state, arch, batch)
        total = jax.tree.map(jnp.add, total, grads)
        shared = shared._replace(state=state)
    grads = jax.tree.map(lambda g: g / 3, total) if rows == "mean" else total
    shared = _step(shared, grads, [_row(ROWS, i)[1] for i in range(3)])
    _close(states[1].params, shared.params)
    _close(states[1].state, shared.state)
    assert states[1].step == 1 and (np.asarray(states[1].fit) == order).all()


@pytest.mark.slow
def test_the_teacher_learns_from_labels_and_the_others_from_its_outputs() -> None:
    teacher = {"depth": 2, "op": 2, "width": 2}
    distill = 0.75
    states, _ = _rounds(_evaluator(rows="sum", teacher=teacher, distill=distill), [ROWS])
    shared = states[0]
    (batch,), _ = _batches(shared, _key_of_round(0), 1)
    (_, state), total = GRAD(shared.params, shared.state, _row(ROWS, 0)[0], batch)
    x = jnp.asarray(FIT.x[batch])
    logits, _ = APPLY(shared.params, shared.state, _row(ROWS, 0)[0], x)
    hard = jax.nn.one_hot(FIT.y[batch], CLASSES)
    soft = distill * jax.nn.softmax(logits) + (1 - distill) * hard
    for i in (1, 2):
        (_, state), grads = GRAD(shared.params, state, _row(ROWS, i)[0], batch, soft)
        total = jax.tree.map(jnp.add, total, grads)
    _close(states[1].params, _step(shared, total, [_row(ROWS, i)[1] for i in range(3)]).params)


@pytest.mark.slow
def test_each_row_may_have_a_teacher_of_its_own() -> None:
    wider = enlarge(NET.space, {"depth": False, "op": False, "width": True})
    evaluator = _evaluator(teacher=wider, distill=1.0)
    states, _ = _rounds(evaluator, [((1, 1, 0), (1, 1, 2))])  # the second is its own teacher
    shared = states[0]
    batches, _ = _batches(shared, _key_of_round(0), 2)
    teacher = {"depth": jnp.int32(1), "op": jnp.int32(1), "width": jnp.int32(2)}
    logits, _ = APPLY(shared.params, shared.state, teacher, jnp.asarray(FIT.x[batches[0]]))
    for i, soft in enumerate([jax.nn.softmax(logits), None]):
        arch, by_hand = _row(((1, 1, 0), (1, 1, 2)), i)
        (_, state), grads = GRAD(shared.params, shared.state, arch, batches[i], soft)
        shared = _step(shared, grads, [by_hand])._replace(state=state)
    _close(states[1].params, shared.params)


# ------------------------------------------------------------------------- what does not move


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["sgd", "adamw", "clipped adam"])
def test_only_what_the_rows_used_moves(rule: str) -> None:
    rules = {
        "sgd": RULE,
        "adamw": optax.adamw(0.01, weight_decay=0.1),
        "clipped adam": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01)),
    }
    warm, cold = (2, 2, 2), (0, 1, 0)  # momenta of the largest are there when it rests
    training = TRAINING._replace(optimizer=rules[rule])
    states, _ = _rounds(_evaluator(training=training), [(warm, (1, 1, 1)), (cold, cold)])
    before, after = states[1], states[2]
    _same(before.params["middle"]["options"][2], after.params["middle"]["options"][2])
    _same(before.state["middle"], after.state["middle"])
    _same(
        (before.params["body"], before.state["body"]), (after.params["body"], after.state["body"])
    )
    stem = lambda s: s.params["stem"]["layer"]["kernel"]
    _same(stem(before)[:, 2:], stem(after)[:, 2:])
    assert (np.asarray(stem(before)[:, :2]) != stem(after)[:, :2]).all()
    assert _differ(before.params["middle"]["options"][1], after.params["middle"]["options"][1])
    kept = [x for x in jax.tree.leaves(before.optimizer) if x.shape == (2, 6, 6)]
    then = [x for x in jax.tree.leaves(after.optimizer) if x.shape == (2, 6, 6)]
    assert kept and all((np.asarray(x) != 0).any() for x in kept)
    _same(kept, then)


@pytest.mark.parametrize("rows", ["each", "mean", "sum"])
def test_rows_of_weight_0_teach_nothing_and_take_no_batch(rows: str) -> None:
    garbage = ((2, 2, 2), (1, 1, 1), (0, 0, 2))
    weight = [0.0, 1.0, 0.0]
    one, done = _rounds(rows, [garbage], weight)
    other, _ = _rounds(rows, [((0, 0, 0), (1, 1, 1), (2, 2, 2))], weight)
    _same(one[1], other[1])
    assert one[1].step == 1 and done[0].weight.tolist() == weight
    elsewhere, _ = _rounds(rows, [((1, 1, 1), (0, 0, 0), (0, 0, 0))], [1.0, 0.0, 0.0])
    _close(one[1], elsewhere[1])
    nothing, _ = _rounds(rows, [garbage], [0.0, 0.0, 0.0])
    _same(nothing[1], nothing[0])


@pytest.mark.parametrize("rows", ["each", "sum"])
def test_a_loss_that_is_not_finite_teaches_nothing(rows: str) -> None:
    evaluator, evaluate = _known(rows)
    start = evaluator.init(jax.random.key(0))
    linear = start.params["middle"]["options"][1]
    linear["bias"] = linear["bias"].at[5].set(jnp.nan)
    archs = _archs((0, 1, 2), (0, 0, 0), (0, 1, 2))
    trials, state = evaluate(jax.random.key(1), propose(archs), start)
    assert trials.weight.tolist() == [0, 1, 0] and np.isfinite(trials.metrics["fit_loss"]).all()
    alone = propose(archs)._replace(weight=jnp.asarray([0.0, 1.0, 0.0]))
    _, expected = evaluate(jax.random.key(1), alone, start)
    if rows == "sum":  # else each failure has taken its batch
        _same(state, expected)
    assert np.isfinite(state.params["last"]["kernel"]).all()
    assert (np.asarray(state.params["last"]["kernel"]) != start.params["last"]["kernel"]).any()


# ------------------------------------------------------------------------------- the scores


@pytest.mark.slow
def test_the_scores_of_a_round_are_those_on_the_next_validation_batches(each: tuple) -> None:
    states, done = _rounds(_evaluator(score_batches=2), [ROWS])
    key = jax.random.split(jax.random.key(1))[1]
    order = np.asarray(shuffled(jax.random.fold_in(key, 0), len(HELD_OUT.y)))
    for i in range(3):
        arch, right, found = _row(ROWS, i)[0], [], []
        for rows in (order[:8], order[8:16]):
            x = jnp.asarray(HELD_OUT.x[rows])
            logits, _ = APPLY(states[1].params, states[1].state, arch, x)
            right.append(np.argmax(logits, -1) == HELD_OUT.y[rows])
            found.append(-jax.nn.log_softmax(logits)[np.arange(8), HELD_OUT.y[rows]])
        np.testing.assert_allclose(done[0].score[i], np.mean(right), rtol=1e-6)
        np.testing.assert_allclose(done[0].metrics["loss"][i], np.mean(found), rtol=1e-4)
    assert states[1].judged == 2
    assert each[0][-1].judged == 2  # one for every round, whatever the rows


def test_without_validation_batches_the_score_is_the_training_loss() -> None:
    _, done = _rounds("each", [ROWS])
    assert set(done[0].metrics) == {"fit_loss"}
    np.testing.assert_array_equal(done[0].score, -done[0].metrics["fit_loss"])


def _frozen(shared: Shared, **options: Any) -> Trials:
    evaluator = shared_scores(NET, shared, HELD_OUT, classes=CLASSES, **options)
    state = evaluator.init(jax.random.key(0))
    evaluate = jax.jit(evaluator.evaluate, compiler_options=QUICK)
    trials, new = evaluate(jax.random.key(1), propose(_archs(*ROWS)), state)
    _same(new, state)
    return trials


MEASURE = jax.jit(
    lambda arch, *given: measure(
        NET, jax.tree.map(jnp.asarray, HELD_OUT), arch, *given, classification(CLASSES)
    ),
    compiler_options=QUICK,
)


@pytest.mark.parametrize("recalibrate", [0, 3])
def test_frozen_scores_are_measured_with_statistics_of_the_candidate(
    each: tuple, recalibrate: int
) -> None:
    shared = each[0][-1]
    options = {"fit_on": FIT, "recalibrate": 3, "batch_size": 8} if recalibrate else {}
    found = _frozen(shared, **options)
    if recalibrate:  # 24 of 40 examples, spread evenly, dealt out to the batches in turn
        spread = np.arange(24) * 40 // 24
        batches = [jnp.asarray(FIT.x[spread[i::3]]) for i in range(3)]
    else:
        batches = [jnp.asarray(HELD_OUT.x)]
    for i in range(3):
        arch = _row(ROWS, i)[0]
        blank = jax.tree.map(jnp.zeros_like, shared.state)
        news = [APPLY(shared.params, blank, arch, jnp.asarray(x))[1] for x in batches]
        state = jax.tree.map(lambda *s: sum(s) / (len(s) * 0.1), *news)  # 1 - momentum
        expected = MEASURE(arch, shared.params, state)
        for name, value in expected.items():
            np.testing.assert_allclose(found.metrics[name][i], value, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.score, found.metrics["accuracy"])


@pytest.mark.slow
def test_frozen_scores_may_be_those_of_a_few_batches(each: tuple) -> None:
    whole, few = _frozen(each[0][-1]), _frozen(each[0][-1], batches=2, batch_size=10)
    assert (np.abs(few.score * 20 - np.round(few.score * 20)) < 1e-4).all()
    assert _differ(whole.score, few.score)


@pytest.mark.parametrize("plan", ["vmap", "grouped"])
def test_plans_of_scoring_give_the_same_numbers(each: tuple, plan: str) -> None:
    a, b = _frozen(each[0][-1]), _frozen(each[0][-1], plan=plan)
    _close(a.metrics, b.metrics, 1e-3)


# -------------------------------------------------------------------------- many supernets


def test_a_row_trains_and_uses_the_supernet_of_its_choice(each: tuple) -> None:
    begun = each[0][-1]
    evaluator = _evaluator(begin=begun, split=1)  # op: three supernets
    states, done = _rounds(evaluator, [((1, 1, 1), (2, 2, 2)), ((0, 1, 0), (1, 1, 2))])
    first, last = states[0], states[-1]
    assert first.step.tolist() == [0, 0, 0] and last.step.tolist() == [0, 3, 1]
    for k in range(3):
        _same(pick(first, jnp.int32(k)).params, begun.params)
    assert not any(np.asarray(m).any() for m in jax.tree.leaves(first.optimizer))
    _same(pick(last, jnp.int32(0)), pick(first, jnp.int32(0))._replace(**_judged(last)))
    # The second trained alone on its rows, with the key of its number.
    shared = pick(first, jnp.int32(1))
    for number, rows in enumerate([((1, 1, 1),), ((0, 1, 0), (1, 1, 2))]):
        key = jax.random.fold_in(_key_of_round(number), 1)
        batches, order = _batches(shared, key, len(rows))
        for i, batch in enumerate(batches):
            arch, by_hand = _row(rows, i)
            (_, state), grads = GRAD(shared.params, shared.state, arch, batch)
            shared = _step(shared, grads, [by_hand])._replace(state=state)
        shared = shared._replace(fit=jnp.asarray(order))
    _close(pick(last, jnp.int32(1)).params, shared.params)
    # And the frozen scores are those of each row's own.
    together = _frozen(last, split=1)
    for i, (_, op, _) in enumerate(ROWS):
        alone = _frozen(pick(last, jnp.int32(op)))
        np.testing.assert_allclose(together.metrics["loss"][i], alone.metrics["loss"][i], rtol=1e-5)
    assert all(np.isfinite(t.score).all() for t in done)


def _judged(shared: Shared) -> dict[str, Any]:
    return {"score": shared.score, "judged": shared.judged}


# ---------------------------------------------------------------------- loops, seeds, errors


@pytest.mark.slow
def test_a_scan_equals_the_loop() -> None:
    evaluator, evaluate = _known("each")
    key, start = jax.random.key(5), evaluator.init(jax.random.key(6))

    def round_(state: Shared, i: jax.Array, evaluate: Any) -> tuple[Shared, Trials]:
        k_sample, k_evaluate = jax.random.split(jax.random.fold_in(key, i))
        trials, state = evaluate(k_evaluate, propose(sample(NET.space, k_sample, 3)), state)
        return state, trials

    body = functools.partial(round_, evaluate=evaluator.evaluate)
    scan = jax.jit(lambda state: jax.lax.scan(body, state, jnp.arange(3)), compiler_options=QUICK)
    shared, found = scan(start)
    state = start
    for i in range(3):
        state, trials = round_(state, jnp.int32(i), evaluate)
        _close(trials, jax.tree.map(lambda x, i=i: x[i], found), 1e-4, 1e-5)
    _close(state, shared, 1e-4, 1e-5)


@pytest.mark.slow
def test_seeds_side_by_side_train_and_search_as_each_alone() -> None:
    evaluator, strategy = _evaluator(), sample_uniform(NET.space)

    def run(key: jax.Array) -> tuple:
        (_, shared), trials = jnas.search(key, strategy, evaluator, NET.space, steps=3, batch=2)
        frozen = shared_scores(NET, shared, HELD_OUT, classes=CLASSES)
        _, found = jnas.search(key, strategy, frozen, NET.space, steps=2, batch=2)
        return shared, trials, found

    alone = jax.jit(run, compiler_options=QUICK)(jax.random.key(5))
    keys = jnp.stack([jax.random.key(s) for s in (4, 5)])
    many = jax.jit(jax.vmap(run), compiler_options=QUICK)(keys)
    _close(jax.tree.map(lambda x: x[1], many), alone, 1e-3)


@pytest.mark.slow
def test_rows_scored_on_several_devices_have_the_same_bits(tmp_path: Path) -> None:
    probe = Path(__file__).with_name("sharing_mesh_probe.py")
    done = subprocess.run(
        [sys.executable, str(probe)],
        env=environment(tmp_path, devices=4),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [found[pop].pop("devices") for pop in ("1", "2", "4")] == [1, 2, 4]
    assert found["1"] == found["2"] == found["4"]


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    go = functools.partial(
        jnas.run,
        sample_uniform(NET.space),
        _evaluator(),
        NET.space,
        batch=2,
        chunk=1,
        verbose=False,
    )
    whole = go(evaluations=8, workdir=tmp_path / "whole", setting={"a": 1})
    go(evaluations=4, workdir=tmp_path / "cut", setting={"a": 1})
    cut = go(evaluations=8, workdir=tmp_path / "cut", setting={"a": 1})
    for name, column in whole.history.items():
        np.testing.assert_array_equal(column, cut.history[name])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rows": "all"}, "rows 'all': allowed are each, mean, sum"),
        ({"rows": "sum", "split": 0}, "rows 'sum': with split=0"),
        ({"steps": 0}, "steps=0: a whole number of at least 1"),
        ({"score_batches": -1}, "score_batches=-1: a whole number of at least 0"),
        ({"score_batches": 4}, "score_batches=4: there are 3 of 8 examples"),
        ({"distill": 1.5}, r"distill=1.5: a number in \[0, 1\]"),
        ({"split": 3}, "split=3: a place of the architecture, 0 to 2"),
        (
            {"score": "acuracy", "score_batches": 1},
            "score 'acuracy': allowed are accuracy, recall, f1, loss, precision, top5, fit_loss",
        ),
        ({"plan": "pmap"}, "plan 'pmap'"),
        ({"training": TRAINING._replace(ema=0.9)}, "ema=0.9"),
        ({"training": TRAINING._replace(optimizer=lambda values: RULE)}, "searched"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        _evaluator(**options)


def test_frozen_settings_that_cannot_be_are_refused(each: tuple) -> None:
    for options, told in [
        ({"recalibrate": 2}, "recalibrate=2: a number of batches of the examples fit_on"),
        ({"recalibrate": 9, "fit_on": FIT, "batch_size": 8}, "recalibrate=9: from 1 to 5 batches"),
        ({"batches": 4, "batch_size": 10}, "batches=4: from 1 to 3 batches of 10"),
        ({"score": "fit_loss"}, "score 'fit_loss': allowed are accuracy"),
    ]:
        with pytest.raises(InputError, match=told):
            shared_scores(NET, each[0][0], HELD_OUT, classes=CLASSES, **options)


def test_relaxed_architectures_are_refused() -> None:
    evaluator = _evaluator()
    relaxed = jnas.base.one_hot(NET.space, template(NET.space))
    trials = propose(jax.tree.map(lambda x: x[None], relaxed))
    with pytest.raises(InputError, match="architectures of ints"):
        evaluator.evaluate(jax.random.key(0), trials, evaluator.init(jax.random.key(1)))


def test_the_places_of_the_small_net_are_in_the_order_of_the_tests() -> None:
    assert tuple(NET.space.num_choices) == PLACES
    assert choice_counts(NET.space).tolist() == [3, 3, 3]
