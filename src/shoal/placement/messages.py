# SPDX-License-Identifier: Apache-2.0
"""What it costs that something passes from worker to worker: on engines of one machine, and on nodes of a cluster.

threads, processes    waking, a turn with whoever keeps the wires, bytes
ray                   waking, then processor time of three: the node's agent, the main process, the worker
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Passing:
    """What it costs to pass something from one worker to another on one engine."""

    wake_s: float
    """of a message: until who waits for it goes on; nobody computes"""
    turn_s: float
    """of a message: in the process that keeps the wires, one after the other"""
    call_wake_s: float
    """the same for a request of a service, and for its answer"""
    call_turn_s: float
    pull_byte_s: float
    put_byte_s: float


@dataclass(frozen=True, kw_only=True)
class Handling:
    """Processor seconds that a message takes in one process."""

    turn_s: float
    """of a message, some kilobytes"""
    call_turn_s: float
    """of a request of a service, and of its answer"""
    fetch_s: float
    """more for params that are new to a node, which it asks for by their key"""
    pull_byte_s: float
    put_byte_s: float


@dataclass(frozen=True, kw_only=True)
class Relayed:
    """What it costs to pass something over the agent of a node: all of it may compete for the same cores."""

    wake_s: float
    """of a message: until who waits for it goes on, beside all that is computed for it; nobody else computes"""
    call_wake_s: float
    """the same for a request of a service, and for its answer"""
    main: Handling
    """in the process that keeps the wires"""
    agent: Handling
    """in the agent of the worker's node"""
    worker: Handling
    """in who sends or pulls"""
