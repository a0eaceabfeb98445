"""What a network is to learn: the loss of its outputs and what is measured of them.

A `Task` holds pure functions; `train`, `weight_sharing` and the final training take one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.base import InputError
from jnas.evaluators.augment import mix
from jnas.evaluators.metrics import METRICS, confusion, from_confusion, multi_label_rates
from jnas.evaluators.sequences import collapse, edit_distance, frames_kept, until

PAD, BEGIN, END = 0, 1, 2  # tokens of sequence to sequence


class Task(NamedTuple):
    """The loss of a network's outputs, and what is measured, as sums over chunks of examples.

    Attributes:
      name: the name in `TASKS`.
      loss: `(outputs, y, smoothing, share) -> f32[]`, the mean over a batch; `share` is that of
        mixed labels or None.
      sums: `(run, x, y, weight) -> sums`, a pytree of arrays that add up over chunks. `run` is
        `x -> outputs`, to be called as often as decoding needs; `weight` is f32[B], 0 for rows
        that only fill up a chunk.
      finish: `(sums, n) -> {metric: f32[]}` of all n examples; `loss` is one of them.
      metrics: the names of what is measured.
      score: the metric that is the score by default.
      lower: the metrics of which less is better: as a score they count negatively.
      takes: what a training may do besides: of `smoothing`, `mixup`, `flip`, `crop`, `cutout`.
    """

    name: str
    loss: Callable[..., jax.Array]
    sums: Callable[..., Any]
    finish: Callable[..., dict[str, jax.Array]]
    metrics: tuple[str, ...]
    score: str
    lower: tuple[str, ...] = ("loss",)
    takes: tuple[str, ...] = ()


def losses(logits: jax.Array, y: jax.Array, smoothing: float, share: Any) -> jax.Array:
    """Cross-entropy of every row, with soft labels where there are any."""
    if not smoothing and share is None:
        return optax.softmax_cross_entropy_with_integer_labels(logits, y)
    labels = optax.smooth_labels(jax.nn.one_hot(y, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, labels if share is None else mix(labels, share))


def mean_cross_entropy(logits: jax.Array, y: jax.Array, smoothing: float, share: Any) -> jax.Array:
    """The loss of a classifier: the mean over the batch."""
    return jnp.mean(losses(logits, y, smoothing, share))


def classification(classes: int) -> Task:
    """One class for every example: outputs `[B, classes]`, y int32[B].

    Measures `accuracy` (which is micro F1 too), `top5`, and the macro averages `precision`,
    `recall` and `f1`; see `jnas.evaluators.metrics.from_confusion`.
    """

    def sums(run: Callable, x: Any, y: jax.Array, weight: jax.Array) -> tuple:
        logits = run(x)
        found = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        matrix = confusion(y, jnp.argmax(logits, -1), weight, classes)
        return jnp.sum(found * weight), matrix, _top(logits, y, weight)

    def finish(sums: tuple, n: int) -> dict[str, jax.Array]:
        total, matrix, top = sums
        return {**from_confusion(matrix), "loss": total / n, "top5": top / n}

    return Task(
        name="classification",
        loss=mean_cross_entropy,
        sums=sums,
        finish=finish,
        metrics=METRICS,
        score="accuracy",
        takes=("smoothing", "mixup", "flip", "crop", "cutout"),
    )


def _top(logits: jax.Array, y: jax.Array, weight: jax.Array, k: int = 5) -> jax.Array:
    """The weight of the rows whose class is among the k likeliest; of equals the first counts."""
    own = jnp.take_along_axis(logits, y[:, None], -1)
    first = (logits == own) & (jnp.arange(logits.shape[-1]) < y[:, None])
    ahead = jnp.sum((logits > own) | first, -1)
    return jnp.sum(weight * (ahead < k) * jnp.isfinite(own[:, 0]))


def multi_label(classes: int) -> Task:
    """Any number of classes for every example: outputs `[B, classes]`, y 0 or 1 `[B, classes]`.

    The loss is the mean binary cross-entropy. A class is guessed where its logit is above 0.
    Measures `accuracy` (of single labels), `exact_match`, `f1_micro`, and the macro averages
    `precision`, `recall` and `f1`.
    """

    def loss(logits: jax.Array, y: jax.Array, smoothing: float, share: Any) -> jax.Array:
        labels = y.astype(jnp.float32) * (1 - smoothing) + smoothing / 2
        labels = labels if share is None else mix(labels, share)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels))

    def sums(run: Callable, x: Any, y: jax.Array, weight: jax.Array) -> tuple:
        logits = run(x)
        found = optax.sigmoid_binary_cross_entropy(logits, y.astype(jnp.float32))
        true, guess, w = y > 0, logits > 0, weight[:, None]
        right = jnp.sum(weight * jnp.all(true == guess, -1))
        counts = [jnp.sum(w * both, 0) for both in (true & guess, ~true & guess, true & ~guess)]
        return jnp.sum(w * found), right, jnp.stack(counts)

    def finish(sums: tuple, n: int) -> dict[str, jax.Array]:
        total, right, counts = sums
        wrong = jnp.sum(counts[1:]) / (n * classes)
        return {
            **multi_label_rates(*counts),
            "accuracy": 1 - wrong,
            "exact_match": right / n,
            "loss": total / (n * classes),
        }

    return Task(
        name="multi_label",
        loss=loss,
        sums=sums,
        finish=finish,
        metrics=("accuracy", "exact_match", "precision", "recall", "f1", "f1_micro", "loss"),
        score="f1",
        takes=("smoothing", "mixup", "flip", "crop", "cutout"),
    )


def segmentation(classes: int) -> Task:
    """A class for every pixel: outputs `[B, H, W, classes]`, y int32[B, H, W].

    Measures `mean_iou`, the mean over classes of intersection / union of the pixels with the class
    as label and as prediction, `accuracy` (of pixels), and `f1` (macro, the Dice coefficient).
    """

    def loss(logits: jax.Array, y: jax.Array, smoothing: float, share: Any) -> jax.Array:
        return mean_cross_entropy(logits, y, smoothing, share)

    def sums(run: Callable, x: Any, y: jax.Array, weight: jax.Array) -> tuple:
        logits = run(x)
        found = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y), (1, 2))
        w = jnp.broadcast_to(weight[:, None, None], y.shape).ravel()
        matrix = confusion(y.ravel(), jnp.argmax(logits, -1).ravel(), w, classes)
        return jnp.sum(found * weight), matrix / y[0].size  # in images: pixels overflow float32

    def finish(sums: tuple, n: int) -> dict[str, jax.Array]:
        total, matrix = sums
        right = jnp.diag(matrix)
        union = jnp.sum(matrix, 0) + jnp.sum(matrix, 1) - right
        there = union > 0
        each = jnp.where(there, right / jnp.where(there, union, 1.0), 0.0)
        found = from_confusion(matrix, least=1e-9)
        return {
            "mean_iou": jnp.sum(each) / jnp.maximum(jnp.sum(there), 1),
            "accuracy": jnp.sum(right) / n,
            "f1": found["f1"],
            "loss": total / n,
        }

    return Task(
        name="segmentation",
        loss=loss,
        sums=sums,
        finish=finish,
        metrics=("mean_iou", "accuracy", "f1", "loss"),
        score="mean_iou",
        takes=("smoothing",),
    )


def super_resolution(peak: float = 255.0) -> Task:
    """An image for every image: outputs `[B, H, W, C]` of values 0 to 1, y the same as 0 to peak.

    The loss is the mean squared error. Measures `psnr`, the mean over images of
    `-10 log10(mean squared error)` in dB, of outputs that are cut off at 0 and 1; a perfect image
    counts as 100 dB.
    """

    def loss(outputs: jax.Array, y: jax.Array, smoothing: float, share: Any) -> jax.Array:
        del smoothing, share
        return jnp.mean(jnp.square(outputs - y.astype(jnp.float32) / peak))

    def sums(run: Callable, x: Any, y: jax.Array, weight: jax.Array) -> tuple:
        outputs, true = run(x), y.astype(jnp.float32) / peak
        error = lambda guess: jnp.mean(jnp.square(guess - true), (1, 2, 3))
        psnr = -10 * jnp.log10(jnp.maximum(error(jnp.clip(outputs, 0, 1)), 1e-10))
        return jnp.sum(weight * error(outputs)), jnp.sum(weight * psnr)

    def finish(sums: tuple, n: int) -> dict[str, jax.Array]:
        return {"psnr": sums[1] / n, "loss": sums[0] / n}

    names = ("psnr", "loss")
    return Task("super_resolution", loss, sums, finish, metrics=names, score="psnr")


def regression(mean: Any = 0.0, std: Any = 1.0) -> Task:
    """Numbers for every example: outputs `[B, K]`, y f32[B, K].

    A network learns `(y - mean) / std`, by the mean squared error. Measures `rmse`, the root mean
    squared error in the units of y, and `r2`, `1 - squared error / squared deviation from the mean`
    of each column, averaged; as in scikit-learn it is 0 for a constant, or 1 if that is met.

    Args:
      mean: of y in the training split, f32[K].
      std: the same; a column of 0 is one of constants, and counts as 1.
    """
    scale = jnp.where(jnp.asarray(std) > 0, jnp.asarray(std, jnp.float32), 1.0)
    centre = jnp.asarray(mean, jnp.float32)

    def loss(outputs: jax.Array, y: jax.Array, smoothing: float, share: Any) -> jax.Array:
        del smoothing, share
        return jnp.mean(jnp.square(outputs - (y - centre) / scale))

    def sums(run: Callable, x: Any, y: jax.Array, weight: jax.Array) -> tuple:
        z, w = (y - centre) / scale, weight[:, None]
        parts = jnp.square(run(x) - z), z, jnp.square(z)
        return tuple(jnp.sum(w * part, 0) for part in parts)

    def finish(sums: tuple, n: int) -> dict[str, jax.Array]:
        error, first, second = sums
        spread = second - first * first / n
        varies = spread > 1e-6 * second  # what is less is rounding
        constant = jnp.where(error > 1e-6 * second, 0.0, 1.0)
        part = jnp.where(varies, 1 - error / jnp.where(varies, spread, 1.0), constant)
        return {
            "rmse": jnp.sqrt(jnp.mean(jnp.square(scale) * error / n)),
            "r2": jnp.mean(part),
            "loss": jnp.mean(error) / n,
        }

    names, less = ("rmse", "r2", "loss"), ("rmse", "loss")
    return Task("regression", loss, sums, finish, metrics=names, score="rmse", lower=less)


# --------------------------------------------------------------------------------- sequences


def _mean_over(found: jax.Array, live: jax.Array) -> jax.Array:
    return jnp.sum(found * live) / jnp.maximum(jnp.sum(live), 1)


def language_model(vocabulary: int = 256) -> Task:
    """The next token at every place: outputs `[B, T, vocabulary]`, y int32[B, T].

    Measures `loss` (nats for a token), `perplexity`, its exponential, `bits` (for a token: of
    bytes, bits per byte), and `token_error`, the share of tokens that are not the likeliest.
    """
    del vocabulary

    def loss(logits: jax.Array, y: jax.Array, smoothing: float, share: Any) -> jax.Array:
        return mean_cross_entropy(logits, y, smoothing, share)

    def sums(run: Callable, x: Any, y: jax.Array, weight: jax.Array) -> tuple:
        logits = run(x)
        found = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        wrong = jnp.argmax(logits, -1) != y
        return tuple(jnp.sum(weight * jnp.mean(each, -1)) for each in (found, wrong))

    def finish(sums: tuple, n: int) -> dict[str, jax.Array]:
        nats = sums[0] / n
        return {
            "perplexity": jnp.exp(nats),
            "bits": nats / jnp.log(2.0),
            "token_error": sums[1] / n,
            "loss": nats,
        }

    return Task(
        name="language_model",
        loss=loss,
        sums=sums,
        finish=finish,
        metrics=("perplexity", "bits", "token_error", "loss"),
        score="perplexity",
        lower=("perplexity", "bits", "token_error", "loss"),
        takes=("smoothing",),
    )


def sequence_to_sequence(vocabulary: int = 259) -> Task:
    """A sequence for a sequence, of tokens with 0 = padding, 1 = begin, 2 = end.

    Inputs `{"source": int32[B, S], "target": int32[B, T]}`, where target is begin and the answer
    (teacher forcing), outputs `[B, T, vocabulary]`, y int32[B, T] the answer and end.

    Measures of teacher forcing `loss` (nats for a token), `perplexity` and `token_error`; and of
    greedy decoding, a token at a time from begin to end, `exact_match` and `character_error`, the
    edit distance to the answers by their length.
    """
    del vocabulary

    def loss(logits: jax.Array, y: jax.Array, smoothing: float, share: Any) -> jax.Array:
        return _mean_over(losses(logits, y, smoothing, share), y != PAD)

    def decoded(run: Callable, x: Any) -> jax.Array:
        """The answers, int32[B, T], from END on without meaning."""
        long = x["target"].shape[1]

        def step(i: Any, target: jax.Array) -> jax.Array:
            logits = run({**x, "target": target[:, :long]})
            chosen = jnp.argmax(jax.lax.dynamic_index_in_dim(logits, i, 1, False), -1)
            return jax.lax.dynamic_update_index_in_dim(target, chosen, i + 1, 1)

        first = jnp.zeros((x["target"].shape[0], long + 1), jnp.int32).at[:, 0].set(BEGIN)
        return jax.lax.fori_loop(0, long, step, first)[:, 1:]

    def sums(run: Callable, x: Any, y: jax.Array, weight: jax.Array) -> tuple:
        logits, live = run(x), (y != PAD) * weight[:, None]
        found = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        wrong = jnp.argmax(logits, -1) != y
        guess = decoded(run, x)
        m, n = until(guess, END), until(y, END)
        edits = jax.vmap(edit_distance)(guess, y, m, n)
        parts = (weight * edits, weight * n, weight * (edits == 0))
        return tuple(jnp.sum(part) for part in (live * found, live * wrong, live, *parts))

    def finish(sums: tuple, n: int) -> dict[str, jax.Array]:
        nats, wrong, tokens, edits, characters, exact = sums
        tokens = jnp.maximum(tokens, 1)
        return {
            "exact_match": exact / n,
            "character_error": edits / jnp.maximum(characters, 1),
            "token_error": wrong / tokens,
            "perplexity": jnp.exp(nats / tokens),
            "loss": nats / tokens,
        }

    return Task(
        name="sequence_to_sequence",
        loss=loss,
        sums=sums,
        finish=finish,
        metrics=("exact_match", "character_error", "token_error", "perplexity", "loss"),
        score="loss",
        lower=("character_error", "token_error", "perplexity", "loss"),
        takes=("smoothing",),
    )


def ctc(length: int) -> Task:
    """Labels for a longer series that is not aligned with them: outputs `[B, T', V]`, 0 = blank.

    y is `{"labels": int32[B, L], "frames": int32[B]}`, labels padded with 0, frames those of the
    input that are not padding; of a network that gives fewer steps, as many count in proportion.
    The loss is that of Graves et al. 2006, a sum over the places of a sequence, averaged over
    sequences.

    Measures of greedy decoding `character_error`, the edit distance to the labels by their number
    (the label error rate), and `exact_match`.

    Args:
      length: frames of an input, padding included.
    """

    def live(outputs: jax.Array, y: Any) -> jax.Array:
        steps = frames_kept(y["frames"], length, outputs.shape[1])
        return jnp.arange(outputs.shape[1]) < steps[:, None]

    def each(outputs: jax.Array, y: Any) -> jax.Array:
        padding = lambda there: 1 - there.astype(jnp.float32)
        labels = y["labels"]
        return optax.ctc_loss(outputs, padding(live(outputs, y)), labels, padding(labels != 0))

    def loss(outputs: jax.Array, y: Any, smoothing: float, share: Any) -> jax.Array:
        del smoothing, share
        return jnp.mean(each(outputs, y))

    def sums(run: Callable, x: Any, y: Any, weight: jax.Array) -> tuple:
        outputs, labels = run(x), y["labels"]
        guess, m = collapse(jnp.argmax(outputs, -1), live(outputs, y))
        n = jnp.sum(labels != 0, -1)
        edits = jax.vmap(edit_distance)(guess, labels, m, n)
        parts = each(outputs, y), edits, n, edits == 0
        return tuple(jnp.sum(weight * part) for part in parts)

    def finish(sums: tuple, n: int) -> dict[str, jax.Array]:
        total, edits, labels, exact = sums
        error = edits / jnp.maximum(labels, 1)
        return {"character_error": error, "exact_match": exact / n, "loss": total / n}

    names, less = ("character_error", "exact_match", "loss"), ("character_error", "loss")
    return Task("ctc", loss, sums, finish, metrics=names, score="character_error", lower=less)


TASKS: dict[str, Callable[..., Task]] = {
    "classification": classification,
    "ctc": ctc,
    "language_model": language_model,
    "multi_label": multi_label,
    "regression": regression,
    "segmentation": segmentation,
    "sequence_to_sequence": sequence_to_sequence,
    "super_resolution": super_resolution,
}


def task_of(task: Task | None, classes: int | None) -> Task:
    """The task given, or that of a classifier."""
    if task is not None:
        return task
    if classes is None:
        raise InputError("what is to be learned? give task=..., or classes=N for a classifier")
    return classification(classes)
