# SPDX-License-Identifier: Apache-2.0
"""What learners that are apart do between batches: gradients, steps of their own, exchanges of chunks. Needs no JAX.

    an update over a learner's rows, memory's pace --> gradient, step, exchange --> simulated engine

Nobody timed these phases: a gradient is its part of an update, and a rule over shared params costs what its bytes do.
Over a replay memory a gradient is an update over one minibatch. Learners compute beside one another, so what they cost
one another comes from the machine.
"""

from typing import Any

from shoal.engines import Work
from shoal.placement.profile import Curve, Profile
from shoal.placement.unit_costs import IN_XLA, in_turn, update_of, work_at

COPIES = 10.0
"""times that a rule with two moments moves its params, grad and moments read, written and computed with in NumPy"""
CHUNK_S = 30e-6
"""of one chunk whatever its size: its lock, and calls on small arrays"""


def apart_costs(profile: Profile, architecture: str, config: Any, speed: float) -> dict[str, Work]:
    """Work of a gradient, of a step that a learner takes alone, and of exchanging one chunk.

    Check: one learner's gradients on a batch take what an update on it takes.
    """
    of = minibatch_gradient if hasattr(config, "replay_ratio") else batch_gradient
    rule_s = COPIES * 4 * profile.params / profile.copy_bytes_per_s
    return {
        "gradient": of(profile, architecture, config, speed),
        "step": Work((CHUNK_S + rule_s) / speed, python=1.0),
        "exchange": Work((CHUNK_S + rule_s / config.chunks) / speed, python=1.0),
    }


def batch_gradient(profile: Profile, architecture: str, config: Any, speed: float) -> Work:
    """A gradient step's part of an update over a batch of a learner's own trajectories."""
    known, curve = learner_curve(profile, architecture)
    rows = max(1, config.actors_per_learner * config.envs_per_actor * config.unroll_length)
    gradient = update_of(profile, known, curve, config, rows) / config.steps_per_batch
    return work_at(curve, rows, speed, IN_XLA)._replace(idle=0.0, seconds=gradient / speed)


def minibatch_gradient(profile: Profile, architecture: str, config: Any, speed: float) -> Work:
    """An update over one minibatch, and the memory is told its errors: all of it is in this phase. The target params
    that move are taken to cost nothing.

    Check: with nothing that does not depend on the rows, as many as are in a message take what an update over it takes.
    """
    trace = profile.trace_of(architecture)
    assert trace is not None
    told = ["prioritise"] if config.priorities != "none" and "prioritise" in trace.phases else []
    works = [
        work_at(trace.phases[name], config.batch_size, speed, python)._replace(idle=0.0)
        for name, python in (("update", IN_XLA), *((name, 1.0) for name in told))
    ]
    return in_turn(1, *works)


def learner_curve(profile: Profile, architecture: str) -> tuple[str, Curve]:
    """(whose preset it is of, updates over rows): the architecture's own where it was traced."""
    trace = profile.trace_of(architecture)
    if trace is None or trace.architecture == profile.architecture:
        return profile.architecture, profile.update["cpu"]
    return architecture, trace.phases["update"]
