# SPDX-License-Identifier: Apache-2.0
"""Command-line fields from frozen dataclasses: tyro parses and writes the help, faults come out as one line."""

import dataclasses
import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, TypeVar

import tyro

from shoal.cli.faults import nearest, one_line
from shoal.errors import ConfigError
from shoal.records.run_dir import RunDir

Form = TypeVar("Form")
RULE = re.compile("[─-]{8,}")
CHOICES = re.compile(
    r"invalid choice (?P<value>'.*?') for argument '(?P<flag>.+?)'\. Expected one of \((?P<names>.*)\)"
)
UNREADABLE = re.compile(r"Error parsing (?P<flag>\S+): (?P<reason>.*)")
GIVEN = re.compile(r"\[(.*?)\]|: ('.*')$")
REQUIRED = re.compile(r"^(?:--[a-z-]+|[A-Z][A-Z_]+)\b")
VALUELESS = re.compile(r"Missing value for argument '(?P<flag>.+?)'")


def parse(form: Any, argv: Sequence[str], prog: str, flags: Sequence[str] = ()) -> Any:
    """An instance of the dataclass `form` from command-line words.

    Args:
      form: a dataclass; a string under each field is its help.
      argv: words after the command.
      prog: how the command is called, for help and messages.
      flags: every flag the form takes, such as "--env-steps", to name the nearest of when one is unknown.

    Raises:
      ConfigError: an unknown flag, a missing or unreadable value.
      SystemExit: after --help was printed.
    """
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            parsed, unknown = tyro.cli(form, args=list(argv), prog=prog, return_unknown_args=True)
    except SystemExit as leave:
        if leave.code in (0, None):
            raise
        raise ConfigError(f"{explain(errors.getvalue())}; `{prog} --help` lists what it takes") from None
    if unknown:
        raise ConfigError(explain_unknown(unknown, flags, prog))
    return parsed


def explain_unknown(words: Sequence[str], flags: Sequence[str], prog: str) -> str:
    """One line about words that no field takes."""
    strange = [word for word in words if word.startswith("-")]
    if not strange:
        return f"unexpected {words[0]!r}; every setting is written --name value, `{prog} --help` lists them"
    flag = strange[0].split("=")[0].replace("_", "-")
    near = nearest(flag.strip("-"), [known.strip("-") for known in flags])
    remedy = f"nearest: --{', --'.join(near)}" if near else f"`{prog} --help` lists the fields"
    return f"unknown field {flag}; {remedy}"


def sections(printed: str) -> list[list[str]]:
    """The lines of tyro's framed message between its rules, without frame and title.

    Where standard output cannot show box characters the frame is of dashes and blanks, and the title has a rule.
    """
    found: list[list[str]] = [[]]
    for line in (line.strip(" │") for line in printed.splitlines() if line[:1] not in ("╭", "╰")):
        if RULE.fullmatch(line):
            found.append([])
        elif line:
            found[-1].append(line)
    return found if "╭" in printed else found[1:]


def explain(printed: str) -> str:
    """tyro's framed message as one line, in our words where the case is a known one."""
    first, *others = sections(printed) or [[]]
    message = one_line(" ".join(first))
    if found := CHOICES.search(message):
        names = re.findall(r"'(.*?)'", found["names"])
        near = nearest(found["value"].strip("'"), names)
        remedy = f"nearest: {', '.join(near)}" if near else f"use one of {', '.join(names)}"
        return f"{found['flag']} {found['value']} is not known; {remedy}"
    if found := UNREADABLE.search(message):
        wanted = next((line for line in others[0] if line.startswith(found["flag"])), found["flag"])
        given = GIVEN.search(found["reason"].partition("Got errors")[0])
        return f"cannot read {given[1] or given[2] if given else found['reason']}; it should be {wanted}"
    if message.startswith("Missing from"):
        return f"missing {' and '.join(found[0] for line in first if (found := REQUIRED.match(line)))}"
    if found := VALUELESS.search(message):
        return f"{found['flag']} needs a value"
    return message


def flags_of(form: Any) -> list[str]:
    """The flags of a dataclass's fields, with the --no- form of the booleans."""
    flags = []
    for field in dataclasses.fields(form):
        name = field.name.replace("_", "-")
        flags += [f"--{name}"] + ([f"--no-{name}"] if field.type in (bool, "bool") else [])
    return flags


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """The last value given to a flag, before anything is parsed."""
    words = list(argv)
    after = [words[i + 1] for i, word in enumerate(words[:-1]) if word == flag]
    joined = [word.partition("=")[2] for word in words if word.startswith(flag + "=")]
    return (after + joined or [None])[-1]


def parse_command(form: type[Form], argv: Sequence[str], prog: str) -> Form:
    """An instance of a command's dataclass from the words after it."""
    return parse(form, argv, prog, flags_of(form))


def open_run(folder: Path) -> None:
    """Raise now, before JAX is imported, if a folder holds no run."""
    RunDir.open(folder)
