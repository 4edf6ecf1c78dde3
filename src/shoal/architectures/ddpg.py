# SPDX-License-Identifier: Apache-2.0
"""DDPG: a policy that goes uphill on the value of its actions, learnt from a replay memory; with three settings, TD3.

    envs --obs--> actor (n) ----TRANS----> replay ----BATCH----> learner: critic, then policy
                    ^                                               |
                    +----------------------PARAM--------------------+

DQN's rounds for actions that are real numbers: the policy takes the place of the maximum over actions, exploration is
noise on what it chooses, and target params follow the newest ones a little with every step.

Lillicrap et al. 2016 (arXiv 1509.02971); Fujimoto et al. 2018 (arXiv 1802.09477) for `twin`, `policy_delay` and
`target_noise`. Wins over PPO in samples. Loses in wall clock where steps are cheap, and in how far settings carry over.
"""

from dataclasses import dataclass

from shoal.architectures import replay_rounds
from shoal.architectures.base import Parts, keep, require
from shoal.architectures.replay_rounds import must_cross, must_never_cross, run_replayed
from shoal.architectures.replayed import ControlConfig

__all__ = ["Config", "make_agent", "make_learner", "must_cross", "must_never_cross", "run"]


@dataclass(frozen=True, kw_only=True)
class Config(ControlConfig):
    """Settings for DDPG and TD3."""

    twin: bool = False
    """two critics, of which targets trust the lower (TD3)"""
    policy_delay: int = 1
    """critic steps for each step of the policy (TD3: 2)"""
    target_noise: float = 0.0
    """deviation of what is added to the target policy's actions (TD3: 0.2)"""
    target_noise_clip: float = 0.5
    """what is added is at most this large"""

    def __post_init__(self):
        super().__post_init__()
        require(self, ("policy_delay",), lambda x: x > 0, "must be above 0")
        require(self, ("target_noise", "target_noise_clip"), lambda x: x >= 0, "must be 0 or more")


def make_agent(config: Config, spec, network):
    """A policy and its critics."""
    from shoal.agents.ddpg import make_ddpg

    return make_ddpg(spec, network, config)


make_learner = replay_rounds.make_replay_learner


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    return run_replayed("ddpg", config, parts, state, visit)
