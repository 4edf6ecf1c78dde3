# SPDX-License-Identifier: Apache-2.0
"""Profiles with round numbers, as if measured."""

from shoal.architectures import registry
from shoal.placement.messages import Handling, Relayed
from shoal.placement.profile import VERSION, Beside, Curve, EnvFacts, Flops, Point, Profile, Trace, Trial
from shoal.types import ArraySpec

CORES = 4.0
HARDWARE = {"usable_cores": CORES, "cpu_model": "made up", "devices": [{"platform": "cpu", "kind": "cpu", "id": 0}]}


def point(size, seconds, cores=1.0, calls=9, noise=0.02):
    """A call that took exactly this long and kept so many cores busy, undisturbed."""
    return Point(
        size=size,
        calls=calls,
        median_s=seconds,
        mean_s=seconds,
        p99_s=seconds,
        cpu_s=seconds * cores,
        delay_s=0.0,
        noise=noise,
    )


def curve(fixed_s, per_item_s, sizes, cores=1.0):
    """Calls that cost fixed + per_item * size."""
    return Curve(points=tuple(point(s, fixed_s + per_item_s * s, cores) for s in sizes))


def beside(gain):
    """Two threads that are so many times as fast as one."""
    return Beside(threads=2, alone_per_s=100.0, together_per_s=100.0 * gain, alone_cores=1.0, cores=gain)


def profile(*, step=(50e-6, 1e-6), step_cores=1.0, gain=1.0, inference=None, update=None, **changes):
    """A profile whose parts cost (fixed, per item) seconds; a step of 8 takes 58 us, a batch of 1024 rows
    3 ms; memory moves 10 GB/s."""
    facts = EnvFacts(
        id="Made-Up-v0",
        settings={},
        obs={"": ArraySpec((4,), "float32")},
        action="discrete",
        action_sizes=(2,),
        named=True,
    )
    values = {
        "version": VERSION,
        "shoal": "0.1.0",
        "hardware": HARDWARE,
        "env": facts,
        "network": "auto",
        "params": 1000,
        "flops": Flops(act=2e3, act_bytes=1e3, gradient=6e3, gradient_bytes=3e3),
        "architecture": "ppo",
        "env_step": curve(*step, (1, 8, 32), step_cores),
        "env_reset": point(8, 1e-4),
        "valid_frac": 1.0,
        "episode_spread": 0.0,
        "env_beside": beside(gain),
        "acting_beside": beside(gain),
        "inference": {k: curve(*v, (1, 16, 256)) for k, v in (inference or {"numpy": (10e-6, 1e-6)}).items()},
        "update": {k: curve(*v, (256, 1024, 4096), 2.0) for k, v in (update or {"cpu": (4.4e-4, 2.5e-6)}).items()},
        "estimate": point(1024, 3e-5),
        "transfer": {},
        "copy": point(10**8, 0.01),
        "crowding": 1.0,
        "traces": (),
        "passing": {},
        "trials": (),
        "disturbed": 0.0,
        "measured_s": 20.0,
    }
    return Profile(**values | changes)


def handling(turn_s, fetch_s=0.0, byte_s=0.0):
    """What a message takes in one process; calls take twice that."""
    return Handling(
        turn_s=turn_s, call_turn_s=2 * turn_s, fetch_s=fetch_s, pull_byte_s=byte_s, put_byte_s=2 * byte_s
    )  # fmt: skip


def relayed(wake_s=0.0, **handled):
    """Messages over an agent; who is not named computes nothing for them."""
    costs = {name: handled.get(name, handling(0.0)) for name in ("main", "agent", "worker")}
    return Relayed(wake_s=wake_s, call_wake_s=2 * wake_s, **costs)


PHASES = {
    "prepare": 1e-6, "act": 3e-6, "env_step": 1e-6, "assemble": 1e-6, "build": 1e-6, "add": 1e-6, "draw": 2e-6,
    "prioritise": 1e-6, "returns": 1e-6, "gradient": 5e-6, "step": 2e-5, "exchange": 2e-5, "push": 2e-5, "update": 3e-6,
    "publish": 2e-5,
}  # fmt: skip
"""seconds a row, or of a call"""
MEMORY = ("build", "add", "draw", "prioritise")


def trace(architecture, envs_per_actor=8, **seconds):
    """What every phase costs, whoever has which of them; those of a memory only where there is one."""
    remembers = hasattr(registry.load(architecture).Config, "replay_ratio")
    known = {name: cost for name, cost in PHASES.items() if remembers or name not in MEMORY}
    if architecture in ("a3c", "gorila"):  # whose workers compute gradients, and nobody updates
        del known["update"]
    phases = {name: curve(0.0, cost, (1, 64, 1024)) for name, cost in (known | seconds).items()}
    return Trace(architecture=architecture, envs_per_actor=envs_per_actor, phases=phases)


def trial(architecture="ppo", steps_per_s=50_000.0, *, engine="inline", actors=1, length=128, changed=None):
    """A run of 2 s: half of the time in environment steps, 10% in acting, 30% in updates."""
    batches = {"impala": 1}.get(architecture, actors)
    settings = {
        "num_actors": actors, "envs_per_actor": 8, "unroll_length": length, "batch_trajectories": batches
    }  # fmt: skip
    return Trial(
        architecture=architecture,
        engine=engine,
        simulated=False,
        settings=settings,
        changed=changed or {},
        same_learning=True,
        passes=4 if architecture == "ppo" else 1,
        wall_s=2.0,
        alone_s=2.0,
        env_steps=int(2 * steps_per_s),
        updates=int(2 * steps_per_s) // (batches * 8 * length),
        phases={
            "actor": {"start": 0.0, "env_step": 1.0, "act": 0.2, "prepare": 0.05, "assemble": 0.05},
            "learner": {"update": 0.6, "publish": 0.02},
        },
        lag_mean=0.0,
        noise=0.03,
    )
