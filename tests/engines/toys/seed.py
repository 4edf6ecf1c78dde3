# SPDX-License-Identifier: Apache-2.0
"""SEED: actors send observations and get actions; params stay with the inference role, which makes the trajectories."""

from engines.toys.parts import STEPS, keep
from shoal.engines import phase, system

MUST_CROSS = {"OBS actor>inference", "ACT inference>actor", "TRAJ inference>learner", "PARAM learner>inference"}
MUST_NEVER_CROSS = {"PARAM actor", "GRAD"}


def act(index, config, parts, policy):
    count, action = 0, 0.0
    while True:
        obs = phase("env_step", parts.rng, index, count).normal(size=8) + 0.01 * action
        action = policy.call(obs).sum()
        count += 1


def infer(index, config, parts, policy, params, trajectories):
    runs: dict[tuple[int, int], list] = {}  # by client and its epoch: a restarted client begins a new trajectory
    while True:
        p, version = params.pull()
        requests = policy.take()
        actions = phase("act", parts.act, p, [request.item for request in requests])
        policy.reply(requests, actions)
        for request, action in zip(requests, actions, strict=True):
            steps = runs.setdefault((request.index, request.epoch), [])
            steps.append((request.item, action))
            if len(steps) == STEPS:
                trajectories.put(parts.join(*map(list, zip(*steps, strict=True))), version)
                steps.clear()


def run(config, parts, state=None, visit=keep):
    p = parts.init() if state is None else state
    with system("seed", "learner") as s:
        params = s.store("PARAM", "learner", p, target="inference")
        policy = s.service("OBS", "ACT", "actor", "inference", batch=config.actors, deadline_s=0.01)
        trajectories = s.channel("TRAJ", "inference", "learner", config.slots, versions=params)
        s.spawn("actor", config.actors, act, config, parts, policy)
        s.spawn("inference", 1, infer, config, parts, policy, params, trajectories)
        for update in range(config.updates):
            p = phase("update", parts.update, p, trajectories.get(config.batch))
            params.publish(p := visit(update, p))
    return p
