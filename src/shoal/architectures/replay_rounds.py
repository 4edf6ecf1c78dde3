# SPDX-License-Identifier: Apache-2.0
"""The flow of architectures that learn from a replay memory beside their actors: dqn, rainbow, ddpg, naf, sac.

    envs --obs--> actor (n) ----TRANS----> replay ----BATCH----> learner
                    ^                        ^                    |  |
                    |                        +-------PRIO---------+  |
                    +------------------------PARAM-------------------+

A round is an unroll of every actor under the newest params; the replay keeps it, and draws as many minibatches as
`replay_ratio` allows for it; the learner takes a step on each, then publishes. Nobody is ahead: lag is 0 when rows
arrive, whatever their age when they are drawn. Priorities come back before the next minibatches are drawn.

In real time there are no rounds: collectors go on at their environments' pace, the learner as far as the ratio allows.
"""

from typing import Any

import numpy as np

from shoal.actors.transitions import act_by_episode, transitions_ahead, transitions_in_step
from shoal.agents.exploration import followed_by
from shoal.architectures.base import Parts, make_learner_parts
from shoal.architectures.replayed import ReplayConfig, ValueConfig, since
from shoal.engines import phase, system
from shoal.replay.role import Drawn, remember_freely, remember_in_step
from shoal.types import Batch, Sequences

MUST_CROSS = ("TRANS actor>replay", "BATCH replay>learner", "PARAM learner>actor")
MUST_NEVER_CROSS = ("GRAD actor>*", "TRAJ *>*", "OBS *>*")


def must_cross(config: ReplayConfig) -> tuple[str, ...]:
    """Priorities only where something is made of them."""
    return MUST_CROSS if config.priorities == "none" else (*MUST_CROSS, "PRIO learner>replay")


def must_never_cross(_config: ReplayConfig) -> tuple[str, ...]:
    """The same for all settings."""
    return MUST_NEVER_CROSS


def make_value_agent(config: ValueConfig, spec: Any, network: Any) -> Any:
    """Values of actions, learnt from transitions. Imports JAX."""
    from shoal.agents.dqn import make_dqn

    return make_dqn(spec, network, config)


def make_replay_learner(config: ReplayConfig, agent: Any) -> Any:
    """A gradient step for each minibatch. Imports JAX."""
    from shoal.learners.replayed import make_replayed

    return make_replayed(agent, *make_learner_parts(config, agent), config)


def run_replayed(name: str, config: ReplayConfig, parts: Parts, state: Any, visit: Any) -> Any:
    """Train from `state`, or from the seed, until config.env_steps were remembered; returns the last state."""
    state = parts.learner.init(config.seed) if state is None else state
    return (run_realtime if config.realtime else run_in_step)(name, config, parts, state, visit)


def run_in_step(name: str, config: ReplayConfig, parts: Parts, state: Any, visit: Any) -> Any:
    """Rounds: nobody is ahead of anybody, or actors are by one unroll (sampler=async)."""
    with system(name, "learner") as s:
        flat = acting(config, parts, state)
        params = s.store("PARAM", "learner", flat, version=state.version)
        gradients = s.reduction("GRAD", "learner", parts.learner.devices, flat[:-1], made=state.updates)
        act, max_lag = (transitions_ahead, 1) if config.sampler == "async" else (transitions_in_step, 0)
        transitions = s.channel("TRANS", "actor", "replay", config.all_actors, versions=params, max_lag=max_lag)
        batches = s.channel("BATCH", "replay", "learner", 1)
        priorities = s.channel("PRIO", "learner", "replay", 1) if config.priorities != "none" else None
        remembered = config, parts.without_network, transitions, batches, priorities, since(parts, state)
        s.spawn("replay", 1, remember_in_step, *remembered)
        s.spawn("actor", config.all_actors, act, config, parts, params, transitions)  # envs > actors
        while state.env_steps < config.env_steps:
            metrics = {}
            while (drawn := batches.get()[0]).batch:  # replay > learner
                state, metrics = learn_from(parts, state, drawn, priorities)
            gradients.reached(state.updates)  # learners > learners
            state = state._replace(env_steps=state.env_steps + drawn.fresh)
            version = params.publish(phase("publish", acting, config, parts, state))  # learner > actors
            state = visit(state._replace(version=version), [], metrics | drawn.metrics)
    return state


def run_realtime(name: str, config: ReplayConfig, parts: Parts, state: Any, visit: Any) -> Any:
    """Collectors at their own pace, and a learner that goes on meanwhile."""
    with system(name, "learner") as s:
        params = s.store("PARAM", "learner", acting(config, parts, state), version=state.version)
        transitions = s.channel("TRANS", "actor", "replay", config.all_actors, versions=params)
        batches = s.channel("BATCH", "replay", "learner", 1)
        told = {"capacity": 2, "when_full": "drop_oldest"}  # priorities that are late are worth little
        priorities = s.channel("PRIO", "learner", "replay", **told) if config.priorities != "none" else None
        remembered = config, parts.without_network, transitions, batches, priorities, since(parts, state)
        s.spawn("replay", 1, remember_freely, *remembered)
        s.spawn("actor", config.all_actors, act_by_episode, config, parts, params, transitions)  # envs > actors
        while state.env_steps < config.env_steps:
            state, metrics = learn_from(parts, state, batches.get()[0], priorities)  # replay > learner
            version = params.publish(phase("publish", acting, config, parts, state))  # learner > actors
            state = visit(state._replace(version=version), [], metrics)
    return state


def learn_from(parts: Parts, state: Any, drawn: Drawn, priorities: Any) -> tuple[Any, dict]:
    """A step on each minibatch of a message; (state, metrics)."""
    assert isinstance(drawn.batch, Batch | Sequences)
    env_steps = state.env_steps + drawn.fresh  # and not what a replay that was started anew knows of
    state, errors, metrics = phase("update", parts.learner.learn, state, drawn.batch, env_steps)
    if priorities is not None:
        priorities.put((drawn.batch.key, errors))  # learner > replay
    rows = drawn.batch.steps if isinstance(drawn.batch, Sequences) else drawn.batch
    age = float(state.version - np.mean(rows.version))
    return state, metrics | drawn.metrics | {"replay_age_mean": age}


def acting(config: ReplayConfig, parts: Parts, state: Any) -> Any:
    """Params that actors act with: the network's, and how they explore."""
    return followed_by(parts.learner.acting(state), config.explores_by(state.env_steps))
