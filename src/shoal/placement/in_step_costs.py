# SPDX-License-Identifier: Apache-2.0
"""What learners in step cost one another: a share of the rows each, and sums of gradients in every step. Needs no JAX.

an update over a share  +  steps * what two learners take longer than that, by way  -->  simulated engine

devices      of one process, whose learner's update keeps the cores of all of them busy
processes    each a worker of its own, so what they take from one another's cores comes from the machine
"""

import dataclasses
from typing import Any

from shoal.engines import Work
from shoal.engines.kernels.machine import Node
from shoal.learners.sharing_out import most_even
from shoal.placement.machines import MachineFacts
from shoal.placement.profile import Curve, InStep, Profile
from shoal.placement.trial import passes

FLOAT = 4
"""bytes of a param"""


def on_devices_of(config: Any, cores: float) -> Any:
    """The config with as many devices as its learners in step would have on so many cores, if it leaves that open."""
    if not in_step(config) or config.learner_processes > 1 or config.learner_devices:
        return config
    return dataclasses.replace(config, learner_devices=most_even(config.learners, int(cores)))


def in_step(config: Any) -> bool:
    """Whether several learners share every batch out."""
    return getattr(config, "learners", 1) > 1 and not config.apart


def devices_of(config: Any) -> int:
    """Devices of a learner process, each with a share of its rows."""
    return max(1, config.learner_devices) if in_step(config) else 1


def shares_of(config: Any) -> int:
    """Devices of all learner processes."""
    return devices_of(config) * (config.learner_processes if in_step(config) else 1)


def summing_s(profile: Profile, config: Any) -> float:
    """Seconds of an update beside computing its share: what two learners take longer in every gradient step, and for
    each further one as much again, as messages around a ring do. 0 where that was not measured.

    Check: of what was measured, an update of two learners takes what it took.
    """
    measured, shares = profile.in_step, shares_of(config)
    if measured is None or shares == 1:
        return 0.0
    way = "devices" if config.learner_processes == 1 else "processes"
    longer = getattr(measured, way).mean_s / slowed(profile, way) - alone_s(measured)
    return (shares - 1) * gradient_steps(config) * max(0.0, longer) / measured.steps


def slowed(profile: Profile, way: str) -> float:
    """Times as long that two learners take on the machine that was measured because both want cores: what the simulated
    machine makes of it by itself."""
    assert profile.in_step is not None
    own, node = max(1.0, profile.in_step.alone.cores), Node(profile.cores, profile.crowding)
    crowded = node.slowed(2 * own) / node.slowed(own) if way == "processes" else 1.0
    return max(1.0, 2 * own / profile.cores) * crowded


def gradient_steps(config: Any) -> int:
    """Gradient steps in an update."""
    return config.groups if hasattr(config, "replay_ratio") else passes(config) * getattr(config, "minibatches", 1)


def between_nodes(work: Work, profile: Profile, config: Any, machine: MachineFacts) -> Work:
    """An update with what its sums take on links, where learner processes are on several nodes: messages around a ring,
    which nobody computes for.

    Check: on one node, the same.
    """
    nodes = min(machine.nodes, config.learner_processes if in_step(config) else 1)
    if nodes < 2:
        return work
    around = 2 * (nodes - 1)
    one = around * machine.latency_s + around / nodes * FLOAT * profile.params / machine.bytes_per_s
    waiting = gradient_steps(config) * one
    return work._replace(seconds=work.seconds + waiting, idle=work.idle + waiting)


def alone_s(measured: InStep) -> float:
    """Seconds of an update over a share, had no other program used the cores. Of two learners all seconds count: what
    one waits for is the other."""
    return Curve(points=(measured.alone,)).seconds(measured.alone)
