# SPDX-License-Identifier: Apache-2.0
"""Steps e and f: both barriers are gone. Actors push each gradient when they have it and pull what is there.

    envs --obs--> actor: e: episodes, f: a few steps (n)
                    |  critic's gradient ----GRAD----> parameter_server: step
                    |  <---------------------PARAM-------+
                    |  policy's gradient ----GRAD----> parameter_server: step
                    +  <---------------------PARAM-------+

Nobody waits for anybody: on `processes` params lie in shared memory, and actors write to it side by side. The policy's
gradient uses the critic as it is after the actor's own push and what others pushed meanwhile. Policy and critic have
moments of their own. Trajectories never leave their actor.
"""

from contextlib import closing

import numpy as np

from shoal.actors.episodes import start_episodes
from shoal.actors.notes import note_learnt
from shoal.actors.samplers import start
from shoal.agents.lessons import CriticLesson, PolicyLesson
from shoal.architectures.pg import schedules_of
from shoal.engines import me, phase, system
from shoal.learners.host_rules import Apart, corrected, make_host_rule, pushable

PARTS = ("policy", "critic")


class Pushes:
    """What one actor does with its shares: mean, clip, push, each part with its own count of steps."""

    def __init__(self, config, params):
        self._config, self._params = config, params
        self._rule, self._schedules = make_host_rule(config), schedules_of(config)
        self._steps = params.version // (len(PARTS) * config.num_actors)  # as far as a run that goes on was before

    def push(self, share, version, part):
        """Apply a share to the shared params; returns (version after it, metrics)."""
        rows, metrics = max(share.rows, 1), {name: loss / max(share.rows, 1) for name, loss in share.losses.items()}
        grad, metrics = pushable(share.grad / np.float32(rows), metrics, self._config.max_grad_norm, version)
        both = np.zeros((len(PARTS), grad.size), np.float32)
        both[PARTS.index(part)] = grad
        self._steps += part == "critic"
        rate = self._schedules[part](self._params.samples)
        counted = share.rows if part == "policy" else 0
        after = self._params.push(both, version, corrected(self._rule, rate, self._steps), counted)
        return after, {**metrics, "learning_rate": rate}


def play_and_push(index, config, parts, params):
    """One actor's life: pull, play, critic's gradient, push, pull, policy's gradient, push."""
    pushes, share = Pushes(config, params), parts.learner.share
    begin = start if config.step == "f" else start_episodes
    with closing(phase("start", begin, index, config, parts, me().epoch)) as rollout:
        while True:
            acting, version = params.pull()  # parameter_server > actor
            if config.step == "f":
                made = rollout.unroll(acting, version, config.unroll_length)
            else:
                made = rollout.episodes(acting, version, config.unroll_length, config.episode_limit)
            _, fitted = pushes.push(phase("gradient", share, acting, CriticLesson(made)), version, "critic")
            acting, pulled = params.pull()
            gradient = phase("gradient", share, acting, PolicyLesson(made, ()))
            after, metrics = pushes.push(gradient, pulled, "policy")  # actor > parameter_server
            metrics |= {"loss/value": fitted["loss/value"], "sample_reuse": 1.0}
            note_learnt(made, after - len(PARTS) - version, metrics)


def run(config, parts, state, visit):
    """Train from `state` until config.env_steps were taken; returns the last state."""
    rule = Apart(make_host_rule(config), len(PARTS))
    moments = np.asarray(state.optimiser) if len(state.optimiser) else rule.moments
    with system("pg", "parameter_server") as s:
        params = s.vector(
            "parameter_server", parts.learner.acting(state), rule, moments=moments, source="actor",
            version=state.version, samples=state.env_steps,
        )  # fmt: skip
        s.spawn("actor", config.num_actors, play_and_push, config, parts, params)  # envs > actors
        while state.env_steps < config.env_steps:
            pulled, version = params.pull(at_least=state.version + config.pushes_per_visit)
            updates = state.updates + version - state.version
            state = state._replace(
                params=pulled, optimiser=params.moments(), updates=updates, env_steps=params.samples, version=version
            )
            state = visit(state, [], {})
    return state
