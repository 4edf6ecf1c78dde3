# SPDX-License-Identifier: Apache-2.0
"""One worker of a pool as the owner sees it: started, sent commands, watched, and how it ended."""

import contextlib
import os
from typing import NamedTuple

import numpy as np

from shoal import errors
from shoal.envs.base import EnvFactory, environment_fault
from shoal.envs.pool.worker import CLOSE, COMMAND, ENTRY, RESET, TELL
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
    bells: tuple[int, int]
    """descriptors with which workers wake the owner"""


def adapter_of(factory: EnvFactory) -> str:
    """The module of the adapter over the factory's environments."""
    return getattr(factory.build, "func", factory.build).__module__


def recipe_for(
    factory: EnvFactory, num_envs: int, first_index: int, segment: Segment, bells: tuple[int, int]
) -> Recipe:
    """Take the factory apart for its workers. Raises ConfigError in one line for what cannot cross."""
    try:
        packed = codec.pack(factory)
    except ConfigError as error:
        reason = str(error).removesuffix(codec.REMEDY)
        raise ConfigError(f"env {factory.name} in workers: {reason}or set env_workers to 0") from error
    memory = np.zeros(packed.nbytes, np.uint8)
    codec.write(packed, memory)
    return Recipe(factory, packed.form, memory.tobytes(), num_envs, first_index, segment, bells)


class Member:
    """A worker with a share of the environments; `start` may be called again when its process has ended."""

    def __init__(self, recipe: Recipe, slots: slice):
        self.slots, self.size = slots, slots.stop - slots.start
        self._recipe = recipe
        self.restarts = 0
        """since the last reset by the owner"""
        self.strikes = 0
        """deaths since it last finished a step"""
        self.steps = 0
        """commands to step since the last reset"""
        self._seed: int | None = None
        self.start()

    def start(self) -> None:
        """A new process, which makes its environments at once."""
        recipe = self._recipe
        self.page, self._still = Status.create(), Stillness()
        self.hung = self.stopped = False
        self.made = False
        header = {
            "size": recipe.segment.size,
            "envs": self.size,
            "first_index": recipe.first_index + self.slots.start,
            "first_slot": self.slots.start,
            "envs_in_pool": recipe.num_envs,
        }
        shared = [self.page.segment.descriptor, recipe.segment.descriptor, *recipe.bells]
        self.child = launch.shared().launch(ENTRY, header, shared)
        self.page.segment.close()
        self.link, self._line = self.child.link, self.child.link.fileno()
        with contextlib.suppress(Hangup):  # it has ended already, which the link will tell again
            self.link.send({"form": recipe.form}, recipe.data)

    def reset(self, ticket: int, seed: int) -> None:
        """Have all its environments begin anew."""
        self._seed, self.steps = seed, 0
        self._still.begin()
        self.tell(COMMAND.pack(RESET, ticket, seed % 2**64))

    def step(self, command: bytes) -> None:
        """Have environments step."""
        self.steps += 1
        self._still.begin()
        self.tell(command)

    def ask_to_close(self) -> None:
        """Have it close its environments and end."""
        self.tell(COMMAND.pack(CLOSE, 0, 0))

    def has_imported(self, module: str) -> bool:
        """Whether its process has imported a module; only while nothing is under way."""
        self.tell(COMMAND.pack(TELL, 0, 0) + module.encode())
        return self.link.receive().header["imported"]

    def look(self, step_timeout: float, *, busy: bool) -> None:
        """End its process if it has something to do and did not move for too long."""
        limit = step_timeout if self.made else max(step_timeout, MAKING_S)
        if (busy or not self.made) and self._still.seconds(self.page.moves) > limit:
            if not self.hung and not self.stopped:  # once: what was killed does not look stopped any more
                self.stopped = self.child.is_stopped()
                self.hung = not self.stopped
            self.child.kill()

    def fault_in(self, message: Message) -> ShoalError:
        """What an environment raised, as it would have raised it in this process."""
        kind, text = message.header["error"]
        return getattr(errors, kind, EnvironmentFault)(text)

    def how_it_ended(self) -> str:
        """In words, once it has."""
        how = "was stopped and is replaced" if self.stopped else self.child.describe(self.child.wait(EXIT_S))
        return f"process {self.child.pid} {how}"

    def fault(self, what: str, remedy: str) -> EnvironmentFault:
        """The one line that names the environment, or all of them where it cannot be known which it was."""
        name, env, first = self._recipe.factory.name, self.page.env, self._recipe.first_index
        if env is not None:
            return environment_fault(name, env.index, env.seed, env.step, what, remedy)
        among = f"environments {first + self.slots.start} .. {first + self.slots.stop - 1}"
        where = f"seed {self._seed}, step {self.steps}" if self.made else "being made"
        return EnvironmentFault(f"{name}: {among} ({where}) {what}; {remedy}")

    def tell(self, command: bytes) -> None:
        """Send a command; that the process has ended will be told by the link."""
        try:
            os.write(self._line, command)
        except (BrokenPipeError, ConnectionResetError):
            return
