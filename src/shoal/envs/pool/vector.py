# SPDX-License-Identifier: Apache-2.0
"""The owner's side of a pool: the host interface over environments that workers step.

Where a worker died, each of its environments that was in an episode gives one row that is not valid and truncated, with
the last real observation: nothing false is trained on, and what came before it bootstraps from there. Then it opens a
new episode, whose seed is a function of the pool's seed, the environment's index and the number of restarts.
"""

import os
import select
from typing import Any

import numpy as np

from shoal import seeds
from shoal.envs.base import EnvFactory, in_slot_order
from shoal.envs.pool.member import STRIKES, Member, adapter_of, recipe_for
from shoal.envs.pool.rows import rows_over, size_of
from shoal.envs.pool.worker import ANSWER, STEP, STEP_APART
from shoal.processes import launch, limits, status
from shoal.processes.link import Hangup
from shoal.processes.memory import Segment
from shoal.processes.stillness import Deadline, Every
from shoal.trees import read_at, tree_map, write_at
from shoal.types import Steps

PRELOAD = ("gymnasium", "shoal.envs.single", "shoal.envs.pool.worker")
LOOK_S = 0.05
"""seconds between looks at workers that may hang"""
CLOSE_S = 1.5
"""seconds that workers have to close their environments"""
MOST_ANSWERS = 8192
EVERY_SLOT = slice(None)


