# SPDX-License-Identifier: Apache-2.0
"""What it costs that something passes from worker to worker, on engines whose workers are threads or processes, and
over the agent of a cluster's node.

    round trips of one worker, of four, and with many bytes --> waking, turns, bytes
    the same over an agent here                             --> processor time of main process, agent and workers

A round of several workers takes what waking up takes, once, and the turns that each message costs in the process which
keeps the wires: these are what a round of four takes longer than one of a single worker. Needs no JAX.
"""

from collections.abc import Callable
from typing import NamedTuple

from shoal.engines import make_engine
from shoal.engines.cluster.local import LocalNodes
from shoal.engines.round_trips import LITTLE, Round, asked_and_answered, beside_one_another, there_and_back
from shoal.placement.messages import Handling, Passing, Relayed

ENGINES = ("threads", "processes")
MOST = 32
"""workers that compute at once, at most"""
SOME, MUCH = 20_000, 2_000_000
"""bytes"""
SEVERAL = 4
"""workers"""


def measure_passing(seconds: float = 0.15) -> dict[str, Passing]:
    """For every engine; `seconds` for each of six loops.

    Check: on threads nothing is copied, so more bytes cost nothing.
    """
    return {engine: passing_on(engine, seconds) for engine in ENGINES}


def passing_on(engine: str, seconds: float) -> Passing:
    """What waking, turns and bytes cost on one engine."""

    def measured(loop: Callable, *args: int) -> float:
        return max(0.0, make_engine(engine).run(loop, *args, seconds))

    return passing_of(RoundTrips(
        one=measured(there_and_back, 1, LITTLE, LITTLE), several=measured(there_and_back, SEVERAL, LITTLE, LITTLE),
        asked=measured(asked_and_answered, 1), asked_by_several=measured(asked_and_answered, SEVERAL),
        there=measured(there_and_back, 1, MUCH, LITTLE), back=measured(there_and_back, 1, LITTLE, MUCH),
    ))  # fmt: skip


class RoundTrips(NamedTuple):
    """Seconds of a round trip; 0 where what is computed beside it took as long as all of it."""

    one: float
    """to one worker and back, with few bytes"""
    several: float
    """the same to several workers"""
    asked: float
    """a question of one worker and its answer"""
    asked_by_several: float
    there: float
    """to one worker and back, with many bytes on the way there"""
    back: float
    """the same on the way back"""


def passing_of(rounds: RoundTrips) -> Passing:
    """A round is two messages, so that each has half of it; what many bytes take longer, all of them together take.

    Check: of rounds that took no time, nothing.
    """
    wake, turn = apart(rounds.one, rounds.several)
    call_wake, call_turn = apart(rounds.asked, rounds.asked_by_several)
    return Passing(
        wake_s=wake / 2, turn_s=turn / 2, call_wake_s=call_wake / 2, call_turn_s=call_turn / 2,
        pull_byte_s=max(0.0, rounds.there - rounds.one) / MUCH, put_byte_s=max(0.0, rounds.back - rounds.one) / MUCH,
    )  # fmt: skip


def measure_relayed(seconds: float = 0.15) -> Relayed:
    """What messages cost over the agent of a node, from one that runs here without Ray; `seconds` for each of six
    loops."""
    with LocalNodes() as nodes:
        agent = nodes.agents[0].pid

        def measured(loop: Callable, *args: int) -> Round:
            return make_engine("ray", cluster=nodes).run(loop, *args, seconds, agent)

        return relayed_of(
            one=measured(there_and_back, 1, SOME, SOME),
            several=measured(there_and_back, SEVERAL, SOME, SOME),
            asked=measured(asked_and_answered, 1),
            asked_by_several=measured(asked_and_answered, SEVERAL),
            there=measured(there_and_back, 1, MUCH, SOME),
            back=measured(there_and_back, 1, SOME, MUCH),
        )


def relayed_of(  # noqa: PLR0913 - a round each
    *, one: Round, several: Round, asked: Round, asked_by_several: Round, there: Round, back: Round
) -> Relayed:
    """Costs of a message from rounds of two for each worker, in which the node fetches params once for all of them:
    what a round of several workers takes longer is theirs, the rest of a round of one is fetching.

    Args:
      one, several, asked, asked_by_several: with SOME bytes, by workers.
      there, back: params, or an item, of MUCH bytes.

    Check: twice the turn, and fetching, are a round of one.
    """

    def handling(of: Callable[[Round], float], for_all: bool) -> Handling:
        each = (of(several) - of(one)) / (SEVERAL - 1) if for_all else of(several) / SEVERAL
        each = max(0.0, each)
        return Handling(
            turn_s=each / 2, call_turn_s=of(asked_by_several) / SEVERAL / 2,
            fetch_s=max(0.0, of(one) - each) if for_all else 0.0,
            pull_byte_s=max(0.0, of(there) - of(one)) / (MUCH - SOME),
            put_byte_s=max(0.0, of(back) - of(one)) / (MUCH - SOME),
        )  # fmt: skip

    return Relayed(
        wake_s=idle_s(one) / 2, call_wake_s=idle_s(asked) / 2,
        main=handling(lambda took: took.main_s, True), agent=handling(lambda took: took.agent_s, True),
        worker=handling(lambda took: took.workers_s, False),
    )  # fmt: skip


def idle_s(took: Round) -> float:
    """Seconds of a round in which nobody computes for it."""
    return max(0.0, took.wall_s - took.main_s - took.agent_s - took.workers_s)


def measure_crowding(cores: float, seconds: float) -> float:
    """How many times as long computing takes while as many processes compute as there are cores, 1 or more: they share
    caches, memory and its clock, and two cores may be two threads of one."""
    workers = min(MOST, int(cores))
    if workers < 2:
        return 1.0
    alone = make_engine("processes").run(beside_one_another, 1, seconds)
    return max(1.0, make_engine("processes").run(beside_one_another, workers, seconds) / alone)


def apart(one: float, several: float) -> tuple[float, float]:
    """(what a round takes once, what it takes for each worker) of rounds of one and of several workers.

    Check: they add up to the round of one.
    """
    turn = min(one, max(0.0, several - one) / (SEVERAL - 1))
    return one - turn, turn
