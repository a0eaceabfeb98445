"""Recurrent layers along time, in one direction or in both, of a chosen width.

GRU (Cho et al. 2014, arXiv 1406.1078), and LSTM (Hochreiter and Schmidhuber 1997) with a forget
gate.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jnas.nets import initial
from jnas.nets.sizes import Size

GATES = {"gru": 3, "lstm": 4}


class Recurrent(nnx.Module):
    """A recurrent layer; of two directions the outputs are added, as in arXiv 1512.02595.

    With gates r, z (reset, update) the GRU is, as cuDNN has it,
    `n = tanh(W x + b + r * (U h + c)), h' = (1 - z) n + z h`; the LSTM with gates i, f, o is
    `s' = f s + i tanh(W x + U h + b), h' = o tanh(s')`, its forget gate open at the start.

    Args:
      kind: `gru` or `lstm`.
      inputs: the width of the input.
      width: of the state and the output.
      directions: 1, or 2 for one network from each end.
      rngs: the source of the parameters.
    """

    def __init__(
        self, kind: str, inputs: Size, width: Size, directions: int = 1, *, rngs: nnx.Rngs
    ):
        self.kind, self.inputs, self.width, self.directions = kind, inputs, width, directions
        gates, n = GATES[kind], width.most
        draw = lambda *shape: nnx.Param(initial.uniform(rngs.params(), shape, 1 / math.sqrt(n)))
        self.kernel = draw(directions, inputs.most, gates, n)
        self.recurrent = draw(directions, n, gates, n)
        bias = jnp.zeros((directions, gates, n))
        self.bias = nnx.Param(bias.at[:, 1].set(1.0) if kind == "lstm" else bias)
        if kind == "gru":
            self.inner = nnx.Param(jnp.zeros((directions, n)))  # c

    def used(self, values: Mapping[str, Any]) -> dict[str, tuple]:
        into, out = self.inputs.kept(values), self.width.kept(values)
        kernels = {"kernel": (into, None, out), "recurrent": (out, None, out)}
        return {**kernels, "bias": (None, out), "inner": (out,)}

    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        """Runs over the frames.

        Args:
          x: `[B, T, inputs]`.
          keep: f32[B, T], 0 for padding, over which the state stays and the output is 0.

        Returns:
          `[B, T, width]`.
        """
        both = x[None] if self.directions == 1 else jnp.stack([x, jnp.flip(x, 1)])
        there = keep[None] if self.directions == 1 else jnp.stack([keep, jnp.flip(keep, 1)])
        gates, n = GATES[self.kind], self.width.most
        kernel = self.kernel[...].reshape(self.directions, -1, gates * n)
        known = jnp.einsum("dbti,dij->tdbj", both, kernel)
        known = known + self.bias[...].reshape(self.directions, 1, gates * n)
        recurrent = self.recurrent[...].reshape(self.directions, n, gates * n)
        start = jnp.zeros((self.directions, x.shape[0], n), known.dtype)
        step = self._gru if self.kind == "gru" else self._lstm

        def run(state: Any, frame: tuple) -> tuple:
            given, live = frame
            parts = jnp.einsum("dbi,dij->dbj", state[0], recurrent)
            split = lambda y: jnp.split(y, gates, -1)
            new = step(state, split(given), split(parts))
            state = tuple(jnp.where(live[..., None] > 0, a, b) for a, b in zip(new, state))  # noqa: B905
            return state, state[0]

        first = (start,) if self.kind == "gru" else (start, start)
        out: Any
        _, out = jax.lax.scan(run, first, (known, jnp.moveaxis(there, 2, 0)))
        out = jnp.moveaxis(out, 0, 2) * there[..., None].astype(out.dtype)
        return out[0] if self.directions == 1 else out[0] + jnp.flip(out[1], 1)

    def _gru(self, state: tuple, given: list, parts: list) -> tuple:
        r, z = (jax.nn.sigmoid(given[i] + parts[i]) for i in range(2))
        n = jnp.tanh(given[2] + r * (parts[2] + self.inner[...][:, None]))
        return ((1 - z) * self.width.keep(n) + z * state[0],)

    def _lstm(self, state: tuple, given: list, parts: list) -> tuple:
        i, f, o = (jax.nn.sigmoid(given[k] + parts[k]) for k in (0, 1, 3))
        inner = f * state[1] + i * self.width.keep(jnp.tanh(given[2] + parts[2]))
        return o * jnp.tanh(inner), inner
