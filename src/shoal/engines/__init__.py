# SPDX-License-Identifier: Apache-2.0
"""Engines run programs of roles and wires: inline, on threads, processes and clusters, in simulated time. Nothing here
knows about learning.

    architecture --> system, spawn, channel, store, service, vector, select, phase      what a program says
                        |
                     wires                                                              written once
                        |
                     kernel: scheduled (inline, simulated) | threaded | fixed           how a worker runs and waits

Only this package uses clocks, threads and queues. A program is a function for `Engine.run`; inside it the current
worker is ambient, so architectures never see the engine.
"""

from shoal.engines.base import IN_PROCESSES, Engine, check_engine, make_engine
from shoal.engines.faults import Deadlock, Ended, LearnerLost, Lost, MessageLost, RoleFailed, Stopped
from shoal.engines.kernels.beside import Beside
from shoal.engines.kernels.machine import Link, Machine, Site, Work
from shoal.engines.payload import nbytes
from shoal.engines.system import System, system
from shoal.engines.wires.select import select
from shoal.engines.worker import Me, me, note, now, phase

__all__ = [
    "IN_PROCESSES",
    "Beside",
    "Deadlock",
    "Ended",
    "Engine",
    "LearnerLost",
    "Link",
    "Lost",
    "Machine",
    "Me",
    "MessageLost",
    "RoleFailed",
    "Site",
    "Stopped",
    "System",
    "Work",
    "check_engine",
    "make_engine",
    "me",
    "nbytes",
    "note",
    "now",
    "phase",
    "select",
    "system",
]
