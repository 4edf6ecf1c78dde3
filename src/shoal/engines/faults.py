# SPDX-License-Identifier: Apache-2.0
"""How a worker's life ends when it does not simply return.

Stopped     its scope was left or the engine was stopped. A BaseException: `except Exception` cannot swallow it
Ended       what it waits for can never come, because every worker at the other end has ended
RoleFailed  a worker of the scope raised; the scope's body receives this, chained to the cause
Deadlock    every worker waits for another one
MessageLost what it was to get lay on a node that is gone
LearnerLost a learner that others step together with is gone
WouldWait   what was to be done at once cannot be; inside engines only
"""

from shoal.errors import HangError, ShoalError


class Stopped(BaseException):
    """This worker is asked to end: raised by its next primitive, or by the wait it is in."""


class WouldWait(BaseException):
    """Who does this for a worker must not wait: nothing was done, and the worker's own thread will do it."""


class Ended(ShoalError):
    """Every worker at the other end of a wire has ended. Leaving a worker's function, it counts as a normal end."""

    exit_code = 1


class Deadlock(HangError):
    """Every worker waits for another one; the message names who waits for what."""


class Lost(ShoalError):
    """Something that the program needs is gone, through no fault of its own: a worker's process, a node, a message."""

    exit_code = 1
    explains_itself = True
    """no traceback says more than its line"""


class MessageLost(Lost):
    """A message lay on a node of the cluster that is gone. Channels give out the next one instead, and count it."""


class LearnerLost(Lost):
    """A learner process is gone, and those that step together with it cannot go on. Their program ends with this;
    started anew from a checkpoint it can go on."""


class RoleFailed(ShoalError):
    """A worker raised. One line: system path, role, index, the cause's type and message.

    The names are those of the innermost worker, where it went wrong; `inside` lists the workers around it as
    (path, role, index), innermost first. `exit_code` is the cause's own if shoal explains it, else 1.
    """

    def __init__(self, path: str, role: str, index: int, cause: BaseException):
        if isinstance(cause, RoleFailed):
            self.path, self.role, self.index, self.reason = cause.path, cause.role, cause.index, cause.reason
            self.inside: tuple[tuple[str, str, int], ...] = (*cause.inside, (path, role, index))
        else:
            self.path, self.role, self.index, self.reason = path, role, index, one_line(cause)
            self.inside = ()
        self.exit_code = cause.exit_code if isinstance(cause, ShoalError) else 1
        self.explains_itself = getattr(cause, "explains_itself", False)
        around = "".join(f" in {p} {r}/{i}" for p, r, i in self.inside)
        super().__init__(f"{self.path} {self.role}/{self.index}{around} failed: {self.reason}")


def one_line(error: BaseException) -> str:
    """Type and message of an error without line breaks."""
    message = " ".join(str(error).split())
    if getattr(error, "names_itself", False):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
