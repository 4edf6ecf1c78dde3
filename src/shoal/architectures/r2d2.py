# SPDX-License-Identifier: Apache-2.0
"""R2D2: Ape-X for agents with memory, whose replay keeps sequences instead of transitions.

    envs --obs--> actor (n) --TRAJ: sequences, priority--> replay (shards) ----BATCH----> learner
                    ^                                         ^                            |  |
                    |                                         +-----------PRIO-------------+  |
                    +-------------------------------PARAM-------------------------------------+

Sequences are of one episode each and come with the memory that acted before their first row. They begin with rows that
only bring this memory up to date (burn-in), which the sequence before had learnt from: so they overlap. A sequence's
priority is 0.9 times the largest error in it and 0.1 times the mean. Values are learnt on a scale that compresses large
ones, so rewards need no clipping.

Kapturowski et al. 2019 (R2D2, ICLR). Wins where what to do depends on what was seen long ago. Loses to Ape-X where one
observation tells all: a step of the learner costs a whole sequence.
"""

from dataclasses import dataclass
from typing import Literal

from shoal.actors.sequences import act_in_sequences
from shoal.architectures.base import Parts, keep, require
from shoal.architectures.distributed import DistributedConfig, run_distributed
from shoal.architectures.replay_rounds import make_replay_learner
from shoal.architectures.replayed import ValueConfig
from shoal.errors import ConfigError

MUST_CROSS = ("TRAJ actor>replay", "BATCH replay>learner", "PRIO learner>replay", "PARAM learner>actor")
MUST_NEVER_CROSS = ("GRAD *>*", "TRANS *>*", "OBS *>*", "TRAJ *>learner")
CARRIES_MEMORY = True


@dataclass(frozen=True, kw_only=True)
class Config(DistributedConfig, ValueConfig):
    """Settings for R2D2."""

    sequence_length: int = 80
    """rows of a sequence, those of burn-in included"""
    burn_in: int = 40
    """rows at its beginning that only bring memory up to date; 0: it is taken as it was stored"""
    stored_memory: bool = True
    """begin a sequence with the memory that acted; false: with an empty one, an ablation"""
    rescale_values: bool = True
    """learn values on a scale that compresses large ones"""
    priority_max_share: float = 0.9
    """eta: a sequence's priority is so much of its largest error, and the rest of the mean"""
    unroll_length: int = 40
    """steps between looks at which sequences are complete"""
    n_step: int = 5
    """rewards that a target adds up before it trusts the value"""
    batch_size: int = 64
    """sequences of a gradient step"""
    replay_ratio: float = 1.0
    """rows learnt from for each row remembered"""
    priorities: Literal["none", "proportional"] = "proportional"
    """draw by the size of the error, or all sequences alike: an ablation"""
    priority_exponent: float = 0.9
    """alpha: sequences are drawn in proportion to priority ** alpha; 0: all alike"""
    importance_exponent: float = 0.6
    """beta at the start: how far weights make up for rows being drawn unevenly"""
    importance_final: float = 0.6
    """beta at the end of importance_steps"""
    discount: float = 0.997
    """worth of a reward one step later"""
    target_interval: int = 2_500
    """env steps after which targets are made with newer params at once; 0: no target network, or target_rate alone"""
    double_q: bool = True
    """let the newest params choose the action whose value the target's params give"""
    dueling: bool = True
    """a state's value and actions' advantages, from branches of their own"""
    max_grad_norm: float = 40.0
    """gradients longer than this are scaled down to it"""

    @property
    def rows_per_message(self) -> int:
        """Rows that a message is learnt from, if no sequence is cut short."""
        return super().rows_per_message * (self.sequence_length - self.burn_in)

    def explores_as(self, actor: int) -> float:
        """The number that an actor's params carry."""
        return self.epsilon_of(actor)

    def __post_init__(self):
        super().__post_init__()
        require(self, ("sequence_length",), lambda x: x > 0, "must be above 0")
        require(self, ("priority_max_share",), lambda x: 0 <= x <= 1, "must lie in [0, 1]")
        length = self.sequence_length
        require(self, ("burn_in",), lambda x: 0 <= x < length, f"must lie in [0, {length}), below sequence_length")
        if length > self.replay_capacity:
            raise ConfigError(
                f"sequence_length={length} rows do not fit into a memory of replay_capacity={self.replay_capacity}; "
                "lower --sequence-length or raise --replay-capacity"
            )
        if self.atoms:
            raise ConfigError(f"atoms={self.atoms}: distributions of values are not for r2d2; leave it at 0")


def make_agent(config: Config, spec, network):
    """Values of actions with memory, learnt from sequences."""
    from shoal.agents.recurrent_q import make_recurrent_q

    return make_recurrent_q(spec, network, config)


make_learner = make_replay_learner


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    return run_distributed("r2d2", act_in_sequences, "TRAJ", config, parts, state, visit)
