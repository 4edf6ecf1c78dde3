# SPDX-License-Identifier: Apache-2.0
"""Learners of A2C and PPO as processes that average gradients over the network.

    envs --obs--> actor (n) ----TRAJ----> learner (p) <----GRAD----> learner
                    ^                        |
                    +--------PARAM-----------+

Each learner process has its own actors and takes their trajectories alone; what crosses between learners are gradients,
summed by collectives (gloo on the CPU) in every step, so that all hold the same params. The first publishes them, and
passes its state to the body of the system, learner 0, which saves and decides when to stop; the others only say that
they are as far. Nobody can go on without the share of a learner process that dies: the program ends with LearnerLost,
and `training` begins it anew from the newest checkpoint.

They are workers of the engines `processes` and `ray`, since JAX must learn of the other processes before it starts. On
`ray` they are on several nodes. The first chooses where they meet, at its node's address, and tells the others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from shoal.actors.notes import note_learnt
from shoal.architectures.assemble import learning_parts
from shoal.architectures.base import Parts
from shoal.engines import LearnerLost, MessageLost, RoleFailed, me, phase, system
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.store import Store
from shoal.processes.ports import free_address
from shoal.trees import tree_map


def run_joint(name: str, act: Callable, config: Any, parts: Parts, state: Any, visit: Callable) -> Any:
    """Train from `state` until config.env_steps were received; returns the last state.

    Raises LearnerLost where a learner process died, or its node did.
    """
    try:
        return _run(name, act, config, parts, state, visit)
    except (RoleFailed, MessageLost) as fault:
        lost = loss_in(fault)
        if lost is None:
            raise
        raise lost from fault


def loss_in(fault: BaseException | None) -> LearnerLost | None:
    """The loss of a learner behind a fault, however it came to light; None for any other fault."""
    while isinstance(fault, RoleFailed):
        fault = fault.__cause__
    if isinstance(fault, MessageLost):  # channels give out the next message instead: it was published
        return LearnerLost(f"what a learner process had published is gone with its node ({fault})")
    return LearnerLost(str(fault)) if isinstance(fault, LearnerLost) else None


def _run(name: str, act: Callable, config: Any, parts: Parts, state: Any, visit: Callable) -> Any:
    """`run_joint` itself."""
    processes, each = config.learner_processes, config.all_actors // config.learner_processes
    acting, state = parts.learner.acting(state), on_host(state)
    with system(name, "learner") as s:
        params = s.store("PARAM", "learner", acting, version=state.version)
        states = s.channel("PARAM", "learner", "learner", processes)
        devices = processes * max(1, config.learner_devices)
        gradients = s.reduction("GRAD", "learner", devices, acting, via="network", made=state.updates)
        inboxes = [s.channel("TRAJ", "actor", "learner", each, versions=params, max_lag=0) for _ in range(processes)]
        meeting = s.store("PARAM", "learner", "", target="learner")
        for inbox in inboxes:
            s.spawn("actor", each, act, config, parts, params, inbox)  # envs > actors
        made = parts if parts.recipe is None else list(parts.recipe[1])
        s.spawn("learner", processes, learn_jointly, config, made, meeting, state, params, inboxes, states)
        while state.env_steps < config.env_steps:
            state, metrics = states.get(processes, by_sender=True)[0]  # learner > learner
            gradients.reached(state.updates)  # learners > learners
            state = visit(state, [], metrics)
    return state


def learn_jointly(  # noqa: PLR0913 what a worker is given
    index: int, config: Any, made: Any, meeting: Store, state: Any, params: Store, inboxes: list, states: Channel
) -> None:
    """One learner process's life: meet the others, then update on its own actors' trajectories, together with them.

    Args:
      made: how to make parts with a learner (`assemble.learning_parts`), or parts that need no making.
      meeting: version 1 says where the learner processes meet.
    """
    process, processes = index - 1, config.learner_processes
    who = f"learner process {index} of {processes}"
    if me().epoch:
        raise LearnerLost(f"{who} died, and the others cannot go on without it")
    with others_there(who):
        learner = made.learner if isinstance(made, Parts) else _joined(made, meeting, process, config)
    inbox, leads = inboxes[process], process == 0
    while state.env_steps < config.env_steps:
        batch = inbox.get(config.all_actors // processes, by_sender=True)  # actors > learner
        with others_there(who):
            state, metrics = phase("update", learner.update, state, batch)
        if leads:
            params.publish(phase("publish", learner.acting, state))  # learner > actors
        for trajectory in batch:
            note_learnt(trajectory, state.version - 1 - int(trajectory.version[0]), {})
        states.put((on_host(state) if leads else None, metrics))  # learner > learner


@contextmanager
def others_there(who: str) -> Iterator[None]:
    """Around what takes all processes. Raises LearnerLost where collectives (gloo) say that one is gone."""
    try:
        yield
    except Exception as fault:
        if "gloo" not in str(fault).lower():
            raise
        reason = " ".join(str(fault).split())[:200]
        raise LearnerLost(f"{who} lost another one ({reason})") from fault


def on_host(state: Any) -> Any:
    """A learner's state in NumPy, that can cross."""
    return tree_map(lambda leaf: leaf if isinstance(leaf, int) else np.array(leaf), state)


def _joined(made: list, meeting: Store, process: int, config: Any) -> Any:
    """The learner of this process, once it has met the others at the address that the first one chose."""
    address = agreed_address(meeting, process)
    return phase("start", _join, made, address, me().host, process, config)


def agreed_address(meeting: Store, process: int) -> str:
    """Where learner processes meet: the first one chooses an address of its node, and tells the others."""
    if process:
        return meeting.pull(at_least=1)[0]  # learner > learner
    address = free_address(me().host)
    meeting.publish(address)  # learner > learners
    return address


def _join(made: list, address: str, host: str, process: int, config: Any) -> Any:
    """The learner of this process, whose devices are those of all."""
    from shoal.learners.meeting import meet

    meet(address, process, config.learner_processes, max(1, config.learner_devices), host)
    return learning_parts(*made).learner
