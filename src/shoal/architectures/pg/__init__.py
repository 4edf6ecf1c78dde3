# SPDX-License-Identifier: Apache-2.0
"""Policy gradient in six steps: what moves out to the workers next, and what then crosses.

    step   episodes   returns   gradient    critic   crosses                          who waits
    a      actor      learner   learner     -        TRAJ >, PARAM <                  all, each iteration
    b      actor      actor     learner     -        TRAJ with returns >, PARAM <     all, each iteration
    c      actor      actor     actor       -        GRAD >, PARAM <                  all, each iteration
    d      actor      actor     actor       actor    GRAD > and PARAM < twice         all, twice each iteration
    e      actor      actor     actor       actor    GRAD > and PARAM < twice         nobody: a parameter server
    f      actor      actor     actor       actor    the same, on a few steps         nobody

Steps a to e learn from whole episodes: each iteration every environment plays one from its beginning to its end under
the params of one version. How many there are doesn't depend on how long they take, so the gradient is not biased
towards short ones, and nothing is carried over to other params. Who is through early waits. Episodes of more than
`episode_limit` steps are cut there; then rewards up to there are what is maximised. Step f learns from a few steps at a
time, whose end the critic values.

Sums are over rows and are divided once by the number of all of them, so steps a, b and c make the same params. Their
baseline is the mean of rewards to go over the iteration before: it is fixed for an iteration and travels at the end of
the params, where a mean of each worker's own would make c another algorithm. From d on a critic takes its place: it is
fitted, by a step on the sum of all workers' gradients, before the policy's gradient uses it.

Levine 2017 (CS294-112, lecture "Parallelism in RL"); Williams 1992 (REINFORCE). a is simplest; b and c pay where
returns or gradients cost more than they weigh; d's two barriers are what e removes, and f is A3C with its two gradients
apart. Wins as an explanation; loses to A2C and PPO in samples up to step c, for want of a critic.
"""

from dataclasses import dataclass, replace
from typing import Literal

from shoal.architectures.base import ActorCriticConfig, Parts, keep, require
from shoal.architectures.sampling import ELSEWHERE
from shoal.errors import ConfigError

CARRIES_MEMORY = True


@dataclass(frozen=True, kw_only=True)
class Config(ActorCriticConfig):
    """Settings for PG."""

    step: Literal["a", "b", "c", "d", "e", "f"] = "a"
    """what the workers do: a only play, b returns too, c gradients too, d a critic too, e without waiting, f on a few
    steps at a time"""
    num_actors: int = 2
    """workers that play"""
    envs_per_actor: int = 4
    """environments stepped together by one actor, and episodes of each in an iteration"""
    unroll_length: int = 32
    """a to e: rows that an iteration begins with, doubled until the longest episode fits; f: steps per gradient"""
    episode_limit: int = 2_000
    """a to e: steps after which an episode is cut"""
    critic_rate: float = 2.0
    """d to f: the critic's step size in multiples of learning_rate"""
    pushes_per_visit: int = 16
    """e, f: gradients between looks at how far the run is: at most some tens of looks a second are useful"""

    samplers = ELSEWHERE

    @property
    def has_critic(self) -> bool:
        """Whether values, and not a plain baseline, are taken from returns."""
        return self.step in "def"

    def __post_init__(self):
        super().__post_init__()
        require(self, ("episode_limit", "critic_rate", "pushes_per_visit"), lambda x: x > 0, "must be above 0")
        for name in ("normalise_obs", "normalise_reward", "normalise_advantage", "layer_norms"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name} needs a learner that sees all rows, pg sums what workers send; use it with a2c"
                )
        if self.decorrelate:
            raise ConfigError("decorrelate is not for pg, which plays episodes from their beginning; leave it out")


def learns_in_workers(config: Config) -> bool:
    """Actors compute gradients from step c on."""
    return config.step in "cdef"


def must_cross(config: Config) -> tuple[str, ...]:
    """Messages that cross, by step."""
    if config.step in "ab":
        return ("TRAJ actor>learner", "PARAM learner>actor")
    centre = "learner" if config.step in "cd" else "parameter_server"
    return (f"GRAD actor>{centre}", f"PARAM {centre}>actor")


def must_never_cross(config: Config) -> tuple[str, ...]:
    """Messages that never do."""
    return ("GRAD *>*", "TRANS *>*", "OBS *>*") if config.step in "ab" else ("TRAJ *>*", "TRANS *>*", "OBS *>*")


def make_agent(config: Config, spec, network):
    """A policy with a plain baseline at the end of its params, or with a critic."""
    from shoal.agents.actor_critic import make_actor_critic
    from shoal.agents.exploration import followed_by
    from shoal.agents.policy_gradient import lessons

    agent = make_actor_critic(spec, network, lessons, config)
    return agent if config.has_critic else replace(agent, init=lambda seed: followed_by(agent.init(seed), 0.0))


def make_learner(config: Config, agent):
    """Shares of gradients, and steps of their sums."""
    from shoal.learners.host_rules import make_host_rule
    from shoal.learners.shares import make_sharing

    return make_sharing(agent, make_host_rule(config), schedules_of(config), config)


def schedules_of(config: Config):
    """Step sizes of policy and critic by env_steps."""
    from shoal.learners.schedule import make_schedule, scaled_rate

    rate = scaled_rate(config.learning_rate, config.rows_per_step / config.reference_batch, config.batch_rule)
    settings = {"env_steps": config.env_steps, "anneal": config.anneal_learning_rate}
    policy = {"policy": make_schedule(rate, **settings)}
    return policy | ({"critic": make_schedule(rate * config.critic_rate, **settings)} if config.has_critic else {})


def flow(config: Config):
    """The module that wires a step; its docstring draws it."""
    from shoal.architectures.pg import asynchronous, central, gradients

    return {"a": central, "b": central, "c": gradients, "d": gradients}.get(config.step, asynchronous)


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were received; returns the last state."""
    return flow(config).run(config, parts, parts.learner.init(config.seed) if state is None else state, visit)
