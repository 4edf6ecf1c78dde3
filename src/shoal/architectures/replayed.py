# SPDX-License-Identifier: Apache-2.0
"""Settings of architectures that learn from a replay memory."""

from dataclasses import dataclass
from typing import Any, Literal

from shoal.agents.exploration import epsilon_at
from shoal.architectures.base import ActorCriticConfig, Parts, require
from shoal.architectures.sampling import IN_STEP
from shoal.errors import ConfigError
from shoal.replay.role import Since

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
    """write the memory into the run's folder at every quarter of the run, to resume with; the newest three are kept"""
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
    exploration_steps: int = 0
    """env steps over which that deviation falls from 1; 0: it is the same all along"""

    def explores_by(self, env_steps: int) -> float:
        """The deviation of what is added to actions after so many env steps."""
        if not self.exploration_steps:
            return self.exploration_noise
        return epsilon_at(self.exploration_noise, env_steps, self.exploration_steps)

    def __post_init__(self):
        super().__post_init__()
        require(self, ("exploration_noise", "exploration_steps"), lambda x: x >= 0, "must be 0 or more")


def since(parts: Parts, state: Any) -> Since:
    """Where the replay begins."""
    return Since(state.env_steps, parts.replay_folder)
