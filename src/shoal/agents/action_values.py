# SPDX-License-Identifier: Apache-2.0
"""Agents that value actions and act on the best one, but for a share epsilon at random: Q-learning and Sarsa.

The policy's head is read as action values [A]; the value that networks give besides is not used. Params that act are
[network | epsilon], params that learn [network | epsilon | network that targets are made with]; with neither, as when
a trained policy is asked, epsilon is 0 and targets come from the same network.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shoal.agents.actor_critic import make_actor_critic
from shoal.agents.base import Agent
from shoal.agents.model import Model
from shoal.agents.objectives import Objective, counted_actions, flat, rewards_learnt
from shoal.errors import ConfigError
from shoal.losses import action_values as av
from shoal.losses.distributions import Categorical
from shoal.losses.returns import n_step_returns
from shoal.trees import tree_leaves, tree_map
from shoal.types import Array, Discrete, EnvSpec, PyTree, Trajectory

UNROLL = 1_000_000
"""n of n-step targets that reach to the end of the unroll"""


class EpsilonGreedy(NamedTuple):
    """The best action of each row, but for a share epsilon drawn evenly from the legal ones (-inf marks all others)."""

    q: Array
    """[..., A]"""
    epsilon: Array
    """scalar"""

    def sample(self, noise: Array) -> Array:
        """Actions [...] int32 from standard Gumbel noise [..., 1 + A]: the first number says whether to explore, the
        others, added to equal logits, which action then.

        Check: equals the host's `epsilon_greedy`.
        """
        explores = jnp.exp(-jnp.exp(-noise[..., 0])) < self.epsilon
        any_legal = jnp.argmax(jnp.where(self.q > -jnp.inf, noise[..., 1:], -jnp.inf), -1)
        return jnp.where(explores, any_legal, jnp.argmax(self.q, -1)).astype(jnp.int32)

    def log_prob(self, action: Array) -> Array:
        """Log-probability of action [...], [...].

        Check: over all actions the probabilities sum to 1.
        """
        share, best = self._shares()
        taken = jax.nn.one_hot(action, self.q.shape[-1], dtype=jnp.bool_)
        return jnp.log(jnp.sum(jnp.where(taken, share + (1.0 - self.epsilon) * best, 0.0), -1))

    def entropy(self) -> Array:
        """Entropy in nats, [...].

        Check: log of the number of legal actions where epsilon is 1.
        """
        share, best = self._shares()
        return Categorical(jnp.log(share + (1.0 - self.epsilon) * best)).entropy()

    def mode(self) -> Array:
        """The best action, [...] int32."""
        return jnp.argmax(self.q, -1).astype(jnp.int32)

    def _shares(self) -> tuple[Array, Array]:
        """What random actions give each action's probability, and 1 for the best one, [..., A]."""
        legal = self.q > -jnp.inf
        share = jnp.where(legal, self.epsilon / jnp.maximum(jnp.sum(legal, -1, keepdims=True), 1), 0.0)
        return share, jax.nn.one_hot(jnp.argmax(self.q, -1), self.q.shape[-1])


def make_action_values(
    spec: EnvSpec, network: Callable[..., Any], objective: Callable[[Any], Objective], config: Any
) -> Agent:
    """The agent for one environment; `objective(config)` says what it minimises.

    Raises ConfigError for other actions than one whole number, and for networks that carry memory.

    Check: acting in NumPy and in JAX give the same actions for the same noise.
    """
    if not isinstance(spec.action, Discrete):
        raise ConfigError(
            f"agent={config.agent} values whole-number actions one by one, {spec.id} takes "
            f"{type(spec.action).__name__} actions; use agent actor_critic"
        )
    agent = make_actor_critic(spec, network, objective, config)
    if agent.recurrent:
        raise ConfigError(f"agent={config.agent} carries no memory; use a network without, or agent actor_critic")
    size = max(end for _, end in agent.layers.values())

    def bind(params: Array) -> tuple[Any, np.float32]:
        return agent.bind(params), np.float32(params[size] if len(params) > size else 0.0)

    def act(bound: Any, obs: PyTree, memory: PyTree, noise: Array) -> tuple[Array, Array, PyTree]:
        inner, epsilon = bound
        _, q, memory = agent.act(inner, obs, memory, noise[:, 1:])
        return epsilon_greedy(q, epsilon, noise), q, memory

    def policy(params: Array, obs: PyTree, memory: PyTree) -> tuple[Any, PyTree]:
        distribution, memory = agent.policy(params, obs, memory)
        return EpsilonGreedy(distribution.logits, params[size] if len(params) > size else jnp.float32(0)), memory

    return replace(
        agent,
        bind=bind,
        act=act,
        log_prob=lambda bound, q, action: log_prob_epsilon_greedy(q, bound[1], action),
        noise_size=1 + spec.action.n,
        policy=policy,
        plan=agent.plan and {**agent.plan, "greedy": True},
    )


