# SPDX-License-Identifier: Apache-2.0
"""Rainbow: DQN with double Q-learning, dueling branches, distributions, n-step targets and prioritised replay together.

    envs --obs--> actor (n) ----TRANS----> replay ----BATCH----> learner
                    ^                        ^                    |  |
                    |                        +-------PRIO---------+  |
                    +------------------------PARAM-------------------+

DQN's rounds, and one more wire: how far off each row was goes back to the replay, which draws the worst more often.
Exploration is epsilon-greedy, as in Stooke & Abbeel 2018 (arXiv 1803.02811), and not by noisy layers.

Hessel et al. 2018 (arXiv 1710.02298). Wins over DQN in samples where rewards are rare or far apart. Loses in wall clock
where a network is small: distributions cost a larger head, priorities a search for each row.
"""

from dataclasses import dataclass
from typing import Literal

from shoal.architectures import replay_rounds
from shoal.architectures.base import Parts, keep
from shoal.architectures.replay_rounds import must_cross, must_never_cross, run_replayed
from shoal.architectures.replayed import ValueConfig

__all__ = ["Config", "make_agent", "make_learner", "must_cross", "must_never_cross", "run"]


@dataclass(frozen=True, kw_only=True)
class Config(ValueConfig):
    """Settings for Rainbow."""

    n_step: int = 3
    """rewards that a target adds up before it trusts the value"""
    priorities: Literal["none", "proportional"] = "proportional"
    """draw all rows alike, or in proportion to the size of their error"""
    priority_exponent: float = 0.5
    """alpha: rows are drawn in proportion to priority ** alpha; 0: all alike"""
    double_q: bool = True
    """let the newest params choose the action whose value the target's params give"""
    dueling: bool = True
    """a state's value and actions' advantages, from branches of their own"""
    atoms: int = 51
    """values are distributions over so many atoms; 0: they are plain means"""
    target_interval: int = 1_000
    """env steps after which targets are made with newer params; 0: no target network"""


make_agent, make_learner = replay_rounds.make_value_agent, replay_rounds.make_replay_learner


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    return run_replayed("rainbow", config, parts, state, visit)
