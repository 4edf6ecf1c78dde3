# SPDX-License-Identifier: Apache-2.0
"""SAC: a policy that goes uphill on what critics hold of its action and on its own entropy."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from shoal.agents.base import Agent, Replayed
from shoal.agents.control import Networks, make_control
from shoal.losses import action_values as av
from shoal.types import Array, Batch, EnvSpec


def make_sac(spec: EnvSpec, network: Callable[..., Any], config: Any) -> Agent:
    """The agent for one environment; the last of its params is the temperature's logarithm. Raises ConfigError as
    `make_control` does.

    Check: no part of the params gets a gradient from another part's loss.
    """

    def learns(networks: Networks) -> Replayed:
        parts = networks.judge, networks.actor, *([networks.more] if config.learn_temperature else [])
        return Replayed(partial(_loss, config, networks), parts)

    return make_control(spec, network, config, learns, drawn=True, more=(math.log(config.temperature),))


def _loss(config: Any, networks: Networks, params: Array, target: Array, batch: Batch, key: Array):
    """Critics, policy and temperature of Haarnoja et al. 2018 (arXiv 1812.05905), equations 5, 9 and 18; of two critics
    the lower is trusted. Entropy of steps within an n-step return is left out."""
    counts = (batch.weight > 0).astype(jnp.float32)
    held, action = jax.lax.stop_gradient(params), batch.action.reshape(len(batch.reward), -1)
    log_temperature = params[networks.more.first]
    temperature = jnp.exp(jax.lax.stop_gradient(log_temperature))
    noise = jax.random.normal(key, (2, *action.shape))

    next_action, next_log_prob = networks.policy(held, batch.next_obs).draw(noise[0])
    future = jnp.minimum(*networks.values(target, batch.next_obs, next_action)) - temperature * next_log_prob
    aim = av.target_of(batch.reward, batch.discount, future)
    errors = [aim - value for value in networks.values(params, batch.obs, action)]
    critic = sum(av.weighed(av.huber(error, None), batch.weight) for error in errors)

    chosen, log_prob = networks.policy(params, batch.obs).draw(noise[1])
    worth = jnp.minimum(*networks.values(held, batch.obs, chosen))
    policy = av.weighed(temperature * log_prob - worth, counts)

    wanted = -networks.control.dims if config.target_entropy is None else config.target_entropy
    missing = av.weighed(jax.lax.stop_gradient(log_prob) + wanted, counts)
    metrics = {
        "loss/value": critic, "loss/policy": policy, "loss/entropy": -av.weighed(log_prob, counts),
        "loss/temperature": temperature, "loss/value_mean": jnp.mean(worth),
    }  # fmt: skip
    off = jax.lax.stop_gradient(sum(jnp.abs(error) for error in errors) / 2)
    return critic + policy - log_temperature * missing, (off, metrics)
