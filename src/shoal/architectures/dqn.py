# SPDX-License-Identifier: Apache-2.0
"""DQN: actors fill a replay memory, and the learner takes Q-learning steps on minibatches drawn from it.

    envs --obs--> actor (n) ----TRANS----> replay ----BATCH----> learner
                    ^                                               |
                    +----------------------PARAM--------------------+

In rounds: every actor unrolls under the newest params, the replay draws `replay_ratio` rows for each that it got, and
the learner takes its steps and publishes. Targets come from params renewed every `target_interval` env steps;
0 is the form of 2013, without. Double Q-learning, dueling branches, n-step targets and distributions are settings.

Mnih et al. 2013 (arXiv 1312.5602), 2015 (Nature 518). Wins in samples where a step of the environment is dear, since
each is learnt from many times. Loses to PPO in wall clock where steps are cheap.
"""

from dataclasses import dataclass

from shoal.architectures.base import Parts, keep
from shoal.architectures.replay_rounds import make_value_agent
from shoal.architectures.replayed import ValueConfig
from shoal.architectures.replayed_apart import (
    SeveralLearners,
    learns_in_workers,
    make_learner,
    must_cross,
    must_never_cross,
    run_several,
)

__all__ = ["Config", "learns_in_workers", "make_agent", "make_learner", "must_cross", "must_never_cross", "run"]


@dataclass(frozen=True, kw_only=True)
class Config(ValueConfig, SeveralLearners):
    """Settings for DQN."""

    target_interval: int = 1_000
    """env steps after which targets are made with newer params; 0: no target network"""


make_agent = make_value_agent


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    return run_several("dqn", config, parts, state, visit)
