# SPDX-License-Identifier: Apache-2.0
"""What messages cost in virtual time, on each engine. Needs no JAX.

threads, processes    waking --> a turn in the process that keeps the wires --> bytes
ray                   waking --> the agent of the worker's node --> main process --> the worker itself
"""

from collections.abc import Callable
from typing import Any

from shoal.engines import Work
from shoal.engines.remote.parcel import INLINE
from shoal.placement.messages import Handling, Relayed
from shoal.placement.profile import Profile
from shoal.placement.trial import batch_trajectories

Cost = Callable[[int, int], list[Work]]
"""of a message, by its bytes and how many go out together"""
AGENT = "agent"
"""who speaks for the workers of a cluster's node"""
HUB = "main process"
"""who keeps the wires of workers that are processes"""
TO_WORKERS = ("TRANS", "PRIO")
"""messages that the process of the architecture's body hands on to another worker: they take its turn twice"""
MESSAGES = ("TRAJ", "BATCH", "GRAD", *TO_WORKERS)
"""that are put on channels"""


def passed(profile: Profile, config: Any, engine: str, speed: float, nodes: int = 1) -> dict[str, Cost]:
    """Messages by their bytes: waking up, a turn in the process that keeps the wires for each that goes out, bytes that
    are copied. Who sends or pulls goes through all of it."""
    if engine == "ray" and profile.relayed is not None:
        return relayed(profile.relayed, config, speed, nodes)
    passing = profile.passing.get(engine)
    if passing is None:
        return {}
    server = HUB if engine == "processes" else None

    def cost(wake: float, turn: float, per_byte: float, turns: int = 1) -> Callable[[int, int], list[Work]]:
        waking = Work(wake, idle=wake)

        def works(nbytes: int, count: int) -> list[Work]:
            serving = Work(count * turns * turn / speed, python=1.0, server=server)
            return [waking, serving, Work(per_byte * nbytes / speed)]

        return works

    of = (passing.wake_s, passing.turn_s)
    asked = cost(passing.call_wake_s, passing.call_turn_s, passing.put_byte_s)
    puts = {f"put {name}": cost(*of, passing.put_byte_s, turns_of(name, config)) for name in MESSAGES}
    return {**puts, "pull PARAM": cost(*of, passing.pull_byte_s), "send OBS": asked, "reply ACT": asked}


def relayed(costs: Relayed, config: Any, speed: float, nodes: int) -> dict[str, Cost]:
    """Messages that go by way of an agent: waking up, then what the agent of the worker's node, the main process and
    the worker compute. Params are fetched once for each node, so who pulls pays its share of that.

    Check: all that is computed competes for cores, where there are few.
    """
    sharing = max(1.0, batch_trajectories(config) / nodes)

    def cost(wake: float, of: Callable[[Handling, int, float], float], turns: int = 1) -> Cost:
        waking = Work(wake, idle=wake)

        def works(nbytes: int, count: int) -> list[Work]:
            def at(handling: Handling, share: float) -> float:
                return count * turns * of(handling, nbytes, share) / speed

            return [
                waking,
                Work(at(costs.agent, sharing), python=1.0, server=AGENT, near=True),
                Work(at(costs.main, sharing), python=1.0, server=HUB),
                Work(at(costs.worker, 1.0)),
            ]

        return works

    def put(handling: Handling, nbytes: int, _share: float) -> float:
        return handling.turn_s + nbytes * handling.put_byte_s

    def pull(handling: Handling, nbytes: int, share: float) -> float:
        fetched = 0.0 if nbytes <= INLINE else handling.fetch_s + nbytes * handling.pull_byte_s
        return handling.turn_s + fetched / share

    def call(handling: Handling, nbytes: int, _share: float) -> float:
        return handling.call_turn_s + nbytes * handling.put_byte_s

    puts = {f"put {name}": cost(costs.wake_s, put, turns_of(name, config)) for name in MESSAGES}
    asked = cost(costs.call_wake_s, call)
    return {**puts, "pull PARAM": cost(costs.wake_s, pull), "send OBS": asked, "reply ACT": asked}


def turns_of(message: str, config: Any) -> int:
    """Times that what is put on a channel goes through the main process: twice where another worker gets it."""
    remembers = hasattr(config, "replay_ratio")
    return 2 if message in TO_WORKERS or (remembers and message == "TRAJ") else 1
