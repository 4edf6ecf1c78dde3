# SPDX-License-Identifier: Apache-2.0
"""NAF: Q-learning for actions that are real numbers, by a value that falls off quadratically around its best action.

    envs --obs--> actor (n) ----TRANS----> replay ----BATCH----> learner
                    ^                                               |
                    +----------------------PARAM--------------------+

One network gives the state's value, the best action and how steeply others are worse, so the maximum is known without a
policy beside it. `realtime` is the form of the robots that learnt to open a door together: every collector at its own
pace, params taken when an episode begins, one learner that goes on meanwhile.

Gu et al. 2016 (arXiv 1603.00748), 2017 (arXiv 1610.00633). Wins where one network should do, as on robots. Loses to
DDPG and SAC where the best action is not one place with everything falling off around it.
"""

from dataclasses import dataclass

from shoal.architectures import replay_rounds
from shoal.architectures.base import Parts, keep
from shoal.architectures.replay_rounds import must_cross, must_never_cross, run_replayed
from shoal.architectures.replayed import ControlConfig

__all__ = ["Config", "make_agent", "make_learner", "must_cross", "must_never_cross", "run"]


@dataclass(frozen=True, kw_only=True)
class Config(ControlConfig):
    """Settings for NAF."""


def make_agent(config: Config, spec, network):
    """Values that are quadratic in the action."""
    from shoal.agents.naf import make_naf

    return make_naf(spec, network, config)


make_learner = replay_rounds.make_replay_learner


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    return run_replayed("naf", config, parts, state, visit)
