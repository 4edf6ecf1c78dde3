# SPDX-License-Identifier: Apache-2.0
"""Tic-tac-toe for one agent against an opponent that plays at random."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

LINES = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])


class TicTacToe(gymnasium.Env):
    """The agent owns 1, the opponent -1, empty is 0: observations [9], actions the nine squares.

    Either side opens, at random. Winning returns 1, a draw 0, losing or choosing a taken square -1.
    """

    def __init__(self):
        self.observation_space = spaces.Box(-1, 1, (9,), np.float32)
        self.action_space = spaces.Discrete(9)
        self._board = np.zeros(9, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._board[:] = 0
        if self.np_random.random() < 0.5:
            self._reply()
        return self._board.copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._board[action] != 0:
            return self._board.copy(), -1.0, True, False, {}
        self._board[action] = 1
        if not self._is_over(1):
            self._reply()
        if self._has_line(1):
            return self._board.copy(), 1.0, True, False, {}
        if self._has_line(-1):
            return self._board.copy(), -1.0, True, False, {}
        return self._board.copy(), 0.0, bool(self._board.all()), False, {}

    def _reply(self) -> None:
        empty = np.flatnonzero(self._board == 0)
        self._board[empty[int(self.np_random.integers(len(empty)))]] = -1

    def _has_line(self, side: int) -> bool:
        return bool((self._board[LINES] == side).all(axis=1).any())

    def _is_over(self, side: int) -> bool:
        return self._has_line(side) or bool(self._board.all())
