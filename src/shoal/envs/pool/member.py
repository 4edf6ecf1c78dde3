# SPDX-License-Identifier: Apache-2.0
"""One worker of a pool as the owner sees it: started, sent commands, watched, and how it ended."""

import contextlib
import os
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from shoal import errors
from shoal.envs.base import EnvFactory, environment_fault
from shoal.envs.pool.worker import CLOSE, COMMAND, ENTRY, RESET, STEP, TELL
from shoal.errors import ConfigError, EnvironmentFault, ShoalError
from shoal.processes import codec, launch
from shoal.processes.link import Hangup, Message
from shoal.processes.memory import Segment
from shoal.processes.status import Status
from shoal.processes.stillness import Stillness

EXIT_S = 2.0
"""seconds to learn how a worker ended"""
MAKING_S = 60.0
"""seconds that a worker may take to import and make its environments, however impatient the run is"""
STRIKES = 3
"""deaths in a row without a finished step after which a worker is not started anew"""


class Recipe(NamedTuple):
    """What every worker of a pool is started with."""

    factory: EnvFactory
    form: str
    data: bytes
    num_envs: int
    first_index: int
    segment: Segment
    answers: int
    """descriptor of the pipe's end that workers write to"""


def adapter_of(factory: EnvFactory) -> str:
    """The module of the adapter over the factory's environments."""
    return getattr(factory.build, "func", factory.build).__module__


def recipe_for(factory: EnvFactory, num_envs: int, first_index: int, segment: Segment, answers: int) -> Recipe:
    """Take the factory apart for its workers. Raises ConfigError in one line for what cannot cross."""
    try:
        packed = codec.pack(factory)
    except ConfigError as error:
        reason = str(error).removesuffix(codec.REMEDY)
        raise ConfigError(f"env {factory.name} in workers: {reason}or set env_workers to 0") from error
    memory = np.zeros(packed.nbytes, np.uint8)
    codec.write(packed, memory)
    return Recipe(factory, packed.form, memory.tobytes(), num_envs, first_index, segment, answers)


class Member:
    """A worker with a share of the environments; `start` may be called again when its process has ended."""

    def __init__(self, recipe: Recipe, number: int, slots: slice):
        self.number, self.slots, self.size = number, slots, slots.stop - slots.start
        self._recipe = recipe
        self.tag = 0
        """of the answers that count: those to questions before a reset or a restart don't"""
        self.restarts = 0
        """since the last reset by the owner"""
        self.strikes = 0
        self.hung = False
        """its process was ended because it did not move any more"""
        self.made = False
        """its environments exist"""
        self.pending = 0
        """rows under way"""
        self.batches: deque[Any] = deque()
        """slots of commands that are answered once, in order"""
        self._seed: int | None = None
        self._steps = 0
        self.start()

    def start(self) -> None:
        """A new process, which makes its environments at once."""
        recipe = self._recipe
        self.page, self._still = Status.create(), Stillness()
        self.hung = self.made = False
        header = {
            "size": recipe.segment.size,
            "number_in_pool": self.number,
            "envs": self.size,
            "first_index": recipe.first_index + self.slots.start,
            "first_slot": self.slots.start,
            "envs_in_pool": recipe.num_envs,
        }
        shared = [self.page.segment.descriptor, recipe.answers, recipe.segment.descriptor]
        self.child = launch.shared().launch(ENTRY, header, shared)
        self.page.segment.close()
        self.link = self.child.link
        with contextlib.suppress(Hangup):  # it has ended already, which the link will tell again
            self.link.send({"form": recipe.form}, recipe.data)

    def reset(self, seed: int) -> None:
        """Have all its environments begin anew."""
        self._seed, self._steps = seed, 0
        self.tag += 1
        self.pending, self.batches = self.size, deque([self.slots])
        self._still.begin()
        self._tell(RESET, seed=seed)

    def step(self, kind: int, slots: np.ndarray | None) -> None:
        """Have environments step, together or apart: all of them, or those in `slots`, counted over the pool."""
        self._still.begin()
        self._steps += 1
        if slots is None:
            self.pending += self.size
            told = b""
        else:
            self.pending += len(slots)
            told = (slots - self.slots.start).astype(np.int32).tobytes()
        if kind == STEP:
            self.batches.append(self.slots if slots is None else slots)
        self._tell(kind, told)

    def ask_to_close(self) -> None:
        """Have it close its environments and end."""
        self._tell(CLOSE)

    def has_imported(self, module: str) -> bool:
        """Whether its process has imported a module; only while nothing is under way."""
        self._tell(TELL, module.encode())
        return self.link.receive().header["imported"]

    def look(self, step_timeout: float) -> None:
        """End its process if it has something to do and did not move for too long."""
        limit = step_timeout if self.made else max(step_timeout, MAKING_S)
        if (self.pending or not self.made) and self._still.seconds(self.page.moves) > limit:
            self.hung = not self.child.is_stopped()
            self.child.kill()

    def fault_in(self, message: Message) -> ShoalError:
        """What an environment raised, as it would have raised it in this process."""
        kind, text = message.header["error"]
        return getattr(errors, kind, EnvironmentFault)(text)

    def how_it_ended(self) -> str:
        """In words, once it has."""
        return f"process {self.child.pid} {launch.describe_exit(self.child.wait(EXIT_S))}"

    def fault(self, what: str, remedy: str) -> EnvironmentFault:
        """The one line that names the environment, or all of them where it cannot be known which it was."""
        name, env, first = self._recipe.factory.name, self.page.env, self._recipe.first_index
        if env is not None:
            return environment_fault(name, env.index, env.seed, env.step, what, remedy)
        among = f"environments {first + self.slots.start} .. {first + self.slots.stop - 1}"
        where = "being made" if not self.made else f"seed {self._seed}, step {self._steps}"
        return EnvironmentFault(f"{name}: {among} ({where}) {what}; {remedy}")

    def _tell(self, kind: int, told: bytes = b"", seed: int = 0) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended, which the link will tell
            os.write(self.link.fileno(), COMMAND.pack(kind, self.tag, seed % 2**64) + told)
