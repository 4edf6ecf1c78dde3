# SPDX-License-Identifier: Apache-2.0
"""Several learners for DQN. Synchronous ones share every minibatch out; asynchronous ones are apart, each with actors
and a replay memory of its own.

    envs --obs--> actor --TRANS--> learner (n): memory ----GRAD, by chunks----> parameter_server: params, moments
                    ^                |  ^                                          |
                    +------PARAM-----+  +------------------PARAM-------------------+

As `learners_apart`, whose batches are minibatches here: with async every gradient is applied to the shared params,
chunk by chunk; with async_skip a learner takes `skip_batches` steps alone and merges what came of them. Stooke & Abbeel
2018 (arXiv 1803.02811), table 1: DQN on several devices. Memories of learners that are apart are not saved.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NoReturn

import numpy as np

from shoal.actors.notes import note_gradient
from shoal.actors.transitions import start_transitions
from shoal.agents.exploration import followed_by
from shoal.architectures import replay_rounds
from shoal.architectures.base import Parts, make_learner_parts
from shoal.architectures.learners_apart import Apart, collecting, learn_apart, rule_and_schedule
from shoal.architectures.optimisation import OptimisationConfig, make_spread
from shoal.architectures.replayed import ReplayConfig
from shoal.engines import phase
from shoal.errors import ConfigError
from shoal.replay.role import Replay, Since
from shoal.trees import read_at

MUST_CROSS = ("GRAD learner>parameter_server", "PARAM parameter_server>learner")
MUST_NEVER_CROSS = ("TRANS *>parameter_server", "TRANS learner>*", "TRAJ *>*", "BATCH *>*", "GRAD actor>*")


@dataclass(frozen=True, kw_only=True)
class SeveralLearners(ReplayConfig, OptimisationConfig):
    """How many learners share the work of minibatches."""

    batches_per_visit: int = 50
    """minibatches of learners between looks at how far the run is (async, async_skip)"""

    @property
    def replay_shards(self) -> int:
        """Memories: learners that are apart have one each."""
        return self.learners if self.apart else 1

    @property
    def rows_per_exchange(self) -> int:
        """Rows that a learner collects for an exchange, in the mean; at least one."""
        return max(1, int(self.batch_size * self.steps_per_exchange / self.replay_ratio))

    @property
    def rows_per_round(self) -> int:
        """Rows that actors hand over together: all of them, or a learner's own."""
        return super().rows_per_round // (self.learners if self.apart else 1)

    def _require_shares(self) -> None:
        """Rows of a minibatch that learners can share evenly."""
        if self.batch_size % self.learners:
            raise ConfigError(
                f"learners={self.learners} cannot share the batch_size={self.batch_size} rows of a minibatch evenly; "
                "make one a multiple of the other"
            )

    def __post_init__(self):
        super().__post_init__()
        for name, only in (("learner_processes", 1), ("drop_slowest", 0), ("gradient_noise", False)):
            if getattr(self, name) != only:
                raise ConfigError(
                    f"{name}={getattr(self, name)} is for learners from trajectories, as a2c and ppo have; leave it out"
                )
        if self.apart and self.realtime:
            raise ConfigError(f"realtime has one learner, optimisation={self.optimisation} several; leave one out")


def must_cross(config: Any) -> tuple[str, ...]:
    """By how learners work together."""
    return MUST_CROSS if config.apart else replay_rounds.must_cross(config)


def must_never_cross(config: Any) -> tuple[str, ...]:
    """By how learners work together."""
    return MUST_NEVER_CROSS if config.apart else replay_rounds.must_never_cross(config)


def learns_in_workers(config: Any) -> bool:
    """Learners are workers where they are apart."""
    return config.apart


def make_learner(config: Any, agent: Any) -> Any:
    """A gradient step for each minibatch, of all learners together; or gradients, for learners apart. Imports JAX."""
    from shoal.learners.pushing import make_pushing_replayed
    from shoal.learners.replayed import make_replayed

    if config.apart:
        return make_pushing_replayed(agent, rule_and_schedule(config)[0], config)
    return make_replayed(agent, *make_learner_parts(config, agent), config, make_spread(config))


