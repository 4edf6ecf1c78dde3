# SPDX-License-Identifier: Apache-2.0
"""The fork server: a process with one thread that has imported what children need and forks one on request.

A child then starts in milliseconds, shares the server's imports, and never inherits the threads of a process that runs
JAX. Whoever holds a connection may ask; children get a connection of their own, so that they can have children too.
When a connection ends, the children asked for over it are killed. Nothing is read that would be executed but names of
functions, from processes that this server's launcher started.
"""

import contextlib
import faulthandler
import importlib
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from shoal.processes import launch
from shoal.processes.cards import cards
from shoal.processes.codec import find
from shoal.processes.lifeline import end_with_parent, hang_on, let_go
from shoal.processes.link import Hangup, Link, Message
from shoal.processes.seats import seating


class Server:
    """Serves until its launcher's connection ends."""

    def __init__(self, first: Link, lifeline: int):
        self._first, self._lifeline = first, lifeline
        self._clients: dict[int, Link] = {first.fileno(): first}
        self._children: dict[int, int] = {}
        """process id: descriptor of the connection that asked for it"""
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def serve(self) -> None:
        """Until the launcher is gone; kills what it started."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            while self._first.fileno() in self._clients:
                poll = select.poll()
                for fd in (*self._clients, self._woken):
                    poll.register(fd, select.POLLIN)
                for fd, _ in poll.poll():
                    if fd == self._woken:
                        self._reap()
                    elif fd in self._clients:
                        self._answer(fd)
        finally:
            for pid in self._children:
                kill_with_its_own(pid)

    def _answer(self, fd: int) -> None:
        link = self._clients[fd]
        try:
            message = link.receive()
            if "preload" in message.header:
                self._preload(message.header)
            else:
                self._fork(link, message)
        except Hangup:
            del self._clients[fd]
            link.close()
            for pid, asker in self._children.items():
                if asker == fd:
                    kill_with_its_own(pid)
                    self._children[pid] = -1

    def _preload(self, header: dict[str, Any]) -> None:
        """Import modules. That may take seconds: where the launcher ends meanwhile and there is nobody to end, this
        process ends at once."""
        alone = not self._children
        if alone:
            hang_on(self._lifeline)
        preload(header)
        if alone:
            let_go(self._lifeline)

    def _fork(self, link: Link, message: Message) -> None:
        parent = os.getpid()
        try:
            mine, theirs = Link.pair()
            pid = os.fork()
        except OSError:  # no files or processes are left: the asker says so
            for descriptor in message.descriptors:
                os.close(descriptor)
            link.send({"number": message.header["number"], "pid": 0})
            return
        if pid == 0:
            mine.close()
            os.close(self._woken)
            os.close(self._wake)
            os.close(self._lifeline)
            for other in self._clients.values():
                other.close()
            be_child(parent, theirs, message)
        theirs.close()
        for descriptor in message.descriptors:
            os.close(descriptor)
        self._clients[mine.fileno()] = mine
        self._children[pid] = link.fileno()
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            kill_with_its_own(pid)
            link.send({"number": message.header["number"], "pid": 0})
            return
        try:
            link.send({"number": message.header["number"], "pid": pid}, descriptors=[handle])
        finally:
            os.close(handle)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what it started itself and left behind
            link = self._clients.get(self._children.pop(pid, -1))
            if link is not None:
                with contextlib.suppress(Hangup):
                    link.send({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def kill_with_its_own(pid: int) -> None:
    """Kill a child that was not reaped yet, and what it started itself and left behind."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):  # it is gone, or has no group of its own yet
            kill(pid, signal.SIGKILL)


def preload(header: dict[str, Any]) -> None:
    """Take over the launcher's module path and import modules; one that can't be is the child's to complain about."""
    sys.path[:] = header["path"]
    for name in header["preload"]:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def be_child(parent: int, server: Link, message: Message) -> NoReturn:
    """What a fork does: bind its life to the launcher's, call the entry function, end without the server's clean-up."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides what Ctrl-C means
        end_with_parent(parent)
        os.setpgid(0, 0)
        lifeline, end, *rest = message.descriptors
        hang_on(lifeline)
        faulthandler.enable()
        seating.sit_down(message.header)
        cards.sit_down(message.header)
        link = Link(socket.socket(fileno=end))
        launch.inherit(server)
        find(message.header["entry"])(link, message.header, rest, server)
        code = 0
    except Hangup:
        code = 0  # nobody is left to work for
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Started by `launch` with the descriptors of the connection, whose end is this server's, and of a lifeline."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, lifeline = map(int, sys.argv[1:])
    Server(Link(socket.socket(fileno=connection)), lifeline).serve()


if __name__ == "__main__":
    main()
