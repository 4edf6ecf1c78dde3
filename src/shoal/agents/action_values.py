# SPDX-License-Identifier: Apache-2.0
"""Agents that value actions and act on the best one, but for a share epsilon at random: Q-learning and Sarsa.

The policy's head is read as action values [A]; the value that networks give besides is not used. Params that act are
[network | epsilon], params that learn [network | epsilon | network that targets are made with]; with neither, as when
a trained policy is asked, epsilon is 0 and targets come from the same network.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shoal.agents.actor_critic import Learning, make_agent
from shoal.agents.base import Agent
from shoal.agents.host_values import Reading, acting_on_values
from shoal.agents.model import Model
from shoal.agents.objectives import Objective, counted_actions, flat, rewards_learnt
from shoal.errors import ConfigError
from shoal.losses import action_values as av
from shoal.losses.distributions import Categorical, only_legal
from shoal.losses.returns import n_step_returns
from shoal.trees import tree_leaves, tree_map
from shoal.types import ACTION_MASK, Array, Discrete, EnvSpec, PyTree, Trajectory, without_mask

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
    require_whole_numbers(spec, f"agent={config.agent}", "agent actor_critic")
    minimised = objective(config)

    def learning(model: Model, reading: Reading) -> Learning:
        valuing = with_values(model, reading, spec)
        return Learning(
            prepare=lambda params, trajectory: minimised.prepare(valuing, params, trajectory),
            loss=lambda params, batch: minimised.loss(valuing, params, batch),
        )

    agent = make_valuing(spec, network, learning, config)
    if agent.recurrent:
        raise ConfigError(f"agent={config.agent} carries no memory; use a network without, or agent actor_critic")
    return agent


def make_valuing(
    spec: EnvSpec,
    network: Callable[..., Any],
    learning: Callable[[Model, Reading], Learning],
    config: Any,
    **form: Any,
) -> Agent:
    """An agent that acts on values, for any way of learning over a model whose heads are read by a `Reading`.

    Args:
      learning: gets the model as the network gives it; see `with_values`.
      form: how heads are read; fields of `Reading`.

    Raises ConfigError for other actions than one whole number.

    Check: acting in NumPy and in JAX give the same actions for the same noise.
    """
    actions = require_whole_numbers(spec, "this agent", "one with a policy, such as ppo or sac")
    reading = Reading(actions.n, size=0, **form)
    agent = make_agent(reading.head_spec(spec), network, lambda model: learning(model, reading), config)
    reading = replace(reading, size=max(end for _, end in agent.layers.values()))

    def policy(params: Array, obs: PyTree, memory: PyTree) -> tuple[Any, PyTree]:
        distribution, memory = agent.policy(params, seen(spec, obs), memory)
        q = legal_values(reading, spec, distribution.logits, obs)
        epsilon = params[reading.size] if len(params) > reading.size else jnp.float32(0)
        return EpsilonGreedy(q, epsilon), memory

    return replace(
        acting_on_values(agent, reading, spec),
        policy=policy,
        observe=lambda params, batch: agent.observe(params, batch._replace(obs=seen(spec, batch.obs))),
        plan=agent.plan and {**agent.plan, "reading": asdict(reading)},
    )


def require_whole_numbers(spec: EnvSpec, who: str, remedy: str) -> Discrete:
    """The actions, if each is one whole number. Raises ConfigError for others."""
    if not isinstance(spec.action, Discrete):
        raise ConfigError(
            f"{who} values whole-number actions one by one, {spec.id} takes {type(spec.action).__name__} actions; use "
            f"{remedy}"
        )
    return spec.action


def with_values(model: Model, reading: Reading, spec: EnvSpec) -> Model:
    """The model with values [N, A] of actions as heads, -inf for illegal ones."""

    def heads(params: Array, obs: PyTree, memory: PyTree) -> tuple[Array, Array, PyTree]:
        head, value, memory = model.heads(params, seen(spec, obs), memory)
        return legal_values(reading, spec, head, obs), value, memory

    return model._replace(heads=heads)


def seen(spec: EnvSpec, obs: PyTree) -> PyTree:
    """What the network sees of an observation."""
    return without_mask(obs) if spec.masked else obs


def legal_values(reading: Reading, spec: EnvSpec, head: Array, obs: PyTree) -> Array:
    """Values [..., A] of a head [..., outputs]; -inf for actions that the observation's mask forbids."""
    q = read_values(reading, head)
    return only_legal(q, obs[ACTION_MASK]) if spec.masked else q


def read_values(reading: Reading, head: Array) -> Array:
    """Values [..., A] of a head [..., outputs].

    Check: equals the host's.
    """
    entries = reading.entries(head)
    if not reading.atoms:
        return entries[..., 0]
    return jax.nn.softmax(entries) @ jnp.linspace(reading.low, reading.high, reading.atoms)


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
