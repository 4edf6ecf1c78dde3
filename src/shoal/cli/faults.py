# SPDX-License-Identifier: Apache-2.0
"""From a fault to one line on standard error and an exit code; tracebacks go to a file."""

import difflib
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable

from shoal.errors import ConfigError, ShoalError

UNEXPECTED = 1
INTERRUPTED = 130


def nearest(value: str, names: Iterable[str]) -> list[str]:
    """Up to three of `names` that look like `value`, best first."""
    by_lower_case = {name.lower(): name for name in names}
    found = difflib.get_close_matches(value.lower(), list(by_lower_case), n=3, cutoff=0.5)
    return [by_lower_case[name] for name in found]


def choose(kind: str, value: str, names: Iterable[str]) -> str:
    """`value` if it is one of `names`.

    Raises:
      ConfigError: it is not; the message has the nearest names, or all of them when none is near.
    """
    known = list(names)
    if value in known:
        return value
    near = nearest(value, known)
    remedy = f"nearest: {', '.join(near)}" if near else f"use one of {', '.join(known)}"
    raise ConfigError(f"unknown {kind} {value!r}; {remedy}")


def one_line(text: str) -> str:
    """The text with every run of white space as one blank."""
    return " ".join(text.split())


def keep_traceback(fault: BaseException) -> str:
    """Write the traceback to a new temporary file and say where, or say that it could not be written."""
    text = "".join(traceback.format_exception(fault))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="shoal-", suffix=".txt", delete=False) as file:
            file.write(text)
        return f"traceback in {file.name}"
    except OSError:
        return "SHOAL_DEBUG=1 shows the traceback"


def report_fault(fault: BaseException) -> int:
    """Print one line on standard error and return the exit code. SHOAL_DEBUG=1 prints the traceback too."""
    if os.environ.get("SHOAL_DEBUG") == "1":
        traceback.print_exception(fault)
    if isinstance(fault, KeyboardInterrupt):
        code, line = INTERRUPTED, "interrupted"
    elif isinstance(fault, ShoalError):
        code, line = fault.exit_code, str(fault)
    else:
        code, line = UNEXPECTED, f"unexpected {type(fault).__name__}: {str(fault)[:300]}"
    explained = getattr(fault, "explains_itself", False)
    if code == UNEXPECTED and not explained:  # also a worker that failed for a reason shoal cannot explain
        line += f"; {keep_traceback(fault)}"
    print(f"shoal: {one_line(line)}", file=sys.stderr)
    return code
