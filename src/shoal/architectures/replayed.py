# SPDX-License-Identifier: Apache-2.0
"""Settings and flow of architectures that learn from a replay memory in step with their actors: dqn, rainbow, ddpg,
naf, sac.

    envs --obs--> actor (n) ----TRANS----> replay ----BATCH----> learner
                    ^                        ^                    |  |
                    |                        +-------PRIO---------+  |
                    +------------------------PARAM-------------------+

A round is an unroll of every actor under the newest params; the replay keeps it, and draws as many minibatches as
`replay_ratio` allows for it; the learner takes a step on each, then publishes. Nobody is ahead: lag is 0 when rows
arrive, whatever their age when they are drawn. Priorities come back before the next minibatches are drawn.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shoal.actors.transitions import act_by_episode, transitions_ahead, transitions_in_step
from shoal.agents.exploration import epsilon_at, followed_by
from shoal.architectures.base import ActorCriticConfig, Parts, make_learner_parts, require
from shoal.architectures.sampling import IN_STEP
from shoal.engines import phase, system
from shoal.errors import ConfigError
from shoal.replay.role import Drawn, Since, remember_freely, remember_in_step

MUST_CROSS = ("TRANS actor>replay", "BATCH replay>learner", "PARAM learner>actor")
MUST_NEVER_CROSS = ("GRAD actor>*", "TRAJ *>*", "OBS *>*")
SLACK = 2.0
"""messages that the learner may be behind before actors wait"""


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(ActorCriticConfig):
    """How much is remembered, how it is drawn, and how often it is learnt from."""

    replay_capacity: int = 100_000
    """rows remembered at most"""
    replay_start: int = 1_000
    """rows before anything is learnt"""
    replay_ratio: float = 8.0
    """rows learnt from for each row remembered"""
    batch_size: int = 32
    """rows of a gradient step"""
    n_step: int = 1
    """rewards that a target adds up before it trusts the value"""
    priorities: Literal["none", "proportional"] = "none"
    """draw all rows alike, or in proportion to the size of their error"""
    priority_exponent: float = 0.6
    """alpha: rows are drawn in proportion to priority ** alpha; 0: all alike"""
    importance_exponent: float = 0.4
    """beta at the start: how far weights make up for rows being drawn unevenly"""
    importance_final: float = 1.0
    """beta at the end of importance_steps"""
    importance_steps: int | None = None
    """env steps over which beta goes from its start to its end on a line; none: those of the run"""
    deduplicate: bool = True
    """keep each frame of stacked observations once"""
    eviction: Literal["fifo", "priority"] = "fifo"
    """what makes room in a full memory: the oldest rows, or those of the least priority"""
    target_interval: int = 0
    """env steps after which targets are made with newer params at once; 0: no target network, or target_rate alone"""
    target_rate: float = 1.0
    """tau: the part of the newest params that target params take over in every step; 1: see target_interval"""
    realtime: bool = False
    """the robot form: every collector has one environment that keeps its own pace, takes params when an episode begins
    and waits for nobody; the learner goes on as far as replay_ratio allows"""
    save_replay: bool = True
    """keep snapshots of the memory in the run's folder, one at every quarter of the run: as many bytes as it has"""
    anneal_learning_rate: bool = False
    """let the learning rate fall on a line to 0 over env_steps"""
    max_grad_norm: float = 10.0
    """gradients longer than this are scaled down to it"""

    samplers = IN_STEP
    replay_shards = 1
    sequence_length = burn_in = 0  # of memories that keep sequences

    @property
    def rows_per_step(self) -> int:
        """Rows of a minibatch."""
        return self.batch_size

    @property
    def rows_per_round(self) -> int:
        """Rows that all actors hand over together."""
        return self.num_envs * (1 if self.realtime else self.unroll_length)

    @property
    def groups(self) -> int:
        """Minibatches in a message, learnt from in one call: those that a round without resets allows for."""
        return max(1, int(self.replay_ratio * self.rows_per_round / self.batch_size))

    @property
    def rows_per_message(self) -> int:
        """Rows that a message is learnt from."""
        return self.groups * self.batch_size

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Draws that the learner may be ahead of replay_ratio, and behind it before actors wait; None: nobody waits."""
        return 0.0, None if self.realtime else SLACK * self.rows_per_message

    def explores_by(self, _env_steps: int) -> float:
        """The number that acting params carry after so many env steps: a share of random actions, or a deviation."""
        return 0.0

    def __post_init__(self):
        super().__post_init__()
        positive = ("replay_capacity", "replay_start", "replay_ratio", "batch_size", "n_step")
        require(self, positive, lambda x: x > 0, "must be above 0")
        shares = ("priority_exponent", "importance_exponent", "importance_final")
        require(self, shares, lambda x: 0 <= x <= 1, "must lie in [0, 1]")
        if self.importance_steps is not None:
            require(self, ("importance_steps",), lambda x: x > 0, "must be above 0, or none for the whole run")
        require(self, ("target_interval",), lambda x: x >= 0, "must be 0 or more")
        require(self, ("target_rate",), lambda x: 0 < x <= 1, "must lie in (0, 1]")
        if self.realtime and self.envs_per_actor > 1:
            raise ConfigError(
                f"envs_per_actor={self.envs_per_actor} environments would wait for one another, and with realtime none "
                "waits; set --envs-per-actor 1 and raise --num-actors"
            )
        for name in ("normalise_obs", "normalise_reward"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name} needs a learner that sees every row once and in order, a replay memory has none; leave it "
                    "out and scale in the environment, or use reward_scale"
                )
        if self.n_step > self.unroll_length and not self.realtime:
            raise ConfigError(
                f"n_step={self.n_step} reaches beyond an unroll of {self.unroll_length} steps; lower --n-step or raise "
                "--unroll-length"
            )
        if self.replay_start > self.replay_capacity:
            raise ConfigError(
                f"replay_start={self.replay_start} rows never come together in a memory of "
                f"replay_capacity={self.replay_capacity}; lower --replay-start"
            )


@dataclass(frozen=True, kw_only=True)
class ValueConfig(ReplayConfig):
    """For agents that value whole-number actions, and act at random now and then."""

    double_q: bool = False
    """let the newest params choose the action whose value the target's params give"""
    dueling: bool = False
    """a state's value and actions' advantages, from branches of their own"""
    atoms: int = 0
    """values are distributions over so many atoms (51); 0: they are plain means"""
    value_low: float = -10.0
    """the lowest atom"""
    value_high: float = 10.0
    """the highest atom"""
    epsilon_final: float = 0.05
    """share of random actions at the end of epsilon_steps"""
    epsilon_steps: int = 10_000
    """env steps over which that share falls from 1"""

    def explores_by(self, env_steps: int) -> float:
        """The share of random actions after so many env steps."""
        return epsilon_at(self.epsilon_final, env_steps, self.epsilon_steps)

    def __post_init__(self):
        super().__post_init__()
        require(self, ("epsilon_final",), lambda x: 0 <= x <= 1, "must lie in [0, 1]")
        require(self, ("epsilon_steps",), lambda x: x > 0, "must be above 0")
        if self.atoms == 1 or self.atoms < 0:
            raise ConfigError(f"atoms={self.atoms} span no distribution; use 51, or 0 for plain means")
        if self.atoms and not self.value_low < self.value_high:
            raise ConfigError(
                f"value_low={self.value_low} must be below value_high={self.value_high}; change --value-low"
            )


