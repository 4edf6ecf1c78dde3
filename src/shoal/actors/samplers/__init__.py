# SPDX-License-Identifier: Apache-2.0
"""Samplers: what an actor collects with. One contract, and the same rows from each of them.

    serial       env -- act -- env -- act --                    all in the actor's thread
    parallel     worker (n): env -- act -- env -- act --        into one buffer that all share; two barriers a batch
    central      worker (n): env ----rows---> act ----actions---> env                 by size or deadline
    alternating  group 0: env ---> act ---> env ---> act --->   one group steps while the other is served
                 group 1: ---> act ---> env ---> act ---> env

What an environment does is a function of seed, environment index and step alone, so with the same params all of them
give the same trajectories. `async` is no way to collect but a way to hand over, see `actors.synchronous.act_ahead`.
"""

from collections.abc import Callable
from typing import Any, Protocol

from shoal import seeds
from shoal.actors.rollout import Rollout
from shoal.envs.base import VectorEnv
from shoal.envs.wrappers.rest import Resting
from shoal.types import Array, Trajectory


class Sampler(Protocol):
    """Environments of one actor, carried from unroll to unroll."""

    def unroll(self, params: Array, version: int, length: int) -> Trajectory:
        """`length` steps of every environment under params published as `version`: arrays [T, B, ...].

        Once handed on a trajectory is the receiver's: nothing is written into it any more. Raises EnvironmentFault for
        what an environment does wrong.
        """
        ...

    def close(self) -> None:
        """Free what the environments hold."""
        ...


def way_of(config: Any) -> str:
    """How an actor collects: serial, parallel, central or alternating."""
    if config.sampler in ("auto", "async"):
        return "central" if config.env_workers else "serial"
    return config.sampler


def start(index: int, config: Any, parts: Any, epoch: int = 0) -> Sampler:
    """The sampler of actor `index`: its share of the environments, their episodes opened.

    An actor that was started anew (`epoch` above 0) does not relive what it did before: its seed is another one.
    """
    if parts.sampler is not None:
        return parts.sampler(index, config, parts.agent)
    first = index * config.envs_per_actor
    seed = seeds.derive(parts.seed, "epoch", epoch) if epoch else parts.seed
    way, num_envs = way_of(config), config.envs_per_actor
    if way == "parallel":
        from shoal.actors.samplers.parallel import ParallelSampler

        return ParallelSampler(config, parts, seed=seed, first_index=first)
    if way == "alternating":
        from shoal.actors.samplers.alternating import AlternatingRollout, in_groups

        env = in_groups(lambda size, at: at_rest(config, parts.make_env(size, at)), num_envs, first)
        return rollout_over(env, config, parts.agent, seed, first, AlternatingRollout, overlap=config.alternate_overlap)
    env = at_rest(config, parts.make_env(num_envs, first))
    if way == "central" and (config.inference_batch or config.inference_deadline_s is not None):
        from shoal.actors.samplers.central import CentralRollout

        limits = {"batch": config.inference_batch, "deadline_s": config.inference_deadline_s}
        return rollout_over(env, config, parts.agent, seed, first, CentralRollout, **limits)
    # environments written in JAX are stepped together with the agent in one compiled call, where it can be compiled
    compiled = hasattr(env, "traced") and hasattr(parts.agent, "policy") and not config.decorrelate
    return rollout_over(env, config, parts.agent, seed, first, _compiled if compiled else Rollout)


def rollout_over(  # noqa: PLR0913 - what every way of collecting is made of
    env: VectorEnv, config: Any, agent: Any, seed: int, first: int, made: Callable[..., Any], **settings: Any
) -> Any:
    """A rollout of class `made` over environments, which are closed where it cannot be made."""
    try:
        return made(
            env,
            agent,
            seed=seed,
            first_index=first,
            return_discount=config.discount if config.normalise_reward else None,
            decorrelate=config.decorrelate,
            **settings,
        )
    except BaseException:
        env.close()
        raise


def at_rest(config: Any, env: VectorEnv) -> VectorEnv:
    """Environments that rest where the config wants it, else as they are; closed where they cannot."""
    if config.reset != "wait":
        return env
    try:
        return Resting(env)
    except BaseException:
        env.close()
        raise


def _compiled(env: VectorEnv, agent: Any, *, decorrelate: int, **settings: Any) -> Any:
    from shoal.actors.jitted import JittedRollout

    return JittedRollout(env, agent, **settings)
