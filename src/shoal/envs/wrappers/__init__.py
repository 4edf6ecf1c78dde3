# SPDX-License-Identifier: Apache-2.0
"""What can be put around any environment: masks from its info, a time limit, a stack of its last observations.

Rewards and observations are normalised by the learner, rewards clipped by the learner, episodes counted by the actor:
raw data travels. These three change what an episode is or what an agent sees, so they belong to the environment.
"""

from dataclasses import replace
from functools import partial

from shoal.envs.base import EnvFactory
from shoal.errors import ConfigError


def wrapped(
    factory: EnvFactory, frame_stack: int = 1, time_limit: int | None = None, mask_from_info: bool = False
) -> EnvFactory:
    """The factory with wrappers around its environments and the spec that results.

    Args:
      frame_stack: observations that an agent sees at once, the newest included.
      time_limit: agent steps after which an episode is truncated; None for the environment's own limit.
      mask_from_info: take the mask over actions from `info["action_mask"]`.

    Raises:
      ConfigError: a value below 1, or a wrapper that these environments cannot have.
      EnvironmentFault: its info holds no mask.

    Check: 8 wrapped environments give the data of twice 4, where 8 bare ones do.
    """
    origin = factory.origin
    if frame_stack < 1:
        raise ConfigError(f"frame_stack={frame_stack} shows nothing; give a whole number of at least 1")
    if time_limit is not None and time_limit < 1:
        raise ConfigError(f"time_limit={time_limit} leaves no step; give a whole number of at least 1, or none")
    if mask_from_info:
        from shoal.envs.wrappers.mask_from_info import masked_by_info

        factory = masked_by_info(factory)
    if time_limit is not None:
        if factory.limited is None:
            reason = "its environments cannot be told to reset"
            raise ConfigError(f"{factory.name}: time_limit={time_limit} cannot be used: {reason}; set it to none")
        factory = factory.limited(factory, time_limit)
    if frame_stack > 1:
        from shoal.envs.wrappers.frame_stack import FrameStack, stacked_spec

        stack = partial(FrameStack, length=frame_stack)
        factory = factory.around(stack, stacked_spec(factory.spec, frame_stack))
    return factory if factory.origin == origin else replace(factory, origin=origin)
