# SPDX-License-Identifier: Apache-2.0
"""A2C: actors in lock-step, one gradient step per batch, and everyone waits for everyone.

    envs --obs--> actor (n) ----TRAJ----> learner
                    ^                        |
                    +--------PARAM-----------+

Each actor unrolls its environments under params of version k and waits for version k+1; the learner waits for all n
trajectories, takes one step and publishes. Lag is exactly 0. Gradients and transitions never cross.

Mnih et al. 2016 (arXiv 1602.01783) made synchronous; Stooke & Abbeel 2018 (arXiv 1803.02811).
Wins when environments step at one even pace and the network is small. Loses to IMPALA when one slow environment
makes all others wait, and to PPO in samples needed, since each sample is used once.
"""

from dataclasses import dataclass

from shoal.actors.synchronous import act_ahead, act_in_step
from shoal.architectures import learners_apart
from shoal.architectures.base import Parts, keep, make_learner_parts
from shoal.architectures.joint import run_joint
from shoal.architectures.optimisation import OptimisationConfig, make_spread
from shoal.engines import phase, system

MUST_CROSS = ("TRAJ actor>learner", "PARAM learner>actor")
MUST_NEVER_CROSS = ("GRAD actor>*", "TRANS *>*")
CARRIES_MEMORY = True


def must_cross(config):
    """By how learners work together."""
    return learners_apart.MUST_CROSS if config.apart else MUST_CROSS


def must_never_cross(config):
    """By how learners work together."""
    return learners_apart.MUST_NEVER_CROSS if config.apart else MUST_NEVER_CROSS


def learns_in_workers(config):
    """Learners are workers where they are apart."""
    return config.apart


@dataclass(frozen=True, kw_only=True)
class Config(OptimisationConfig):
    """Settings for A2C."""


def make_agent(config: Config, spec, network):
    """Actor-critic on generalised advantages."""
    from shoal.agents.actor_critic import make_actor_critic
    from shoal.agents.objectives import actor_critic

    return make_actor_critic(spec, network, actor_critic, config)


def make_learner(config: Config, agent):
    """One gradient step per batch."""
    from shoal.learners.single import make_single

    if config.apart:
        return learners_apart.make_learner_apart(config, agent)
    return make_single(agent, *make_learner_parts(config, agent), make_spread(config))


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were received; returns the last state."""
    if config.apart:
        return learners_apart.learn_apart("a2c", config, parts, state, visit)
    state = parts.learner.init(config.seed) if state is None else state
    if config.learner_processes > 1:
        return run_joint("a2c", act_in_step, config, parts, state, visit)
    with system("a2c", "learner") as s:
        acting = parts.learner.acting(state)
        params = s.store("PARAM", "learner", acting, version=state.version)
        gradients = s.reduction("GRAD", "learner", parts.learner.devices, acting, made=state.updates)
        act, max_lag = (act_ahead, 1) if config.sampler == "async" else (act_in_step, 0)
        trajectories = s.channel("TRAJ", "actor", "learner", config.all_actors, versions=params, max_lag=max_lag)
        s.spawn("actor", config.all_actors, act, config, parts, params, trajectories)  # envs > actors
        while state.env_steps < config.env_steps:
            batch = trajectories.get(config.trajectories_per_update, by_sender=True)  # actors > learner
            state, metrics = phase("update", parts.learner.update, state, batch)
            gradients.reached(state.updates)  # learners > learners
            params.publish(phase("publish", parts.learner.acting, state))  # learner > actors
            state = visit(state, batch, metrics)
    return state
