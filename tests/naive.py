"""Layers of transformers and of networks over series in plain NumPy, one example at a time."""

from typing import Any

import jax
import numpy as np
from scipy.special import expit


def norm(p: Any, x: Any) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * p["scale"] + p["bias"]


def dense(p: Any, x: Any) -> Any:
    return x @ p["kernel"] + p["bias"]


def rotate(x: Any) -> Any:
    """Pairs of a head as complex numbers, turned by an angle each: `[T, D]`."""
    half = x.shape[-1] // 2
    z = x[:, :half] + 1j * x[:, half:]
    turn = np.exp(1j * np.outer(np.arange(len(x)), 10_000.0 ** (-np.arange(half) / half)))
    return np.concatenate([(z * turn).real, (z * turn).imag], -1)


def attention(
    p: Any, x: Any, memory: Any, live: Any, causal: bool, turn: bool, head: int = 4
) -> Any:
    """Head by head and query by query."""
    q, k, v = (dense(p[n], y) for n, y in (("query", x), ("key", memory), ("value", memory)))
    out = np.zeros_like(q)
    for h in range(q.shape[-1] // head):
        own = slice(h * head, (h + 1) * head)
        a, b = (rotate(q[:, own]), rotate(k[:, own])) if turn else (q[:, own], k[:, own])
        for t in range(len(x)):
            seen = [s for s in range(len(memory)) if live[s] and not (causal and s > t)]
            score = np.asarray([a[t] @ b[s] / np.sqrt(head) for s in seen])
            weight = np.exp(score - score.max())
            out[t, own] = (weight / weight.sum()) @ v[seen][:, own]
    return dense(p["out"], out)


def line(x: Any, kernel: Any, causal: bool = False, stride: int = 1) -> Any:
    """A convolution along time: a kernel `[k, C]` for each channel, or `[k, C, D]`."""
    before = len(kernel) - 1 if causal else len(kernel) // 2
    y = []
    for t in range(0, len(x), stride):
        taps = [
            x[t + i - before] * w if w.ndim == 1 else x[t + i - before] @ w
            for i, w in enumerate(kernel)
            if 0 <= t + i - before < len(x)
        ]
        y.append(sum(taps, np.zeros(kernel.shape[-1])))
    return np.stack(y)


def separable(p: Any, x: Any, live: Any, causal: bool) -> Any:
    if "gate" in p:
        x = dense(p["value"], x) * expit(dense(p["gate"], x))
    y = line(x * live[:, None], p["depthwise"]["kernel"], causal)
    return dense(p["out"], y + p["depthwise"]["bias"])


def gru(p: Any, d: int, x: Any) -> Any:
    """One direction, from the first frame of x to the last."""
    h, out = np.zeros(p["bias"].shape[-1]), []
    for frame in x:
        w, u = (
            np.einsum("i,igj->gj", y, p[n][d]) for y, n in ((frame, "kernel"), (h, "recurrent"))
        )
        given = w + p["bias"][d]
        r, z = expit(given[0] + u[0]), expit(given[1] + u[1])
        h = (1 - z) * np.tanh(given[2] + r * (u[2] + p["inner"][d])) + z * h
        out.append(h)
    return np.stack(out)


def lstm(p: Any, d: int, x: Any) -> Any:
    """One direction, from the first frame of x to the last."""
    h = s = np.zeros(p["bias"].shape[-1])
    out = []
    for frame in x:
        w, u = (
            np.einsum("i,igj->gj", y, p[n][d]) for y, n in ((frame, "kernel"), (h, "recurrent"))
        )
        i, f, g, o = w + u + p["bias"][d]
        s = expit(f) * s + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(s)
        out.append(h)
    return np.stack(out)


def recurrent(kind: str, p: Any, x: Any) -> Any:
    """In one direction, or the sum of both, as the weights have it."""
    run = gru if kind == "gru" else lstm
    y = run(p, 0, x)
    return y if len(p["bias"]) == 1 else y + run(p, 1, x[::-1])[::-1]


def layer(p: Any, i: int) -> Any:
    """The weights of a layer, of blocks that are alike and stacked, or that are not."""
    return p["blocks"][i] if "blocks" in p else jax.tree.map(lambda leaf: leaf[i], p["block"])
