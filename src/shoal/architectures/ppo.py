# SPDX-License-Identifier: Apache-2.0
"""PPO: actors in lock-step, several passes of clipped minibatch steps over each batch.

    envs --obs--> actor (n) ----TRAJ----> learner: epochs x minibatches
                    ^                        |
                    +--------PARAM-----------+

The data flow is A2C's, and so is the lag of exactly 0; the learner takes epochs * minibatches steps on one batch
before it publishes once, which reuses each sample `epochs` times.

Schulman et al. 2017 (arXiv 1707.06347). Wins in samples needed and in robustness, and where updates are cheap beside
environment steps. Loses to IMPALA where the environment is slow or uneven, and to A2C where the network is the
bottleneck, since every sample is trained on several times.
"""

from dataclasses import dataclass

from shoal.actors.synchronous import act_ahead, act_in_step
from shoal.architectures import learners_apart
from shoal.architectures.base import Parts, keep, make_learner_parts, require
from shoal.architectures.joint import run_joint
from shoal.architectures.optimisation import OptimisationConfig, make_spread
from shoal.engines import phase, system
from shoal.errors import ConfigError

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
    """Settings for PPO."""

    unroll_length: int = 128
    """steps per trajectory (T)"""
    normalise_advantage: bool = True
    """shift and scale advantages to mean 0, deviation 1 in each minibatch"""
    epochs: int = 4
    """passes over each batch"""
    minibatches: int = 4
    """gradient steps per pass"""
    clip: float = 0.2
    """how far the probability ratio may move before its gain stops counting"""
    skip_batches: int = 1
    """batches that a learner trains on alone before it merges what came of it (async_skip)"""

    @property
    def steps_per_batch(self) -> int:
        """Gradient steps on a batch."""
        return self.epochs * self.minibatches

    @property
    def passes(self) -> int:
        """How often each row of a batch is used."""
        return self.epochs

    @property
    def rows_per_step(self) -> int:
        """Rows of a minibatch."""
        return super().rows_per_step // self.minibatches

    def __post_init__(self):
        super().__post_init__()
        require(self, ("epochs", "minibatches", "clip"), lambda x: x > 0, "must be above 0")
        rows = self.learner_envs * self.unroll_length
        if self.minibatches > rows:
            raise ConfigError(
                f"minibatches={self.minibatches} is more than the {rows} rows of a learner's batch (its environments * "
                "unroll_length); lower --minibatches"
            )


def make_agent(config: Config, spec, network):
    """Actor-critic on the clipped surrogate."""
    from shoal.agents.actor_critic import make_actor_critic
    from shoal.agents.objectives import surrogate

    return make_actor_critic(spec, network, surrogate, config)


def make_learner(config: Config, agent):
    """Epochs of shuffled minibatches over each batch."""
    from shoal.learners.minibatch import make_minibatch, minibatches_of

    if agent.recurrent and config.minibatches > config.learner_envs:
        raise ConfigError(
            f"minibatches={config.minibatches} cannot be cut from {config.learner_envs} environments: where memory is "
            "carried an environment's rows stay together; lower --minibatches or raise --envs-per-actor"
        )
    steps = {"epochs": config.epochs, "minibatches": config.minibatches, "seed": config.seed}
    if config.apart:
        return learners_apart.make_learner_apart(config, agent, minibatches_of(**steps))
    return make_minibatch(agent, *make_learner_parts(config, agent), **steps, spread=make_spread(config))


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were received; returns the last state."""
    if config.apart:
        return learners_apart.learn_apart("ppo", config, parts, state, visit)
    state = parts.learner.init(config.seed) if state is None else state
    if config.learner_processes > 1:
        return run_joint("ppo", act_in_step, config, parts, state, visit)
    with system("ppo", "learner") as s:
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
