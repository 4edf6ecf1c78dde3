# SPDX-License-Identifier: Apache-2.0
"""NAF: values that fall off quadratically around their best action, so that Q-learning needs no policy beside it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from shoal.agents.base import Agent, Replayed
from shoal.agents.control import Networks, make_control
from shoal.losses import action_values as av
from shoal.losses.control import quadratic_advantage
from shoal.types import Array, Batch, EnvSpec, PyTree


def make_naf(spec: EnvSpec, network: Callable[..., Any], config: Any) -> Agent:
    """The agent for one environment. Raises ConfigError as `make_control` does.

    Check: over a grid of actions the value is greatest at the policy's action, and there it is the state's.
    """

    def learns(networks: Networks) -> Replayed:
        return Replayed(partial(_loss, networks))

    return make_control(spec, network, config, learns, beside=lambda dims: dims * (dims + 1) // 2, critic=False)


def action_values(networks: Networks, params: Array, obs: PyTree, action: Array) -> Array:
    """Values [N] of actions [N, D]: V(obs) + advantage (Gu et al. 2016, arXiv 1603.00748, equations 2 and 3).

    Check: no action is worth more than the policy's.
    """
    head, value = networks.heads(params, obs)
    dims = networks.control.dims
    return value + quadratic_advantage(action, jnp.tanh(head[:, :dims]), head[:, dims:])


def _loss(networks: Networks, params: Array, target: Array, batch: Batch, _key: Array):
    """Half the squared error to r + discount * V(next obs): the value of the best action, known in closed form."""
    _, future = networks.heads(target, batch.next_obs)
    value = action_values(networks, params, batch.obs, batch.action.reshape(len(batch.reward), -1))
    error = av.target_of(batch.reward, batch.discount, future) - value
    loss = av.weighed(av.huber(error, None), batch.weight)
    metrics = {"loss/value": loss, "loss/value_mean": jnp.mean(value)}
    return loss, (jax.lax.stop_gradient(jnp.abs(error)), metrics)
