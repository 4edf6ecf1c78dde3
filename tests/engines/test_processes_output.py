# SPDX-License-Identifier: Apache-2.0
"""What workers print is shown where the main process prints."""

import time

import pytest

from engines import programs
from engines.running import PROCESSES, engine_of
from shoal.engines import system
from shoal.processes import launch

on_both = pytest.mark.parametrize("kind", PROCESSES)


@on_both
def test_what_workers_print_is_shown(kind, capfd):
    launch.shared().close()  # the next one writes where this process writes now

    def program():
        with system("s", "learner") as s:
            channel = s.channel("ME", "actor", "learner", 9)
            s.spawn("actor", 3, programs.print_something, channel)
            with pytest.raises(Exception, match="every actor of /s has ended"):
                channel.get(4)

    engine_of(kind).run(program)
    shown = await_output(capfd, 3)
    said = [line.partition("] ")[2] if kind.startswith("cluster") else line for line in shown]
    assert sorted(said) == [f"worker {index} says hello" for index in range(3)]


def await_output(capfd, count: int) -> list[str]:
    """So many lines of output; from other nodes they may come a little later."""
    lines, until = [], time.monotonic() + 60
    while len(lines) < count and time.monotonic() < until:
        time.sleep(0.05)  # what is written between its reading and its clearing is lost
        lines += capfd.readouterr().out.splitlines()
    return lines
