# SPDX-License-Identifier: Apache-2.0
"""What learners that are apart do between batches: gradients, steps of their own, exchanges of chunks. Needs no JAX.

    an update over a learner's rows, memory's pace --> gradient, step, exchange --> simulated engine

Nobody timed these phases: a gradient is its part of an update, and a rule over shared params costs what its bytes do.
Learners compute beside one another, so what they cost one another comes from the machine.
"""

from typing import Any

from shoal.engines import Work
from shoal.placement.profile import Curve, Profile
from shoal.placement.unit_costs import IN_XLA, update_of, work_at

COPIES = 10.0
"""times that a rule with two moments moves its params, grad and moments read, written and computed with in NumPy"""
CHUNK_S = 30e-6
"""of one chunk whatever its size: its lock, and calls on small arrays"""


def apart_costs(profile: Profile, architecture: str, config: Any, speed: float) -> dict[str, Work]:
    """Work of a gradient, of a step that a learner takes alone, and of exchanging one chunk.

    Check: one learner's gradients on a batch take what an update on it takes.
    """
    known, curve = learner_curve(profile, architecture)
    rows = max(1, config.actors_per_learner * config.envs_per_actor * config.unroll_length)
    work = work_at(curve, rows, speed, IN_XLA)._replace(idle=0.0)
    gradient = update_of(profile, known, curve, config, rows) / config.steps_per_batch
    rule_s = COPIES * 4 * profile.params / profile.copy_bytes_per_s
    return {
        "gradient": work._replace(seconds=gradient / speed),
        "step": Work((CHUNK_S + rule_s) / speed, python=1.0),
        "exchange": Work((CHUNK_S + rule_s / config.chunks) / speed, python=1.0),
    }


def learner_curve(profile: Profile, architecture: str) -> tuple[str, Curve]:
    """(whose preset it is of, updates over rows): the architecture's own where it was traced."""
    trace = profile.trace_of(architecture)
    if trace is None or trace.architecture == profile.architecture:
        return profile.architecture, profile.update["cpu"]
    return architecture, trace.phases["update"]
