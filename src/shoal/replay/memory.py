# SPDX-License-Identifier: Apache-2.0
"""A replay memory of transitions: a store, a choice, and names for rows."""

import numpy as np

from shoal.errors import NonFiniteError
from shoal.replay.base import Choice, Store
from shoal.types import Array, Batch, Transitions


class TransitionMemory:
    """Rows as actors handed them on, in and out; importance weights and priorities where the choice has them.

    A key is a slot and how often it has changed hands, so what was let go since a draw is recognised.

    Args:
      exponent: importance exponent by env_steps, the rows added so far.

    Check: without priorities every row is drawn equally often; with them, in proportion to priority ** exponent.
    """

    def __init__(self, store: Store, choice: Choice, capacity: int, exponent: "Exponent"):
        self.store, self.choice, self.capacity, self.exponent = store, choice, capacity, exponent
        self.added = self.drawn = 0
        self._held = np.zeros(store.slots, np.int64)
        """how often rows left each slot"""
        self.nbytes = store.nbytes + choice.nbytes + self._held.nbytes

    @property
    def size(self) -> int:
        """Rows that can be drawn now."""
        return self.choice.size

    def add(self, rows: Transitions) -> int:
        """Keep the valid rows. Returns how many they are.

        Raises NonFiniteError where a priority is not a finite number of 0 or more.
        """
        priority = None if isinstance(rows.priority, tuple) else np.asarray(rows.priority)
        if priority is not None:
            require_priorities(priority[rows.valid])
        written = self.store.write(rows)
        self._held[written.gone] += 1
        self.choice.remove(written.gone)
        self.choice.add(written.slots, None if priority is None else priority[written.rows])
        self.added += len(written.slots)
        return len(written.slots)

    def draw(self, n: int, groups: int = 0) -> Batch:
        """n rows, drawn with replacement, or `groups` minibatches of n rows [groups, n, ...]."""
        if self.size == 0:
            raise ValueError("nothing to draw: the memory is empty")
        slots, weight = self.choice.draw(max(groups, 1), n, self.exponent(self.added))
        if groups == 0:
            slots, weight = slots[0], weight[0]
        self.drawn += slots.size
        key = self._held[slots] * self.store.slots + slots
        return self.store.read(slots)._replace(weight=weight, key=key)

    def prioritise(self, key: Array, priority: Array) -> int:
        """New priorities [...] for keys [...]. Returns how many still name what they named; others are ignored.

        Raises NonFiniteError where a priority is not a finite number of 0 or more.
        """
        priority = np.asarray(priority).reshape(-1)
        require_priorities(priority)
        held, slots = np.divmod(np.asarray(key).reshape(-1), self.store.slots)
        alive = self._held[slots] == held
        self.choice.prioritise(slots[alive], priority[alive])
        return int(np.count_nonzero(alive))


class Exponent:
    """The importance exponent: on a line from `first` to `last` over `env_steps`, and `last` from then on."""

    def __init__(self, first: float, last: float, env_steps: int):
        self.first, self.last, self.env_steps = first, last, env_steps

    def __call__(self, env_steps: int) -> float:
        """The exponent after so many steps."""
        return self.first + (self.last - self.first) * min(1.0, env_steps / max(1, self.env_steps))


def require_priorities(priority: Array) -> None:
    """Raises NonFiniteError in one line for the first priority that is not a finite number of 0 or more."""
    wrong = ~(np.isfinite(priority) & (priority >= 0))
    if wrong.any():
        raise NonFiniteError(
            f"a priority of {priority[wrong][0]} at row {int(np.argmax(wrong))} of {priority.size}: errors must be "
            "finite numbers of 0 or more; lower learning_rate, or clip rewards"
        )
