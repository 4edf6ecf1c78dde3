# SPDX-License-Identifier: Apache-2.0
"""A process that steps a share of the environments, as its owner sees it: launched, watched, and how it ended.

Whatever else it does for its owner, an environment that ends or stops it is found out here, and named.
"""

from collections.abc import Sequence
from typing import Any

from shoal import errors
from shoal.envs.base import environment_fault
from shoal.errors import EnvironmentFault, ShoalError
from shoal.processes import launch
from shoal.processes.link import Message
from shoal.processes.status import Status
from shoal.processes.stillness import Stillness

EXIT_S = 20.0
"""seconds to learn how a worker ended, which takes long only where nobody is given a core"""
MAKING_S = 60.0
"""seconds that a worker may take to import and make its environments, however impatient the run is"""
STRIKES = 3
"""deaths in a row without finished work after which a worker is not started anew"""


class Watched:
    """Environments `first` .. `first + size - 1` of an environment called `name`, in a process of their own.

    Args:
      unit: what it does at a command, as the line about its deaths puts it: "a step".
      number: of the worker, counted over all actors.
    """

    def __init__(self, name: str, first: int, size: int, unit: str, number: int):  # noqa: PLR0913 all of it names it
        self.size = size
        self._name, self._first, self._unit, self._number = name, first, unit, number
        self.restarts = 0
        """since its environments were last reset by the owner"""
        self.strikes = 0
        """deaths since it last finished what it was told to do"""
        self.made = False
        """whether it has shown that it works: until then it may take its time"""
        self.hung = self.stopped = False

    def launch(self, entry: str, header: dict[str, Any], descriptors: Sequence[int]) -> None:
        """A new process."""
        self.page, self._still = Status.create(), Stillness()
        self.hung = self.stopped = self.made = False
        given = [self.page.segment.descriptor, *descriptors]
        self.child = launch.child_of_shared(entry, header, given, ("env", self._number))
        self.page.segment.close()
        self.link = self.child.link

    def begin(self) -> None:
        """It is being told to do something."""
        self._still.begin()

    def look(self, step_timeout: float, *, busy: bool) -> None:
        """End its process if it has something to do, which is the caller's to know, and did not move for too long."""
        limit = step_timeout if self.made else max(step_timeout, MAKING_S)
        if busy and self._still.seconds(self.page.moves) > limit:
            if not self.hung and not self.stopped:  # once: what was killed does not look stopped any more
                self.stopped = self.child.is_stopped()
                self.hung = not self.stopped
            self.child.kill()

    def fault_in(self, message: Message) -> ShoalError:
        """What an environment raised, as it would have raised it in this process."""
        kind, text = message.header["error"]
        return getattr(errors, kind, EnvironmentFault)(text)

    def lost(self, step_timeout: float) -> str:
        """The line about its death, which now counts. Raises EnvironmentFault where a new process would not help."""
        how = self._how_it_ended()
        self.strikes += 1
        if self.hung:
            what = f"did nothing for {step_timeout:g} s and the process was ended"
            raise self._fault(what, "fix the environment, or raise step_timeout")
        if self.strikes >= STRIKES:
            raise self._fault(f"ended its process {STRIKES} times before {self._unit} was finished: {how}", "fix it")
        return str(self._fault(f"lost: {how}", "a new process opens new episodes"))

    def where(self) -> str:
        """What its environments were at, where it cannot be known which of them it was."""
        raise NotImplementedError

    def _how_it_ended(self) -> str:
        """In words, once it has."""
        how = "was stopped and is replaced" if self.stopped else self.child.describe(self.child.wait(EXIT_S))
        return f"process {self.child.pid} {how}"

    def _fault(self, what: str, remedy: str) -> EnvironmentFault:
        """The one line that names the environment, or all of them where it cannot be known which it was."""
        env = self.page.env
        if env is not None:
            return environment_fault(self._name, env.index, env.seed, env.step, what, remedy)
        among = f"environments {self._first} .. {self._first + self.size - 1}"
        return EnvironmentFault(f"{self._name}: {among} ({self.where()}) {what}; {remedy}")
