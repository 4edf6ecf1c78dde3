# SPDX-License-Identifier: Apache-2.0
"""A2C's flow around DQN's agent, as a module: learner processes make their own agent by its name."""

from shoal.agents.dqn import make_dqn
from shoal.architectures.a2c import MUST_CROSS, MUST_NEVER_CROSS, Config, make_learner, run
from shoal.architectures.dqn import Config as Settings

__all__ = ["MUST_CROSS", "MUST_NEVER_CROSS", "Config", "make_agent", "make_learner", "run"]
MUST_CROSS = (*MUST_CROSS, "GRAD learner>learner")


def make_agent(config, spec, network):
    """The agent that every other scheme trains."""
    return make_dqn(spec, network, Settings(discount=config.discount))
