# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker: takes commands, steps its share of the environments, writes their rows, says that it has.

A command is one short message. An answer is a row in shared memory with the command's ticket, and a bell that wakes the
owner; where the owner waits for all, only the last worker rings. No JAX in here.
"""

import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shoal.envs.base import EnvFactory, VectorEnv, describe_error
from shoal.envs.pool.rows import Rows, rows_over
from shoal.envs.single import SingleVector
from shoal.errors import EnvironmentFault, ShoalError
from shoal.processes import codec, status
from shoal.processes.link import Hangup, Link
from shoal.processes.memory import Segment
from shoal.trees import write_at
from shoal.types import Steps

ENTRY = f"{__name__}:main"
COMMAND = struct.Struct("<qqQ")
"""what to do, the ticket of the answer, a seed; the slots that it is about follow as int32, none for all"""
STEP, STEP_APART, STEP_ALL, RESET, CLOSE, TELL = range(6)
EVERY_ROW = slice(None)


class Bells:
    """How workers wake the owner."""

    def __init__(self, bell: int, passes: int):
        self._bell, self._passes = bell, passes

    def ring(self) -> None:
        """Wake the owner."""
        os.eventfd_write(self._bell, 1)

    def ring_if_last(self) -> None:
        """Wake the owner unless there is a pass left, one less than there are workers to wait for."""
        try:
            os.eventfd_read(self._passes)
        except BlockingIOError:
            os.eventfd_write(self._bell, 1)


class Worker:
    """The serving side of any adapter."""

    def __init__(self, link: Link, bells: Bells, env: VectorEnv, rows: Rows):
        self._link, self._bells, self._env, self._rows = link, bells, env, rows
        self._alone = [np.array([slot]) for slot in range(env.num_envs)]

    def serve(self) -> None:
        """Say that the environments are made, then obey commands until told to close."""
        self._link.send({"steps_apart": self._env.steps_apart})
        do: dict[int, Callable] = {STEP: self._step, STEP_APART: self._step_apart, TELL: self._tell}
        commands, longest = self._link.fileno(), COMMAND.size + max(1024, 4 * self._env.num_envs)
        while True:
            message = os.read(commands, longest)
            if not message:
                raise Hangup("the owner is gone")
            kind, ticket, seed = COMMAND.unpack_from(message)
            if kind == STEP_ALL:
                self._step_all(ticket)
            elif kind == CLOSE:
                return
            elif kind == RESET:
                self._reset(ticket, seed)
            else:
                do[kind](ticket, message[COMMAND.size :])

    def advance(self, slots: np.ndarray | None) -> None:
        """Step environments together, all of them or those in `slots`, and write their rows."""
        page = status.mine
        if page is not None:
            page.begin("step")
        if slots is None:
            self._env.send(self._rows.action)
            self._write(EVERY_ROW, self._env.recv())
        else:
            self._env.send(self._rows.action[slots], slots)
            steps = self._env.recv()
            self._write(steps.slots, steps)
        if page is not None:
            page.end()

    def _step_all(self, ticket: int) -> None:
        """All environments, for an owner that waits for all workers."""
        self.advance(None)
        self._rows.ticket[:] = ticket
        self._bells.ring_if_last()

    def _step(self, ticket: int, told: bytes) -> None:
        """Environments together; ready at once."""
        slots = np.frombuffer(told, np.int32) if told else None
        self.advance(slots)
        self._rows.ticket[EVERY_ROW if slots is None else slots] = ticket
        self._bells.ring()

    def _step_apart(self, ticket: int, told: bytes) -> None:
        """Environments one by one; each is ready as soon as it has answered."""
        for slot in np.frombuffer(told, np.int32).tolist() if told else range(self._env.num_envs):
            self.advance(self._alone[slot])
            self._rows.ticket[slot] = ticket
            self._bells.ring()

    def _reset(self, ticket: int, seed: int) -> None:
        self._env.reset(seed)
        self._write(EVERY_ROW, self._env.recv())
        self._rows.ticket[:] = ticket
        self._bells.ring()

    def _tell(self, _ticket: int, told: bytes) -> None:
        """Whether this process has imported a module."""
        self._link.send({"imported": told.decode() in sys.modules})

    def _write(self, where: Any, steps: Steps) -> None:
        rows = self._rows
        write_at(rows.obs, where, steps.obs)
        rows.reward[where] = steps.reward
        rows.terminated[where] = steps.terminated
        rows.truncated[where] = steps.truncated
        rows.valid[where] = steps.valid


class SinglesWorker(Worker):
    """Of single environments, which write into the shared rows themselves."""

    _env: SingleVector

    def __init__(self, link: Link, bells: Bells, env: SingleVector, rows: Rows):
        super().__init__(link, bells, env, rows)
        env.write_into(Steps(np.arange(env.num_envs), *rows[2:]))
        self._all: Sequence[int] = range(env.num_envs)

    def advance(self, slots: np.ndarray | None) -> None:
        if slots is None:
            self._env.advance(self._all, self._rows.action)
        else:
            self._env.advance(slots.tolist(), self._rows.action[slots])

    def _reset(self, ticket: int, seed: int) -> None:
        self._env.reset(seed)
        self._rows.ticket[:] = ticket
        self._bells.ring()


def main(link: Link, header: dict[str, Any], descriptors: list[int], _server: Link) -> None:
    """The entry of every worker. A fault goes back over the link."""
    page = status.adopt(descriptors[0])
    segment = Segment(descriptors[1], header["size"])
    page.begin("launch")
    recipe = link.receive()
    env: VectorEnv | None = None
    try:
        memory = np.frombuffer(bytearray(recipe.data), np.uint8)
        form = recipe.header["form"]
        factory: EnvFactory = codec.unpack(form, codec.read(form, memory), calls=True)
        env = factory.make(header["envs"], header["first_index"])
        first = header["first_slot"]
        every = rows_over(segment, factory.spec, header["envs_in_pool"])
        segment.close()
        kind: Any = SinglesWorker if isinstance(env, SingleVector) else Worker
        page.end()
        kind(link, Bells(*descriptors[2:4]), env, every.part(slice(first, first + env.num_envs))).serve()
    except Hangup:
        raise
    except BaseException as error:  # noqa: BLE001 told to the owner, which raises it
        link.send({"error": encode(error)})
    finally:
        if env is not None:
            env.close()


def encode(error: BaseException) -> list[str]:
    """Kind and text of what an environment raised, as the adapter in the owner's process would have it."""
    if isinstance(error, ShoalError):
        return [type(error).__name__, str(error)]
    return [EnvironmentFault.__name__, f"a worker of environments raised {describe_error(error)}; fix the environment"]
