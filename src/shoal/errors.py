# SPDX-License-Identifier: Apache-2.0
"""Every fault a user can meet, each with the exit code the command line returns for it.

A message is one line: the value, the reason, the remedy. The command line prints it without a traceback.
"""


class ShoalError(Exception):
    """Base of all faults that shoal explains itself. Raise a subclass."""

    exit_code = 2


class ConfigError(ShoalError):
    """A command, field, value or combination that cannot work."""

    exit_code = 2


class MemoryShort(ShoalError):
    """There is less memory than was asked for."""

    exit_code = 2


class EnvironmentFault(ShoalError):
    """An environment that raised, or returned something that breaks its own declaration."""

    exit_code = 3


class CheckpointError(ShoalError):
    """A checkpoint that is missing, cut short, altered, or of another run."""

    exit_code = 4


class NonFiniteError(ShoalError):
    """A loss, gradient or parameter that is no longer a finite number."""

    exit_code = 5


class HangError(ShoalError):
    """Workers that all wait for one another, or a run that makes no progress."""

    exit_code = 6
