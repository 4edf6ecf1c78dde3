# SPDX-License-Identifier: Apache-2.0
"""What an update costs that two learners share in step: on two devices of a process, and in two processes.

    worker: meets the other, makes the architecture's own learner, compiles --> times updates on made-up batches

Three times: one learner with a share of the rows and nobody beside it, two devices, two processes. Each in workers that
have not started JAX, since how many devices it shows is settled when it starts.
"""

from collections.abc import Callable
from typing import Any

from shoal.architectures import presets
from shoal.architectures.assemble import refuse_nameless
from shoal.architectures.joint import agreed_address
from shoal.engines import make_engine, me
from shoal.engines.clock import BLOCKS, Timing, measure
from shoal.engines.round_trips import one_answer
from shoal.placement.in_step_costs import gradient_steps
from shoal.placement.profile import InStep, Point

WAYS: dict[str, dict[str, int]] = {
    "alone": {"num_actors": 1},
    "devices": {"num_actors": 2, "learners": 2, "learner_devices": 2},
    "processes": {"num_actors": 2, "learners": 2, "learner_processes": 2},
}
"""fields of the architecture, whose learners then have the rows of an actor each"""
ARCHITECTURES = ("a2c", "ppo")
"""whose learners can be processes; what a sum costs is told by either"""
PRELOAD = ("gymnasium", "jax", "equinox", "optax", "shoal.agents.actor_critic")
"""imported once for all workers; none of it starts JAX"""
SETTLING = 3
"""updates that do not count: the first compile"""
MOST = 1_000
"""updates that count, at most"""


def measure_in_step(workload: Any, network: str, seconds: float) -> InStep:
    """`seconds` for each of three ways; starting JAX and compiling come on top.

    Raises: ConfigError for an environment or a network that no name leads to.
    """
    refuse_nameless(workload.factory, network, "leave out --in-step")
    name = workload.architecture if workload.architecture in ARCHITECTURES else ARCHITECTURES[0]

    def measured(way: str) -> Point:
        engine = make_engine("processes")
        engine.preload = PRELOAD
        learners, given = WAYS[way].get("learner_processes", 1), (name, *workload.factory.origin, network)
        size, *timing = engine.run(one_answer, learners, time_updates, way, given, seconds)
        return Point(size=size, **Timing(*timing)._asdict())

    steps = gradient_steps(presets.preset(name, workload.spec))
    return InStep(architecture=name, steps=steps, **{way: measured(way) for way in WAYS})


def time_updates(  # noqa: PLR0913 - what a worker is given
    index: int, way: str, given: tuple, seconds: float, meeting: Any, number: Any, told: Any
) -> None:
    """A learner's life: as many updates as the one that leads says, which tells how long its own took."""
    leads = index == 1
    update, rows = prepared(way, given, meeting, index - 1)
    settling = measure(update, seconds=0.0, min_calls=SETTLING - 1)
    if leads:
        calls = max(BLOCKS, min(MOST, round(seconds / settling.median_s)))
        number.publish(calls)  # learner > learner
    else:
        calls, _ = number.pull(at_least=1)  # learner > learner
    timing = measure(update, seconds=0.0, min_calls=calls, warm_up=0)
    if leads:
        told.put((rows, *timing))  # learner > learner


def prepared(way: str, given: tuple, meeting: Any, process: int) -> tuple[Callable[[], None], int]:
    """(an update on a made-up batch, rows of a share) of this process, which has met the other one if there is one."""
    fields = WAYS[way]
    processes, devices = fields.get("learner_processes", 1), fields.get("learner_devices", 1)
    if processes > 1:
        address = agreed_address(meeting, process)
        from shoal.learners.meeting import meet

        meet(address, process, processes, devices, me().host)
    elif devices > 1:
        from shoal.learners.devices import make_devices

        make_devices(devices, devices, devices)
    from shoal.envs import resolve
    from shoal.placement.measure import update_call
    from shoal.placement.workload import make_workload

    architecture, env, env_kwargs, network = given
    workload = make_workload(architecture, resolve(env, env_kwargs), network, fields=fields)
    length, envs = workload.config.unroll_length, workload.config.envs_per_actor
    return update_call(workload, length, envs * fields["num_actors"] // processes), length * envs