def epsilon_greedy(q: np.ndarray, epsilon: np.float32, noise: np.ndarray) -> np.ndarray:
    """Actions [B] int64 from values q [B, A] and standard Gumbel noise [B, 1 + A]; see `EpsilonGreedy.sample`."""
    best = q.argmax(-1)
    explores = np.exp(-np.exp(-noise[:, 0])) < epsilon
    if not explores.any():
        return best
    return np.where(explores, np.where(q > -np.inf, noise[:, 1:], -np.inf).argmax(-1), best)


def log_prob_epsilon_greedy(q: np.ndarray, epsilon: np.float32, action: np.ndarray) -> np.ndarray:
    """Log-probabilities [T, B] in nats of actions [T, B] under values q [T, B, A]; -inf for what is never taken.

    Check: equals `EpsilonGreedy.log_prob`.
    """
    legal = q > -np.inf
    taken = np.take_along_axis(legal, np.asarray(action)[..., None], -1)[..., 0]
    share = np.where(taken, epsilon / np.maximum(legal.sum(-1), 1), 0)
    with np.errstate(divide="ignore"):
        return np.log(np.where(action == q.argmax(-1), 1 - epsilon, 0) + share).astype(np.float32)


def asynchronous_values(config: Any) -> Objective:
    """What the value-based agents of A3C's paper minimise (Mnih et al. 2016, algorithms 1 and 2, and section 4.2): the
    squared error to targets of one step or to the end of the unroll, under a copy of the params that is held fixed.

    Check: with targets from the same network and trace 0 it is Q-learning's error of every row.
    """
    steps = UNROLL if config.agent == "n_step_q" else 1

    def loss(model: Model, params: Array, batch: Trajectory):
        size = model.size
        q = values(model, params, batch.obs)
        with_target = params.shape[0] > size + 1
        held = values(model, params[size + 1 :], batch.obs) if with_target else jax.lax.stop_gradient(q)
        if config.agent == "one_step_sarsa":
            epsilon = params[size] if params.shape[0] > size else jnp.float32(0)
            future = av.sarsa(held, batch.action, batch.valid, epsilon)
        else:
            future = av.double(held, q) if config.double_q else av.greedy(held)
        reward = rewards_learnt(config, model, params, batch.reward)
        flags = (batch.terminated, batch.truncated, batch.valid)
        target = n_step_returns(reward, future, *flags, discount=config.discount, steps=steps)
        action, weight = counted_actions(batch.action, batch.valid), flat(batch.valid)
        off = av.value_error(flat(q[:-1]), action, flat(target), weight)
        metrics = {"loss/value": off.loss, "loss/value_mean": jnp.mean(av.greedy(q))}
        return off.loss, metrics

    return Objective(lambda _, __, trajectory: trajectory, loss)


def values(model: Model, params: Array, obs: PyTree) -> Array:
    """Action values [T+1, B, A] of all observations [T+1, B, ...] in one pass."""
    steps, envs = tree_leaves(obs)[0].shape[:2]
    q, _, _ = model.heads(params, tree_map(flat, obs), ())
    return q.reshape(steps, envs, -1)