@dataclass(frozen=True, kw_only=True)
class ControlConfig(ReplayConfig):
    """For agents whose actions are real numbers."""

    batch_size: int = 256
    """rows of a gradient step"""
    target_rate: float = 0.005
    """tau: the part of the newest params that target params take over in every step"""
    exploration_noise: float = 0.1
    """deviation of what is added to actions on the unit scale while collecting"""

    def explores_by(self, _env_steps: int) -> float:
        """The deviation of what is added to actions."""
        return self.exploration_noise

    def __post_init__(self):
        super().__post_init__()
        require(self, ("exploration_noise",), lambda x: x >= 0, "must be 0 or more")


def must_cross(config: ReplayConfig) -> tuple[str, ...]:
    """Priorities only where something is made of them."""
    return MUST_CROSS if config.priorities == "none" else (*MUST_CROSS, "PRIO learner>replay")


def must_never_cross(_config: ReplayConfig) -> tuple[str, ...]:
    """The same for all settings."""
    return MUST_NEVER_CROSS


def make_value_agent(config: ValueConfig, spec: Any, network: Any) -> Any:
    """Values of actions, learnt from transitions. Imports JAX."""
    from shoal.agents.dqn import make_dqn

    return make_dqn(spec, network, config)


def make_replay_learner(config: ReplayConfig, agent: Any) -> Any:
    """A gradient step for each minibatch. Imports JAX."""
    from shoal.learners.replayed import make_replayed

    return make_replayed(agent, *make_learner_parts(config, agent), config)


