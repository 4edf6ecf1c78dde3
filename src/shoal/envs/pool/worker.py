# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker: takes commands, steps its share of the environments, writes their rows, says which are ready.

A command is one short message, an answer a few bytes in a pipe that all workers of a pool share. No JAX in here.
"""

import os
import struct
import sys
from typing import Any

import numpy as np

from shoal.envs.base import EnvFactory, VectorEnv, describe_error
from shoal.envs.pool.rows import Rows, rows_over
from shoal.errors import EnvironmentFault, ShoalError
from shoal.processes import codec, status
from shoal.processes.link import LARGEST, Hangup, Link
from shoal.processes.memory import Segment
from shoal.processes.status import Status
from shoal.trees import write_at
from shoal.types import Steps

ENTRY = f"{__name__}:main"
COMMAND = struct.Struct("<iiQ")
"""what to do, the tag of the answer, a seed; the slots that it is about follow, none for all"""
ANSWER = struct.Struct("<ii")
"""the tag, and the slot that is ready, counted over the pool; or -1 - number of a worker whose command is done"""
STEP, STEP_APART, RESET, CLOSE, TELL = range(5)
EVERY_ROW = slice(None)


class Worker:
    """The serving side."""

    def __init__(self, link: Link, page: Status, answers: int, env: VectorEnv, rows: Rows, place: dict[str, Any]):
        self._link, self._page, self._answers, self._env, self._rows = link, page, answers, env, rows
        self._number, self._first = place["number_in_pool"], place["first_slot"]
        self._alone = [np.array([slot]) for slot in range(env.num_envs)]

    def serve(self) -> None:
        """Say that the environments are made, then obey commands until told to close."""
        self._link.send({"steps_apart": self._env.steps_apart})
        page, commands = self._page, self._link.fileno()
        do = {STEP: self._step, STEP_APART: self._step_apart, RESET: self._reset, TELL: self._tell}
        while True:
            message = os.read(commands, LARGEST)
            if not message:
                raise Hangup("the owner is gone")
            kind, tag, seed = COMMAND.unpack_from(message)
            if kind == CLOSE:
                return
            page.begin("reset" if kind == RESET else "step")
            do[kind](tag, seed, message[COMMAND.size :])
            page.end()

    def _step(self, tag: int, _seed: int, told: bytes) -> None:
        """Step environments together; one answer for all."""
        if told:
            slots = np.frombuffer(told, np.int32)
            self._env.send(self._rows.action[slots], slots)
            steps = self._env.recv()
            self._write(steps.slots, steps)
        else:
            self._env.send(self._rows.action)
            self._write(EVERY_ROW, self._env.recv())
        self._answer(tag)

    def _step_apart(self, tag: int, _seed: int, told: bytes) -> None:
        """Step environments one by one; each is ready as soon as it has answered."""
        for slot in np.frombuffer(told, np.int32).tolist() if told else range(self._env.num_envs):
            slots = self._alone[slot]
            self._env.send(self._rows.action[slots], slots)
            self._write(slots, self._env.recv())
            os.write(self._answers, ANSWER.pack(tag, self._first + slot))

    def _reset(self, tag: int, seed: int, _told: bytes) -> None:
        self._env.reset(seed)
        self._write(EVERY_ROW, self._env.recv())
        self._answer(tag)

    def _tell(self, _tag: int, _seed: int, told: bytes) -> None:
        """Whether this process has imported a module."""
        self._link.send({"imported": told.decode() in sys.modules})

    def _write(self, where: Any, steps: Steps) -> None:
        rows = self._rows
        write_at(rows.obs, where, steps.obs)
        rows.reward[where] = steps.reward
        rows.terminated[where] = steps.terminated
        rows.truncated[where] = steps.truncated
        rows.valid[where] = steps.valid

    def _answer(self, tag: int) -> None:
        os.write(self._answers, ANSWER.pack(tag, -1 - self._number))


def main(link: Link, header: dict[str, Any], descriptors: list[int], _server: Link) -> None:
    """The entry of every worker. A fault goes back over the link."""
    page = status.adopt(descriptors[0])
    answers, segment = descriptors[1], Segment(descriptors[2], header["size"])
    page.begin("launch")
    recipe = link.receive()
    env: VectorEnv | None = None
    try:
        memory = np.frombuffer(bytearray(recipe.data), np.uint8)
        factory: EnvFactory = codec.unpack(recipe.header["form"], codec.read(recipe.header["form"], memory), calls=True)
        env = factory.make(header["envs"], header["first_index"])
        every = rows_over(segment, factory.spec, header["envs_in_pool"])
        segment.close()
        first = header["first_slot"]
        rows = every.part(slice(first, first + env.num_envs))
        page.end()
        Worker(link, page, answers, env, rows, header).serve()
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
