# SPDX-License-Identifier: Apache-2.0
"""Ape-X: many actors, a prioritised replay memory and one learner, none of whom waits for another.

    envs --obs--> actor (n) --TRANS, with priority--> replay (shards) ----BATCH----> learner
                    ^                                    ^                            |  |
                    |                                    +-----------PRIO-------------+  |
                    +----------------------------PARAM-----------------------------------+

Actors hand over n-step transitions in messages of an unroll, each with the error of the values that acted, never with
the highest priority so far; they take new params every `params_interval` steps. Each acts at random in a share of steps
that is its own and never changes. The learner draws by priority, and sends back the errors that it found. How far
either side may be ahead of `replay_ratio` is a setting; neither waits before that. Gradients never cross.

Horgan et al. 2018 (arXiv 1803.00933); with agent=ddpg its Ape-X DPG. Wins where environments are slow and many: rows
age more gracefully than gradients do. Loses to DQN in samples, and to PPO where environments are cheap.
"""

from dataclasses import dataclass
from typing import Literal

from shoal.actors.rated import act_rated
from shoal.architectures.base import Parts, keep, require
from shoal.architectures.distributed import DistributedConfig, run_distributed
from shoal.architectures.replay_rounds import make_replay_learner, make_value_agent
from shoal.architectures.replayed import ControlConfig, ValueConfig

MUST_CROSS = ("TRANS actor>replay", "BATCH replay>learner", "PRIO learner>replay", "PARAM learner>actor")
MUST_NEVER_CROSS = ("GRAD *>*", "TRAJ *>*", "OBS *>*", "PARAM learner>replay")


@dataclass(frozen=True, kw_only=True)
class Config(DistributedConfig, ValueConfig, ControlConfig):
    """Settings for Ape-X."""

    agent: Literal["dqn", "ddpg"] = "dqn"
    """what is learnt: values of whole-number actions, or a policy and its critic, for actions that are real numbers"""

    unroll_length: int = 50
    """steps per message"""
    n_step: int = 3
    """rewards that a target adds up before it trusts the value"""
    batch_size: int = 512
    """rows of a gradient step"""
    replay_ratio: float = 1.0
    """rows learnt from for each row remembered"""
    priorities: Literal["none", "proportional"] = "proportional"
    """draw by the size of the error, or all rows alike: an ablation"""
    importance_final: float = 0.4
    """beta at the end of importance_steps"""
    target_interval: int = 2_500
    """env steps after which targets are made with newer params at once; 0: no target network, or target_rate alone"""
    double_q: bool = True
    """let the newest params choose the action whose value the target's params give"""
    dueling: bool = True
    """a state's value and actions' advantages, from branches of their own"""
    optimiser: Literal["adam", "rmsprop", "momentum", "sgd"] = "adam"
    """update rule"""
    max_grad_norm: float = 40.0
    """gradients longer than this are scaled down to it"""
    target_rate: float = 1.0
    """tau: the part of the newest params that target params take over; 1: all, see target_interval"""
    twin: bool = False
    """two critics, of which targets trust the lower (ddpg)"""
    policy_delay: int = 1
    """critic steps for each step of the policy (ddpg)"""
    target_noise: float = 0.0
    """deviation of what is added to the target policy's actions (ddpg)"""
    target_noise_clip: float = 0.5
    """what is added is at most this large (ddpg)"""

    def explores_as(self, actor: int) -> float:
        """The number that an actor's params carry: its share of random actions, or the deviation of added noise."""
        return self.epsilon_of(actor) if self.agent == "dqn" else self.exploration_noise

    def __post_init__(self):
        super().__post_init__()
        require(self, ("policy_delay",), lambda x: x > 0, "must be above 0")
        require(self, ("target_noise", "target_noise_clip"), lambda x: x >= 0, "must be 0 or more")


def make_agent(config: Config, spec, network):
    """Values of actions, or a policy and its critics."""
    if config.agent == "dqn":
        return make_value_agent(config, spec, network)
    from shoal.agents.ddpg import make_ddpg

    return make_ddpg(spec, network, config)


make_learner = make_replay_learner


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    return run_distributed("apex", act_rated, "TRANS", config, parts, state, visit)
