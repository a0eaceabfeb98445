"""What a step of a training takes: examples in batches, settings, and the loss."""

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnas.base import Architecture, InputError
from jnas.evaluators.augment import Augment, augment
from jnas.evaluators.augment import check as check_augment
from jnas.evaluators.mesh import split_batch
from jnas.evaluators.shuffle import shuffled
from jnas.evaluators.tasks import Task, mean_cross_entropy
from jnas.nets import Net, dispatch
from jnas.spaces.joint import hyperparameters

DTYPES = ("float32", "bfloat16")
AUGMENTATION = 2**32 - 1  # folded into the key of the order, in which epochs count from 0


class Examples(NamedTuple):
    """Labelled examples, raw; they are scaled by `(x - mean) / std` as they are used.

    Both may be pytrees. Without a mean the inputs are tokens, and become int32 as they are. A
    deviation of 0 is that of a constant, and counts as 1.
    """

    x: Any  # leaves [N, ...]
    y: Any  # int32[N], or what the task takes
    mean: Any = 0.0  # for the last axis of x
    std: Any = 1.0

    @property
    def number(self) -> int:
        """How many examples there are."""
        return int(jax.tree.leaves(self.y)[0].shape[0])

    def scaled(self, raw: Any) -> Any:
        """Raw examples as the inputs of a network: float32, or int32 tokens."""
        if self.mean is None:
            return jax.tree.map(lambda tokens: tokens.astype(jnp.int32), raw)
        return (raw.astype(jnp.float32) - self.mean) / jnp.where(self.std == 0, 1.0, self.std)

    def inputs(self, rows: jax.Array) -> Any:
        """The scaled inputs of some rows."""
        return self.scaled(jax.tree.map(lambda x: x[rows], self.x))

    def labels(self, rows: jax.Array) -> Any:
        """What is to be learned of some rows."""
        return jax.tree.map(lambda y: y[rows], self.y)


class Training(NamedTuple):
    """How a network is trained. What is off by default costs nothing.

    Attributes:
      optimizer: it knows its schedule; or a function from the hyperparameters `{name: f32[]}` of
        an architecture to an optimizer, whose initial state does not depend on them.
      steps: how many.
      batch_size: examples in a step.
      augment: what is done to the images of every batch.
      smoothing: the part of a label that is spread over all classes.
      auxiliary: the weight of the loss of an auxiliary head, of a network that returns `(logits,
        auxiliary logits)` in training.
      ema: decay of the average of weights and batch statistics that is evaluated in their place,
        0 for none. It is corrected for its start, so that initial weights do not enter it.
      dtype: of the forward and backward pass of a step, `float32` or `bfloat16`. Weights,
        optimizer, batch statistics, the loss and all evaluation are float32.
      validate_at: steps after which `train` measures too, such as `accuracy_at_100`.
    """

    optimizer: Any
    steps: int
    batch_size: int = 64
    augment: Augment = Augment()
    smoothing: float = 0.0
    ema: float = 0.0
    dtype: str = "float32"
    validate_at: tuple[int, ...] = ()
    auxiliary: float = 0.0


class Batches(NamedTuple):
    """Shuffled and augmented batches, epoch after epoch."""

    data: Examples
    size: int  # of a batch; all examples where there are fewer
    augment: Augment = Augment()

    def draw(self, key: jax.Array, order: jax.Array, i: Any) -> tuple[jax.Array, tuple]:
        """Batch number `i`.

        Every epoch is a new permutation that depends on `key` and the epoch only, and so does the
        augmentation of a batch on `key` and `i`; the rest of an epoch that does not fill a batch
        is dropped.

        Args:
          key: of the shuffling.
          order: that of the batch before.
          i: counts from 0.

        Returns:
          `(order, (x, y, share))`; `share` is that of mixed labels, or None.
        """
        data, n = self.data, self.data.number
        size = min(self.size, n)
        epoch, place = i // (n // size), i % (n // size)
        words, wrap = dispatch.unwrapped(key)  # batched rows choose by mask, which keys cannot
        shuffle = lambda: shuffled(jax.random.fold_in(wrap(words), epoch), n)
        order = jax.lax.cond(place == 0, shuffle, lambda: order)
        rows = jax.lax.dynamic_slice_in_dim(order, place * size, size)
        if self.augment == Augment():
            return order, (*split_batch((data.inputs(rows), data.labels(rows))), None)
        k_batch = jax.random.fold_in(jax.random.fold_in(key, AUGMENTATION), i)
        x, share = augment(self.augment, k_batch, data.x[rows], data.scaled)
        return order, (*split_batch((x, data.labels(rows))), share)


