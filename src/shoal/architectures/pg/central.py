# SPDX-License-Identifier: Apache-2.0
"""Steps a and b: actors play, all else is central; in b returns are made by who earned them.

    envs --obs--> actor: episodes, b: returns (n) ----TRAJ----> learner: a: returns; gradient, step
                    ^                                              |
                    +-----------------PARAM, baseline--------------+

Every iteration the learner waits for all actors and they for it: lag is exactly 0.
"""

from contextlib import closing

from shoal.actors.episodes import start_episodes
from shoal.agents.lessons import PolicyLesson, rewards_to_go
from shoal.engines import me, phase, system


def play(index, config, parts, params, trajectories):
    """One actor's life: wait for the next version, play, hand over."""
    with closing(phase("start", start_episodes, index, config, parts, me().epoch)) as rollout:
        version = -1
        while True:
            acting, version = params.pull(at_least=version + 1)
            made = rollout.episodes(acting, version, config.unroll_length, config.episode_limit)
            returns = phase("returns", rewards_to_go, config, made) if config.step == "b" else ()
            trajectories.put(PolicyLesson(made, returns), version)


def run(config, parts, state, visit):
    """Train from `state` until config.env_steps were received; returns the last state."""
    with system("pg", "learner") as s:
        params = s.store("PARAM", "learner", parts.learner.acting(state), version=state.version)
        trajectories = s.channel("TRAJ", "actor", "learner", config.num_actors, versions=params, max_lag=0)
        s.spawn("actor", config.num_actors, play, config, parts, params, trajectories)  # envs > actors
        while state.env_steps < config.env_steps:
            batch = trajectories.get(config.num_actors, by_sender=True)  # actors > learner
            if config.step == "a":
                made = [lesson.trajectory for lesson in batch]
                batch = [PolicyLesson(one, phase("returns", rewards_to_go, config, one)) for one in made]
            shares = [phase("gradient", parts.learner.share, state.params, lesson) for lesson in batch]
            state, metrics = phase("update", parts.learner.pool, state, shares)
            params.publish(phase("publish", parts.learner.acting, state))  # learner > actors
            state = visit(state, [lesson.trajectory for lesson in batch], metrics)
    return state
