# SPDX-License-Identifier: Apache-2.0
"""A child ends when the process it works for ends, even in the middle of a loop that never returns.

A lifeline is one end of a pair of sockets over which nothing is ever sent: when the process at the other end ends, for
whatever reason, the kernel hangs the line up and signals the child. No thread has to look.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket

F_SETSIG = 10  # Linux: which signal tells that a descriptor is ready
PR_SET_PDEATHSIG = 1


def make_lifeline() -> tuple[socket.socket, socket.socket]:
    """(the end to keep, the end for the child)."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def hang_on(line: int) -> None:
    """Have the kernel kill this process when the other end of the line is closed. `line` must stay open.

    Check: a child in an endless loop ends within moments of its launcher's SIGKILL.
    """
    fcntl.fcntl(line, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(line, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
    with socket.socket(fileno=os.dup(line)) as end:  # it may have been hung up before the kernel knew whom to tell
        end.setblocking(False)
        try:
            hung_up = end.recv(1) == b""
        except BlockingIOError:
            hung_up = False
    if hung_up:
        os._exit(1)


def let_go(line: int) -> None:
    """From now on the other end may be closed without harm."""
    fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) & ~os.O_ASYNC)


def end_session(leader: int) -> None:
    """Kill what is left of the session that this process id, itself gone, has led.

    Check: a program that a child of a killed fork server had started ends, too.
    """
    for name in filter(str.isdigit, os.listdir("/proc")):
        pid = int(name)
        with contextlib.suppress(OSError):  # it ends meanwhile
            if os.getsid(pid) == leader:
                handle = os.pidfd_open(pid)
                try:
                    if os.getsid(pid) == leader:  # still: the handle is of no other process that got the number
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of this process id, ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
