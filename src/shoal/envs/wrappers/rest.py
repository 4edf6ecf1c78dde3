# SPDX-License-Identifier: Apache-2.0
"""Environments that rest after an episode's end until the batch is over: slow resets then stall a batch only once."""

from typing import Any

import numpy as np

from shoal.envs.base import VectorEnv, refuse_together
from shoal.trees import tree_map, write_at
from shoal.types import Steps


class Resting:
    """A VectorEnv whose environments are not stepped any more once their episode has ended, until `begin_batch`.

    A resting environment answers every action at once with its last row's observation, in a row that is not valid, ends
    nothing and pays nothing. Its first step of the next batch resets it, as the one after an episode's end does.

    Raises ConfigError where environments cannot be stepped apart.

    Check: without the rows of rest, its data are those of the environment inside.
    """

    def __init__(self, env: VectorEnv):
        refuse_together(env, "reset=wait")
        self.env, self.spec, self.num_envs = env, env.spec, env.num_envs
        self.split_invariant, self.steps_apart = env.split_invariant, True
        n = env.num_envs
        self._everyone = np.arange(n)
        self._asleep, self._asked_asleep = np.zeros((2, n), bool)
        self._flying = 0
        self._rows = Steps(
            self._everyone,
            tree_map(lambda leaf: np.zeros((n, *leaf.shape), leaf.dtype), env.spec.obs),
            np.zeros(n, np.float32),
            *np.zeros((3, n), bool),
        )

    def reset(self, seed: int) -> None:
        self.env.reset(seed)
        self._asleep[:] = self._asked_asleep[:] = False
        self._flying = self.num_envs

    def begin_batch(self) -> None:
        """The rest is over."""
        self._asleep[:] = False

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        chosen = self._everyone if slots is None else np.asarray(slots)
        asleep = self._asleep[chosen]
        if not asleep.any():
            self.env.send(action, slots)
            self._flying += len(chosen)
            return
        self._asked_asleep[chosen[asleep]] = True
        awake = chosen[~asleep]
        if len(awake):
            self.env.send(action[~asleep], awake)
            self._flying += len(awake)

    def recv(self, min_ready: int | None = None, **deadline: Any) -> Steps:
        """Those that rest, and as many of the others as are still wanted."""
        resting = np.flatnonzero(self._asked_asleep)
        missing = self._flying if min_ready is None else max(0, min(min_ready - len(resting), self._flying))
        rows = self._rows
        if not missing and not len(resting):
            return self.env.recv(min_ready, **deadline)  # which says that nothing was sent
        ready = resting
        if missing:
            found = self.env.recv(None if min_ready is None else missing, **deadline)
            self._flying -= len(found.slots)
            write_at(tuple(rows[1:]), found.slots, tuple(found[1:]))
            self._asleep[found.slots] = found.terminated | found.truncated
            ready = np.sort(np.concatenate([resting, found.slots]))
        rows.reward[resting] = 0
        for flag in (rows.terminated, rows.truncated, rows.valid):
            flag[resting] = False
        self._asked_asleep[resting] = False
        if len(ready) == self.num_envs:
            return rows
        return Steps(ready, *tree_map(lambda leaf: leaf[ready], tuple(rows[1:])))

    def take_reports(self) -> list[str]:
        """What the environment inside has to tell of those that it lost."""
        return getattr(self.env, "take_reports", list)()

    def close(self) -> None:
        self.env.close()
