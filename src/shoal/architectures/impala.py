# SPDX-License-Identifier: Apache-2.0
"""IMPALA: actors never wait for the learner, and V-trace corrects for how old their params were.

    envs --obs--> actor (n) ----TRAJ----> [queue] ----> learner
                    ^                                     |
                    +----------------PARAM----------------+

Each actor takes the newest params, unrolls, and puts the trajectory into a short queue; it waits only when the queue is
full. The learner takes batches in order of arrival, steps once and publishes. Lag is above 0 and bounded: trajectories
more than `max_lag` versions old are dropped and counted. Gradients, transitions and observations never cross.

Espeholt et al. 2018 (arXiv 1802.01561). Wins when environment steps are slow or uneven and the network is large.
Loses to A2C and PPO when one even-paced vector environment already fills the machine: lag then buys nothing.
"""

from dataclasses import dataclass
from typing import Literal

from shoal.actors.asynchronous import act_freely
from shoal.architectures.base import ActorCriticConfig, Parts, keep, make_learner_parts, require
from shoal.engines import phase, system
from shoal.errors import ConfigError

MUST_CROSS = ("TRAJ actor>learner", "PARAM learner>actor")
MUST_NEVER_CROSS = ("GRAD actor>*", "TRANS *>*", "OBS *>*")
CARRIES_MEMORY = True


@dataclass(frozen=True, kw_only=True)
class Config(ActorCriticConfig):
    """Settings for IMPALA."""

    num_actors: int = 2
    """collecting workers"""
    unroll_length: int = 20
    """steps per trajectory (T)"""
    batch_trajectories: int = 2
    """actor trajectories per update: B = batch_trajectories * envs_per_actor"""
    queue_slots: int = 2
    """trajectories waiting at most; more hides stalls and adds lag"""
    max_lag: int = 100
    """trajectories collected under params older than this many versions are dropped"""
    correction: Literal["vtrace", "none"] = "vtrace"
    """none fixes every ratio at 1: an ablation"""
    max_ratio: float = 1.0
    """rho-bar: limit on a step's own correction"""
    max_trace: float = 1.0
    """c-bar: limit on how far corrections travel back"""
    forced_lag: int = 0
    """actors are held back this many versions, for studies of staleness"""

    def __post_init__(self):
        super().__post_init__()
        require(self, ("batch_trajectories", "queue_slots"), lambda x: x > 0, "must be above 0")
        require(self, ("max_ratio", "max_trace"), lambda x: x > 0, "must be above 0")
        require(self, ("forced_lag", "max_lag"), lambda x: x >= 0, "must be 0 or more")
        if self.max_lag < self.forced_lag:
            raise ConfigError(
                f"max_lag={self.max_lag} would drop all that forced_lag={self.forced_lag} delays; raise --max-lag"
            )


def make_agent(config: Config, spec, network):
    """Actor-critic on V-trace targets."""
    from shoal.agents.actor_critic import make_actor_critic
    from shoal.agents.objectives import off_policy_actor_critic

    return make_actor_critic(spec, network, off_policy_actor_critic, config)


def make_learner(config: Config, agent):
    """One gradient step per batch."""
    from shoal.learners.single import make_single

    return make_single(agent, *make_learner_parts(config))


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were received; returns the last state."""
    state = parts.learner.init(config.seed) if state is None else state
    with system("impala", "learner") as s:
        acting = parts.learner.acting(state)
        params = s.store("PARAM", "learner", acting, version=state.version, keep=config.forced_lag + 1)
        trajectories = s.channel(
            "TRAJ", "actor", "learner", config.queue_slots, versions=params, max_lag=config.max_lag
        )
        s.spawn("actor", config.num_actors, act_freely, config, parts, params, trajectories)  # envs > actors
        while state.env_steps < config.env_steps:
            batch = trajectories.get(config.batch_trajectories)  # actors > learner
            state, metrics = phase("update", parts.learner.update, state, batch)
            params.publish(phase("publish", parts.learner.acting, state))  # learner > actors
            state = visit(state, batch, metrics)
    return state
