# SPDX-License-Identifier: Apache-2.0
"""Toys stepped all together in NumPy: a bandit, catch, and a chain that only memory solves.

What an environment draws is a function of seed, environment index and episode alone, so they are split-invariant.
"""

from typing import Any

import numpy as np

from shoal import seeds
from shoal.errors import ConfigError
from shoal.types import ArraySpec, Discrete, EnvSpec, Steps

EPISODES_PER_INDEX = 2**32


class ToyVector:
    """Episodes, reset rows and slots; what happens inside an episode is the subclass's. Any slots can be sent.

    A subclass sets up its state arrays [num_envs] in `__init__` and implements `_start`, `_advance` and `_observe`.
    """

    split_invariant = True
    steps_apart = True

    def __init__(self, spec: EnvSpec, draws: int, num_envs: int, first_index: int):
        self.spec = spec
        self.num_envs = num_envs
        self._draws = draws
        self._first_index = first_index
        self._seed = 0
        self._all = np.arange(num_envs)
        self._episode = np.zeros(num_envs, np.int64)
        self._step = np.zeros(num_envs, np.int64)
        self._ended = np.ones(num_envs, bool)
        self._reward = np.zeros(num_envs, np.float32)
        self._valid = np.zeros(num_envs, bool)
        self._pending: list[np.ndarray] = []

    def reset(self, seed: int) -> None:
        self._seed = seed
        self._episode[:] = 0
        self._ended[:] = True
        self._pending = []
        # every environment is at an episode's end, so that a step is a reset
        self.send(np.zeros((self.num_envs, *self.spec.action.shape), np.int64))

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        slots = self._all if slots is None else np.asarray(slots)
        if len(action) != len(slots):
            raise ValueError(f"{len(action)} actions for {len(slots)} environments")
        if any(np.isin(slots, waiting).any() for waiting in self._pending):
            raise ValueError("an environment was sent an action before its last row was received")
        resets = self._ended[slots]
        self._valid[slots] = ~resets
        self._reward[slots] = 0
        self._step[slots] += 1
        live, fresh = slots[~resets], slots[resets]
        self._reward[live], self._ended[live] = self._advance(live, np.asarray(action)[~resets])
        if len(fresh):
            self._ended[fresh] = False
            self._step[fresh] = 0
            lanes = (self._first_index + fresh) * EPISODES_PER_INDEX + self._episode[fresh]
            self._start(fresh, seeds.uniforms(self._seed, "toy", lanes, 0, 1, self._draws)[0])
            self._episode[fresh] += 1
        self._pending.append(slots)

    def recv(self, min_ready: int | None = None) -> Steps:
        """All rows that wait: every environment that was sent an action has answered."""
        if not self._pending:
            raise ValueError("nothing to receive: send actions first")
        slots = np.concatenate(self._pending)
        self._pending = []
        ended = self._ended[slots]
        never = np.zeros(len(slots), bool)
        return Steps(slots, self._observe(slots), self._reward[slots], ended, never, self._valid[slots])

    def restart(self, slots: np.ndarray) -> None:
        """Reset these slots in their next step."""
        self._ended[slots] = True

    def close(self) -> None:
        """There is nothing to free."""

    def _start(self, slots: np.ndarray, u: np.ndarray) -> None:
        """Open an episode in `slots` from uniforms `u` [len(slots), draws]."""
        raise NotImplementedError

    def _advance(self, slots: np.ndarray, action: np.ndarray) -> tuple[Any, Any]:
        """One step of `slots`: reward and terminated."""
        raise NotImplementedError

    def _observe(self, slots: np.ndarray) -> Any:
        """Observations of `slots` in new arrays."""
        raise NotImplementedError


class Bandit(ToyVector):
    """Arms that pay 1 with fixed probabilities. An episode is a number of pulls; the observation is always 1.

    The best policy's expected return is pulls x max(probabilities).
    """

    def __init__(
        self,
        num_envs: int,
        first_index: int = 0,
        *,
        probabilities: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7),
        pulls: int = 10,
    ):
        at_least("toy:bandit", "pulls", pulls, 1)
        arms = np.atleast_1d(np.asarray(probabilities))
        if arms.dtype.kind not in "if" or arms.ndim != 1 or not ((arms >= 0) & (arms <= 1)).all() or not arms.size:
            raise ConfigError(f"toy:bandit: probabilities are {probabilities!r}; give a list of numbers within 0 .. 1")
        spec = EnvSpec("toy:bandit", ArraySpec((1,), "float32"), Discrete(len(arms)), pulls)
        super().__init__(spec, pulls, num_envs, first_index)
        self._probabilities = arms.astype(np.float32)
        self._luck = np.zeros((num_envs, pulls), np.float32)

    def _start(self, slots: np.ndarray, u: np.ndarray) -> None:
        self._luck[slots] = u

    def _advance(self, slots: np.ndarray, action: np.ndarray) -> tuple[Any, Any]:
        step = self._step[slots]
        return self._luck[slots, step - 1] < self._probabilities[action], step == self._luck.shape[1]

    def _observe(self, slots: np.ndarray) -> np.ndarray:
        return np.ones((len(slots), 1), np.float32)