class PoolVector:
    """N environments in worker processes, in shares of neighbours. Any slots can be sent where the adapter allows it.

    After a `recv` with `min_ready`, workers step their environments one by one and each is ready by itself; before,
    and after a `recv` without, those of a worker are ready together.
    """

    def __init__(
        self, factory: EnvFactory, num_envs: int, first_index: int = 0, *, workers: int, step_timeout: float = 60.0
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.spec, self.num_envs = factory.spec, num_envs
        self.split_invariant = factory.split_invariant
        self.steps_apart = False
        self._workers, self._step_timeout = min(workers, num_envs), step_timeout
        self._segment = Segment.create(size_of(factory.spec, num_envs), "rows of environments in workers")
        self._shared = rows_over(self._segment, factory.spec, num_envs)
        self._rows = Steps(np.arange(num_envs), *tree_map(np.array, tuple(self._shared[1:])))
        self._asked, self._answered, self._fresh, self._lost, self._kept, self._ended = np.zeros((6, num_envs), bool)
        self._usual = False
        """no environment is fresh, lost or kept"""
        self._apart = False
        self._seed: int | None = None
        self._reports: list[str] = []
        self._look, self._closed = Every(LOOK_S), False
        self._members: list[Member] = []
        self._heard, self._answers = os.pipe()
        os.set_blocking(self._heard, False)
        self._epoll = select.epoll()
        self._epoll.register(self._heard, select.EPOLLIN)
        try:
            self._start(factory, first_index)
        except BaseException:
            self.close()
            raise

    def reset(self, seed: int) -> None:
        self._seed = seed
        self._asked[:] = self._fresh[:] = True
        self._answered[:] = self._lost[:] = self._kept[:] = self._usual = False
        for member in self._members:
            member.restarts = 0
            member.reset(seed)

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        """Hand out actions; the workers begin at once."""
        chosen: Any = EVERY_SLOT if slots is None else np.asarray(slots)
        count = self.num_envs if slots is None else len(chosen)
        if len(action) != count:
            raise ValueError(f"{len(action)} actions for {count} environments")
        if self._asked[chosen].any():
            raise ValueError("an environment was sent an action before its last row was received")
        shares = [None] * len(self._members) if slots is None and self._usual else self._shares(chosen)
        self._shared.action[chosen] = action
        self._asked[chosen] = True
        apart = self._apart and self.steps_apart
        for member, share in zip(self._members, shares, strict=True):
            if share is None or len(share):
                member.step(STEP_APART if apart else STEP, share)

    def recv(self, min_ready: int | None = None) -> Steps:
        """Rows of the first environments that are ready, in slot order: at least `min_ready`, or all under way.

        Raises EnvironmentFault where an environment raised, hung, or ended its process three times in a row.
        """
        flying = int(np.count_nonzero(self._asked))
        if not flying:
            raise ValueError("nothing to receive: send actions first")
        self._apart = min_ready is not None
        wanted = flying if min_ready is None else min(min_ready, flying)
        while np.count_nonzero(self._ready()) < wanted:
            self._wait()
        return self._take()

    def take_reports(self) -> list[str]:
        """A line for each worker that was started anew since the last call."""
        taken, self._reports = self._reports, []
        return taken

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [member.child.pid for member in self._members]

    def have_imported(self, module: str) -> list[bool]:
        """Whether each worker has imported a module; only while nothing is under way."""
        return [member.has_imported(module) for member in self._members]

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for member in self._members:
            member.ask_to_close()
        deadline = Deadline(CLOSE_S)
        for member in self._members:
            member.child.wait(deadline.left())
            member.child.close()
        self._epoll.close()
        for descriptor in (self._heard, self._answers):
            os.close(descriptor)
        self._segment.close()

    def _start(self, factory: EnvFactory, first_index: int) -> None:
        """Start all workers, then wait until each has made its environments."""
        limits.require_files(self._workers)
        recipe = recipe_for(factory, self.num_envs, first_index, self._segment, self._answers)
        launch.shared().preload((*PRELOAD, adapter_of(factory)))
        bounds = np.linspace(0, self.num_envs, self._workers + 1).astype(int)
        for number in range(self._workers):
            member = Member(recipe, number, slice(int(bounds[number]), int(bounds[number + 1])))
            self._members.append(member)
            self._epoll.register(member.link.fileno(), select.EPOLLIN)
        while not all(member.made for member in self._members):
            self._wait()

    def _shares(self, chosen: Any) -> list[np.ndarray | None]:
        """For each worker, those of the chosen slots whose environments it is to step, None for all of its own.

        The rows of lost and fresh environments come without being asked for.
        """
        slots = np.arange(self.num_envs)[chosen]
        shares: list[np.ndarray | None] = []
        for member in self._members:
            mine = slots[(slots >= member.slots.start) & (slots < member.slots.stop)]
            if len(mine) and not self.steps_apart:
                in_slot_order(mine, mine - member.slots.start, member.size)
            mine = mine[~(self._lost[mine] | self._fresh[mine])]
            shares.append(mine if self.steps_apart or not len(mine) else None)
        return shares

    def _ready(self) -> np.ndarray:
        """bool [N]: asked for and there."""
        return self._asked & (self._answered | self._lost | self._kept)

    def _take(self) -> Steps:
        """The rows that are ready, now the receiver's."""
        rows = self._rows
        ready = self._ready()
        everyone = bool(ready.all())
        if self._usual:
            self._copy(EVERY_SLOT if everyone else ready)
            self._answered[ready] = False
        else:
            lost = ready & self._lost & ~self._kept
            rows.reward[lost], rows.terminated[lost], rows.valid[lost] = 0, False, False
            rows.truncated[lost] = ~self._ended[lost]
            there = ready & ~lost & ~self._kept
            self._copy(there)
            self._lost[lost] = self._answered[there] = self._fresh[there] = self._kept[ready] = False
            self._usual = not (self._fresh | self._lost | self._kept).any()
        self._asked[ready] = False
        self._ended[ready] = rows.terminated[ready] | rows.truncated[ready]
        if everyone:
            return rows
        slots = np.flatnonzero(ready)
        return Steps(slots, *read_at(tuple(rows[1:]), slots))

    def _copy(self, which: Any) -> None:
        """Rows out of shared memory: a worker that dies in the middle of writing spoils none that was received."""
        write_at(tuple(self._rows[1:]), which, read_at(tuple(self._shared[1:]), which))

    def _wait(self) -> None:
        """Until something happens, for a short while at most."""
        for descriptor, _ in self._epoll.poll(LOOK_S):
            if descriptor == self._heard:
                self._hear()
            else:
                self._listen(next(m for m in self._members if m.link.fileno() == descriptor))
        if self._look.due():
            if status.mine is not None:
                status.mine.go_on()
            for member in self._members:
                member.look(self._step_timeout)

    def _hear(self) -> None:
        """Answers of all workers."""
        try:
            told = os.read(self._heard, MOST_ANSWERS * ANSWER.size)
        except BlockingIOError:
            return
        for tag, code in ANSWER.iter_unpack(told):
            member = self._members[-1 - code] if code < 0 else self._owner(code)
            if tag == member.tag:
                slots = member.batches.popleft() if code < 0 else slice(code, code + 1)
                self._answered[slots] = True
                member.pending -= int(np.count_nonzero(self._answered[slots]))
                if self._usual or not self._fresh[slots].any():
                    member.strikes = 0

    def _owner(self, slot: int) -> Member:
        return next(member for member in self._members if slot < member.slots.stop)

    def _listen(self, member: Member) -> None:
        """To one worker: its environments are made, one of them raised, or it has ended."""
        try:
            message = member.link.receive()
        except Hangup:
            self._replace(member)
            return
        if "error" in message.header:
            raise member.fault_in(message)
        member.made = True
        self.steps_apart = message.header["steps_apart"]

    def _replace(self, member: Member) -> None:
        """Start a worker anew that has ended. Raises EnvironmentFault where that would not help."""
        self._hear()  # what it finished before is real
        how = member.how_it_ended()
        member.strikes += 1
        if member.hung:
            what = f"did nothing for {self._step_timeout:g} s and the process was ended"
            raise member.fault(what, "fix the environment, or raise step_timeout")
        if member.strikes >= STRIKES:
            raise member.fault(f"ended its process {STRIKES} times before a step was finished: {how}", "fix it")
        self._reports.append(str(member.fault(f"lost: {how}", "a new process opens new episodes")))
        self._mark_lost(member.slots)
        self._epoll.unregister(member.link.fileno())
        member.child.close()
        member.start()
        self._epoll.register(member.link.fileno(), select.EPOLLIN)
        if self._seed is not None:
            member.restarts += 1
            member.reset(seeds.derive(self._seed, "restart", member.restarts))

    def _mark_lost(self, slots: slice) -> None:
        """What the receiver will see of these environments before their new episodes."""
        mine = np.zeros(self.num_envs, bool)
        mine[slots] = True
        running = mine & ~self._fresh
        finished = running & self._asked & self._answered
        self._copy(finished)
        self._kept |= finished
        self._lost |= running
        self._fresh |= running
        self._answered[slots] = self._usual = False
