# SPDX-License-Identifier: Apache-2.0
"""The twin of the parallel sampler: workers that act for themselves, in virtual time, on the cores of the actor's node.

    actor     params, go ----------------------------- all written ---
    worker      '-- act, step -- act, step -- ... -- assemble --'

Two barriers an unroll, and no messages between them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from shoal.engines import Beside, Work, note, phase
from shoal.placement.profile import Profile
from shoal.placement.twin_pool import Stepping, stepping_of
from shoal.placement.unit_costs import IN_PYTHON, acting_of, in_turn, storing_of, work_at
from shoal.types import Array, Trajectory

Sharing = Callable[[int, int], Work]
"""(environments of a worker, steps) -> the work of its part of an unroll"""


class TwinHands:
    """A sampler as `actors.samplers.parallel` is one.

    Args:
      made: (length, num_envs, version) -> a trajectory.
      sharing: what a worker's part costs.

    Check: an unroll takes what the largest share takes where every worker has a core.
    """

    def __init__(
        self, made: Callable[[int, int, int], Trajectory], sharing: Sharing, _index: int, config: Any, _agent: Any
    ):
        self._made, self._sharing, self._num_envs = made, sharing, config.envs_per_actor
        bounds = np.linspace(0, config.envs_per_actor, config.env_workers + 1).astype(int)
        self._shares, self._beside = np.diff(bounds).tolist(), Beside(config.env_workers)

    def unroll(self, params: Array, version: int, length: int) -> Trajectory:
        """Zeros, all of them valid, once every worker is through with its part."""
        phase("prepare", int, 0)
        phase("rollout", self._together, length)
        note(env_steps_generated=length * self._num_envs)
        return self._made(length, self._num_envs, version)

    def close(self) -> None:
        """Nothing is held."""

    def _together(self, length: int) -> None:
        left = len(self._shares)

        def through() -> None:
            nonlocal left
            left -= 1

        for number, share in enumerate(self._shares):
            self._beside.begin(number, self._sharing(share, length), through)
        self._beside.wait(lambda: left == 0)


def sharing_of(profile: Profile, architecture: str, config: Any, at: dict[str, Any]) -> Sharing:
    """What a worker's part of an unroll costs by a profile: each step acts on its share and steps it; it binds the
    params before and assembles after, as an actor of that many environments would. `at` is what `stepping_of` takes."""
    stepping: Stepping = stepping_of(profile, **at)
    trace, speed = profile.trace_of(architecture), at.get("speed", 1.0)

    def sharing(share: int, length: int) -> Work:
        host, acting = acting_of(profile, trace, share)
        acted = work_at(acting, share, speed, IN_PYTHON[host])
        stored = storing_of(trace, config, speed)
        steps = [in_turn(1, acted, *stepping(share, False), stored) for _ in range(length)]
        ends = [] if trace is None else [
            work_at(trace.phases[name], share * length, speed, 1.0)._replace(idle=0.0)
            for name in ("prepare", "assemble") if name in trace.phases
        ]  # fmt: skip
        return in_turn(1, *steps, *ends)

    return sharing


def costs_of_barriers(table: dict[str, Any], profile: Profile, config: Any, speed: float) -> dict[str, Any]:
    """Costs by phase where workers act for themselves: the actor copies params and tells each of them, and wakes up
    when the last has written; the rest is theirs."""
    passing = profile.passing.get("processes")
    wake, turn = (passing.wake_s, passing.turn_s) if passing else (0.0, 0.0)
    copied = 4 * profile.params / profile.copy_bytes_per_s
    busy = (copied + config.env_workers * turn) / speed
    return {**table, "prepare": Work(2 * wake + busy, idle=2 * wake, python=1.0), "rollout": 0.0, "assemble": 0.0}
