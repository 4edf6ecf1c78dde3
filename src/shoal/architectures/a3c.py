# SPDX-License-Identifier: Apache-2.0
"""A3C: actors learn themselves, from a few steps at a time, and nobody waits for anybody.

    envs --obs--> actor: unroll, gradient (n) ----GRAD----> parameter_server: params, moments, rule
                    ^                                          |
                    +------------------PARAM-------------------+

Each actor pulls the shared params, unrolls a few steps, computes the gradient of its own loss, clips it, and applies it
to the shared params with a rule whose second moment is shared too. No lock is held: on `processes` params lie in shared
memory and actors write to it side by side (Recht et al. 2011, Hogwild). Trajectories never leave their actor, params
lag behind by about the number of other actors, and each actor explores in its own way.

Mnih et al. 2016 (arXiv 1602.01783), with its value-based agents: one-step and n-step Q-learning, and Sarsa. Their
target params are a copy that each actor takes of what it pulls, whenever all actors together have gone on
`target_interval` steps: no other wire is needed, and no actor waits for another one's copy.

Wins where environments are slow or uneven and the network is small: it keeps every core busy without any queue. Loses
to A2C and PPO where one batch of all environments' steps costs little more than one of a few, and on accelerators.
"""

from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shoal.actors.notes import note_learnt
from shoal.actors.samplers import start
from shoal.agents.exploration import entropy_cost_of, epsilon_at, final_epsilon, followed_by
from shoal.architectures.base import ActorCriticConfig, Parts, keep, require
from shoal.engines import me, phase, system
from shoal.errors import ConfigError
from shoal.learners.host_rules import corrected, make_host_rule, pushable
from shoal.learners.schedule import make_schedule, scaled_rate

MUST_CROSS = ("GRAD actor>parameter_server", "PARAM parameter_server>actor")
MUST_NEVER_CROSS = ("TRAJ *>*", "TRANS *>*", "OBS *>*", "GRAD *>learner")
CARRIES_MEMORY = True


@dataclass(frozen=True, kw_only=True)
class Config(ActorCriticConfig):
    """Settings for A3C."""

    num_actors: int = 2
    """workers that collect and learn"""
    envs_per_actor: int = 1
    """environments stepped together by one actor"""
    unroll_length: int = 5
    """steps per gradient (t_max)"""
    trace_decay: float = 1.0
    """lambda: 0 trusts the value, 1 trusts the rewards"""
    optimiser: Literal["adam", "rmsprop", "momentum", "sgd"] = "rmsprop"
    """update rule, applied by actors to the shared params"""
    agent: Literal["actor_critic", "one_step_q", "n_step_q", "one_step_sarsa"] = "actor_critic"
    """what actors learn: a policy and a value, or what actions are worth"""
    shared_moments: bool = True
    """all actors use and change the rule's same moments; false: each has its own"""
    entropy_spread: float = 2.0
    """an actor's entropy_cost is drawn between its part and its multiple by this; 1: all have the same"""
    epsilon_steps: int = 100_000
    """env steps over which the share of random actions falls from 1 to each actor's final one (value-based agents)"""
    target_interval: int = 10_000
    """env steps of all actors after which targets are made with newer params (value-based agents)"""
    double_q: bool = False
    """let the newest params choose the action whose value the target's params give"""
    pushes_per_visit: int = 50
    """gradients between looks at how far the run is: at most some tens of looks a second are useful"""

    @property
    def values_actions(self) -> bool:
        """Whether the agent values actions, and explores by epsilon."""
        return self.agent != "actor_critic"

    @property
    def rows_per_step(self) -> int:
        """Rows of an actor's gradient."""
        return self.envs_per_actor * self.unroll_length

    def __post_init__(self):
        super().__post_init__()
        positive = ("epsilon_steps", "target_interval", "pushes_per_visit")
        require(self, positive, lambda x: x > 0, "must be above 0")
        require(self, ("entropy_spread",), lambda x: x >= 1, "must be 1 or more")
        for name in ("normalise_obs", "normalise_reward", "layer_norms"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name} needs a learner that sees all batches, a3c has none; use it with a2c, ppo or impala"
                )


def learns_in_workers(config: Config) -> bool:
    """Actors compute gradients."""
    return True


