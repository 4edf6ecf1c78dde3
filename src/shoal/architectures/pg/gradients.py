# SPDX-License-Identifier: Apache-2.0
"""Steps c and d: actors compute gradients, which are summed and applied centrally; in d first the critic's.

    envs --obs--> actor: episodes, returns, gradient (n) ----GRAD----> learner: sum, step
                    ^                                                     |
                    +--------------------PARAM, baseline------------------+

    envs --obs--> actor: episodes, critic's gradient (n) ----GRAD----> learner: sum, step      barrier 1
                    |                                                     |
                  actor: policy's gradient  <------PARAM: critic fitted---+
                    |
                    +----------------------------------------GRAD----> learner: sum, step      barrier 2
                    ^                                                     |
                    +--------------------PARAM----------------------------+

Trajectories stay with their actor. Lag is exactly 0 at each barrier: a gradient is of the params that it is applied to.
"""

from contextlib import closing

from shoal.actors.episodes import start_episodes
from shoal.actors.notes import note_learnt
from shoal.agents.lessons import CriticLesson, PolicyLesson, rewards_to_go
from shoal.engines import me, phase, system


def play_and_share(index, config, parts, params, gradients):
    """One actor's life: wait for the next version, play, hand over its share of every gradient."""
    share = parts.learner.share
    with closing(phase("start", start_episodes, index, config, parts, me().epoch)) as rollout:
        version = -1
        while True:
            acting, version = params.pull(at_least=version + 1)
            made = rollout.episodes(acting, version, config.unroll_length, config.episode_limit)
            if config.has_critic:
                gradients.put(phase("gradient", share, acting, CriticLesson(made)), version)
                acting, version = params.pull(at_least=version + 1)
                lesson = PolicyLesson(made, ())
            else:
                lesson = PolicyLesson(made, phase("returns", rewards_to_go, config, made))
            note_learnt(made, 0, {})
            gradients.put(phase("gradient", share, acting, lesson), version)


def run(config, parts, state, visit):
    """Train from `state` until config.env_steps were received; returns the last state."""
    with system("pg", "learner") as s:
        params = s.store("PARAM", "learner", parts.learner.acting(state), version=state.version)
        gradients = s.channel("GRAD", "actor", "learner", config.num_actors, versions=params, max_lag=0)
        s.spawn("actor", config.num_actors, play_and_share, config, parts, params, gradients)  # envs > actors
        barriers = ("critic", "policy") if config.has_critic else ("policy",)
        while state.env_steps < config.env_steps:
            found = {}
            for part in barriers:
                shares = gradients.get(config.num_actors, by_sender=True)  # actors > learner
                state, metrics = phase("update", parts.learner.pool, state, shares, part)
                params.publish(phase("publish", parts.learner.acting, state))  # learner > actors
                found |= metrics
            state = visit(state, [], found)
    return state
