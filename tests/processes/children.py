# SPDX-License-Identifier: Apache-2.0
"""What children do in these tests. Each function is an entry: (link, header, descriptors, link to the server)."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
import zlib

from shoal.errors import ConfigError
from shoal.processes import launch
from shoal.processes.link import LARGEST, Hangup


def echo(link, header, descriptors, server):
    """Send back what comes, until told to end."""
    link.send({"pid": os.getpid(), "hello": header.get("word")})
    while True:
        message = link.receive()
        if message.header.get("over"):
            return
        link.send({**message.header, "descriptors": len(message.descriptors)}, message.data)
        for descriptor in message.descriptors:
            os.close(descriptor)


def leave(link, header, descriptors, server):
    """End in the way the header says."""
    how = header["how"]
    if how == "exit":
        sys.exit(header["code"])
    if how == "os._exit":
        os._exit(header["code"])
    if how == "raise":
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 it is closed with the process
        raise ValueError("on purpose")
    if how == "signal":
        os.kill(os.getpid(), header["code"])


def loop(link, header, descriptors, server):
    """Never look at anything again."""
    link.send({"pid": os.getpid()})
    while True:
        pass


def nest(link, header, descriptors, server):
    """Have a child of its own that loops, and tell who it is; then loop as well."""
    child = launch.shared().launch("processes.children:loop")
    link.send({"pid": os.getpid(), "child": child.link.receive().header["pid"]})
    if header.get("leave"):
        return
    while True:
        pass


def leave_behind(link, header, descriptors, server):
    """Start a program and end without it."""
    program = subprocess.Popen(["sleep", "1000"])
    link.send({"pid": os.getpid(), "child": program.pid})


def start_program(link, header, descriptors, server):
    """Start a program and go on."""
    program = subprocess.Popen(["sleep", "1000"])
    link.send({"pid": os.getpid(), "child": program.pid})
    program.wait()


def pour(link, header, descriptors, server):
    """Send messages of all sizes, each with its checksum, until killed."""
    rng = random.Random(header["seed"])
    sizes = (0, 10, 5_000, LARGEST - 200, LARGEST + 1, 1_000_000)
    bulk = rng.randbytes(max(sizes))
    for count in range(10**9):
        data = bulk[: rng.choice(sizes)]
        read, write = os.pipe()
        os.write(write, b"%d" % count)
        os.close(write)
        link.send({"count": count, "crc": zlib.crc32(data)}, data, [read])
        os.close(read)


def run_out_of_files(link, header, descriptors, server):
    """Receive descriptors where no more may be opened, and say what that gives."""
    opened = len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 2, opened + 2))
    link.send({})
    for _ in range(2):
        try:
            link.receive()
            link.send({"error": ""})
        except ConfigError as error:
            link.send({"error": str(error), "opened": len(os.listdir("/proc/self/fd")) - 1 - opened})


def imported(link, header, descriptors, server):
    """Tell which of the given modules are there already."""
    link.send({"there": [name for name in header["modules"] if name in sys.modules], "path": sys.path})


def hear_the_end(link, header, descriptors, server):
    """Wait for the other side to hang up, then say so in a file."""
    try:
        link.receive()
    except Hangup:
        with open(header["file"], "w") as file:
            file.write("heard")


def ignore_signals(link, header, descriptors, server):
    """Ask to be spared by everything that can be asked."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    link.send({"pid": os.getpid()})
    while True:
        time.sleep(1000)


def where(link, header, descriptors, server):
    """Say on which processors this runs, with how many threads, and what its own children would be told."""
    from shoal.processes.seats import allowed_cpus, seating

    seat = {"cpus": sorted(os.sched_getaffinity(0)), "threads": os.environ.get("NPROC"), "placement": seating.text}
    link.send({**seat, "allowed": list(allowed_cpus())})


def seen_of_accelerators(link, header, descriptors, server):
    """Say what JAX will read about accelerators here, and what it has read where the server imported it."""
    names = ("JAX_PLATFORMS", "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    imported = sys.modules.get("jax")
    read = imported and imported.config.jax_platforms
    link.send({**{name: os.environ.get(name) for name in names}, "imported": imported is not None, "read": read})