class Catch(ToyVector):
    """A ball falls, a paddle below moves left, stays or moves right: +1 for a catch, -1 for a miss.

    The screen is flattened, [rows * columns] of 0 and 1. The game is bsuite's (Osband et al. 2020), after Mnih et
    al. 2014. Every episode lasts rows - 1 steps, and perfect play returns 1.
    """

    def __init__(self, num_envs: int, first_index: int = 0, *, rows: int = 10, columns: int = 5):
        at_least("toy:catch", "rows", rows, 2)
        at_least("toy:catch", "columns", columns, 2)
        spec = EnvSpec("toy:catch", ArraySpec((rows * columns,), "float32"), Discrete(3), rows - 1)
        super().__init__(spec, 1, num_envs, first_index)
        self._rows, self._columns = rows, columns
        self._ball = np.zeros(num_envs, np.int64)
        self._paddle = np.zeros(num_envs, np.int64)

    def _start(self, slots: np.ndarray, u: np.ndarray) -> None:
        self._ball[slots] = (u[:, 0] * self._columns).astype(np.int64)
        self._paddle[slots] = self._columns // 2

    def _advance(self, slots: np.ndarray, action: np.ndarray) -> tuple[Any, Any]:
        self._paddle[slots] = np.clip(self._paddle[slots] + action - 1, 0, self._columns - 1)
        ended = self._step[slots] == self._rows - 1
        caught = self._ball[slots] == self._paddle[slots]
        return np.where(ended, np.where(caught, 1.0, -1.0), 0.0), ended

    def _observe(self, slots: np.ndarray) -> np.ndarray:
        screen = np.zeros((len(slots), self._rows * self._columns), np.float32)
        row = np.arange(len(slots))
        screen[row, self._step[slots] * self._columns + self._ball[slots]] = 1
        screen[row, (self._rows - 1) * self._columns + self._paddle[slots]] = 1
        return screen


class Memory(ToyVector):
    """A corridor: a cue of -1 or 1 is seen at its start only, and at its end action 0 or 1 must name it.

    Observations are (cue or 0, at the end or not, fraction of the way). Actions on the way change nothing. Naming
    the cue returns 1, the other -1, so without memory no policy's expected return is above 0. After the T-maze of
    Bakker 2001 and bsuite's memory length.
    """

    def __init__(self, num_envs: int, first_index: int = 0, *, length: int = 10):
        at_least("toy:memory", "length", length, 1)
        spec = EnvSpec("toy:memory", ArraySpec((3,), "float32"), Discrete(2), length + 1)
        super().__init__(spec, 1, num_envs, first_index)
        self._length = length
        self._cue = np.zeros(num_envs, np.int64)

    def _start(self, slots: np.ndarray, u: np.ndarray) -> None:
        self._cue[slots] = u[:, 0] < 0.5

    def _advance(self, slots: np.ndarray, action: np.ndarray) -> tuple[Any, Any]:
        ended = self._step[slots] == self._length + 1
        return np.where(ended, np.where(action == self._cue[slots], 1.0, -1.0), 0.0), ended

    def _observe(self, slots: np.ndarray) -> np.ndarray:
        step = self._step[slots]
        cue = np.where(step == 0, 2 * self._cue[slots] - 1, 0)
        way = np.minimum(step, self._length) / self._length
        return np.stack([cue, step == self._length, way], axis=-1).astype(np.float32)


def at_least(env_id: str, name: str, value: Any, lowest: float) -> None:
    """Refuse a setting below its lowest value, or of another type than a number."""
    wanted = "a whole number" if isinstance(lowest, int) else "a number"
    kinds = int if isinstance(lowest, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value < float("inf"):
        raise ConfigError(f"{env_id}: {name} is {value!r}; give {wanted} of at least {lowest}")
