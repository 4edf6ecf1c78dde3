# SPDX-License-Identifier: Apache-2.0
"""Children end within moments of who they work for, whatever they are doing and whoever else was killed as well."""

import os
import signal
import subprocess
import sys
import time

import pytest

SECONDS = 60.0

LAUNCHER = """
import sys, time
sys.path[:0] = {path!r}
from shoal.processes import launch
children = [launch.shared().launch("processes.children:" + name) for name in {names!r}]
told = [child.link.receive().header for child in children]
pids = [told["pid"] for told in told] + [told["child"] for told in told if "child" in told]
print(launch.shared().server_pid, *pids, flush=True)
time.sleep(1000)
"""


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and is not reaped yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def family():
    """(launcher, server's process id, children's), the children in loops, asleep, deaf to signals, with children."""
    names = ["loop", "ignore_signals", "nest", "echo"]
    script = LAUNCHER.format(path=sys.path, names=names)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    server, *children = map(int, process.stdout.readline().split())
    assert len(children) == 5
    assert all(map(alive, (server, *children)))
    yield process, server, children
    for pid in (process.pid, server, *children):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def ended_within(pids, seconds=SECONDS) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(alive, pids))


def test_the_launcher_is_killed(family):
    process, server, children = family
    process.kill()
    assert ended_within([server, *children])


def test_the_server_is_killed(family):
    process, server, children = family
    os.kill(server, signal.SIGKILL)
    assert ended_within([server, *children])
    assert alive(process.pid)


def test_both_are_killed(family):
    process, server, children = family
    process.kill()
    os.kill(server, signal.SIGKILL)
    assert ended_within([server, *children])


def test_the_launcher_is_killed_while_the_server_is_stopped(family):
    """No server can kill anybody then: the kernel does."""
    process, server, children = family
    os.kill(server, signal.SIGSTOP)
    process.kill()
    assert ended_within(children)
    os.kill(server, signal.SIGCONT)
    assert ended_within([server])


def test_the_launcher_is_killed_while_everybody_is_stopped(family):
    process, server, children = family
    for pid in (server, *children):
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    assert ended_within(children)


def test_the_launcher_is_killed_while_the_server_imports():
    """That may take seconds, which nobody waits for any more."""
    script = (
        f"import sys, time; sys.path[:0] = {sys.path!r}; from shoal.processes import launch; "
        "server = launch.shared(); print(server.server_pid, flush=True); "
        "server.preload(['processes.slow_to_import']); time.sleep(1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    server = int(process.stdout.readline())
    assert process.stdout.readline() == "importing\n"
    process.kill()
    process.wait()
    assert ended_within([server])
    process.stdout.close()


def test_the_launcher_is_told_to_end(family):
    process, server, children = family
    process.terminate()
    assert ended_within([server, *children])


def test_without_a_cause_nobody_ends(family):
    process, server, children = family
    time.sleep(0.3)
    assert all(map(alive, (process.pid, server, *children)))
