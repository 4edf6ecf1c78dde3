# SPDX-License-Identifier: Apache-2.0
"""The twin of environments in workers: in virtual time, on the cores of the actor's node, under the real samplers.

    actor    send ------------ act for others ---- recv (first that are ready) ---
    worker     '-- step -- step --'-- step -- ...

What the actor itself spends on handing out actions and taking rows is left out.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from shoal.actors.samplers import way_of
from shoal.architectures.sampling import ELSEWHERE
from shoal.engines import Beside, Work
from shoal.placement.episodes import USUAL, Course, Lengths
from shoal.placement.profile import Profile
from shoal.placement.twins import twin_steps
from shoal.placement.unit_costs import IN_PYTHON, Uneven, host_curve, in_turn, spread_of, work_at
from shoal.types import Array, EnvSpec, Steps

Stepping = Callable[[int, bool], list[Work]]
"""(environments, whether apart) -> the work of a worker that steps them, of each environment"""


class TwinPool:
    """A VectorEnv as `envs.pool` is one: each of the workers has a range of slots, and steps its environments one after
    the other. Those of a worker answer together, or one by one once the owner does not wait for all.

    Args:
      stepping: what a worker's steps cost.

    Check: N environments that sleep for E over W workers take E * N / W.
    """

    split_invariant = True
    steps_apart = True

    def __init__(  # noqa: PLR0913 - what environments and their workers are made of
        self,
        spec: EnvSpec,
        num_envs: int,
        first_index: int,
        *,
        workers: int,
        stepping: Stepping,
        lengths: Lengths = USUAL,
    ):
        self.spec, self.num_envs = spec, num_envs
        self._course = Course(lengths, first_index, num_envs)
        self._bounds = np.linspace(0, num_envs, workers + 1).astype(int)
        self._stepping, self._beside = stepping, Beside(workers)
        self._taken = np.zeros(num_envs, np.int64)
        self._asked, self._there = np.zeros((2, num_envs), bool)
        self._apart = False

    def reset(self, seed: int) -> None:
        """Start anew, at no cost; the seed changes nothing."""
        self._taken[:] = 0
        self._course.restart()
        self._asked[:] = self._there[:] = True

    def send(self, action: Array, slots: Array | None = None) -> None:
        """Hand out steps; the workers begin at once."""
        chosen = np.arange(self.num_envs) if slots is None else np.asarray(slots)
        if self._asked[chosen].any():
            raise ValueError("an environment was sent an action before its last row was received")
        self._asked[chosen], self._there[chosen] = True, False
        self._taken[chosen] += 1
        owners = np.searchsorted(self._bounds, chosen, side="right") - 1
        for worker in np.unique(owners).tolist():
            mine = chosen[owners == worker]
            works = self._stepping(len(mine), self._apart)
            if self._apart:
                for slot, work in zip(mine.tolist(), works, strict=True):
                    self._beside.begin(worker, work, partial(self._arrive, slot))
            else:
                self._beside.begin(worker, in_turn(1, *works), partial(self._arrive, mine))

    def recv(self, min_ready: int | None = None, deadline_s: float | None = None) -> Steps:
        """Rows of the first environments that are ready: at least `min_ready`, or all under way.

        Args:
          deadline_s: seconds after which those that are ready will do, counted from when there is one.
        """
        flying = int(np.count_nonzero(self._asked))
        if not flying:
            raise ValueError("nothing to receive: send actions first")
        wanted = flying if min_ready is None else min(min_ready, flying)
        self._apart = min_ready is not None or deadline_s is not None
        if deadline_s is not None:
            self._beside.wait(lambda: self._ready() >= 1)
        self._beside.wait(lambda: self._ready() >= wanted, deadline_s)
        slots = np.flatnonzero(self._asked & self._there)
        self._asked[slots] = False
        return twin_steps(self.spec, slots, self._taken[slots], self._course)

    def close(self) -> None:
        """Nothing is held."""

    def _arrive(self, slots: Any) -> None:
        self._there[slots] = True

    def _ready(self) -> int:
        return int(np.count_nonzero(self._asked & self._there))


def stepping_of(profile: Profile, *, speed: float = 1.0, env_times: float = 1.0, seed: int = 0) -> Stepping:
    """What the steps of a worker cost by a profile, each drawn for itself where they were measured to differ.

    Args:
      speed: of a core, beside those that were measured.
      env_times: seconds of an environment step, beside those that were measured.
    """
    uneven = Uneven(spread_of(profile.env_step.near(1)), seed)

    def stepping(count: int, apart: bool) -> list[Work]:
        size = 1 if apart else count
        whole = work_at(profile.env_step, size, speed / env_times, 0.0)  # nobody shares a worker's interpreter
        each = whole._replace(seconds=whole.seconds / size, idle=whole.idle / size)
        return [uneven.once(each) for _ in range(count)]

    return stepping


def costs_of_waiting(
    table: dict[str, Any], profile: Profile, config: Any, speed: float, storing: Work
) -> dict[str, Any]:
    """Costs by phase where environments are in workers: stepping is the workers', `storing` what came of it the
    actor's, and central inference by size or deadline is for those that have answered."""
    found = {**table, "env_step": storing}
    served = config.samplers == ELSEWHERE  # by a server, whose batch is of requests
    limited = config.inference_batch or config.inference_deadline_s is not None
    if served or way_of(config) != "central" or not limited:
        return found
    host, acting = host_curve(profile, config.envs_per_actor)
    batch = config.inference_batch or config.envs_per_actor

    def act(_bound: Any, _rows: Any, slots: Array, _t: Array) -> Work:
        padded = batch if len(slots) <= batch else config.envs_per_actor  # as many as a policy was compiled for
        return work_at(acting, len(slots) if host == "numpy" else padded, speed, IN_PYTHON[host])

    return {**found, "act": act}