def run_replayed(name: str, config: ReplayConfig, parts: Parts, state: Any, visit: Any) -> Any:
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    state = parts.learner.init(config.seed) if state is None else state
    return (run_realtime if config.realtime else run_in_step)(name, config, parts, state, visit)


def run_in_step(name: str, config: ReplayConfig, parts: Parts, state: Any, visit: Any) -> Any:
    """Rounds: nobody is ahead of anybody, or actors are by one unroll (sampler=async)."""
    with system(name, "learner") as s:
        params = s.store("PARAM", "learner", acting(config, parts, state), version=state.version)
        act, max_lag = (transitions_ahead, 1) if config.sampler == "async" else (transitions_in_step, 0)
        transitions = s.channel("TRANS", "actor", "replay", config.all_actors, versions=params, max_lag=max_lag)
        batches = s.channel("BATCH", "replay", "learner", 1)
        priorities = s.channel("PRIO", "learner", "replay", 1)
        remembered = config, parts.without_network, transitions, batches, priorities, since(parts, state)
        s.spawn("replay", 1, remember_in_step, *remembered)
        s.spawn("actor", config.all_actors, act, config, parts, params, transitions)  # envs > actors
        while state.env_steps < config.env_steps:
            metrics = {}
            while (drawn := batches.get()[0]).batch:  # replay > learner
                state, metrics = learn_from(config, parts, state, drawn, priorities)
            state = state._replace(env_steps=drawn.env_steps)
            version = params.publish(phase("publish", acting, config, parts, state))  # learner > actors
            state = visit(state._replace(version=version), [], metrics | drawn.metrics)
    return state


def run_realtime(name: str, config: ReplayConfig, parts: Parts, state: Any, visit: Any) -> Any:
    """Collectors at their own pace, and a learner that goes on meanwhile."""
    with system(name, "learner") as s:
        params = s.store("PARAM", "learner", acting(config, parts, state), version=state.version)
        transitions = s.channel("TRANS", "actor", "replay", config.all_actors, versions=params)
        batches = s.channel("BATCH", "replay", "learner", 1)
        priorities = s.channel("PRIO", "learner", "replay", 2, when_full="drop_oldest")
        remembered = config, parts.without_network, transitions, batches, priorities, since(parts, state)
        s.spawn("replay", 1, remember_freely, *remembered)
        s.spawn("actor", config.all_actors, act_by_episode, config, parts, params, transitions)  # envs > actors
        while state.env_steps < config.env_steps:
            state, metrics = learn_from(config, parts, state, batches.get()[0], priorities)  # replay > learner
            version = params.publish(phase("publish", acting, config, parts, state))  # learner > actors
            state = visit(state._replace(version=version), [], metrics)
    return state


def learn_from(config: ReplayConfig, parts: Parts, state: Any, drawn: Drawn, priorities: Any) -> tuple[Any, dict]:
    """A step on each minibatch of a message; (state, metrics)."""
    state, errors, metrics = phase("update", parts.learner.learn, state, drawn.batch, drawn.env_steps)
    if config.priorities != "none":
        priorities.put((drawn.batch.key, errors))  # learner > replay
    age = float(state.version - np.mean(drawn.batch.version))
    return state, metrics | drawn.metrics | {"replay_age_mean": age}


def acting(config: ReplayConfig, parts: Parts, state: Any) -> Any:
    """Params that actors act with: the network's, and how they explore."""
    return followed_by(parts.learner.acting(state), config.explores_by(state.env_steps))


def since(parts: Parts, state: Any) -> Since:
    """Where the replay begins."""
    return Since(state.env_steps, parts.replay_folder)
