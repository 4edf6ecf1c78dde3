# SPDX-License-Identifier: Apache-2.0
"""RLlib's claim, kept: one unmodified agent, its policy, postprocessing and loss, trains under every scheme of
distribution, and each scheme moves what it says (docs/rllib_optimizers.md).
"""

import ast
import importlib
from typing import Any, NamedTuple

import numpy as np
import pytest

from architectures.test_fingerprints import crossings
from repository.sources import ROOT
from shoal import envs
from shoal.agents.dqn import make_dqn
from shoal.architectures import registry
from shoal.architectures.assemble import make_parts, parts_around, preloads
from shoal.architectures.dqn import Config
from shoal.engines import make_engine
from shoal.networks.resolve import resolve

COMMON = {"num_actors": 2, "envs_per_actor": 4, "unroll_length": 8, "discount": 0.95, "learning_rate": 3e-3}
REPLAY = {"replay_start": 200, "batch_size": 32, "replay_ratio": 4.0}


class Scheme(NamedTuple):
    """An architecture, or a module that is one, with settings, and where it runs."""

    architecture: str
    engine: str
    fields: dict[str, Any]
    env_steps: int = 40_000
    """to learn to catch in; 0 where actors do not explore, so that it is luck whether they see what they need"""


SCHEMES = {
    "synchronous samples": Scheme("a2c", "inline", {}, 0),
    "minibatches on several shares": Scheme("ppo", "inline", {"learners": 2, "epochs": 2, "minibatches": 2}, 0),
    "sums between sampling workers": Scheme(
        "architectures.q_in_step", "processes", {"learners": 2, "learner_processes": 2}, 0
    ),
    "asynchronous samples": Scheme("impala", "threads", {}, 0),
    "asynchronous gradients": Scheme(
        "a3c",
        "threads",
        {"agent": "one_step_q", "optimiser": "adam", "epsilon_steps": 2_000, "target_interval": 200},
        100_000,
    ),
    "gradients under locks": Scheme("a2c", "threads", {"optimisation": "async", "learners": 2}, 0),
    "sharded parameter server": Scheme("gorila", "threads", {**REPLAY, "optimiser": "adam", "target_versions": 50}),
    "bundles": Scheme("gorila", "threads", {**REPLAY, "memory": "bundled", "optimiser": "adam", "target_versions": 50}),
    "synchronous replay": Scheme("dqn", "inline", {**REPLAY, "target_interval": 200}),
    "replay on several shares": Scheme("dqn", "inline", {**REPLAY, "target_interval": 200, "learners": 2}),
    "replay of learners apart": Scheme("dqn", "threads", {**REPLAY, "optimisation": "async", "learners": 2}),
    "asynchronous prioritised replay": Scheme(
        "apex", "threads", {**REPLAY, "target_interval": 200, "actors_ahead": 100}
    ),
}
each_scheme = pytest.mark.parametrize("name", SCHEMES)


@pytest.fixture(scope="module")
def environment():
    return envs.resolve("toy:catch")


@pytest.fixture(scope="module")
def agent(environment):
    """Made once, for all of them."""
    return make_dqn(environment.spec, resolve("auto", environment.spec), Config(discount=0.95))


def module_of(name):
    """The architecture of a scheme."""
    wanted = SCHEMES[name].architecture
    return importlib.import_module(wanted) if "." in wanted else registry.load(wanted)


def train(name, agent, environment, env_steps):
    """(engine, first params, last state, config, returns of episodes) under a scheme."""
    scheme, module = SCHEMES[name], module_of(name)
    config = module.Config(**COMMON | scheme.fields | {"env_steps": env_steps})
    engine, returns = make_engine(scheme.engine), []
    if scheme.engine == "processes":  # each makes the same agent
        parts = make_parts(module, config, environment, "auto")
        engine.preload = preloads(parts.agent, module, config)
    else:
        parts = parts_around(agent, module, config, environment)

    def see(state, batch, metrics):
        for trajectory in batch:
            returns.extend(trajectory.episode_return[~np.isnan(trajectory.episode_return)].tolist())
        return state

    engine.on_note = lambda **told: returns.extend(r for r, _ in told.get("learnt", {"episodes": []})["episodes"])
    first = np.array(parts.learner.init(0).params)
    return engine, first, engine.run(module.run, config, parts, None, see), config, returns


@each_scheme
def test_one_agent_trains_under_every_scheme_and_each_moves_what_it_says(name, agent, environment):
    from fnmatch import fnmatch

    engine, first, state, config, returns = train(name, agent, environment, 1_200)
    assert state.env_steps >= 1_200
    assert state.updates > 0
    assert np.isfinite(state.params).all()
    assert not np.allclose(first, state.params)
    assert len(returns) > 50
    crossed = crossings(engine.rows())
    must, never = registry.promises(module_of(name), config)
    assert set(must) <= crossed
    assert not [wire for wire in crossed for pattern in never if fnmatch(wire, pattern)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.env_steps])
def test_one_agent_learns_under_every_scheme_that_explores(name, agent, environment):
    *_, returns = train(name, agent, environment, SCHEMES[name].env_steps)
    assert np.mean(returns[:100]) < 0
    assert np.mean(returns[-500:]) > 0.3, np.mean(returns[-500:])


def test_agents_know_nothing_of_who_runs_them():
    for path in sorted((ROOT / "src/shoal/agents").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            parts = {name.split(".")[1] for name in names if name.startswith("shoal.")}
            assert not parts & {"engines", "actors", "architectures", "learners", "replay", "processes"}, path.name
