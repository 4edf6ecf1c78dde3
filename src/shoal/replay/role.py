# SPDX-License-Identifier: Apache-2.0
"""The replay role: keeps what actors hand on, and hands minibatches to the learner.

In: TRANS of actors, PRIO of learners. Out: BATCH. How much is drawn follows what was kept, by `replay_ratio`.
"""

from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from shoal.engines import me, phase, select
from shoal.engines.wires.channel import Channel
from shoal.records.segments import segment_end
from shoal.replay import make_memory
from shoal.replay.limiter import Limiter
from shoal.replay.snapshots import forget_after, save_snapshot, snapshot_for
from shoal.types import Batch, Sequences

LIFE = 1 << 48
"""more than any key of a memory"""


class Drawn(NamedTuple):
    """What a learner gets."""

    batch: Batch | Sequences | tuple
    """K minibatches [K, N, ...]; () where a round is over"""
    env_steps: int
    """valid rows that the replay received so far, over all starts of the run"""
    fresh: int
    """those that came since the message before"""
    metrics: dict[str, float]
    """what the replay has to say of itself"""


class Since(NamedTuple):
    """Where a replay begins."""

    env_steps: int
    """received in earlier starts of the run"""
    folder: str | None
    """where snapshots are kept; None: nowhere"""


class Replay:
    """A memory, or shard number `shard` of one, and how much may be drawn from it. Snapshots are saved at every quarter
    of the run, and the newest is what it begins with. One that was started anew (`epoch` above 0) knows keys of its own
    life from those of the one before.

    Check: rows drawn for rows added since `replay_start` stay within a message of `replay_ratio`.
    """

    def __init__(self, config: Any, parts: Any, since: Since, shard: int = 0, epoch: int = 0):
        self._config, self._message, self._life = config, config.rows_per_message, epoch * LIFE
        self._start = -(-config.replay_start // config.replay_shards)
        self._folder = folder_of(since, config, shard)
        self.memory = make_memory(config, parts.spec, parts.seed, shard)
        self.env_steps = self._told = self._first = since.env_steps
        ahead, behind = config.bounds
        self._limiter = Limiter(config.replay_ratio, self._start, ahead, behind)
        self._mark = segment_end(config.env_steps, self.env_steps)
        if self._folder is not None:
            if not epoch:
                forget_after(self._folder, self.env_steps)
            if saved := snapshot_for(self._folder):
                self.memory.restore(saved)

    @property
    def may_draw(self) -> bool:
        """Whether a whole message is owed."""
        return self._limiter.may_draw(self.memory.added, self.memory.drawn, self._message)

    @property
    def may_add(self) -> bool:
        """Whether actors may go on although the learner has not caught up. Collectors in real time always may."""
        return self._limiter.may_add(self.memory.added, self.memory.drawn)

    @property
    def may_save(self) -> bool:
        """Whether a snapshot is due."""
        return self._folder is not None and self._in_all >= self._mark

    def add(self, rows: Any) -> None:
        """Keep rows."""
        self.env_steps += self.memory.add(rows)

    def draw(self) -> Drawn:
        """A message for the learner."""
        batch = self.memory.draw(self._config.batch_size, self._config.groups)
        return self._message_with(batch._replace(key=batch.key + self._life))

    def close_round(self) -> Drawn:
        """Says that all is drawn which a round allows for."""
        return self._message_with(())

    def prioritise(self, key: Any, priority: Any) -> None:
        """Note how far off the learner found rows to be."""
        key, priority = key.ravel() - self._life, priority.ravel()
        own = (key >= 0) & (key < LIFE)
        self.memory.prioritise(key[own], priority[own])

    def save(self) -> None:
        """Write a snapshot."""
        assert self._folder is not None
        save_snapshot(self.memory, self._folder, self._in_all)
        self._mark = segment_end(self._config.env_steps, self._in_all)

    @property
    def _in_all(self) -> int:
        """What all shards received, if each got as much as this one."""
        return self._first + self._config.replay_shards * (self.env_steps - self._first)

    def _message_with(self, batch: Any) -> Drawn:
        fresh, self._told = self.env_steps - self._told, self.env_steps
        return Drawn(batch, self.env_steps, fresh, self._facts())

    def _facts(self) -> dict[str, float]:
        memory = self.memory
        ratio = memory.drawn / max(1, memory.added - self._start)
        return {"replay_ratio": ratio, "sample_reuse": ratio, "replay_fill_frac": memory.size / memory.capacity}


def folder_of(since: Since, config: Any, shard: int) -> Path | None:
    """Where snapshots are kept, those of several shards each in a folder of its own; None: nowhere."""
    if since.folder is None or not config.save_replay:
        return None
    return Path(since.folder, f"shard-{shard}") if config.replay_shards > 1 else Path(since.folder)


def remember_in_step(  # noqa: PLR0913 - what a role is wired to
    _index: int,
    config: Any,
    parts: Any,
    transitions: Channel,
    batches: Channel,
    priorities: Channel | None,
    since: Since,
) -> NoReturn:
    """The life of a replay that all wait for: a round of all actors' rows, then what may be drawn for them, each with
    the priorities that came of the draw before, then word that the round is over. One that was started anew says so at
    once, since the rows of its round are lost and nobody would send others."""
    replay = phase("start", Replay, config, parts, since, 0, me().epoch)
    if me().epoch:
        batches.put(replay.close_round())  # replay > learner
    while True:
        for rows in transitions.get(config.all_actors, by_sender=True):  # actors > replay
            phase("add", replay.add, rows)
        while replay.may_draw:
            batches.put(phase("draw", replay.draw))  # replay > learner
            if priorities is not None:
                phase("prioritise", replay.prioritise, *priorities.get()[0])  # learner > replay
        if replay.may_save:
            phase("save", replay.save)
        batches.put(replay.close_round())  # replay > learner


def remember_freely(  # noqa: PLR0913 - what a role is wired to
    index: int,
    config: Any,
    parts: Any,
    transitions: Channel,
    batches: Channel,
    priorities: Channel | None,
    since: Since,
) -> NoReturn:
    """The life of a replay, or of shard number `index` of one, that serves whoever comes first. Actors wait while the
    learner is too far behind `replay_ratio`, the learner while it is too far ahead: `config.bounds` says how far."""
    replay = phase("start", Replay, config, parts, since, index, me().epoch)
    while True:
        wires = [] if priorities is None else [priorities.can_get]
        if replay.may_add:
            wires.append(transitions.can_get)
        if replay.may_draw:
            wires.append(batches.can_put)
        wire = wires[select(*wires)]
        if priorities is not None and wire is priorities.can_get:
            phase("prioritise", replay.prioritise, *priorities.get()[0])  # learner > replay
        elif wire is transitions.can_get:
            phase("add", replay.add, transitions.get()[0])  # actors > replay
        else:
            batches.put(phase("draw", replay.draw))  # replay > learner
        if replay.may_save:
            phase("save", replay.save)
