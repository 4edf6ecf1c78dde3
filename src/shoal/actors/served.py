# SPDX-License-Identifier: Apache-2.0
"""Acting by request: the actor holds no network. It steps its environments and asks for every action.

In: actions. Out: what each step showed. Prefer it where the network is large beside an observation, or where an
accelerator should act for many actors at once; every step costs a round trip.
"""

from contextlib import closing
from typing import Any, NamedTuple, NoReturn

import numpy as np

from shoal import seeds
from shoal.actors.opening import Opening, open_episodes
from shoal.engines import me, note, phase
from shoal.engines.wires.service import Service
from shoal.envs.base import VectorEnv
from shoal.types import Array, PyTree, Steps


class Seen(NamedTuple):
    """One request: B environments of an actor, and the step that led there."""

    step: int
    """steps that they took since they were opened"""
    obs: PyTree
    """[B, ...] to act on"""
    reward: Array
    """[B] float32; this and the flags are () at step 0, to which no action led"""
    terminated: Array
    """[B] bool"""
    truncated: Array
    """[B] bool"""
    valid: Array
    """[B] bool"""
    opening: Opening | tuple
    """at step 0 what the running episodes came to before, without its obs; later ()"""


def act_by_request(index: int, config: Any, parts: Any, policy: Service) -> NoReturn:
    """One actor's life: say what is seen, wait for actions, step."""
    first = index * config.envs_per_actor
    env, seen = phase("start", opened, first, config, parts, run_seed(parts.seed, me().epoch))
    losses = getattr(env, "take_reports", list)  # nothing to tell where environments cannot be lost
    with closing(env):
        while True:
            action = policy.call(seen)
            steps = phase("env_step", step, env, action)
            seen = Seen(
                seen.step + 1, steps.obs, steps.reward, steps.terminated, steps.truncated, steps.valid, opening=()
            )
            for line in losses():
                note(env_worker_restarted=line)


def run_seed(seed: int, epoch: int) -> int:
    """The seed of an actor's environments and of its noise: one that was started anew does not relive what it did."""
    return seeds.derive(seed, "epoch", epoch) if epoch else seed


def opened(first: int, config: Any, parts: Any, seed: int) -> tuple[VectorEnv, Seen]:
    """An actor's environments, and the first request."""
    env = parts.make_env(config.envs_per_actor, first)
    try:
        discount = config.discount if config.normalise_reward else 0.0
        indices = first + np.arange(config.envs_per_actor)
        opening = open_episodes(env, seed, indices, decorrelate=config.decorrelate, discount=discount)
    except BaseException:
        env.close()
        raise
    return env, Seen(0, opening.obs, (), (), (), (), opening._replace(obs=()))


def step(env: VectorEnv, action: Array) -> Steps:
    """One step of all environments."""
    env.send(env.spec.action.to_env(action))
    return env.recv()
