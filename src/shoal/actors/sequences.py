# SPDX-License-Identifier: Apache-2.0
"""Unrolls to sequences for a replay memory: of one episode each, overlapping, with the memory before their first row.

    episode                 o o o o o o o o o E
    sequences (L=6, 2 in common)
                        . . o o o o
                                o o o o o o
                                        o o E . . .

The rows that a sequence begins with only bring its memory up to date (burn-in); the one before it learnt from them. An
episode's first sequence begins with as many rows that are not valid, so that every row is learnt from: memory starts
anew after them. Kapturowski et al. 2019 (R2D2), section 2.3.
"""

from contextlib import closing
from typing import Any, NamedTuple, NoReturn

import numpy as np

from shoal.actors.notes import note_episodes
from shoal.actors.rated import collect_freely, value_errors
from shoal.actors.samplers import Sampler, start
from shoal.actors.transitions import learnt_reward, n_step_rows
from shoal.actors.witness import Witness
from shoal.agents.base import Judged
from shoal.engines import me, phase
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.store import Store
from shoal.trees import read_at, tree_map
from shoal.types import Array, PyTree, Sequences, Trajectory


def act_in_sequences(index: int, config: Any, parts: Any, params: Store, sequences: Channel) -> NoReturn:
    """One actor's life, for a replay of sequences."""
    with closing(phase("start", start_sequences, index, config, parts, me().epoch)) as sampler:
        collect_freely(index, config, params, sequences, sampler)


def start_sequences(index: int, config: Any, parts: Any, epoch: int = 0) -> "SequenceSampler":
    """The sampler of actor `index`, for a replay of sequences."""
    witness = Witness(parts.agent)
    return SequenceSampler(start(index, config, parts._replace(agent=witness.agent), epoch), witness, config)


class SequenceSampler:
    """A sampler whose unrolls are sequences with priorities. Episodes that end are noted."""

    def __init__(self, sampler: Sampler, witness: Witness, config: Any):
        self._sampler, self._witness, self._config = sampler, witness, config
        self._sequencer = Sequencer(config.sequence_length, config.burn_in, config.envs_per_actor)

    def unroll(self, params: Array, version: int, length: int) -> Sequences | None:
        """The sequences that `length` more steps of every environment complete, if any."""
        trajectory = self._sampler.unroll(params, version, length)
        known = known_of(trajectory, *self._witness.take(trajectory))
        note_episodes(trajectory)
        return phase("build", self._build, known)

    def close(self) -> None:
        """Free what the environments hold."""
        self._sampler.close()

    def _build(self, rows: "Known") -> Sequences | None:
        made = self._sequencer.add(rows)
        if made is None:
            return None
        steps, judged = made
        error = sequence_errors(judged, steps, self._config)
        priority = priorities(error, steps.valid, self._config.burn_in, self._config.priority_max_share)
        return Sequences(steps, weight=np.ones(len(priority), np.float32), key=(), priority=priority)


class Known(NamedTuple):
    """Rows of an actor's environments [T, B, ...], and what it knew while it acted."""

    obs: PyTree
    """[T+1, B, ...]"""
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    valid: Array
    version: Array
    judged: Judged
    """what the policy held of its actions, in rows that only reset as well: they saw the final observations"""
    memory: PyTree
    """before each row"""


def known_of(trajectory: Trajectory, judged: Judged, memory: list[PyTree]) -> Known:
    """An unroll with the values [T, B] and memories (T times [B, ...]) that it was acted with."""
    length = len(trajectory.reward)
    return Known(
        *(getattr(trajectory, name) for name in Known._fields[:6]),
        version=np.broadcast_to(trajectory.version, (length, len(trajectory.version))),
        judged=judged,
        memory=tree_map(lambda *rows: np.stack(rows), *memory),
    )


class Cut(NamedTuple):
    """Where a sequence lies in the rows that are kept."""

    env: int
    start: int
    """its first row; before `opens` it is padded"""
    opens: int
    """the episode's first row"""
    last: int
    """the last row that counts"""


class Place:
    """How far one environment's rows have been cut: within an episode, or looking for the next one."""

    def __init__(self):
        self.opens: int | None = None
        self.start = self.look_from = 0

    @property
    def needs(self) -> int:
        """The first row that is still to be used."""
        return self.look_from if self.opens is None else max(self.start, self.opens)

    def move(self, rows: int) -> None:
        """That many rows were forgotten."""
        self.start, self.look_from = self.start - rows, self.look_from - rows
        if self.opens is not None:
            self.opens -= rows


