"""Tasks: every metric against scikit-learn or a naive count, and what a training may do."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from sklearn import metrics as sklearn_metrics

from jnas.base import InputError, Trials, propose, sample
from jnas.configs import job_of, network_of, read
from jnas.evaluators import (
    TASKS,
    Augment,
    Examples,
    Training,
    tasks,
    train,
)
from jnas.evaluators.sequences import collapse, edit_distance, until
from jnas.evaluators.tasks import Task
from jnas.problems import task_of

RNG = np.random.default_rng(0)


def _found(task: Task, outputs: Any, y: Any, pieces: int = 3) -> dict[str, float]:
    """What a task measures of fixed outputs, in equal pieces that rows of weight 0 fill up."""
    n = len(jax.tree.leaves(y)[0])
    size = -(-n // pieces) + 1
    sums = jax.jit(lambda outputs, y, weight: task.sums(lambda x: x, outputs, y, weight))
    total: Any = None
    for rows in np.array_split(np.arange(n), pieces):
        filled = np.append(rows, np.zeros(size - len(rows), int))
        take = lambda tree, rows=filled: jax.tree.map(lambda a: np.asarray(a)[rows], tree)
        part = sums(take(outputs), take(y), np.float32(np.arange(size) < len(rows)))
        total = part if total is None else jax.tree.map(np.add, total, part)
    return {k: float(v) for k, v in jax.jit(lambda s: task.finish(s, n))(total).items()}


def _close(found: dict[str, float], expected: dict[str, Any], task: Task) -> None:
    assert set(found) == set(task.metrics) == set(expected)
    assert task.score in task.metrics and set(task.lower) <= set(task.metrics)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


def _log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def test_classification_measures_what_scikit_learn_does() -> None:
    y, logits = RNG.integers(0, 9, 80), RNG.normal(size=(80, 9)).astype(np.float32)
    guess, task = logits.argmax(-1), tasks.classification(9)
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(y, guess),
        "top5": sklearn_metrics.top_k_accuracy_score(y, logits, k=5, labels=np.arange(9)),
        "precision": sklearn_metrics.precision_score(y, guess, **macro),
        "recall": sklearn_metrics.recall_score(y, guess, **macro),
        "f1": sklearn_metrics.f1_score(y, guess, **macro),
        "loss": -_log_softmax(logits)[np.arange(80), y].mean(),
    }
    _close(_found(task, logits, y.astype(np.int32)), expected, task)
    micro = sklearn_metrics.f1_score(y, guess, average="micro")
    assert expected["accuracy"] == pytest.approx(micro)


def test_several_labels_measure_what_scikit_learn_does() -> None:
    y, logits = RNG.integers(0, 2, (60, 5)), RNG.normal(size=(60, 5)).astype(np.float32)
    y[:, 3], logits[:, 4] = 0, -1  # a label that never is, and one that is never guessed
    guess, task = (logits > 0).astype(int), tasks.multi_label(5)
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    p = 1 / (1 + np.exp(-logits))
    expected = {
        "accuracy": (y == guess).mean(),
        "exact_match": sklearn_metrics.accuracy_score(y, guess),
        "precision": sklearn_metrics.precision_score(y, guess, **macro),
        "recall": sklearn_metrics.recall_score(y, guess, **macro),
        "f1": sklearn_metrics.f1_score(y, guess, **macro),
        "f1_micro": sklearn_metrics.f1_score(y, guess, average="micro"),
        "loss": sklearn_metrics.log_loss(y.ravel(), p.ravel()),
    }
    _close(_found(task, logits, y.astype(np.uint8)), expected, task)
    loss = float(task.loss(jnp.asarray(logits), jnp.asarray(y), 0.0, None))
    assert loss == pytest.approx(expected["loss"], rel=1e-5)


def test_segmentation_measures_intersection_over_union_of_all_pixels() -> None:
    y, logits = RNG.integers(0, 4, (7, 6, 6)), RNG.normal(size=(7, 6, 6, 5)).astype(np.float32)
    logits[..., 4] = -9  # a class that neither is nor is guessed
    guess, task = logits.argmax(-1), tasks.segmentation(5)
    flat: tuple = (y.ravel(), guess.ravel())
    expected = {
        "mean_iou": sklearn_metrics.jaccard_score(*flat, average="macro"),
        "accuracy": sklearn_metrics.accuracy_score(*flat),
        "f1": sklearn_metrics.f1_score(*flat, average="macro"),
        "loss": -np.take_along_axis(_log_softmax(logits), y[..., None], -1).mean(),
    }
    _close(_found(task, logits, y.astype(np.int32)), expected, task)


def test_super_resolution_measures_the_ratio_of_peak_to_error_of_every_image() -> None:
    y = RNG.integers(0, 256, (6, 4, 4, 2)).astype(np.uint8)
    outputs = (y / 255 + RNG.normal(0, 0.2, y.shape)).astype(np.float32)
    outputs[0] = y[0] / 255
    shown = np.clip(outputs, 0, 1) * 255
    error = np.square(shown - y).mean((1, 2, 3))
    psnr = [100, *(10 * np.log10(255**2 / error[1:]))]
    expected = {"psnr": np.mean(psnr), "loss": np.square(outputs - y / 255).mean()}
    task = tasks.super_resolution()
    _close(_found(task, outputs, y), expected, task)


def test_regression_measures_in_the_units_of_what_is_learned() -> None:
    y = RNG.normal([3, -40], [2, 10], (50, 2)).astype(np.float32)
    mean, std = np.asarray([2.5, -35]), np.asarray([1.5, 12])
    outputs = ((y - mean) / std + RNG.normal(0, 0.5, y.shape)).astype(np.float32)
    guess, task = outputs * std + mean, tasks.regression(mean, std)
    expected = {
        "rmse": np.sqrt(sklearn_metrics.mean_squared_error(y, guess)),
        "r2": sklearn_metrics.r2_score(y, guess),
        "loss": np.square((guess - y) / std).mean(),
    }
    _close(_found(task, outputs, y), expected, task)


def test_a_language_model_is_measured_by_token() -> None:
    y, logits = RNG.integers(0, 7, (9, 5)), RNG.normal(size=(9, 5, 7)).astype(np.float32)
    nats = -np.take_along_axis(_log_softmax(logits), y[..., None], -1).mean()
    expected = {
        "perplexity": np.exp(nats),
        "bits": nats / np.log(2),
        "token_error": (logits.argmax(-1) != y).mean(),
        "loss": nats,
    }
    task = tasks.language_model(7)
    _close(_found(task, logits, y.astype(np.int32)), expected, task)


def _levenshtein(a: list[int], b: list[int]) -> int:
    before = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, z in enumerate(b, 1):
            row.append(min(row[-1] + 1, before[j] + 1, before[j - 1] + (x != z)))
        before = row
    return before[-1]


LISTS = st.lists(st.integers(1, 3), max_size=6)
DISTANCE = jax.jit(edit_distance)


@settings(max_examples=80, deadline=None)
@given(LISTS, LISTS)
def test_edit_distances_are_those_of_the_textbook(a: list[int], b: list[int]) -> None:
    pad = lambda x: jnp.asarray([*x, *[2] * (6 - len(x))], jnp.int32)  # what comes after is noise
    assert int(DISTANCE(pad(a), pad(b), jnp.int32(len(a)), jnp.int32(len(b)))) == _levenshtein(a, b)


COLLAPSE = jax.jit(lambda frames, n: collapse(frames, jnp.arange(7)[None] < n))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=7, max_size=7), st.integers(0, 7))
def test_greedy_ctc_merges_repeats_and_then_drops_blanks(frames: list[int], n: int) -> None:
    labels, length = COLLAPSE(jnp.asarray([frames], jnp.int32), n)
    expected = [k for k, _ in itertools.groupby(frames[:n]) if k]
    assert labels[0, : int(length[0])].tolist() == expected
    assert not labels[0, int(length[0]) :].any()


@pytest.mark.slow
def test_ctc_is_the_sum_over_all_paths_and_its_error_is_by_label() -> None:
    outputs = RNG.normal(size=(5, 4, 3)).astype(np.float32)
    labels = np.asarray([[1, 2], [1, 1], [2, 0], [1, 0], [2, 1]], np.int32)
    frames = np.asarray([8, 8, 6, 5, 7], np.int32)  # of 8, of which the network keeps every second
    steps, expected, edits, exact = [4, 4, 3, 3, 4], 0.0, 0, 0
    for logits, row, n in zip(outputs, labels, steps, strict=True):
        p, wanted = np.exp(_log_softmax(logits)), [k for k in row.tolist() if k]
        total = 0.0
        for path in itertools.product(range(3), repeat=n):
            if [k for k, _ in itertools.groupby(path) if k] == wanted:
                total += np.prod([p[i, k] for i, k in enumerate(path)])
        expected -= np.log(total) / 5
        guess = [k for k, _ in itertools.groupby(logits[:n].argmax(-1).tolist()) if k]
        edits, exact = edits + _levenshtein(guess, wanted), exact + (guess == wanted)
    task, y = tasks.ctc(8), {"labels": labels, "frames": frames}
    found = _found(task, outputs, y)
    wanted_metrics = {"loss": expected, "character_error": edits / 8, "exact_match": exact / 5}
    _close(found, wanted_metrics, task)
    assert float(task.loss(jnp.asarray(outputs), jax.tree.map(jnp.asarray, y), 0.0, None)) == (
        pytest.approx(expected, rel=1e-4)
    )


def test_sequences_are_decoded_greedily_and_judged_up_to_their_end() -> None:
    long, words = 5, 7
    y = np.asarray([[4, 5, 2, 0, 0], [6, 2, 0, 0, 0], [3, 3, 4, 5, 2]], np.int32)
    begin = np.ones((3, 1), np.int32)
    target = np.concatenate([begin, np.where(y == 2, 0, y)[:, :-1]], 1)
    table = RNG.normal(size=(words, long, words)).astype(np.float32)  # by source, place, token

    def run(x: Any) -> jax.Array:  # the next token depends on the place, the source and the last
        last = jax.nn.one_hot(x["target"], words) @ jnp.asarray(RULE)
        return jnp.asarray(table)[x["source"][:, 0]] + last

    x = {"source": jnp.asarray([[0], [1], [2]]), "target": jnp.asarray(target)}
    task = tasks.sequence_to_sequence(words)
    measured = jax.jit(lambda x, y: task.finish(task.sums(run, x, y, jnp.ones(3)), 3))
    found = measured(x, jnp.asarray(y))
    live, logits = y != 0, np.asarray(run(x))
    each = -np.take_along_axis(_log_softmax(logits), y[..., None], -1)[..., 0]
    edits, exact, characters = 0, 0, 0
    for i in range(3):
        said = [1]
        for t in range(long):
            said.append(int((table[i, t] + RULE[said[-1]]).argmax()))
        cut = lambda tokens: list(itertools.takewhile(lambda k: k != 2, tokens))
        guess, wanted = cut(said[1:]), cut(y[i].tolist())
        edits += _levenshtein(guess, wanted)
        exact, characters = exact + (guess == wanted), characters + len(wanted)
    nats = each[live].mean()
    expected = {
        "exact_match": exact / 3,
        "character_error": edits / characters,
        "token_error": (logits.argmax(-1) != y)[live].mean(),
        "perplexity": np.exp(nats),
        "loss": nats,
    }
    _close({k: float(v) for k, v in found.items()}, expected, task)
    assert float(task.loss(jnp.asarray(logits), jnp.asarray(y), 0.0, None)) == (
        pytest.approx(nats, rel=1e-5)
    )


RULE = np.random.default_rng(5).normal(size=(7, 7)).astype(np.float32)


def test_until_counts_what_comes_before_the_end() -> None:
    assert until(jnp.asarray([[4, 2, 5], [2, 2, 2], [3, 3, 3]]), 2).tolist() == [1, 0, 3]


# --------------------------------------------------------------------------- in evaluators


def test_what_a_training_may_do_depends_on_the_task() -> None:
    data = Examples(np.zeros((8, 4, 4, 1)), np.zeros((8, 4, 4), np.int32))
    net: Any = None
    for settings_, what in (
        ({"augment": Augment(flip=True)}, "flip=True: it cannot be used for the task segmentation"),
        ({"augment": Augment(mixup=0.2)}, "mixup=0.2: it cannot"),
    ):
        training = Training(optax.sgd(0.1), 2, 4, **settings_)
        with pytest.raises(InputError, match=what):
            train(net, training, data, data, task=tasks.segmentation(3))
    tokens = Examples(np.zeros((8, 4), np.uint8), np.zeros((8, 4), np.int32), None)
    with pytest.raises(InputError, match="tokens cannot be mixed"):
        training = Training(optax.sgd(0.1), 2, 4, Augment(mixup=0.2))
        train(net, training, tokens, tokens, task=tasks.language_model(9))
    with pytest.raises(InputError, match="give task="):
        train(net, Training(optax.sgd(0.1), 2, 4), data, data)


def _config(data: dict[str, Any], **more: Any) -> ConfigDict:
    return ConfigDict({"space": "mlp", "net": {"depth": 1, "widths": (4, 8)}, "data": data, **more})


@pytest.mark.slow
@pytest.mark.parametrize("score", ["rmse", pytest.param("r2", marks=pytest.mark.slow)])
def test_a_population_learns_to_regress_and_any_metric_is_the_score(
    score: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "tasks"
    training = {"steps": 30, "learning_rate": 0.05, "plan": "vmap", "score": score}
    config = _config({"name": "diabetes", "data_dir": str(folder)}, train=training)
    job = job_of(config)
    trials = propose(sample(job.space, jax.random.key(1), 4))
    found: Trials = jax.jit(job.evaluator.evaluate)(jax.random.key(0), trials, ())[0]
    sign = -1 if score == "rmse" else 1
    np.testing.assert_array_equal(found.score, sign * found.metrics[score])
    assert (found.metrics["rmse"] < 75).all()  # the standard deviation is 77


def test_a_space_that_cannot_take_the_data_says_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = str(tmp_path_factory.getbasetemp() / "tasks")
    config = _config({"name": "shapes", "data_dir": folder, "rows": 24, "size": 16})
    with pytest.raises(InputError, match="'mlp' is not for the task segmentation on data 'shapes'"):
        network_of(config)
    config = _config({"name": "digits", "data_dir": folder}, space="dense", net={"levels": 2})
    with pytest.raises(InputError, match=r"the task classification on .* outputs of shape \(8, 8,"):
        network_of(config)
    config = _config({"name": "diabetes", "data_dir": folder}, task={"name": "ctc"})
    with pytest.raises(InputError, match="not one for ctc, which needs series"):
        network_of(config)
    config = _config({"name": "dates", "data_dir": folder, "rows": 24})
    with pytest.raises(InputError, match="it takes none of length, target_length, vocabulary"):
        network_of(config)


def test_every_task_is_made_from_what_a_data_set_knows(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = str(tmp_path_factory.getbasetemp() / "tasks")
    from jnas import data

    small: dict[str, dict[str, Any]] = {
        "diabetes": {},
        "shapes": {"rows": 24, "size": 16},
        "dates": {"rows": 24},
        "text": {"length": 8, "most": 900},
    }
    seen = set()
    for name, options in small.items():
        found = task_of(ConfigDict({}), data.load(name, data_dir=folder, options=options))
        seen.add(found.name)
        assert TASKS[found.name]
    assert seen == {"regression", "segmentation", "sequence_to_sequence", "language_model"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        ("dates_evolution", {"rows": 60}),
        ("digits_super_resolution", {}),
        ("lines_ctc", {}),
        ("shapes_segmentation", {}),
        ("text_evolution", {"most": 20_000}),
    ],
)
def test_the_searches_of_every_task_trace(
    name: str, smaller: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = read(Path(__file__).parents[1] / "experiments" / "configs" / f"{name}.py")
    config.data.data_dir = str(tmp_path_factory.getbasetemp() / "tasks")
    config.data.update(smaller)
    job = job_of(config)
    trials = propose(sample(job.space, jax.random.key(0), 2))
    found = jax.eval_shape(job.evaluator.evaluate, jax.random.key(1), trials, ())[0]
    assert job.dataset is not None and found.score.shape == (2,)
    assert set(task_of(config, job.dataset).metrics) < set(found.metrics)
