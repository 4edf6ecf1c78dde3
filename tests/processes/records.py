# SPDX-License-Identifier: Apache-2.0
"""Classes and functions that other processes find by name."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Pair(NamedTuple):
    """A named tuple."""

    left: Any
    right: Any = None


@dataclass(frozen=True)
class Point:
    """A record, with a number that it works out itself."""

    x: Any
    y: Any = 0
    size: float = field(init=False, default=0.0)

    def __post_init__(self):
        object.__setattr__(self, "size", float(isinstance(self.x, np.ndarray)))


class Counter:
    """Not plain data: made again from what it was made of."""

    def __init__(self, start: int, weights: np.ndarray):
        self.start, self.weights = start, weights

    @property
    def recipe(self) -> tuple[str, tuple]:
        """How another process makes the same."""
        return "processes.records:Counter", (self.start, self.weights)

    def add(self, n: int) -> int:
        """A method that can be passed on."""
        return self.start + n


class Outer:
    """Holds a function and a class of its own."""

    class Inner(NamedTuple):
        """A class within a class."""

        value: int

    @staticmethod
    def twice(x: int) -> int:
        """A function within a class."""
        return 2 * x


class Opaque:
    """Nothing that anybody could send."""


def scale(factor: float, x: float, offset: float = 0.0) -> float:
    """A function to be found by name."""
    return factor * x + offset


def make_closure(n: int) -> Any:
    """A function that no name leads to."""

    def add(x: int) -> int:
        return x + n

    return add
