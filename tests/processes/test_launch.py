# SPDX-License-Identifier: Apache-2.0
"""Children by way of the fork server: how they end, what they share, who dies with whom, and what starts anew."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from shoal.processes import launch
from shoal.processes.launch import Launcher, ServerEnded, describe_exit
from shoal.processes.link import Hangup

ECHO = "processes.children:echo"


@pytest.fixture
def server():
    """A fork server of this test's own."""
    launcher = Launcher.start()
    yield launcher
    launcher.close()


def greet(child) -> int:
    """Wait for the child's first words: its process id."""
    return child.link.receive().header["pid"]


def gone(pid: int | None, seconds: float = 60.0) -> bool:
    """Whether a process ends within so many seconds; one that nobody has reaped yet has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_a_child_is_another_process_that_answers(server):
    child = server.launch(ECHO, {"word": "hello"})
    first = child.link.receive().header
    assert first == {"pid": child.pid, "hello": "hello"}
    assert child.pid not in (os.getpid(), server.server_pid)
    assert os.getpgid(child.pid) == child.pid
    child.link.send({"n": 1}, b"data", [2])
    answer = child.link.receive()
    assert (answer.header, answer.data) == ({"n": 1, "descriptors": 1}, b"data")
    child.link.send({"over": True})
    assert child.wait(60) == 0
    with pytest.raises(Hangup):
        child.link.receive()
    child.close()


@pytest.mark.parametrize(
    ("how", "code", "gives", "words"),
    [
        ("return", 0, 0, "ended with exit code 0"),
        ("exit", 3, 1, "ended with exit code 1"),
        ("os._exit", 7, 7, "ended with exit code 7"),
        ("raise", 0, 1, "ended with exit code 1"),
        ("signal", signal.SIGSEGV, -11, "was killed by SIGSEGV"),
        ("signal", signal.SIGKILL, -9, "was killed by SIGKILL"),
    ],
)
def test_how_a_child_ended_is_known(how, code, gives, words):
    child = launch.shared().launch("processes.children:leave", {"how": how, "code": code})
    assert child.wait(60) == gives
    assert describe_exit(gives) == words
    with pytest.raises(Hangup):
        child.link.receive()
    child.close()


def test_a_child_that_goes_on_has_no_exit_code(server):
    child = server.launch("processes.children:loop")
    greet(child)
    assert child.wait(0.05) is None
    assert describe_exit(None) == "ended"
    child.kill()
    assert child.wait(60) == -9
    child.kill()  # once more harms nobody
    child.close()
    child.close()


def test_a_process_that_is_stopped_is_known_as_such(server):
    child = server.launch("processes.children:loop")
    pid = greet(child)
    assert not child.is_stopped()
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 60
    while not child.is_stopped() and time.monotonic() < until:
        time.sleep(0.005)
    assert child.is_stopped()
    child.kill()  # which a stopped process cannot ignore
    assert child.wait(60) == -9
    assert not child.is_stopped()
    child.close()


def test_who_asks_to_be_spared_is_killed_all_the_same(server):
    child = server.launch("processes.children:ignore_signals")
    pid = greet(child)
    child.close()
    assert gone(pid)


def test_closing_a_server_ends_all_its_children():
    launcher = Launcher.start()
    children = [launcher.launch("processes.children:loop") for _ in range(3)]
    pids = [greet(child) for child in children]
    launcher.close()
    assert not launcher.alive
    assert all(gone(pid) for pid in (*pids, launcher.server_pid))
    for child in children:
        child.close()


def test_what_a_child_left_behind_ends_with_it(server):
    child = server.launch("processes.children:leave_behind")
    program = child.link.receive().header["child"]
    assert child.wait(60) == 0
    assert gone(program)
    child.close()


def test_what_children_have_started_ends_with_a_server_that_is_killed():
    launcher = Launcher.start()
    assert launcher.server_pid is not None
    child = launcher.launch("processes.children:start_program")
    program = child.link.receive().header["child"]
    others = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    os.kill(launcher.server_pid, signal.SIGKILL)
    assert gone(program)
    assert others.poll() is None
    others.kill()
    others.wait()
    child.close()
    launcher.close()


def test_children_have_children_that_end_with_them(server):
    for leave in (True, False):
        child = server.launch("processes.children:nest", {"leave": leave})
        told = child.link.receive().header
        assert told["pid"] == child.pid != told["child"]
        if not leave:
            child.kill()
        assert child.wait(60) == (0 if leave else -9)
        assert gone(told["child"])
        child.close()


def test_a_server_that_is_killed_takes_its_children_and_is_replaced():
    first = launch.shared()
    assert first.server_pid is not None
    child = first.launch("processes.children:loop")
    pid = greet(child)
    os.kill(first.server_pid, signal.SIGKILL)
    assert gone(pid)
    with pytest.raises(Hangup):
        child.link.receive()
    assert child.wait(60) is None  # nobody was left to see how
    assert child.describe(None) == "ended with the process that starts workers"
    child.close()
    with pytest.raises(ServerEnded, match="has ended: start the run again"):
        first.launch(ECHO)
    second = launch.shared()
    assert second is not first
    assert launch.shared() is second
    again = second.launch(ECHO)
    assert greet(again) == again.pid
    again.close()


def test_threads_may_launch_at_the_same_time(server):
    pids, faults = [], []

    def work(number):
        try:
            for _ in range(5):
                child = server.launch(ECHO, {"word": number})
                first = child.link.receive().header
                assert first == {"pid": child.pid, "hello": number}  # each has its own child, not another's
                pids.append(child.pid)
                child.close()
        except BaseException as fault:  # noqa: BLE001 shown below
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(set(pids)) == 40


def test_a_process_id_that_comes_round_again_is_a_new_child(server):
    """What is known of a process that had the same number before says nothing about this one."""
    server._codes.update(dict.fromkeys(range(2, 2**16), 0))
    child = server.launch(ECHO)
    assert greet(child) == child.pid
    assert child.wait(0.02) is None
    child.link.send({"over": True})
    assert child.wait(60) == 0
    child.close()


def test_many_children_leave_nothing_behind(server):
    def held():
        return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{server.server_pid}/fd"))

    def settled():
        return all(now <= then for now, then in zip(held(), before, strict=True))

    server.launch(ECHO).close()
    time.sleep(0.1)
    before = held()
    for _ in range(30):
        child = server.launch(ECHO)
        greet(child)
        child.close()
    until = time.monotonic() + 60
    while not settled() and time.monotonic() < until:
        time.sleep(0.01)
    assert settled(), (held(), before)


def test_modules_are_imported_once_for_all_children(server):
    ask = {"modules": ["wave", "aifc_that_is_not_there"]}
    child = server.launch("processes.children:imported", ask)
    assert child.link.receive().header["there"] == []
    child.close()
    server.preload(["wave", "aifc_that_is_not_there"])  # one that cannot be imported is a child's to complain about
    child = server.launch("processes.children:imported", ask)
    assert child.link.receive().header["there"] == ["wave"]
    child.close()


def test_children_look_for_modules_where_we_do(server):
    child = server.launch("processes.children:imported", {"modules": []})
    assert child.link.receive().header["path"] == sys.path
    child.close()


def test_an_entry_that_is_not_there_ends_the_child(server, capfd):
    child = server.launch("processes.children:nobody")
    assert child.wait(60) == 1
    child.close()


def test_neither_children_nor_their_server_know_jax(server):
    server.launch(ECHO).close()
    child = server.launch(
        "processes.children:imported", {"modules": ["jax", "jaxlib", "equinox", "optax", "gymnasium"]}
    )
    assert child.link.receive().header["there"] == []
    child.close()


def test_a_server_outlives_no_interpreter(tmp_path):
    """Also where nobody closes it: an unguarded script that simply ends."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from shoal.processes import launch\n"
        "child = launch.shared().launch('processes.children:loop')\n"
        "print(child.pid, launch.shared().server_pid)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""
    assert all(gone(int(pid)) for pid in ended.stdout.split())
