"""Learners of a policy: REINFORCE and proximal policy optimization."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas.base import Architecture, InputError, Strategy, Trials, propose, rows, settle
from jnas.errors import positive
from jnas.links.policies import Policy
from jnas.links.sums import mean, total


class PolicyState(NamedTuple):
    params: Any  # of the policy
    optimizer: Any  # its state


class Asked(NamedTuple):
    arch: Any  # as it was proposed, leaves [n, ...]
    log_prob: jax.Array  # f32[n, L], under the policy of that time


class Mended(NamedTuple):
    sampled: Any  # architectures as the policy drew them, leaves [n, ...]
    valid: Any  # as they were proposed
    trace: Any  # of the learner


def reinforce(
    policy: Policy, optimizer: optax.GradientTransformation, entropy: float = 0.0
) -> Strategy:
    """REINFORCE: makes architectures of a high reward more probable.

    Williams 1992; Zoph and Le 2017, arXiv 1611.01578, section 3.2. A tell of rows with weights
    `w`, rewards `R` and places `t` is one step of the optimizer up the gradient of

      `sum_k w_k sum_t (R_k log p(a_kt | a_k1 .. a_k,t-1) + entropy * H_kt) / sum_k w_k`

    where `H_kt` is the entropy of the choice at place `t`. `R` is the score as it arrives: put a
    baseline such as `subtract_ema(0.95)` to the right. Rows are taken as samples of the present
    policy.

    Args:
      policy: such as `categorical_policy(space)` or `lstm_controller(space)`.
      optimizer: of its parameters.
      entropy: the weight of the entropy.

    Returns:
      A link that proposes samples of the policy: the first of a chain.

    Raises:
      InputError: the weight of the entropy is negative.
    """
    _check("reinforce", entropy=entropy)

    def loss(params: Any, trials: Trials) -> jax.Array:
        log_prob, spread = policy.evaluate(params, trials.arch)
        gain = trials.score[:, None] * log_prob + entropy * spread
        return -mean(total(gain), trials.weight)

    def learn(state: PolicyState, trials: Trials) -> PolicyState:
        return _step(optimizer, state, jax.grad(loss)(state.params, trials))

    return _learner("reinforce", policy, optimizer, lambda params, arch: (), learn)


def ppo(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    clip: float = 0.2,
    epochs: int = 10,
    entropy: float = 0.0,
) -> Strategy:
    """Proximal policy optimization: several steps on the same rows, each kept close to the last.

    Schulman et al. 2017, arXiv 1707.06347, equation 7; NASNet's learner (Zoph et al. 2018, arXiv
    1707.07012, appendix A.2). With `r_kt` the probability of a choice over that at the time when
    it was proposed, a tell is `epochs` steps of the optimizer up the gradient of

      `sum_k w_k sum_t (min(r_kt R_k, clip(r_kt, 1 - clip, 1 + clip) R_k) + entropy * H_kt)`

    over `sum_k w_k`. `R` is the score as it arrives: put a baseline such as `subtract_ema(0.95)`
    to the right. A row of another strategy, in a mixture, counts as proposed by the present
    policy. There is no critic: all choices of an architecture share its reward.

    Args:
      policy: such as `lstm_controller(space)`.
      optimizer: of its parameters.
      clip: how far a ratio may go; 0.2 is the best of section 6.1.
      epochs: steps for each tell, all of its rows in each; 10 in table 3.
      entropy: the weight of the entropy.

    Returns:
      A link that proposes samples of the policy: the first of a chain.

    Raises:
      InputError: `clip` is not positive, `epochs` is less than 1, or `entropy` is negative.
    """
    _check("ppo", entropy=entropy)
    if not clip > 0:
        raise InputError(f"ppo: clip={clip}: a positive number is needed")
    positive(epochs=epochs)

    def remember(params: Any, arch: Architecture) -> Asked:
        return Asked(arch, policy.evaluate(params, arch)[0])

    def loss(params: Any, trials: Trials, old: jax.Array) -> jax.Array:
        log_prob, spread = policy.evaluate(params, trials.arch)
        ratio = jnp.exp(jnp.clip(log_prob - old, -20, 20))  # infinity times 0 is no gradient
        reward = trials.score[:, None]
        near = jnp.clip(ratio, 1 - clip, 1 + clip)
        gain = jnp.minimum(ratio * reward, near * reward) + entropy * spread
        return -mean(total(gain), trials.weight)

    def learn(state: PolicyState, trials: Trials) -> PolicyState:
        own = _same(trials.trace.arch, trials.arch)
        now = policy.evaluate(state.params, trials.arch)[0]
        old = jnp.where(own[:, None], trials.trace.log_prob, now)

        def epoch(state: PolicyState, _: None) -> tuple[PolicyState, None]:
            gradient = jax.grad(loss)(state.params, trials, old)
            return _step(optimizer, state, gradient), None

        return jax.lax.scan(epoch, state, length=epochs)[0]

    return _learner("ppo", policy, optimizer, remember, learn)


def _learner(
    name: str,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    remember: Callable[[Any, Architecture], Any],
    learn: Callable[[PolicyState, Trials], PolicyState],
) -> Strategy:
    def init(key: jax.Array, arch: Architecture) -> PolicyState:
        del arch
        params = policy.init(key)
        return PolicyState(params, optimizer.init(params))

    def ask(key: jax.Array, state: PolicyState, n: int, trials: Trials | None = None) -> Trials:
        if trials is not None:
            raise ValueError(f"{name} proposes from its own policy: put it first in the chain.")
        arch = policy.sample(state.params, key, n)
        trace = remember(state.params, arch)
        if policy.repair is None:
            return propose(arch)._replace(trace=trace)
        valid = policy.repair(arch)
        return propose(valid)._replace(trace=Mended(arch, valid, trace))

    def tell(key: jax.Array, trials: Trials, state: PolicyState) -> tuple[Trials, PolicyState]:
        del key
        trials = settle(trials, name)
        told = jnp.any(trials.weight > 0)  # a gradient of 0 would still move Adam
        keep = lambda new, old: jnp.where(told, new, old)
        seen = trials if policy.repair is None else _as_sampled(trials)
        return trials, jax.tree.map(keep, learn(state, seen), state)

    return Strategy(init, ask, tell)


def _as_sampled(trials: Trials) -> Trials:
    """Trials as the policy drew them, since what it did is what was worth the score."""
    own = _same(trials.trace.valid, trials.arch)
    arch = rows(own, trials.trace.sampled, trials.arch)
    return trials._replace(arch=arch, trace=trials.trace.trace)


def _step(
    optimizer: optax.GradientTransformation, state: PolicyState, gradient: Any
) -> PolicyState:
    updates, memory = optimizer.update(gradient, state.optimizer, state.params)
    return PolicyState(optax.apply_updates(state.params, updates), memory)


def _same(a: Architecture, b: Architecture) -> jax.Array:
    """Which rows of two batches of architectures are equal: bool[n]."""
    equal = lambda x, y: jnp.all((x == y).reshape(x.shape[0], -1), -1)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jnp.all(jnp.stack([equal(x, y) for x, y in pairs]), 0)


def _check(name: str, entropy: float) -> None:
    if not entropy >= 0:
        raise InputError(f"{name}: entropy={entropy}: a number of at least 0 is needed")
