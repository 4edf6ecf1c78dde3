# SPDX-License-Identifier: Apache-2.0
"""One worker of a pool as the owner sees it: started with a factory, and sent commands."""

import contextlib
import os
from typing import NamedTuple

import numpy as np

from shoal.envs.base import EnvFactory
from shoal.envs.pool.watched import Watched
from shoal.envs.pool.worker import CLOSE, COMMAND, ENTRY, RESET, TELL
from shoal.errors import ConfigError
from shoal.processes import codec
from shoal.processes.link import Hangup
from shoal.processes.memory import Segment


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


class Member(Watched):
    """A worker with a share of the environments; `start` may be called again when its process has ended."""

    def __init__(self, recipe: Recipe, slots: slice, number: int):
        first, size = recipe.first_index + slots.start, slots.stop - slots.start
        super().__init__(recipe.factory.name, first, size, "a step", number)
        self.slots = slots
        self._recipe = recipe
        self.steps = 0
        """commands to step since the last reset"""
        self._seed: int | None = None
        self.start()

    def start(self) -> None:
        """A new process, which makes its environments at once."""
        recipe = self._recipe
        header = {
            "size": recipe.segment.size,
            "envs": self.size,
            "first_index": recipe.first_index + self.slots.start,
            "first_slot": self.slots.start,
            "envs_in_pool": recipe.num_envs,
        }
        self.launch(ENTRY, header, [recipe.segment.descriptor, *recipe.bells])
        self._line = self.link.fileno()
        with contextlib.suppress(Hangup):  # it has ended already, which the link will tell again
            self.link.send({"form": recipe.form}, recipe.data)

    def reset(self, ticket: int, seed: int) -> None:
        """Have all its environments begin anew."""
        self._seed, self.steps = seed, 0
        self.begin()
        self.tell(COMMAND.pack(RESET, ticket, seed % 2**64))

    def step(self, command: bytes) -> None:
        """Have environments step."""
        self.steps += 1
        self.begin()
        self.tell(command)

    def ask_to_close(self) -> None:
        """Have it close its environments and end."""
        self.tell(COMMAND.pack(CLOSE, 0, 0))

    def has_imported(self, module: str) -> bool:
        """Whether its process has imported a module; only while nothing is under way."""
        self.tell(COMMAND.pack(TELL, 0, 0) + module.encode())
        return self.link.receive().header["imported"]

    def where(self) -> str:
        return f"seed {self._seed}, step {self.steps}" if self.made else "being made"

    def tell(self, command: bytes) -> None:
        """Send a command; that the process has ended will be told by the link."""
        try:
            os.write(self._line, command)
        except (BrokenPipeError, ConnectionResetError):
            return
