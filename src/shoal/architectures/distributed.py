# SPDX-License-Identifier: Apache-2.0
"""Settings and wires of architectures whose actors, replay memories and learner are free of one another: apex, r2d2.

A memory may be cut into shards, each a worker with wires of its own: an actor fills one of them, the learner takes
whatever message comes first and sends new priorities back to where it came from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from shoal.architectures.base import Parts, require
from shoal.architectures.replay_rounds import learn_from
from shoal.architectures.replayed import ReplayConfig, since
from shoal.engines import phase, select, system
from shoal.engines.wires.channel import Channel
from shoal.errors import ConfigError
from shoal.replay.role import remember_freely


@dataclass(frozen=True, kw_only=True)
class DistributedConfig(ReplayConfig):
    """How far the sides may be ahead of each other, how memory is cut, and how actors differ."""

    num_actors: int = 2
    """collecting workers"""
    replay_shards: int = 1
    """workers that the memory is spread over"""
    minibatches: int = 1
    """minibatches in a message, learnt from in one call; more hide messages, and use older priorities"""
    queue_slots: int = 2
    """messages waiting at most, on each wire"""
    params_interval: int = 100
    """steps of each environment after which an actor takes the newest params"""
    actors_ahead: int | None = 1_000
    """rows that actors may hand over before the learner has drawn its share for them, at least those of two messages;
    none: they never wait"""
    learner_ahead: int | None = 0
    """rows whose share the learner may draw before actors hand them over; none: it never waits"""
    epsilon_base: float = 0.4
    """share of random actions of the first actor; it never changes"""
    epsilon_exponent: float = 7.0
    """that of the last actor is base ** (1 + exponent), those between have exponents between"""

    samplers = ("auto", "serial", "central")

    @property
    def groups(self) -> int:
        """Minibatches in a message."""
        return self.minibatches

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Draws that a shard's learner may be ahead of replay_ratio, and behind it before its actors wait."""
        share, least = self.replay_ratio / self.replay_shards, 2.0 * self.rows_per_message
        ahead = None if self.learner_ahead is None else self.learner_ahead * share
        return ahead, None if self.actors_ahead is None else max(least, self.actors_ahead * share)

    def epsilon_of(self, actor: int) -> float:
        """The share of random actions of an actor, the same from beginning to end.

        Horgan et al. 2018 (arXiv 1803.00933, section 4.1): base ** (1 + exponent * i / (N - 1)).

        Check: the first actor's is the base, and logarithms are evenly spaced.
        """
        part = actor / max(1, self.num_actors - 1)
        return self.epsilon_base ** (1 + self.epsilon_exponent * part)

    def __post_init__(self):
        super().__post_init__()
        positive = ("replay_shards", "minibatches", "queue_slots", "params_interval")
        require(self, positive, lambda x: x > 0, "must be above 0")
        require(self, ("epsilon_base",), lambda x: 0 < x <= 1, "must lie in (0, 1]")
        require(self, ("epsilon_exponent",), lambda x: x >= 0, "must be 0 or more")
        ahead = tuple(name for name in ("actors_ahead", "learner_ahead") if getattr(self, name) is not None)
        require(self, ahead, lambda x: x >= 0, "must be 0 or more, or none where nobody waits")
        if self.realtime:
            raise ConfigError("realtime is for architectures in step; here nobody waits for anybody: leave it out")
        if self.replay_shards > self.num_actors:
            raise ConfigError(
                f"replay_shards={self.replay_shards} are more than the num_actors={self.num_actors} that fill them; "
                "lower --replay-shards"
            )
        if self.inference_batch or self.inference_deadline_s is not None:
            raise ConfigError(
                "inference_batch and inference_deadline_s act for some environments at a time, and priorities need the "
                "values of all; leave them out"
            )


class Shard(NamedTuple):
    """The wires of one replay worker."""

    rows: Channel
    """actors > replay: TRANS, or TRAJ where they are sequences"""
    batches: Channel
    """replay > learner"""
    priorities: Channel | None
    """learner > replay"""


def run_distributed(name: str, act: Callable, message: str, config: Any, parts: Parts, state: Any, visit: Any) -> Any:  # noqa: PLR0913
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state.

    Args:
      act: an actor's life; what it hands over is called `message`. Actor i fills shard i modulo their number.
    """
    state = parts.learner.init(config.seed) if state is None else state
    with system(name, "learner") as s:
        params = s.store("PARAM", "learner", parts.learner.acting(state), version=state.version)
        slots, first = config.queue_slots, since(parts, state)
        by_priority = config.priorities != "none"
        shards = [
            Shard(
                s.channel(message, "actor", "replay", slots, versions=params),
                s.channel("BATCH", "replay", "learner", slots),
                s.channel("PRIO", "learner", "replay", slots, when_full="drop_oldest") if by_priority else None,
            )
            for _ in range(config.replay_shards)
        ]
        for shard in shards:
            s.spawn("replay", 1, remember_freely, config, parts.without_network, *shard, first)
        for actor in range(config.num_actors):
            s.spawn("actor", 1, act, config, parts, params, shards[actor % len(shards)].rows)  # envs > actors
        while state.env_steps < config.env_steps:
            shard = shards[select(*(one.batches.can_get for one in shards))]
            drawn = shard.batches.get()[0]  # replay > learner
            state, metrics = learn_from(parts, state, drawn, shard.priorities)  # learner > replay
            version = params.publish(phase("publish", parts.learner.acting, state))  # learner > actors
            state = visit(state._replace(version=version), [], metrics)
    return state