def run_several(name: str, config: Any, parts: Parts, state: Any, visit: Any) -> Any:
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    if config.apart:
        return learn_apart(name, config, parts, state, visit, learn_replayed)
    return replay_rounds.run_replayed(name, config, parts, state, visit)


def learn_replayed(index: int, config: Any, parts: Parts, params: Any, steps: int) -> NoReturn:
    """One learner's life, `steps` steps on: collect, remember, learn, exchange."""
    learner = ApartReplayed(index, config, parts, params, steps)
    go_on, first = learner.merge if config.optimisation == "async_skip" else learner.exchange, learner.acting
    with collecting(index, config, parts, first, start_transitions, "TRANS") as collect:
        gradients = learner.gradients(collect, first)
        while True:
            go_on(gradients)


class ApartReplayed(Apart):
    """One learner with a memory: its copy of params and moments, and params to make targets with."""

    def __init__(self, index: int, config: Any, parts: Parts, params: Any, steps: int):
        super().__init__(index, config, parts, params, steps)
        self._replay = phase("start", Replay, config, parts, Since(0, None), index)
        self._target, self._interval, self._fresh = self.params, 0, 0
        self._facts: dict[str, float] = {}

    @property
    def acting(self) -> np.ndarray:
        """Params that its actors act with."""
        return followed_by(self.params, self._config.explores_by(self._shared.samples))

    def gradients(self, collect: Callable, first: np.ndarray) -> Iterator[Callable]:
        """Gradients without end, each at whatever params it is then asked for; collects where nothing may be drawn, at
        first under `first`."""
        replay, acting = self._replay, first
        while True:
            while not replay.may_draw:
                for rows in collect(self.acting if acting is None else acting, self._version):
                    phase("add", replay.add, rows)
                acting = None
            drawn = phase("draw", replay.draw)
            self._fresh, self._facts = self._fresh + drawn.fresh, drawn.metrics
            for k in range(self._config.groups):
                yield partial(self._gradient, read_at(drawn.batch, k))

    def exchange(self, gradients: Iterator[Callable]) -> None:
        """One gradient, applied to the shared params; the next one is made with what came of it."""
        grad, metrics = self._clipped(next(gradients))
        rate, before = self._rate(), self._version
        rows, self._version = self._shared.exchange(grad, before, rate, self._fresh)  # learner <> parameter_server
        self.params, self._fresh = rows[0], 0
        self._move_target()
        note_gradient([self._version - 1 - before], {**metrics, **self._facts, "learning_rate": rate})

    def merge(self, gradients: Iterator[Callable]) -> None:
        """Some steps alone, then what came of them is merged into the shared params."""
        begun, gathered, metrics = self.params, np.zeros_like(self._moments), {}
        for gradient in islice(gradients, self._config.steps_per_exchange):
            grad, metrics = self._clipped(gradient)
            self.params = phase("step", self._step, grad, self._rate(), gathered)
            self._move_target()
        change, before = np.concatenate([[self.params - begun], gathered]), self._version
        rows, self._version = self._shared.exchange(change, before, 1.0, self._fresh)  # learner <> parameter_server
        self.params, self._moments, self._fresh = rows[0], rows[1:], 0
        note_gradient([self._version - 1 - before], {**metrics, **self._facts})

    def _gradient(self, batch: Any, params: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        grad, errors, metrics = self._parts.learner.replay_gradient(params, self._target, batch, self._steps)
        if self._config.priorities != "none":
            self._replay.prioritise(batch.key, errors)
        return grad, metrics

    def _move_target(self) -> None:
        """As `learners.replayed` does: at multiples of the interval, or a part of the way in every step."""
        config = self._config
        if config.target_interval:
            interval = self._shared.samples // config.target_interval
            if interval == self._interval:
                return
            self._interval = interval
        self._target = self._target + np.float32(config.target_rate) * (self.params - self._target)
