# SPDX-License-Identifier: Apache-2.0
"""The owner's side of a pool: the host interface over environments that workers step.

Where a worker died, each of its environments that was in an episode gives one row that is not valid and truncated, with
the last real observation: nothing false is trained on, and what came before it bootstraps from there. Then it opens a
new episode, whose seed is a function of the pool's seed, the environment's index and the number of restarts.
"""

import contextlib
import os
import select
from typing import Any

import numpy as np

from shoal import seeds
from shoal.envs.base import EnvFactory, in_slot_order
from shoal.envs.pool.member import Member, adapter_of, recipe_for
from shoal.envs.pool.rows import rows_over, size_of
from shoal.envs.pool.worker import COMMAND, STEP, STEP_ALL, STEP_APART
from shoal.processes import launch, limits, status
from shoal.processes.link import Hangup
from shoal.processes.memory import Segment
from shoal.processes.stillness import Deadline, Every
from shoal.trees import read_at, tree_map, write_at
from shoal.types import Array, Steps

PRELOAD = ("gymnasium", "shoal.envs.pool.worker")
LOOK_S = 0.05
"""seconds between looks at workers that may hang"""
CLOSE_S = 1.5
"""seconds that workers have to close their environments"""
EVERY_SLOT = slice(None)
BELL, PASSES = os.EFD_CLOEXEC | os.EFD_NONBLOCK, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE


