# SPDX-License-Identifier: Apache-2.0
"""What agents with real-valued actions share: a network that acts, one that values actions, and how both lie in the
flat params: [actor | critic | more], followed by how to explore when acting.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from shoal.agents.actor_critic import ground
from shoal.agents.base import Agent, Part, Replayed
from shoal.agents.critic import Critic
from shoal.agents.host_control import LOG_STD_MAX, LOG_STD_MIN, Control, acting_on_control
from shoal.agents.replayed import batch_of, learning_by
from shoal.errors import ConfigError
from shoal.losses.control import Noisy, Squashed
from shoal.losses.distributions import DiagGaussian
from shoal.types import Array, Box, EnvSpec, PyTree


class Networks(NamedTuple):
    """What losses ask of flat params [P] and rows [N, ...]."""

    heads: Callable[[Array, PyTree], tuple[Array, Array]]
    """(params, obs) -> (head [N, K], value [N]) of the network that acts"""
    critic: Critic | None
    control: Control
    actor: Part
    judge: Part
    """the critic's params"""
    more: Part

    def policy(self, params: Array, obs: PyTree) -> Squashed:
        """The policy that is drawn from."""
        mean, log_std = jnp.split(self.heads(params, obs)[0], 2, -1)
        return Squashed(DiagGaussian(mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)))

    def action(self, params: Array, obs: PyTree) -> Array:
        """The action that a policy is sure of, [N, D]."""
        return jnp.tanh(self.heads(params, obs)[0][..., : self.control.dims])

    def values(self, params: Array, obs: PyTree, action: Array) -> tuple[Array, Array]:
        """What two critics [N] hold of actions [N, D]."""
        assert self.critic is not None
        return self.critic.values(params, obs, action)


def make_control(  # noqa: PLR0913 - what such agents differ in
    spec: EnvSpec,
    network: Callable[..., Any],
    config: Any,
    learns: Callable[[Networks], Replayed],
    *,
    drawn: bool = False,
    beside: Callable[[int], int] = lambda _dims: 0,
    critic: bool = True,
    more: tuple[float, ...] = (),
) -> Agent:
    """An agent whose actions are real numbers between -1 and 1, for any way of learning.

    Args:
      learns: how, given the networks.
      drawn: the policy is drawn from; else it is sure of its action.
      beside: numbers that the head has beside the policy's, given those of an action.
      critic: have a network that values actions.
      more: what else is learnt, at its start.

    Raises ConfigError for other actions than real numbers, and for networks that carry memory.

    Check: acting in NumPy and in JAX give the same actions for the same noise.
    """
    if not isinstance(spec.action, Box):
        raise ConfigError(
            f"this agent takes actions that are real numbers, {spec.id} takes {type(spec.action).__name__} actions; "
            "use dqn or ppo"
        )
    dims = spec.action.head_size
    control = Control(dims, (2 if drawn else 1) * dims + beside(dims), size=0, drawn=drawn)
    model, acts = ground(control.head_spec(spec), network, config)
    if model.recurrent:
        raise ConfigError("this agent learns from rows in no order, so it carries no memory; use another network")
    judge = Critic(spec, network, dims, model.size) if critic else None
    end = judge.end if judge else model.size
    control = replace(control, size=end + len(more))
    networks = Networks(
        heads=lambda params, obs: model.heads(params, obs, ())[:2],
        critic=judge,
        control=control,
        actor=Part(0, model.size),
        judge=Part(model.size, end),
        more=Part(end, control.size),
    )
    learning = learning_by(learns(networks), control.size, partial(batch_of, config, model))
    return acting_by(Agent(**acts, **learning._asdict()), spec, networks, more, rated=config.priorities != "none")


def acting_by(agent: Agent, spec: EnvSpec, networks: Networks, more: tuple[float, ...], *, rated: bool) -> Agent:
    """An agent that gives heads, as one that acts by its policy.

    Args:
      rated: what actions are worth will be asked while acting; of policies only that are sure of their action.
    """
    control, critic = networks.control, networks.critic

    def init(seed: int) -> np.ndarray:
        judge = [] if critic is None else [critic.init(seed)]
        return np.concatenate([agent.init(seed), *judge, np.asarray(more, np.float32)])

    def policy(params: Array, obs: PyTree, memory: PyTree) -> tuple[Any, PyTree]:
        deviation = params[control.size] if len(params) > control.size else jnp.float32(0)
        if control.drawn:
            return networks.policy(params, obs)._replace(deviation=deviation), memory
        return Noisy(networks.action(params, obs), deviation), memory

    asked = critic if rated and not control.drawn else None
    plan = agent.plan and {**agent.plan, "control": asdict(control), "critic": asked.plan if asked else ()}
    return replace(
        acting_on_control(agent, control, spec, asked.value if asked else None),
        init=init,
        policy=policy,
        layers=agent.layers | (critic.layers if critic else {}),
        plan=None if plan and plan["critic"] is None else plan,
    )
