# SPDX-License-Identifier: Apache-2.0
"""`shoal list architectures|envs|engines`."""

from collections.abc import Sequence

from shoal.architectures import registry
from shoal.cli.faults import choose

ENGINES = {
    "inline": "one thread, one fixed order: the reference, and the debugger",
    "threads": "one thread per worker: environments and networks overlap",
    "processes": "one process per worker, arrays in shared memory: simulators written in Python use every core",
    "ray": "processes on the nodes of a Ray cluster; arrays go from node to node",
    "simulated": "virtual time, every phase at its measured cost: what would this layout do?",
}
USAGE = """usage: shoal list [architectures|envs|engines]

Name what can be trained, on what, and where; all three without a name.
"""


def architectures() -> None:
    """One line for each architecture, the first of its own description."""
    for name in registry.ARCHITECTURES:
        print(f"{name:<10}{first_line(registry.load(name).__doc__)}")


def envs() -> None:
    """Every id that resolves on this machine, by source."""
    from shoal.envs import list_envs

    for source, ids in list_envs().items():
        print(f"{source}:")
        for name in ids:
            print(f"  {name}")


def engines() -> None:
    """One line for each engine."""
    for name, summary in ENGINES.items():
        print(f"{name:<10} {summary}")


LISTS = {"architectures": architectures, "envs": envs, "engines": engines}


def first_line(text: str | None) -> str:
    """The first line of a docstring, without the name it opens with."""
    line = (text or "").strip().splitlines()[0] if text else ""
    return line.partition(": ")[2] or line


def run(argv: Sequence[str]) -> int:
    """Print the lists asked for."""
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    asked = [choose("list", name, LISTS) for name in argv] or list(LISTS)
    for position, name in enumerate(asked):
        if len(asked) > 1:
            print(f"{chr(10) if position else ''}{name}\n{'-' * len(name)}")
        LISTS[name]()
    return 0
