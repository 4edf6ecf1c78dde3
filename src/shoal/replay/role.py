# SPDX-License-Identifier: Apache-2.0
"""The replay role: keeps what actors hand on, and hands minibatches to the learner.

In: TRANS of actors, PRIO of learners. Out: BATCH. How much is drawn follows what was kept, by `replay_ratio`.
"""

from typing import Any, NamedTuple, NoReturn

from shoal.engines import phase, select
from shoal.engines.wires.channel import Channel
from shoal.replay import make_memory
from shoal.types import Batch, Sequences

SLACK = 2
"""messages that the learner may be behind before actors wait"""


class Drawn(NamedTuple):
    """What a learner gets."""

    batch: Batch | Sequences | tuple
    """K minibatches [K, N, ...]; () where nothing is to be learnt from yet"""
    env_steps: int
    """valid rows that the replay received so far, over all starts of the run"""
    more: bool
    """whether more is to be learnt from before the actors go on"""
    metrics: dict[str, float]
    """what the replay has to say of itself"""


class Replay:
    """A memory, and how much may be drawn from it. Rows that came before learning began owe nothing.

    Args:
      env_steps: received in earlier starts of the run.

    Check: drawn / owing rows stays within one message of `replay_ratio`.
    """

    def __init__(self, config: Any, parts: Any, env_steps: int = 0):
        self._config = config
        self.memory = make_memory(config, parts.spec, parts.seed)
        self.env_steps = env_steps
        self._before = self.memory.added - self.memory.drawn / config.replay_ratio  # nothing is owed for these

    @property
    def owed(self) -> float:
        """Rows to draw for those that were added since learning began."""
        return self._config.replay_ratio * (self.memory.added - self._before) - self.memory.drawn

    @property
    def may_draw(self) -> bool:
        """Whether a whole message is owed."""
        return self.owed >= self._config.groups * self._config.batch_size

    @property
    def may_add(self) -> bool:
        """Whether actors may go on although the learner has not caught up."""
        return self._config.realtime or self.owed < SLACK * self._config.groups * self._config.batch_size

    def add(self, rows: Any) -> None:
        """Keep rows."""
        self.env_steps += int(rows.valid.sum())
        self.memory.add(rows)
        if self.memory.size < self._config.replay_start and not self.memory.drawn:
            self._before = self.memory.added

    def draw(self) -> Drawn:
        """A message for the learner, empty where not enough is owed."""
        config = self._config
        batch = self.memory.draw(config.batch_size, config.groups) if self.may_draw else ()
        learnt = max(1, self.memory.added - self._before)
        facts = {
            "replay_ratio": self.memory.drawn / learnt,
            "replay_fill_frac": self.memory.size / self.memory.capacity,
        }
        return Drawn(batch, self.env_steps, self.may_draw, facts)

    def prioritise(self, key: Any, priority: Any) -> None:
        """Note how far off the learner found rows to be."""
        self.memory.prioritise(key.ravel(), priority.ravel())


def remember_in_step(  # noqa: PLR0913 - what a role is wired to
    _index: int, config: Any, parts: Any, transitions: Channel, batches: Channel, priorities: Channel, env_steps: int
) -> NoReturn:
    """The life of a replay that all wait for: a round of all actors' rows, then what may be drawn for them."""
    replay = phase("start", Replay, config, parts, env_steps)
    while True:
        for rows in transitions.get(config.all_actors, by_sender=True):  # actors > replay
            phase("add", replay.add, rows)
        more = True
        while more:
            drawn = phase("draw", replay.draw)
            more = drawn.more
            batches.put(drawn)  # replay > learner
            if config.priorities != "none" and drawn.batch:
                phase("prioritise", replay.prioritise, *priorities.get()[0])  # learner > replay


def remember_freely(  # noqa: PLR0913 - what a role is wired to
    _index: int, config: Any, parts: Any, transitions: Channel, batches: Channel, priorities: Channel, env_steps: int
) -> NoReturn:
    """The life of a replay that serves whoever comes first. Actors wait while the learner is behind `replay_ratio` by
    more than `SLACK` messages, unless they keep their own pace; the learner waits where it is not owed a message."""
    replay = phase("start", Replay, config, parts, env_steps)
    while True:
        wires = [priorities.can_get]
        if replay.may_add:
            wires.append(transitions.can_get)
        if replay.may_draw:
            wires.append(batches.can_put)
        wire = wires[select(*wires)]
        if wire is priorities.can_get:
            phase("prioritise", replay.prioritise, *priorities.get()[0])  # learner > replay
        elif wire is transitions.can_get:
            phase("add", replay.add, transitions.get()[0])  # actors > replay
        else:
            batches.put(phase("draw", replay.draw))  # replay > learner
