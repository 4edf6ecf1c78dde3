# SPDX-License-Identifier: Apache-2.0
"""APPO, RLlib's form: IMPALA's flow, PPO's clipped surrogate on V-trace targets and advantages.

    envs --obs--> actor (n) ----TRAJ----> [queue] ----> learner: epochs x minibatches
                    ^                                     |
                    +----------------PARAM----------------+

Actors take the newest params, unroll, and wait only while the queue is full. The learner corrects a batch with V-trace
when it arrives and then takes epochs * minibatches clipped steps on it before it publishes once. Lag is above 0 and
bounded by `max_lag`. Gradients, transitions and observations never cross.

RLlib (Liang et al. 2018, arXiv 1712.09381). It is not the APPO of multi-GPU samplers (Stooke & Abbeel 2018), where
each learner owns its samplers and only chunks of gradients cross: that is `ppo` with optimisation async_skip.
Wins over IMPALA where samples are dear, since each is trained on several times, and over PPO where environments are
slow or uneven. Loses to PPO where one even-paced vector environment fills the machine: lag then buys nothing.
"""

from dataclasses import dataclass

from shoal.actors.asynchronous import act_freely
from shoal.architectures.base import Parts, keep, make_learner_parts, require
from shoal.architectures.queued import QueuedConfig
from shoal.engines import phase, system
from shoal.errors import ConfigError

MUST_CROSS = ("TRAJ actor>learner", "PARAM learner>actor")
MUST_NEVER_CROSS = ("GRAD actor>*", "TRANS *>*", "OBS *>*")
CARRIES_MEMORY = True


@dataclass(frozen=True, kw_only=True)
class Config(QueuedConfig):
    """Settings for APPO."""

    unroll_length: int = 64
    """steps per trajectory (T)"""
    normalise_advantage: bool = True
    """shift and scale advantages to mean 0, deviation 1 in each minibatch"""
    epochs: int = 2
    """passes over each batch"""
    minibatches: int = 2
    """gradient steps per pass"""
    clip: float = 0.2
    """how far the probability ratio may move before its gain stops counting"""

    @property
    def rows_per_step(self) -> int:
        """Rows of a minibatch."""
        return super().rows_per_step // self.minibatches

    def __post_init__(self):
        super().__post_init__()
        require(self, ("epochs", "minibatches", "clip"), lambda x: x > 0, "must be above 0")
        rows = self.batch_trajectories * self.envs_per_actor * self.unroll_length
        if self.minibatches > rows:
            raise ConfigError(
                f"minibatches={self.minibatches} is more than the {rows} rows of a batch (batch_trajectories * "
                "envs_per_actor * unroll_length); lower --minibatches"
            )


def make_agent(config: Config, spec, network):
    """Actor-critic on the clipped surrogate of V-trace advantages."""
    from shoal.agents.actor_critic import make_actor_critic
    from shoal.agents.objectives import off_policy_surrogate

    return make_actor_critic(spec, network, off_policy_surrogate, config)


def make_learner(config: Config, agent):
    """Epochs of shuffled minibatches over each batch."""
    from shoal.learners.minibatch import make_minibatch

    environments = config.batch_trajectories * config.envs_per_actor
    if agent.recurrent and config.minibatches > environments:
        raise ConfigError(
            f"minibatches={config.minibatches} cannot be cut from the {environments} environments of a batch: where "
            "memory is carried an environment's rows stay together; lower --minibatches or raise --batch-trajectories"
        )
    optimiser, schedule = make_learner_parts(config, agent)
    return make_minibatch(
        agent, optimiser, schedule, epochs=config.epochs, minibatches=config.minibatches, seed=config.seed
    )


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were received; returns the last state."""
    state = parts.learner.init(config.seed) if state is None else state
    with system("appo", "learner") as s:
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
