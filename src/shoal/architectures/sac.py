# SPDX-License-Identifier: Apache-2.0
"""SAC: a policy that goes uphill on the value of its actions and on their entropy, learnt from a replay memory.

    envs --obs--> actor (n) ----TRANS----> replay ----BATCH----> learner: critics, policy, temperature
                    ^                                               |
                    +----------------------PARAM--------------------+

DQN's rounds for actions that are real numbers. The policy is drawn from, so it explores by itself; of two critics the
lower is trusted; the temperature, entropy's weight beside reward, is learnt so that entropy stays near a target.

Haarnoja et al. 2018 (arXiv 1801.01290, 1812.05905). Wins over PPO in samples and over DDPG in how far settings carry
over. Loses in wall clock where steps are cheap: each gradient step asks three networks.
"""

from dataclasses import dataclass

from shoal.architectures import replay_rounds
from shoal.architectures.base import Parts, keep, require
from shoal.architectures.replay_rounds import must_cross, must_never_cross, run_replayed
from shoal.architectures.replayed import ControlConfig

__all__ = ["Config", "make_agent", "make_learner", "must_cross", "must_never_cross", "run"]


@dataclass(frozen=True, kw_only=True)
class Config(ControlConfig):
    """Settings for SAC."""

    exploration_noise: float = 0.0
    """deviation of what is added to actions; the policy explores without"""
    temperature: float = 1.0
    """weight of entropy beside reward at the start"""
    learn_temperature: bool = True
    """let the weight follow entropy, so that it stays near its target"""
    target_entropy: float | None = None
    """nats; none: minus the number of action dimensions"""

    def __post_init__(self):
        super().__post_init__()
        require(self, ("temperature",), lambda x: x > 0, "must be above 0")


def make_agent(config: Config, spec, network):
    """A policy, two critics and a temperature."""
    from shoal.agents.sac import make_sac

    return make_sac(spec, network, config)


make_learner = replay_rounds.make_replay_learner


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    return run_replayed("sac", config, parts, state, visit)
