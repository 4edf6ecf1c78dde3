# SPDX-License-Identifier: Apache-2.0
"""The replay memory: items in a store, a choice among them, and names by which priorities find them again."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shoal.errors import NonFiniteError
from shoal.replay import saved
from shoal.replay.base import Choice, Store
from shoal.types import Array


class Exponent(NamedTuple):
    """The importance exponent: on a line from `first` to `last` over `env_steps`, and `last` from then on.

    Check: halfway it is the mean of both.
    """

    first: float
    last: float
    env_steps: int

    def after(self, env_steps: int) -> float:
        """The exponent once so many rows were added."""
        return self.first + (self.last - self.first) * min(1.0, env_steps / self.env_steps)


class ReplayMemory:
    """Items as actors handed them on, in and out, with importance weights and priorities where the choice has them.

    An item's key is its slot and how many items lay there before, so one that was let go since a draw is recognised.

    Check: what is drawn is what was added; a key of something that was let go changes nothing.
    """

    def __init__(self, store: Store, choice: Choice, rng: np.random.Generator, capacity: int, exponent: Exponent):
        self.capacity, self.added, self.drawn = capacity, 0, 0
        self._store, self._choice, self._rng, self._exponent = store, choice, rng, exponent
        self._before = np.zeros(store.slots, np.int32)

    @property
    def size(self) -> int:
        """Items that can be drawn now."""
        return self._choice.size

    @property
    def nbytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for array in self._arrays().values())

    def add(self, message: Any) -> int:
        """Keep what is valid. Returns the rows by which `added` grew.

        Raises NonFiniteError where a priority is not a finite number of 0 or more.
        """
        priority = None if isinstance(message.priority, tuple) else np.asarray(message.priority)
        if priority is not None:
            require_priorities(priority)
        written = self._store.write(message)
        self._before[written.gone] += 1
        self._choice.remove(written.gone)
        self._choice.add(written.slots, None if priority is None else priority[written.source])
        rows = self._store.rows(written.slots)
        self.added += rows
        return rows

    def draw(self, n: int, groups: int = 0) -> Any:
        """n items, drawn with replacement, or `groups` minibatches of n with a leading axis [groups, ...]."""
        if self.size == 0:
            raise ValueError("nothing to draw: the memory is empty")
        slots, weight = self._choice.draw(max(groups, 1), n, self._exponent.after(self.added))
        if groups == 0:
            slots, weight = slots[0], weight[0]
        self.drawn += self._store.rows(slots)
        key = self._before[slots] * np.int64(self._store.slots) + slots
        return self._store.read(slots)._replace(weight=weight, key=key)

    def prioritise(self, key: Array, priority: Array) -> int:
        """New priorities [...] for keys [...]. Returns how many still name what they named; others are ignored.

        Raises NonFiniteError where a priority is not a finite number of 0 or more.
        """
        priority = np.asarray(priority).ravel()
        require_priorities(priority)
        before, slots = np.divmod(np.asarray(key).ravel(), self._store.slots)
        alive = self._before[slots] == before
        count = int(np.count_nonzero(alive))
        if count < len(slots):
            slots, priority = slots[alive], priority[alive]
        self._choice.prioritise(slots, priority)
        return count

    def save(self, folder: Path) -> None:
        """Write a snapshot as a new folder: all of it, or nothing. Raises CheckpointError where the disk is full."""
        state = {"added": self.added, "drawn": self.drawn, "random": self._rng.bit_generator.state}
        state["form"] = self._store.form()
        saved.save(folder, self._arrays(), state)

    def restore(self, folder: Path) -> None:
        """Become what was saved, random numbers included.

        Raises CheckpointError where a file is missing, cut short or altered, or the memory was another one; this one
        is then not to be used any more.
        """
        state = saved.state_of(folder)
        self._store.prepare(state["form"])
        saved.restore(folder, self._arrays())
        self.added, self.drawn = state["added"], state["drawn"]
        self._rng.bit_generator.state = state["random"]
        self._choice.restored()

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"before": self._before, **self._store.arrays(), **self._choice.arrays()}


def require_priorities(priority: Array) -> None:
    """Raises NonFiniteError in one line for the first priority that is not a finite number of 0 or more."""
    right = np.isfinite(priority) & (priority >= 0)
    if not right.all():
        raise NonFiniteError(
            f"a priority of {priority[~right][0]} at row {int(np.argmin(right))} of {priority.size}: errors must be "
            "finite numbers of 0 or more; lower learning_rate, or clip rewards"
        )
