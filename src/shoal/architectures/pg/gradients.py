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


def play_and_share(index, config, parts, params, gradients, first):
    """One actor's life: wait for the next version, hand over its share of the gradient that is due, from what it plays
    at the beginning of every iteration. One that was started anew may come in between two barriers."""
    barriers, made = barriers_of(config), None
    with closing(phase("start", start_episodes, index, config, parts, me().epoch)) as rollout:
        version = -1
        while True:
            acting, version = params.pull(at_least=version + 1)  # learner > actor
            due = (version - first) % len(barriers)
            if due == 0 or made is None:
                made = rollout.episodes(acting, version, config.unroll_length, config.episode_limit)
                note_learnt(made, 0, {})
            if barriers[due] == "critic":
                lesson = CriticLesson(made)
            else:
                lesson = PolicyLesson(made, () if config.has_critic else phase("returns", rewards_to_go, config, made))
            gradients.put(phase("gradient", parts.learner.share, acting, lesson), version)


def barriers_of(config):
    """Whose gradients are summed in an iteration, one after the other."""
    return ("critic", "policy") if config.has_critic else ("policy",)


def run(config, parts, state, visit):
    """Train from `state` until config.env_steps were received; returns the last state."""
    with system("pg", "learner") as s:
        params = s.store("PARAM", "learner", parts.learner.acting(state), version=state.version)
        gradients = s.channel("GRAD", "actor", "learner", config.num_actors, versions=params, max_lag=0)
        s.spawn("actor", config.num_actors, play_and_share, config, parts, params, gradients, state.version)
        while state.env_steps < config.env_steps:
            found = {}
            for part in barriers_of(config):
                shares = gradients.get(config.num_actors, by_sender=True)  # actors > learner
                state, metrics = phase("update", parts.learner.pool, state, shares, part)
                params.publish(phase("publish", parts.learner.acting, state))  # learner > actors
                found |= metrics
            state = visit(state, [], found)
    return state
