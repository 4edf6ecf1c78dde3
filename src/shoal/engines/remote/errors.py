# SPDX-License-Identifier: Apache-2.0
"""Errors over a link: by kind and text, so that one raised in a child is raised in its shadow, and the other way."""

import builtins
import traceback
from typing import Any

from shoal import errors
from shoal.engines import faults
from shoal.engines.faults import Lost
from shoal.errors import ShoalError


class WorkerDied(Lost):
    """A worker's process ended without a word. The message names it, how it ended, and what it was doing."""


class RemoteError(Exception):
    """An exception of a class that only the child knows; its text begins with the class's name."""

    names_itself = True


class RemoteFault(ShoalError):
    """A fault of a class that only the child knows; its text begins with the class's name, its exit code is kept."""

    names_itself = True


def encode(error: BaseException) -> dict[str, Any]:
    """What a message holds of an error."""
    named = getattr(error, "names_itself", False)
    found: dict[str, Any] = {"kind": "" if named else type(error).__name__, "text": str(error)}
    if isinstance(error, ShoalError):
        found["exit_code"] = error.exit_code
    if isinstance(error, faults.RoleFailed):
        found["failed"] = [error.path, error.role, error.index, error.reason, list(error.inside), error.exit_code]
    elif not isinstance(error, ShoalError | faults.Stopped):
        found["trace"] = "".join(traceback.format_exception(error))
    return found


def decode(found: dict[str, Any]) -> BaseException:
    """The error that `encode` was given, or one that says the same."""
    kind, text = found["kind"], found["text"]
    if "failed" in found:
        return _role_failed(text, found["failed"])
    known = getattr(faults, kind, None) or getattr(errors, kind, None) or (WorkerDied if kind == "WorkerDied" else None)
    if isinstance(known, type) and issubclass(known, ShoalError | faults.Stopped):
        return known(text)
    whole = f"{kind}: {text}" if kind and text else kind or text
    if "exit_code" in found:
        fault = RemoteFault(whole)
        fault.exit_code = found["exit_code"]
        return fault
    error = _builtin(kind, text) or RemoteError(whole)
    if "trace" in found:
        error.add_note(found["trace"])
    return error


def _builtin(kind: str, text: str) -> Exception | None:
    """Python's own exception of that name, if it can be made of a text and says the same."""
    known = getattr(builtins, kind, None)
    if not (isinstance(known, type) and issubclass(known, Exception)):
        return None
    try:
        error = known(text)
    except TypeError:
        return None
    return error if str(error) == text else None


def _role_failed(text: str, parts: list) -> faults.RoleFailed:
    error = faults.RoleFailed.__new__(faults.RoleFailed)
    Exception.__init__(error, text)
    error.path, error.role, error.index, error.reason, inside, error.exit_code = parts
    error.inside = tuple((str(path), str(role), int(index)) for path, role, index in inside)
    return error