def check(training: Training, data: Examples, task: Task | None = None) -> None:
    """Raises `InputError` for a setting that cannot be, for a classifier or for a task."""
    for name in ("smoothing", "ema"):
        value = getattr(training, name)
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise InputError(f"{name}={value!r}: it has to be at least 0 and less than 1")
    weight = training.auxiliary
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < inf:
        raise InputError(f"auxiliary={weight!r}: a number of at least 0 is needed")
    if training.dtype not in DTYPES:
        raise InputError(f"dtype {training.dtype!r}: allowed are {', '.join(DTYPES)}")
    at, steps = training.validate_at, training.steps
    fine = isinstance(at, tuple | list) and all(type(i) is int and 1 <= i <= steps for i in at)
    if not fine or len(set(at)) < len(at):
        raise InputError(
            f"validate_at={at!r}: different whole numbers from 1 to {steps} are needed"
        )
    check_augment(training.augment, np.shape(jax.tree.leaves(data.x)[0]))
    if training.augment.mixup and data.mean is None:
        raise InputError(f"mixup={training.augment.mixup}: tokens cannot be mixed")
    used = {**training.augment._asdict(), "smoothing": training.smoothing}
    for name, value in used.items():
        if value and task is not None and name not in task.takes:
            raise InputError(f"{name}={value!r}: it cannot be used for the task {task.name}")


def forward(net: Net, training: Training) -> Callable[..., tuple[jax.Array, Any]]:
    """`(params, state, arch, x, sparse=False) -> (logits, state)`, the logits in float32 or wider.

    The network runs in the mode of training and in the training's dtype.
    """
    run = _heads(net, training)

    def f(*args: Any) -> tuple[jax.Array, Any]:
        heads, new = run(*args)
        return heads[0], new

    return f


def loss(
    net: Net, training: Training, task: Task | None = None
) -> Callable[..., tuple[jax.Array, Any]]:
    """`(params, state, arch, batch, sparse=False) -> (loss, state)`, with the training's labels.

    The network runs in the mode of training and in the training's dtype. The loss is that of a
    classifier, or of a task.
    """
    run, loss_of = _heads(net, training), mean_cross_entropy if task is None else task.loss

    def f(params: Any, state: Any, arch: Architecture, batch: tuple, sparse: bool = False) -> tuple:
        x, y, share = batch
        heads, new = run(params, state, arch, x, sparse)
        if training.auxiliary and len(heads) == 1:
            raise InputError(
                f"auxiliary={training.auxiliary}: the network has no auxiliary head, whose loss it "
                "would weigh; the net of DARTS has one by auxiliary=True"
            )
        mean = lambda logits: loss_of(logits, y, training.smoothing, share)
        total = mean(heads[0])
        if training.auxiliary:
            total += training.auxiliary * mean(heads[1])
        return total, new

    return f


def _heads(net: Net, training: Training) -> Callable[..., tuple[list[jax.Array], Any]]:
    """The logits of the classifier, and of an auxiliary head where there is one."""

    def f(params: Any, state: Any, arch: Architecture, x: jax.Array, sparse: bool = False) -> tuple:
        small = (params, arch, x) if training.dtype == "float32" else _cast((params, arch, x))
        how = {"sparse": True} if sparse else {}
        found, new = net.apply(small[0], state, small[1], small[2], train=True, **how)
        new = jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), new, state)
        heads = found if isinstance(found, tuple) else (found,)
        wide = lambda z: z.astype(jnp.promote_types(z.dtype, jnp.float32))
        return [wide(z) for z in heads], new

    return f


def optimizer_of(net: Net, training: Training, arch: Architecture) -> optax.GradientTransformation:
    """The optimizer of an architecture's weights."""
    rule = training.optimizer
    return rule(hyperparameters(net.space, arch)) if callable(rule) else rule


def is_float(x: jax.Array) -> bool:
    """Whether an array is of a floating dtype."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def _cast(tree: Any) -> Any:
    half = lambda x: x.astype(jnp.bfloat16) if is_float(x) else x
    return jax.tree.map(half, tree)