def make_agent(config: Config, spec, network):
    """Actor-critic whose entropy bonus is each actor's own, or values of actions."""
    if config.values_actions:
        from shoal.agents.action_values import asynchronous_values, make_action_values

        return make_action_values(spec, network, asynchronous_values, config)
    from shoal.agents.actor_critic import make_actor_critic
    from shoal.agents.objectives import explored_actor_critic

    return make_actor_critic(spec, network, explored_actor_critic, config)


def make_learner(config: Config, agent):
    """Gradients for actors, and the first params and moments."""
    from shoal.learners.pushing import make_pushing

    return make_pushing(
        agent, *rule_and_schedule(config), max_grad_norm=config.max_grad_norm,
        workers=None if config.shared_moments else config.num_actors, tail=Explorer(config, 0).learning,
    )  # fmt: skip


def rule_and_schedule(config: Config):
    """The rule that actors apply, and its step size by env_steps of all of them."""
    rate = scaled_rate(config.learning_rate, config.rows_per_step / config.reference_batch, config.batch_rule)
    return make_host_rule(config), make_schedule(rate, config.env_steps, anneal=config.anneal_learning_rate)


class Explorer:
    """What one actor adds to the shared params: how it explores, and params to make targets with."""

    def __init__(self, config: Config, index: int):
        self._config, self._interval = config, -1
        self._target = np.zeros(0, np.float32)
        self._entropy_cost = entropy_cost_of(config.entropy_cost, config.entropy_spread, config.seed, index)
        self._final_epsilon = final_epsilon(config.seed, index)

    def acting(self, params: np.ndarray, env_steps: int) -> np.ndarray:
        """[params | entropy cost or epsilon] when all actors together took so many steps."""
        if not self._config.values_actions:
            return followed_by(params, self._entropy_cost)
        return followed_by(params, epsilon_at(self._final_epsilon, env_steps, self._config.epsilon_steps))

    def learning(self, params: np.ndarray, env_steps: int) -> np.ndarray:
        """The same, and where targets need them, params not newer than the last multiple of the interval."""
        interval = env_steps // self._config.target_interval
        if interval != self._interval:
            self._target, self._interval = params, interval
        acting = self.acting(params, env_steps)
        return np.concatenate([acting, self._target]) if self._config.values_actions else acting


def act_and_learn(index: int, config: Config, parts: Parts, params):
    """One actor's life: pull, unroll, gradient, push."""
    rule, schedule = rule_and_schedule(config)
    explorer = Explorer(config, index)
    steps = params.version // config.num_actors  # as far as a run that goes on was before
    with closing(phase("start", start, index, config, parts, me().epoch)) as rollout:
        while True:
            pulled, version = params.pull()  # parameter_server > actor
            env_steps = params.samples
            trajectory = rollout.unroll(explorer.acting(pulled, env_steps), version, config.unroll_length)
            learning = explorer.learning(pulled, env_steps)
            grad, metrics = phase("gradient", parts.learner.gradient, learning, [trajectory])
            grad, metrics = pushable(grad[: pulled.size], metrics, config.max_grad_norm, version)
            steps += 1
            rate = schedule(params.samples)
            valid = int(np.count_nonzero(trajectory.valid))
            after = params.push(grad, version, corrected(rule, rate, steps), valid)  # actor > parameter_server
            note_learnt(trajectory, after - 1 - version, {**metrics, "learning_rate": rate, "sample_reuse": 1.0})


def run(config: Config, parts: Parts, state=None, visit=keep):
    """Train from `state`, or from the seed, until config.env_steps were taken; returns the last state."""
    state = parts.learner.init(config.seed) if state is None else state
    rule, _ = rule_and_schedule(config)
    moments = np.asarray(state.optimiser) if len(state.optimiser) else rule.moments
    with system("a3c", "parameter_server") as s:
        params = s.vector(
            "parameter_server", parts.learner.acting(state), rule, moments=moments, source="actor",
            version=state.version, samples=state.env_steps,
        )  # fmt: skip
        s.spawn("actor", config.num_actors, act_and_learn, config, parts, params)  # envs > actors
        while state.env_steps < config.env_steps:
            left = -(-(config.env_steps - state.env_steps) // config.rows_per_step)  # pushes to come, if all rows count
            pulled, version = params.pull(at_least=state.version + min(config.pushes_per_visit, left))
            updates = state.updates + version - state.version
            state = state._replace(
                params=pulled, optimiser=params.moments(), updates=updates, env_steps=params.samples, version=version
            )
            state = visit(state, [], {})
    return state