class PoolVector:
    """N environments in worker processes, in shares of neighbours. Any slots can be sent where the adapter allows it.

    After a `recv` that may give fewer than all, workers step their environments one by one and each is ready by itself;
    before, and after one that gives all, those of a worker are ready together.
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
        self._rows = Steps(np.arange(num_envs), *tree_map(np.array, tuple(self._shared[2:])))
        self._ticket, self._expected = 0, np.zeros(num_envs, np.int64)
        self._asked, self._fresh, self._lost, self._kept, self._ended = np.zeros((5, num_envs), bool)
        self._usual = False
        """no environment is fresh, lost or kept, no worker has died since it finished a step"""
        self._apart = False
        self._seed: int | None = None
        self._reports: list[str] = []
        self._look, self._closed = Every(LOOK_S), False
        self._members: list[Member] = []
        self._bell, self._passes = os.eventfd(0, BELL), os.eventfd(0, PASSES)
        self._epoll = select.epoll()
        self._epoll.register(self._bell, select.EPOLLIN)
        try:
            self._start(factory, first_index)
        except BaseException:
            self.close()
            raise

    def reset(self, seed: int) -> None:
        self._seed = seed
        self._take_passes()
        self._asked[:] = self._fresh[:] = True
        self._lost[:] = self._kept[:] = self._usual = False
        for member in self._members:
            member.restarts = 0
            member.reset(self._next_ticket(member.slots), seed)

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        """Hand out actions; the workers begin at once."""
        chosen: Any = EVERY_SLOT if slots is None else np.asarray(slots)
        count = self.num_envs if slots is None else len(chosen)
        if len(action) != count:
            raise ValueError(f"{len(action)} actions for {count} environments")
        if self._asked[chosen].any():
            raise ValueError("an environment was sent an action before its last row was received")
        apart = self._apart and self.steps_apart
        if slots is None and self._usual:
            self._shared.action[:] = action
            self._asked[:] = True
            if not apart:
                os.eventfd_write(self._passes, len(self._members) - 1)
            command = COMMAND.pack(STEP_APART if apart else STEP_ALL, self._next_ticket(EVERY_SLOT), 0)
            for member in self._members:
                member.step(command)
            return
        shares = self._shares(np.arange(self.num_envs)[chosen])
        self._shared.action[chosen] = action
        self._asked[chosen] = True
        for member, share in shares:
            command = COMMAND.pack(STEP_APART if apart else STEP, self._next_ticket(share), 0)
            told = (share - member.slots.start).astype(np.int32).tobytes() if self.steps_apart else b""
            member.step(command + told)

    def recv(self, min_ready: int | None = None, deadline_s: float | None = None) -> Steps:
        """Rows of the first environments that are ready, in slot order: at least `min_ready`, or all under way.

        Args:
          deadline_s: seconds after which those that are ready will do, counted from when there is one.

        Raises EnvironmentFault where an environment raised, hung, or ended its process three times in a row.
        """
        flying = int(np.count_nonzero(self._asked))
        if not flying:
            raise ValueError("nothing to receive: send actions first")
        wanted = flying if min_ready is None else min(min_ready, flying)
        self._apart = min_ready is not None or deadline_s is not None
        if wanted < flying or deadline_s is not None:
            self._take_passes()
        deadline: Deadline | None = None
        while (there := np.count_nonzero(self._ready())) < wanted:
            if there and deadline_s is not None:
                deadline = deadline or Deadline(deadline_s)
                if not deadline.left():
                    break
            self._wait(deadline)
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
        os.close(self._bell)
        os.close(self._passes)
        self._segment.close()

    def _start(self, factory: EnvFactory, first_index: int) -> None:
        """Start all workers, then wait until each has made its environments."""
        limits.require_files(self._workers)
        recipe = recipe_for(factory, self.num_envs, first_index, self._segment, (self._bell, self._passes))
        launch.shared().preload((*PRELOAD, adapter_of(factory)))
        bounds = np.linspace(0, self.num_envs, self._workers + 1).astype(int).tolist()
        number = first_index // self.num_envs * self._workers
        for i, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
            member = Member(recipe, slice(start, stop), number + i)
            self._members.append(member)
            self._epoll.register(member.link.fileno(), select.EPOLLIN)
        while not all(member.made for member in self._members):
            self._wait()

    def _shares(self, slots: Array) -> list[tuple[Member, Array]]:
        """The workers of these slots, each with those whose environments it is to step.

        The rows of lost and fresh environments come without being asked for.
        """
        shares = []
        for member in self._members:
            mine = slots[(slots >= member.slots.start) & (slots < member.slots.stop)]
            if len(mine) and not self.steps_apart:
                in_slot_order(mine, mine - member.slots.start, member.size)
            mine = mine[~(self._lost[mine] | self._fresh[mine])]
            if len(mine):
                shares.append((member, mine))
        return shares

    def _next_ticket(self, slots: Any) -> int:
        """The ticket with which the next rows of these slots will come."""
        self._ticket += 1
        self._expected[slots] = self._ticket
        return self._ticket

    def _ready(self) -> Array:
        """bool [N]: asked for and there."""
        there = self._shared.ticket == self._expected
        if not self._usual:
            there |= self._lost | self._kept
        if self._apart and not self.steps_apart:  # a worker writes its tickets one after the other
            for member in self._members:
                there[member.slots] = there[member.slots].all()
        return self._asked & there

    def _take(self) -> Steps:
        """The rows that are ready, now the receiver's."""
        rows, ready = self._rows, self._ready()
        everyone = bool(ready.all())
        if self._usual:
            self._copy(EVERY_SLOT if everyone else ready)
        else:
            self._take_unusual(ready)
        self._asked[ready] = False
        self._ended[ready] = rows.terminated[ready] | rows.truncated[ready]
        if everyone:
            return rows
        slots = np.flatnonzero(ready)
        return Steps(slots, *read_at(tuple(rows[1:]), slots))

    def _take_unusual(self, ready: Array) -> None:
        """Make the rows of environments of which some are fresh, lost or kept."""
        rows = self._rows
        lost = ready & self._lost & ~self._kept
        rows.reward[lost], rows.terminated[lost], rows.valid[lost] = 0, False, False
        rows.truncated[lost] = ~self._ended[lost]
        there = ready & ~lost & ~self._kept
        self._copy(there)
        for member in self._members:
            if (there & ~self._fresh)[member.slots].any():
                member.strikes = 0
        self._lost[lost] = self._fresh[there] = self._kept[ready] = False
        struck = any(member.strikes for member in self._members)
        self._usual = not (struck or (self._fresh | self._lost | self._kept).any())

    def _copy(self, which: Any) -> None:
        """Rows out of shared memory: a worker that dies in the middle of writing spoils none that was received."""
        write_at(tuple(self._rows[1:]), which, read_at(tuple(self._shared[2:]), which))

    def _take_passes(self) -> None:
        """From now on every worker that answers wakes this process."""
        with contextlib.suppress(BlockingIOError):
            while True:
                os.eventfd_read(self._passes)

    def _wait(self, deadline: Deadline | None = None) -> None:
        """Until something happens, for a short while at most."""
        for descriptor, _ in self._epoll.poll(LOOK_S if deadline is None else min(LOOK_S, deadline.left())):
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            else:
                self._listen(next(m for m in self._members if m.link.fileno() == descriptor))
        if self._look.due():
            if status.mine is not None:
                status.mine.go_on()
            under_way = self._shared.ticket != self._expected
            for member in self._members:
                member.look(self._step_timeout, busy=not member.made or bool(under_way[member.slots].any()))

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
        self.steps_apart = message.header["steps_apart"] or self._workers == self.num_envs

    def _replace(self, member: Member) -> None:
        """Start a worker anew that has ended. Raises EnvironmentFault where that would not help."""
        self._reports.append(member.lost(self._step_timeout))
        self._mark_lost(member.slots)
        self._take_passes()
        self._epoll.unregister(member.link.fileno())
        member.child.close()
        member.start()
        self._epoll.register(member.link.fileno(), select.EPOLLIN)
        if self._seed is not None:
            member.restarts += 1
            ticket = self._next_ticket(member.slots)
            member.reset(ticket, seeds.derive(self._seed, "restart", member.restarts))

    def _mark_lost(self, slots: slice) -> None:
        """What the receiver will see of these environments before their new episodes."""
        mine = np.zeros(self.num_envs, bool)
        mine[slots] = True
        running = mine & ~self._fresh
        finished = running & self._ready()
        self._copy(finished)
        self._kept |= finished
        self._lost |= running
        self._fresh |= running
        self._usual = False
