# SPDX-License-Identifier: Apache-2.0
"""Alternating: environments in two groups, one of which steps while the other is served.

With B environments of E seconds on W cores and inference that takes a + b seconds a row, a step of all of them takes
(B/W) E + a + b B without groups and max((B/W) E, 2 a + b B) with two: it pays where stepping a batch takes longer than
the second call's fixed cost. Stooke & Abbeel 2018 (arXiv 1803.02811), section 3.1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from shoal.actors.rollout import Rollout, Rows
from shoal.agents.host_policy import reset_memory
from shoal.engines import phase
from shoal.envs.base import VectorEnv
from shoal.trees import read_at, tree_map, write_at
from shoal.types import Array, PyTree, Steps


class Groups:
    """Two groups of environments, each a VectorEnv with its own workers, that can also be used as one."""

    def __init__(self, groups: list[VectorEnv]):
        self.groups = groups
        first = groups[0]
        self.spec, self.split_invariant = first.spec, first.split_invariant
        self.steps_apart = all(group.steps_apart for group in groups)
        sizes = [group.num_envs for group in groups]
        self.num_envs, self._middle = sum(sizes), sizes[0]
        self.slots = [slice(0, self._middle), slice(self._middle, self.num_envs)]
        self._under_way = [False, False]

    def reset(self, seed: int) -> None:
        for group in self.groups:
            group.reset(seed)
        self._under_way = [True, True]

    def begin_batch(self) -> None:
        """Tell environments that rest that they may go on."""
        for group in self.groups:
            getattr(group, "begin_batch", lambda: None)()

    def send(self, action: Array, slots: Array | None = None) -> None:
        chosen = np.arange(self.num_envs) if slots is None else np.asarray(slots)
        for number, (group, place) in enumerate(zip(self.groups, self.slots, strict=True)):
            mine = (chosen >= place.start) & (chosen < place.stop)
            if mine.any():
                group.send(action[mine], None if slots is None else chosen[mine] - place.start)
                self._under_way[number] = True

    def recv(self, min_ready: int | None = None) -> Steps:
        """Rows of all that were sent an action, of the first group first."""
        parts = []
        for number, (group, place) in enumerate(zip(self.groups, self.slots, strict=True)):
            if self._under_way[number]:
                rows = group.recv()
                parts.append(rows._replace(slots=rows.slots + place.start))
                self._under_way[number] = False
        return tree_map(lambda *leaves: np.concatenate(leaves), parts[0], *parts[1:])

    def take_reports(self) -> list[str]:
        """A line for each worker that was started anew."""
        return [line for group in self.groups for line in getattr(group, "take_reports", list)()]

    def close(self) -> None:
        for group in self.groups:
            group.close()


def in_groups(make: Callable[[int, int], VectorEnv], num_envs: int, first_index: int) -> Groups:
    """Environments in two halves; `make(size, first index)` makes each."""
    half, made = num_envs // 2, []
    try:
        for size, at in ((half, first_index), (num_envs - half, first_index + half)):
            made.append(make(size, at))
    except BaseException:
        for group in made:
            group.close()
        raise
    return Groups(made)


class AlternatingRollout(Rollout):
    """A rollout that serves two groups by turns. Each has its own memory, noise and rows.

    Args:
      overlap: let a group step while the other still does; without, one begins when the other has answered, and has
        the cores to itself.

    Check: actions are those of `Rollout`, overlapping or not.
    """

    env: Groups

    def __init__(self, env: Groups, agent: Any, *, overlap: bool, **settings: Any):
        super().__init__(env, agent, **settings)
        self.overlap = overlap
        self.initials = [read_at(self.initial_memory, place) for place in env.slots]

    def _collect(self, bound: object, rows: Rows) -> PyTree:
        memories = [read_at(self.memory, place) for place in self.env.slots]
        flying: list[int | None] = [None, None]
        """the step that a group is in"""

        def receive(group: int) -> None:
            t = flying[group]
            if t is not None:
                memories[group] = phase("env_step", self._receive, rows, t, group, memories[group])
                flying[group] = None

        for t in range(len(rows.reward)):
            for group in (0, 1):
                receive(group)
                action, memories[group] = phase("act", self._serve, bound, rows, t, group, memories[group])
                if not self.overlap:
                    receive(1 - group)
                self.env.groups[group].send(action)
                flying[group] = t
        receive(0)
        receive(1)
        self.memory = tree_map(lambda *parts: np.concatenate(parts), *memories)
        return read_at(rows.obs, -1)

    def _serve(self, bound: object, rows: Rows, t: int, group: int, memory: PyTree) -> tuple[Array, PyTree]:
        """The actions to send to a group for step `t`, and its memory after."""
        at = (t, self.env.slots[group])
        action, rows.head[at], memory = self.agent.act(bound, read_at(rows.obs, at), memory, rows.noise[at])
        rows.action[at] = action
        return self.to_env(action), memory

    def _receive(self, rows: Rows, t: int, group: int, memory: PyTree) -> PyTree:
        """Store a group's rows of step `t`; returns its memory, begun anew where episodes do."""
        steps = self.env.groups[group].recv()
        place = self.env.slots[group]
        write_at(rows.obs, (t + 1, place), steps.obs)
        rows.reward[t, place] = steps.reward
        rows.terminated[t, place] = steps.terminated
        rows.truncated[t, place] = steps.truncated
        rows.valid[t, place] = steps.valid
        if self.agent.recurrent and not steps.valid.all():
            memory = reset_memory(memory, steps.valid, self.initials[group])
        return memory
