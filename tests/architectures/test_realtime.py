# SPDX-License-Identifier: Apache-2.0
"""The robot form: collectors at their own pace, params taken when an episode begins, one learner that goes on.

Environments that cannot be hurried: more collectors are the only way to more data, on two cores as on many.
"""

from fnmatch import fnmatch

import numpy as np
import pytest

from shoal import envs
from shoal.actors.transitions import act_by_episode
from shoal.architectures import registry
from shoal.architectures.assemble import make_parts, preloads
from shoal.engines import make_engine, system
from shoal.placement.flow import CARTPOLE
from shoal.placement.twins import twin_parts

ENGINES = ("inline", "threads", pytest.param("processes", marks=pytest.mark.slow), "simulated")


def config_of(architecture, **fields):
    small = {"realtime": True, "envs_per_actor": 1, "num_actors": 2, "batch_size": 16, "replay_start": 32,
             "replay_ratio": 4.0, "env_steps": 400}  # fmt: skip
    return registry.load(architecture).Config(**{**small, **fields})


def run(architecture, engine, step_s=0.0, look=lambda state: None, **fields):
    """A run on toy:reacher: its engine and last state."""
    module, config = registry.load(architecture), config_of(architecture, **fields)
    parts = make_parts(module, config, envs.resolve("toy:reacher", {"step_s": step_s}), "auto")
    engine = make_engine(engine)
    engine.preload = preloads(parts.agent, module, config)

    def visit(state, batch, metrics):
        look((state.env_steps, engine.now()))
        return state

    return engine, engine.run(module.run, config, parts, None, visit)


@pytest.mark.evidence("fingerprint", "naf/realtime")
@pytest.mark.evidence("fingerprint", "ddpg/realtime")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["naf", "ddpg"])
def test_transitions_go_to_one_memory_and_nothing_else_leaves_a_collector(name, engine):
    engine, state = run(name, engine)
    crossed = {f"{r['message']} {r['source']}>{r['target']}" for r in engine.rows() if r["count"]}
    must, never = registry.promises(registry.load(name), config_of(name))
    assert set(must) <= crossed
    assert not [wire for wire in crossed for pattern in never if fnmatch(wire, pattern)]
    assert state.updates > 0
    if engine.name == "processes":
        assert len({place["pid"] for place in engine.pids}) == 3


@pytest.mark.evidence("fingerprint", "naf/realtime")
@pytest.mark.evidence("fingerprint", "ddpg/realtime")
def test_params_change_between_episodes_only():
    config = config_of("dqn", num_actors=1, n_step=1)
    parts = twin_parts(CARTPOLE, 100)
    rows = []

    def body():
        with system("dqn", "replay") as s:
            params = s.store("PARAM", "replay", np.zeros(101, np.float32))
            transitions = s.channel("TRANS", "actor", "replay", 1)
            s.spawn("actor", 1, act_by_episode, config, parts, params, transitions)
            for _ in range(400):
                rows.extend(transitions.get())
                params.publish(np.zeros(101, np.float32))  # after every step: newer ones are always there

    make_engine("inline").run(body)
    version = np.array([row.version[0] for row in rows])
    ended = np.array([row.valid[0, 0] and row.discount[0, 0] == 0 for row in rows])
    np.testing.assert_array_equal(version[1:] != version[:-1], ended[:-1])
    assert ended.sum() >= 7


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_steps_a_second_grow_with_collectors():
    rates = {}
    for collectors in (1, 2, 4, 8):
        marks = []
        steps = 500 * collectors
        run("naf", "processes", 0.01, marks.append, num_actors=collectors, env_steps=steps, replay_ratio=8.0)
        (first, began), *_, (last, ended) = [mark for mark in marks if mark[0] >= 0.4 * steps]  # all have started
        rates[collectors] = (last - first) / (ended - began)
    assert rates[1] <= 100
    for collectors, rate in rates.items():
        assert rate >= 0.85 * collectors * rates[1], rates