class Sequencer:
    """Cuts what comes from one actor's environments into sequences.

    Args:
      length: rows of a sequence (L), those of burn-in included.
      burn_in: rows at the beginning that are not learnt from, and that it has in common with the sequence before it.
      num_envs: environments (B).

    Check: over all sequences of an episode, every row comes after burn-in exactly once.
    """

    def __init__(self, length: int, burn_in: int, num_envs: int):
        self._length, self._burn_in = length, burn_in
        self._places = [Place() for _ in range(num_envs)]
        self._kept: Known | None = None

    def add(self, unroll: Known) -> tuple[Trajectory, Judged] | None:
        """Take an unroll; what is complete by now, None if nothing is.

        A sequence is complete once the row after it was acted in, so that the value of its last observation is known.

        Returns: steps [L, N, ...], without what no loss reads, and values [L + 1, N].
        """
        kept = unroll if self._kept is None else _after(self._kept, unroll)
        cuts = [cut for env in range(len(self._places)) for cut in self._complete(env, kept)]
        made = self._gathered(cuts, kept) if cuts else None
        forget = min(place.needs for place in self._places)
        for place in self._places:
            place.move(forget)
        self._kept = read_at(kept, slice(forget, None))
        return made

    def _complete(self, env: int, rows: Known) -> list[Cut]:
        """An environment's sequences that are complete; its place moves on to the next one."""
        cuts: list[Cut] = []
        place, there = self._places[env], len(rows.reward)
        ended = np.logical_or(rows.terminated[:, env], rows.truncated[:, env])
        while self._in_episode(place, rows.valid[:, env]):
            assert place.opens is not None
            end = place.start + self._length
            ends = np.flatnonzero(ended[place.needs : end])
            last = place.needs + int(ends[0]) if len(ends) else end - 1
            if last + 1 >= there:
                break
            cuts.append(Cut(env, place.start, place.opens, last))
            place.start = end - self._burn_in
            if len(ends):
                place.opens, place.look_from = None, last + 1
        return cuts

    def _in_episode(self, place: Place, valid: Array) -> bool:
        """Whether the place is in an episode by now: rows that are not valid come before its first one."""
        if place.opens is None:
            found = np.flatnonzero(valid[place.look_from :])
            if not len(found):
                place.look_from = len(valid)
                return False
            place.opens = place.look_from + int(found[0])
            place.start = place.opens - self._burn_in
        return True

    def _gathered(self, cuts: list[Cut], kept: Known) -> tuple[Trajectory, Judged]:
        env, start, opens, last = np.array(cuts).T
        rows = start + np.arange(self._length + 1)[:, None]  # [L + 1, N]
        seen, counts = (np.clip(rows, opens, last + 1), env), ((rows >= opens) & (rows <= last))[:-1]
        at, first = (np.clip(rows, opens, last)[:-1], env), (np.maximum(start, opens), env)
        steps = Trajectory(
            obs=read_at(kept.obs, seen),
            action=kept.action[at],
            reward=np.where(counts, kept.reward[at], np.float32(0)),
            terminated=kept.terminated[at] & counts,
            truncated=kept.truncated[at] & counts,
            valid=kept.valid[at] & counts,
            log_prob=(),
            memory=read_at(kept.memory, first),
            version=kept.version[first],
            episode_return=(),
            episode_length=(),
        )
        return steps, read_at(kept.judged, seen)


def sequence_errors(judged: Judged, steps: Trajectory, config: Any) -> Array:
    """|n-step temporal-difference errors| [L, N] by the values [L + 1, N] that acted. The last rows' targets reach as
    far as the sequence does.

    Check: equals a loop over rows, with rescaled values and without.
    """
    reward = learnt_reward(steps.reward, config.reward_scale, config.reward_clip)
    more = [(0, config.n_step - 1), (0, 0)]
    rows = steps._replace(
        obs=(),
        reward=np.pad(reward, more),
        terminated=np.pad(steps.terminated, more),
        truncated=np.pad(steps.truncated, more),
        valid=np.pad(steps.valid, more),
    )
    found = n_step_rows(rows, config.n_step, config.discount, len(reward))
    return value_errors(judged, found, config.rescale_values)


def _after(before: Known, rows: Known) -> Known:
    """Rows that follow upon others; the observation that both have is the later one's."""
    joined = tree_map(lambda a, b: np.concatenate([a, b]), before._replace(obs=()), rows._replace(obs=()))
    return joined._replace(obs=tree_map(lambda a, b: np.concatenate([a[:-1], b]), before.obs, rows.obs))


def priorities(error: Array, valid: Array, burn_in: int, max_share: float) -> Array:
    """Of sequences by their errors |TD| [L, N] in rows that are learnt from: share * maximum + (1 - share) * mean, [N].

    Kapturowski et al. 2019, equation 2 with max_share 0.9 (eta).

    Check: with max_share 1 it is the maximum, with 0 the mean.
    """
    counts = valid & (np.arange(len(valid)) >= burn_in)[:, None]
    weighed = np.where(counts, error, 0.0)
    mean = weighed.sum(0) / np.maximum(counts.sum(0), 1)
    return (max_share * weighed.max(0) + (1 - max_share) * mean).astype(np.float32)
