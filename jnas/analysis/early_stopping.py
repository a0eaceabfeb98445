"""When a gradient search should have stopped, from what was recorded at each of its epochs."""

import jax
import jax.numpy as jnp
import numpy as np

from jnas.base import Architecture, InputError, Space, places


def robust_darts_stop(
    eigenvalues: jax.Array, window: int = 5, ratio: float = 0.75, since: int = 0
) -> jax.Array:
    """RobustDARTS' early stopping: before the dominant eigenvalue rises fast.

    Zela et al. 2020, arXiv 1909.09656, section 4.3: with the eigenvalue averaged over a window,
    search stops at the first epoch i with `mean[i - window] / mean[i] < ratio`, and the
    architecture is that of epoch `i - window`.

    Args:
      eigenvalues: the dominant one of the Hessian of the validation loss in the architecture, after
        every epoch, f32[T]: see `jnas.evaluators.curvature`.
      window: epochs averaged over and looked back; 5 there.
      ratio: 0.75 there.
      since: the first epoch at which it may stop.

    Returns:
      int32[], the epoch whose architecture is taken, counted from 0; the last where it never stops.
    """
    if window < 1 or not 0 < ratio < 1:
        raise InputError(
            f"robust_darts_stop(window={window}, ratio={ratio}): a window of at least 1 and a "
            "ratio between 0 and 1 are needed"
        )
    x = jnp.asarray(eigenvalues)
    epochs = np.arange(x.shape[0])
    begin = np.maximum(epochs - window + 1, 0)  # the first windows are not full
    total = jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(x)])
    mean = (total[epochs + 1] - total[begin]) / (epochs + 1 - begin)
    before = mean[np.maximum(epochs - window, 0)]
    stops = (mean > 0) & (before < ratio * mean) & (epochs >= max(window, since))
    return jnp.where(jnp.any(stops), jnp.argmax(stops) - window, x.shape[0] - 1).astype(jnp.int32)


def skip_connections(space: Space, arch: Architecture, label: str = "skip_connect") -> jax.Array:
    """How many places of architectures have chosen skip-connections: int32[...].

    Args:
      space: the space, whose labels name the operations.
      arch: int architectures, leaves `[..., *shape]`.
      label: the name of the operation.

    Raises:
      InputError: no label of the space has that name.
    """
    found: list[jax.Array] = []
    for x, row in zip(jax.tree.leaves(arch), places(space), strict=True):
        if label in row.common:
            axes = tuple(range(jnp.ndim(x) - row.counts.ndim, jnp.ndim(x)))
            hit = jnp.asarray(x) == row.common.index(label)
            found.append(jnp.sum(hit, axes, dtype=jnp.int32))
    if not found:
        raise InputError(f"space {space.name!r} has no operation {label!r}")
    return jnp.sum(jnp.stack(found), 0)


def darts_plus_stop(skips: jax.Array, allowed: int = 1) -> jax.Array:
    """DARTS+' early stopping: before a cell has two skip-connections.

    Liang et al. 2019, arXiv 1909.06035, criterion 1: search stops when there are two or more
    skip-connections in one normal cell.

    Args:
      skips: how many the derived cell has after every epoch, int32[T]: see `skip_connections`.
      allowed: the most that a cell may have; 1 there.

    Returns:
      int32[], the epoch whose architecture is taken, counted from 0: the one before the first with
      too many; the last where it never stops, and 0 where it is too late at once.
    """
    over = jnp.asarray(skips) > allowed
    last = over.shape[0] - 1
    at = jnp.where(jnp.any(over), jnp.argmax(over) - 1, last)
    return jnp.maximum(at, 0).astype(jnp.int32)


def settled_stop(orders: jax.Array, patience: int = 10) -> jax.Array:
    """DARTS+' other criterion: the ranking of the architecture's weights has settled.

    Liang et al. 2019, arXiv 1909.06035, criterion 2: search stops when the order of the weights of
    the operations that can be learned stays the same for 10 epochs.

    Args:
      orders: the choices of every place in order of weight after every epoch, int32[T, ...].
      patience: epochs for which it has to stay.

    Returns:
      int32[], the epoch whose architecture is taken, counted from 0; the last where it never stops.
    """
    if patience < 1:
        raise InputError(f"settled_stop(patience={patience}): at least 1 epoch is needed")
    x = jnp.asarray(orders).reshape(len(orders), -1)
    same = jnp.concatenate([jnp.zeros(1, bool), jnp.all(x[1:] == x[:-1], -1)])
    run = jax.lax.scan(lambda n, s: ((n + 1) * s, (n + 1) * s), jnp.int32(0), same)[1]
    settled = run >= patience
    last = x.shape[0] - 1
    return jnp.where(jnp.any(settled), jnp.argmax(settled), last).astype(jnp.int32)
