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

from shoal.actors.asynchronous import act_freely
from shoal.architectures.base import Parts, keep, make_learner_parts
from shoal.architectures.queued import QueuedConfig
from shoal.engines import phase, system

MUST_CROSS = ("TRAJ actor>learner", "PARAM learner>actor")
MUST_NEVER_CROSS = ("GRAD actor>*", "TRANS *>*", "OBS *>*")
CARRIES_MEMORY = True


@dataclass(frozen=True, kw_only=True)
class Config(QueuedConfig):
    """Settings for IMPALA."""


def make_agent(config: Config, spec, network):
    """Actor-critic on V-trace targets."""
    from shoal.agents.actor_critic import make_actor_critic
    from shoal.agents.objectives import off_policy_actor_critic

    return make_actor_critic(spec, network, off_policy_actor_critic, config)


def make_learner(config: Config, agent):
    """One gradient step per batch."""
    from shoal.learners.single import make_single

    return make_single(agent, *make_learner_parts(config, agent))


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
