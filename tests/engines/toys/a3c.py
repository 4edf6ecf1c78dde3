# SPDX-License-Identifier: Apache-2.0
"""A3C: each actor makes its own gradients and pushes them to a shared vector. No data crosses, nobody waits."""

from engines.toys.parts import keep
from shoal.engines import phase, system

MUST_CROSS = {"GRAD actor>parameter_server", "PARAM parameter_server>actor"}
MUST_NEVER_CROSS = {"TRAJ", "TRANS", "OBS"}
RATE = 0.02


def sgd(params, moments, grad, rate):
    """Momentum; the moments are shared like the params."""
    moments[0] *= 0.5
    moments[0] += grad
    params -= rate * moments[0]


def act(index, config, parts, params):
    count = 0
    while True:
        p, version = params.pull()
        data = phase("unroll", parts.unroll, p, index, count)
        params.push(phase("gradient", parts.gradient, p, data), version, RATE)
        count += 1


def run(config, parts, state=None, visit=keep):
    p = parts.init() if state is None else state
    with system("a3c", "parameter_server") as s:
        params = s.vector("parameter_server", p, sgd, shards=2, moments=1, source="actor")
        s.spawn("actor", config.actors, act, config, parts, params)
        version = 0
        while version < config.updates:
            p, version = params.pull(at_least=version + 1)
            visit(version - 1, p)
    return p
