# SPDX-License-Identifier: Apache-2.0
"""DDPG and TD3: a policy that goes uphill on what a critic holds of its action."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from shoal.agents.base import Agent, Replayed
from shoal.agents.control import Networks, make_control
from shoal.losses import action_values as av
from shoal.types import Array, Batch, EnvSpec


def make_ddpg(spec: EnvSpec, network: Callable[..., Any], config: Any) -> Agent:
    """The agent for one environment. Raises ConfigError as `make_control` does.

    Check: the critic's gradient leaves the policy alone, and the policy's the critic.
    """

    def learns(networks: Networks) -> Replayed:
        parts = networks.judge, networks.actor._replace(every=config.policy_delay)
        return Replayed(partial(_loss, config, networks), parts)

    return make_control(spec, network, config, learns)


def _loss(config: Any, networks: Networks, params: Array, target: Array, batch: Batch, key: Array):
    """Half the squared error of the critics to r + discount * Q(next obs, next action), of two critics the lower
    (Fujimoto et al. 2018, arXiv 1802.09477, algorithm 1), minus what the policy's action is worth (Lillicrap et al.
    2016, arXiv 1509.02971, equation 6). The latter's gradient is the policy's alone."""
    action = batch.action.reshape(len(batch.reward), -1)
    next_action = networks.action(target, batch.next_obs)
    if config.target_noise:
        noise = config.target_noise * jax.random.normal(key, next_action.shape)
        limit = config.target_noise_clip
        next_action = jnp.clip(next_action + jnp.clip(noise, -limit, limit), -1.0, 1.0)
    futures = networks.values(target, batch.next_obs, next_action)
    aim = av.target_of(batch.reward, batch.discount, jnp.minimum(*futures) if config.twin else futures[0])
    values = networks.values(params, batch.obs, action)
    errors = [aim - value for value in (values if config.twin else values[:1])]
    critic = sum(av.weighed(av.huber(error, None), batch.weight) for error in errors)
    chosen, _ = networks.values(jax.lax.stop_gradient(params), batch.obs, networks.action(params, batch.obs))
    policy = -av.weighed(chosen, (batch.weight > 0).astype(jnp.float32))
    metrics = {"loss/value": critic, "loss/policy": policy, "loss/value_mean": jnp.mean(values[0])}
    off = jax.lax.stop_gradient(sum(jnp.abs(error) for error in errors) / len(errors))
    return critic + policy, (off, metrics)
