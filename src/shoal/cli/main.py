# SPDX-License-Identifier: Apache-2.0
"""Entry of the `shoal` command: finds the command, runs it, and turns every fault into one line and an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from shoal.cli.faults import choose, report_fault
from shoal.errors import ConfigError

COMMANDS = {
    "train": "train an architecture on an environment",
    "resume": "continue a run where its newest checkpoint left it",
    "evaluate": "play episodes with a trained policy",
    "race": "train several architectures on one budget and compare what they moved and who waited",
    "advise": "measure an environment and a network here: what to parallelise, when CPU, when GPU",
    "predict": "say from what was measured how an architecture would do on a machine, without running it",
    "describe": "draw the data flow of an architecture and the wires it really used",
    "report": "write one page with the curves and the flow of one or more runs",
    "list": "name the architectures, environments or engines",
    "doctor": "say what this machine has and whether shoal can use it",
}

USAGE = """usage: shoal COMMAND ...

Parallel reinforcement learning: what to parallelise, when CPU, when GPU.

commands:
{commands}

`shoal COMMAND --help` lists what a command takes. To begin: shoal train ppo --env CartPole-v1
Every fault is one line and an exit code; SHOAL_DEBUG=1 shows the traceback as well.
"""


def usage() -> str:
    """The text of `shoal --help`."""
    return USAGE.format(commands="\n".join(f"  {name:<10}{summary}" for name, summary in COMMANDS.items()))


def command_named(name: str) -> Callable[[Sequence[str]], int]:
    """The function that runs a command. Imports that command's module and no other.

    Raises:
      ConfigError: no command has this name.
    """
    module: Any = import_module(f"shoal.cli.{choose('command', name, COMMANDS)}")
    return module.run


def dispatch(argv: Sequence[str]) -> int:
    """Run one command line, without the program's name; faults come out as exceptions."""
    if sys.platform == "win32":
        raise ConfigError("Windows is not supported: run shoal on Linux or macOS, for example inside WSL")
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if argv[0] == "--version":
        print(import_module("shoal").__version__)
        return 0
    return command_named(argv[0])(argv[1:])


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; never raises."""
    try:
        code = dispatch(argv)
        sys.stdout.flush()
        return code
    except SystemExit as leave:  # how the parser ends after --help
        return leave.code if isinstance(leave.code, int) else 0
    except BrokenPipeError:  # `shoal list envs | head`: nobody reads any more, also not at interpreter exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as fault:  # noqa: BLE001  the one place where every fault ends
        return report_fault(fault)


def console() -> None:
    """The console script: what a user's shell starts."""
    # the user's own modules come first, as with `python script.py`
    sys.path.insert(0, os.getcwd())
    sys.exit(main(sys.argv[1:]))
