# SPDX-License-Identifier: Apache-2.0
"""Start children by way of the fork server, and learn how they ended."""

import atexit
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from shoal.errors import ConfigError, ShoalError
from shoal.processes.cards import cards
from shoal.processes.lifeline import end_session, make_lifeline
from shoal.processes.limits import out_of_files
from shoal.processes.link import Hangup, Link
from shoal.processes.seats import seating

STARTUP_SECONDS = 60.0


class ServerEnded(ShoalError):
    """The fork server was killed: `shared()` gives a new one."""


class Child:
    """A process that was launched: a link to it, and how it ended."""

    def __init__(self, pid: int, handle: int, link: Link, lifeline: socket.socket, launcher: "Launcher"):
        self.pid, self.link = pid, link
        self._handle, self._lifeline, self._launcher = handle, lifeline, launcher
        self._turn = threading.Lock()

    def kill(self) -> None:
        """End it at once. It is named by a handle, so another process of the same number is never hit. Any thread may,
        also when it is closed already."""
        with self._turn, contextlib.suppress(ProcessLookupError):
            if self._handle >= 0:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or minus the signal that killed it; None when it has not ended within so many seconds, or when
        nobody saw how."""
        return self._launcher.exit_code(self.pid, seconds)

    def describe(self, code: int | None) -> str:
        """How it ended, in words, where `wait` gave this."""
        if code is None and not self._launcher.alive:
            return "ended with the process that starts workers"
        return describe_exit(code)

    def is_stopped(self) -> bool:
        """Whether somebody has stopped it (SIGSTOP), so that it is not to blame for doing nothing."""
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] in ("T", "t")
        except OSError:
            return False

    def close(self) -> None:
        """Kill it if it still runs, and give everything back."""
        self.kill()
        self._launcher.forget(self.pid)
        self.link.close()
        self._lifeline.close()
        with self._turn:
            if self._handle >= 0:
                os.close(self._handle)
            self._handle = -1


class Launcher:
    """This process's connection to a fork server. Threads may share it."""

    def __init__(self, link: Link, server: subprocess.Popen | None = None, lifeline: socket.socket | None = None):
        self._link, self._server, self._lifeline = link, server, lifeline
        self._numbers = itertools.count()
        self._state = threading.Condition()
        self._born: dict[int, tuple[int, int]] = {}
        self._codes: dict[int, int] = {}
        self._links: dict[int, Link] = {}
        self._over = self._closing = False
        self._preloaded: set[str] = set()
        self._reader = threading.Thread(target=self._read, name="fork server", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls) -> "Launcher":
        """A new fork server of this process."""
        if not sys.platform.startswith("linux"):
            raise ConfigError("processes need Linux; use --engine threads")
        ours, theirs = Link.pair()
        lifeline, end = make_lifeline()
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}  # accelerators are this process's, but for `cards`
        passed = [theirs.fileno(), end.fileno()]
        command = [sys.executable, "-c", BOOTSTRAP, *map(str, passed), *sys.path]
        server = subprocess.Popen(
            command, pass_fds=passed, env=environment, start_new_session=True, stdin=subprocess.DEVNULL
        )
        theirs.close()
        end.close()
        return cls(ours, server, lifeline)

    @property
    def alive(self) -> bool:
        """Whether the server still answers."""
        return not self._over

    @property
    def server_pid(self) -> int | None:
        """Process id of the server, where this process started it."""
        return None if self._server is None else self._server.pid

    def preload(self, modules: Sequence[str]) -> None:
        """Have the server import modules, for all children launched from now on."""
        fresh = [name for name in modules if name not in self._preloaded]
        if fresh:
            self._preloaded.update(fresh)
            with self._state, contextlib.suppress(Hangup):  # who launches next is told
                self._link.send({"preload": fresh, "path": sys.path})

    def launch(
        self,
        entry: str,
        header: dict[str, Any] | None = None,
        descriptors: Sequence[int] = (),
        seconds: float = STARTUP_SECONDS,
        seat: tuple[str | None, int] = (None, 0),
    ) -> Child:
        """A new child that calls `entry` ("module:function") with (link, header, descriptors, link to the server).

        Args:
          seat: role and number by which it is seated, where there is a placement (`seats`), and given a share of
            accelerators, where they are shared (`cards`).

        Raises ServerEnded when the server has ended, ShoalError when it gives no child within `seconds`.
        """
        try:
            ours, theirs = Link.pair()
            lifeline, end = make_lifeline()
        except OSError as error:
            raise out_of_files(error) from error
        with self._state:
            number = next(self._numbers)
            try:
                message = {
                    **(header or {}),
                    **seating.header(*seat),
                    **cards.header(seat[0]),
                    "number": number,
                    "entry": entry,
                }
                self._link.send(message, descriptors=[end.fileno(), theirs.fileno(), *descriptors])
            except Hangup:
                self._over = True
            born = self._state.wait_for(lambda: number in self._born or self._over, seconds)
            pid, handle = self._born.pop(number, (0, -1))
            if self._over and not pid:
                raise ServerEnded("the process that starts workers has ended: start the run again")
            if pid:
                self._links[pid] = ours
            if pid in self._codes:
                self._hang_up(pid)
        theirs.close()
        end.close()
        if not born or pid == 0:
            reason = "could be started" if born else f"within {seconds:g} s"
            raise ShoalError(f"no worker process {reason}: the machine is out of memory, processes or files")
        return Child(pid, handle, ours, lifeline, self)

    def exit_code(self, pid: int, seconds: float) -> int | None:
        """How a child ended; see `Child.wait`."""
        with self._state:
            self._state.wait_for(lambda: pid in self._codes or self._over, seconds)
            return self._codes.get(pid)

    def forget(self, pid: int) -> None:
        """Nobody will ask about this child any more."""
        with self._state:
            self._links.pop(pid, None)

    def close(self) -> None:
        """End the server, and with it all children."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._link.shutdown()
        self._reader.join()
        self._link.close()
        if self._server is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(10)
            self._server.kill()
        if self._lifeline is not None:
            self._lifeline.close()

    def _hang_up(self, pid: int) -> None:
        """A child has ended: whoever listens to it is told, even where something it left behind holds its end."""
        link = self._links.pop(pid, None)
        if link is not None:
            with contextlib.suppress(OSError):
                link.shutdown()

    def _read(self) -> None:
        try:
            while True:
                message = self._link.receive()
                with self._state:
                    if "ended" in message.header:
                        pid = message.header["ended"]
                        self._codes[pid] = message.header["code"]
                        self._hang_up(pid)
                    else:
                        pid = message.header["pid"]
                        self._codes.pop(pid, None)  # of a process that had the same number before
                        handle = message.descriptors[0] if message.descriptors else -1
                        self._born[message.header["number"]] = (pid, handle)
                    self._state.notify_all()
        except (Hangup, OSError):
            if self._server is not None and not self._closing:
                end_session(self._server.pid)  # its children end by themselves, not what they have started
            with self._state:
                self._over = True
                self._state.notify_all()


def describe_exit(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"


_shared: list[Launcher] = []
_inherited: list[Link] = []
_one_at_a_time = threading.Lock()


def inherit(server: Link) -> None:
    """In a child, before it does anything: its own children come from the server that it came from."""
    _inherited[:] = [server]


def shared() -> Launcher:
    """This process's fork server, started when first asked for, and anew when it was killed; in a child, its parent."""
    with _one_at_a_time:
        if not _shared or not _shared[0].alive:
            for old in _shared:
                old.close()
            _shared[:] = [Launcher(_inherited[0]) if _inherited else Launcher.start()]
        return _shared[0]


def child_of_shared(
    entry: str,
    header: dict[str, Any],
    descriptors: Sequence[int],
    seat: tuple[str | None, int],
    modules: Sequence[str] = (),
) -> Child:
    """A new child of this process's fork server, which has imported these modules before.

    Where that server has just been killed, which nobody knows before it is asked, it is one of a new server. Arguments
    are those of `Launcher.launch` and `Launcher.preload`.
    """

    def ask() -> Child:
        server = shared()
        server.preload(modules)
        return server.launch(entry, header, descriptors, seat=seat)

    try:
        return ask()
    except ServerEnded:
        return ask()


@atexit.register
def _close_shared() -> None:
    for launcher in _shared:
        launcher.close()


BOOTSTRAP = """
import sys
sys.path[:], sys.argv[3:] = sys.argv[3:], []
from shoal.processes.server import main
main()
"""
