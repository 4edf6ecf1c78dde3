# SPDX-License-Identifier: Apache-2.0
"""Episodes of at most so many steps, for environments whose slots can be told to reset.

Others have their limit where they are made: see `EnvFactory.limited`.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from shoal.envs.base import EnvFactory, RestartableEnv
from shoal.envs.wrappers.base import Wrapper
from shoal.types import Steps


class TimeLimit(Wrapper):
    """Truncates every episode after `limit` agent steps that did not end by itself; the next row of its slot resets.

    The row that truncates holds the observation after its last step, so the value of the future is still known.

    Check: rows up to a truncation are those of the environment without a limit.
    """

    env: RestartableEnv  # type: ignore[assignment]

    def __init__(self, env: RestartableEnv, limit: int):
        super().__init__(env, replace(env.spec, max_episode_steps=shorter(limit, env.spec.max_episode_steps)))
        self._limit = limit
        self._age = np.zeros(env.num_envs, np.int64)

    def _changed(self, rows: Steps) -> Steps:
        slots = rows.slots
        self._age[slots] = np.where(rows.valid, self._age[slots] + 1, 0)
        over = (self._age[slots] >= self._limit) & ~rows.terminated
        if over.any():
            self.env.restart(slots[over])
            rows = rows._replace(truncated=rows.truncated | over)
        return rows


def limited_by_restart(factory: EnvFactory, limit: int) -> EnvFactory:
    """The factory with a TimeLimit around what it makes, which must have `restart`."""
    spec = replace(factory.spec, max_episode_steps=shorter(limit, factory.spec.max_episode_steps))
    return factory.around(partial(TimeLimit, limit=limit), spec)


def shorter(limit: int, known: int | None) -> int:
    """The limit that holds where an environment may have one already."""
    return limit if known is None else min(limit, known)
