# SPDX-License-Identifier: Apache-2.0
"""What keeps an environment's step from being faster, in words and as a kind. Pure functions of a profile."""

from typing import Literal

from shoal.placement.profile import Point, Profile
from shoal.records.readable import nbytes

EnvKind = Literal["waits", "fills", "threads", "memory", "python"]
"""waits: a step mostly waits for something · fills: one step keeps all cores busy · threads: two threads are faster
than one · memory: it moves about as many bytes as memory can · python: it computes, and threads take turns"""

WAITING = 0.5
"""share of a step in which nothing computes, from which on it counts as waiting"""
FULL = 0.75
"""share of the cores from which on they count as busy"""
THREADS_PAY = 1.4
"""gain of two threads from which on they count as faster"""
NEAR_MEMORY = 0.2
"""share of a copy's bytes a second from which on observations count as bound by memory: each is moved about three
times, by the simulator, into its batch and out of it, so that this is three fifths of a step. An environment that only
copies a picture of 7 MB had 0.28 to 0.39"""


def env_kind(profile: Profile) -> EnvKind:
    """What keeps an environment step from being faster."""
    point, beside = usual_step(profile), profile.env_beside
    if point.idle >= WAITING:
        return "waits"
    if point.cores >= FULL * profile.cores:
        return "fills"
    if beside.gain >= THREADS_PAY:
        return "threads"
    return "memory" if moved_share(profile) >= NEAR_MEMORY else "python"


def usual_step(profile: Profile) -> Point:
    """The environment step at the number of environments that the measured architecture gives an actor."""
    return profile.env_step.near(profile.env_reset.size)


def compiled_step_s(profile: Profile) -> float | None:
    """Seconds of a vector step of environments that are written in JAX, compiled together with the agent that acts in
    them: from a run, with what an unroll takes beside. None of all other environments, whose runs have no such phase.
    """
    for trial in profile.trials:
        actor = trial.phases.get("actor", {})
        if actor.get("rollout", 0.0) > 0.0:
            steps = trial.env_steps / profile.valid_frac / trial.settings["envs_per_actor"]
            return sum(actor.get(name, 0.0) for name in ("prepare", "rollout", "assemble")) / steps
    return None


def moved_share(profile: Profile) -> float:
    """Bytes of observations that steps write in a second, beside those that one thread copies in a second.

    Check: 1 of an environment that makes an observation in the time in which it can be copied.
    """
    point = usual_step(profile)
    written = profile.env.obs_bytes * point.size / profile.env_step.seconds(point)
    return written / profile.copy_bytes_per_s


def releases_lock(profile: Profile) -> bool | None:
    """Whether other threads run Python while an environment steps, by the gain of two threads; None where it cannot be
    told, since one step keeps the cores busy already or memory is what they would share."""
    if profile.env_beside.gain >= THREADS_PAY:
        return True
    return None if env_kind(profile) in ("fills", "memory") else False


def bound_words(profile: Profile) -> str:
    """One line: latency, compute or memory; Python's lock; the share of what memory can move."""
    doing = {
        "waits": "waits (bound by latency)",
        "fills": "computes on all cores",
        "memory": "is bound by memory",
    }.get(env_kind(profile), "computes")
    lock = {
        True: "lets go of Python's lock",
        False: "holds Python's lock",
        None: "may or may not hold Python's lock",
    }[releases_lock(profile)]
    most = nbytes(profile.copy_bytes_per_s)
    return f"a step {doing}, {lock}, and moves {fine_percent(moved_share(profile))} of what memory can ({most}/s)"


def fine_percent(fraction: float) -> str:
    """A share that may be small: 0.431 -> "43%", 0.0012 -> "0.1%", 0.0001 -> "<0.1%"."""
    if fraction >= 0.1:
        return f"{fraction:.0%}"
    return f"{fraction:.1%}" if fraction >= 0.0005 else "<0.1%"
