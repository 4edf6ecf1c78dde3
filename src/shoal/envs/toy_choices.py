# SPDX-License-Identifier: Apache-2.0
"""Toys with observations of several entries, several choices at once, and actions that are not always legal."""

from typing import Any

import numpy as np

from shoal.envs.base import environment_fault
from shoal.envs.toy_vectors import ToyVector, at_least
from shoal.errors import ConfigError
from shoal.types import ACTION_MASK, ArraySpec, Discrete, EnvSpec, MultiDiscrete


class Signpost(ToyVector):
    """A ring of places: a sign names the one to go to, and the shorter way round pays.

    Observations are {"place": where the agent stands, "sign": where to go}, each one-hot [places], drawn anew in every
    step. Action 0 goes down the ring, 1 up. The shorter way pays 1, so the best return is `turns`; who sees one of the
    two entries alone gets half of it, whatever the policy.
    """

    def __init__(self, num_envs: int, first_index: int = 0, *, places: int = 5, turns: int = 8):
        at_least("toy:signpost", "places", places, 3)
        at_least("toy:signpost", "turns", turns, 1)
        if places % 2 == 0:
            raise ConfigError(f"toy:signpost: places is {places}; give an odd number, so that one way is the shorter")
        entry = ArraySpec((places,), "float32")
        spec = EnvSpec("toy:signpost", {"place": entry, "sign": entry}, Discrete(2), turns)
        super().__init__(spec, 2 * turns, num_envs, first_index)
        self._one_hot, self._turns = np.eye(places, dtype=np.float32), turns
        # what is seen after the last turn is what was seen first
        self._place = np.zeros((num_envs, turns + 1), np.int64)
        self._way = np.zeros((num_envs, turns + 1), np.int64)

    def _start(self, slots: np.ndarray, u: np.ndarray) -> None:
        places, turns = len(self._one_hot), self._turns
        self._place[slots, :turns] = u[:, :turns] * places
        self._way[slots, :turns] = 1 + (u[:, turns:] * (places - 1)).astype(np.int64)
        self._place[slots, turns], self._way[slots, turns] = self._place[slots, 0], self._way[slots, 0]

    def _advance(self, slots: np.ndarray, action: np.ndarray) -> tuple[Any, Any]:
        step = self._step[slots]
        shorter_up = self._way[slots, step - 1] <= len(self._one_hot) // 2
        return action == shorter_up, step == self._turns

    def _observe(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        step = self._step[slots]
        place = self._place[slots, step]
        sign = (place + self._way[slots, step]) % len(self._one_hot)
        return {"place": self._one_hot[place], "sign": self._one_hot[sign]}


class Dials(ToyVector):
    """Several dials, each to be turned to the number that its display shows, anew in every step.

    Observations are the shown numbers, one-hot one after another [sum of sizes]; actions are a number for each dial.
    Each step pays the share of dials that are right, so the best return is `turns`, and turning at random returns
    turns x mean(1 / sizes).
    """

    def __init__(self, num_envs: int, first_index: int = 0, *, sizes: tuple[int, ...] = (2, 3, 4), turns: int = 4):
        if not isinstance(sizes, list | tuple) or not sizes:
            raise ConfigError(f"toy:dials: sizes is {sizes!r}; give a list of whole numbers of at least 2")
        for size in sizes:
            at_least("toy:dials", "sizes", size, 2)
        at_least("toy:dials", "turns", turns, 1)
        action = MultiDiscrete(tuple(sizes))
        spec = EnvSpec("toy:dials", ArraySpec((sum(sizes),), "float32"), action, turns)
        super().__init__(spec, turns * len(sizes), num_envs, first_index)
        self._sizes, self._turns = np.array(sizes), turns
        self._places = np.cumsum(self._sizes) - self._sizes
        # the display after the last turn is seen as well: it shows the first numbers again
        self._shown = np.zeros((num_envs, turns + 1, len(sizes)), np.int64)

    def _start(self, slots: np.ndarray, u: np.ndarray) -> None:
        shown = (u.reshape(len(slots), self._turns, -1) * self._sizes).astype(np.int64)
        self._shown[slots] = np.concatenate([shown, shown[:, :1]], 1)

    def _advance(self, slots: np.ndarray, action: np.ndarray) -> tuple[Any, Any]:
        step = self._step[slots]
        return (action == self._shown[slots, step - 1]).mean(-1), step == self._turns

    def _observe(self, slots: np.ndarray) -> np.ndarray:
        display = np.zeros((len(slots), self._sizes.sum()), np.float32)
        display[np.arange(len(slots))[:, None], self._places + self._shown[slots, self._step[slots]]] = 1
        return display


class Gates(ToyVector):
    """A row of gates, two of them open: one of these has a light and the prize, but one of the shut has a light, too.

    Observations are {"light": [gates], "action_mask": which gates are open [gates]}; actions are the gates. The lit
    open gate pays 1 in each step, so the best return is `walls`; choosing among open gates at random returns half.
    Which gates are open is in the mask alone, and choosing a shut one is an EnvironmentFault.
    """

    def __init__(self, num_envs: int, first_index: int = 0, *, gates: int = 5, walls: int = 8):
        at_least("toy:gates", "gates", gates, 3)
        at_least("toy:gates", "walls", walls, 1)
        obs = {ACTION_MASK: ArraySpec((gates,), "bool"), "light": ArraySpec((gates,), "float32")}
        super().__init__(EnvSpec("toy:gates", obs, Discrete(gates), walls), walls * gates, num_envs, first_index)
        self._gates, self._walls = gates, walls
        # per wall: the prize, the open gate without one, the shut gate with a light, all others
        self._order = np.zeros((num_envs, walls + 1, gates), np.int64)

    def _start(self, slots: np.ndarray, u: np.ndarray) -> None:
        order = u.reshape(len(slots), self._walls, self._gates).argsort(-1)
        self._order[slots] = np.concatenate([order, order[:, :1]], 1)

    def _advance(self, slots: np.ndarray, action: np.ndarray) -> tuple[Any, Any]:
        step = self._step[slots]
        wall = self._order[slots, step - 1]
        shut = (action[:, None] != wall[:, :2]).all(-1)
        if shut.any():
            i = int(shut.argmax())
            what = f"was sent through gate {action[i]}, which is shut"
            index, remedy = self._first_index + int(slots[i]), f"choose what {ACTION_MASK} allows"
            raise environment_fault(self.spec.id, index, self._seed, int(step[i]), what, remedy)
        return action == wall[:, 0], step == self._walls

    def _observe(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        wall = self._order[slots, self._step[slots]]
        row = np.arange(len(slots))[:, None]
        is_open, light = np.zeros((len(slots), self._gates), bool), np.zeros((len(slots), self._gates), np.float32)
        is_open[row, wall[:, :2]] = True
        light[row, wall[:, [0, 2]]] = 1
        return {ACTION_MASK: is_open, "light": light}
