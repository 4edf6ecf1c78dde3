# SPDX-License-Identifier: Apache-2.0
"""Parts made again from a recipe act as the original ones, without JAX where NumPy suffices; misfits are refused."""

import importlib
import json
import subprocess
import sys
from types import ModuleType

import jax
import numpy as np
import pytest

from agents.made import Narrow
from architectures.small import CARRY_MEMORY
from shoal import envs
from shoal.actors.samplers import start
from shoal.architectures import ppo, registry
from shoal.architectures.assemble import environment_for, make_parts
from shoal.errors import ConfigError

SMALL = {"envs_per_actor": 3, "unroll_length": 12, "normalise_reward": True, "minibatches": 1}

FOLLOW_RECIPE = """
import importlib, json, sys
import numpy as np
from shoal.actors.samplers import start
function, arguments, config, params = json.load(sys.stdin)
module, _, name = function.partition(":")
parts = getattr(importlib.import_module(module), name)(*arguments)
fields = dict(config)
rollout = start(1, importlib.import_module("shoal.architectures.ppo").Config(**fields), parts)
trajectory = rollout.unroll(np.array(params, np.float32), 0, fields["unroll_length"])
json.dump([trajectory.action.tolist(), trajectory.log_prob.tolist(), "jax" in sys.modules], sys.stdout)
"""


def parts_of(env, network="auto", env_kwargs=None, **fields):
    """(config, parts) of PPO on an environment."""
    config = ppo.Config(**SMALL | fields)
    factory = environment_for(config, envs.resolve(env, env_kwargs))
    return config, make_parts(ppo, config, factory, network)


def follow(recipe):
    """The parts that a recipe leads to, by way of text."""
    function, arguments = json.loads(json.dumps(recipe))
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)


@pytest.mark.parametrize(
    ("env", "network", "fields"),
    [
        ("toy:catch", "auto", {"frame_stack": 2}),
        ("toy:signpost", "auto", {"normalise_obs": True}),
        ("toy:dials", "mlp", {}),
        ("toy:gates", "gru", {}),
        ("toy:memory", "lstm", {"normalise_obs": True}),
        ("Pendulum-v1", "auto", {"time_limit": 9}),
        ("toy:catch", Narrow, {}),
    ],
)
def test_parts_from_a_recipe_act_as_the_original_ones(env, network, fields):
    config, parts = parts_of(env, network, **fields)
    again = follow(parts._replace(seed=77).recipe)
    assert again.seed == 77
    params = parts.agent.init(3)
    one, other = (start(1, config, made).unroll(params, 0, 12) for made in (parts._replace(seed=77), again))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    elsewhere = start(0, config, again).unroll(params, 0, 12)
    assert not np.array_equal(one.log_prob, elsewhere.log_prob)


@pytest.mark.parametrize(
    ("env", "network", "needs_jax"),
    [("toy:gates", "auto", False), ("toy:memory", "lstm", False), ("toy:catch", "agents.made:Narrow", True)],
)
def test_actors_import_jax_only_for_networks_that_need_it(env, network, needs_jax):
    config, parts = parts_of(env, network)
    params = parts.agent.init(0)
    text = json.dumps([*parts.recipe, SMALL, params.tolist()])
    path = ":".join([p for p in sys.path if p])
    run = subprocess.run(
        [sys.executable, "-c", FOLLOW_RECIPE], input=text, capture_output=True, text=True, env={"PYTHONPATH": path},
        check=True,
    )  # fmt: skip
    action, log_prob, imported_jax = json.loads(run.stdout)
    expected = start(1, config, parts).unroll(params, 0, 12)
    np.testing.assert_array_equal(action, expected.action)
    np.testing.assert_allclose(log_prob, expected.log_prob, atol=1e-6)
    assert imported_jax == needs_jax


def test_what_no_name_leads_to_has_no_recipe():
    class Hidden(Narrow):
        """Made inside a function."""

    assert parts_of("toy:catch")[1].recipe is not None
    assert parts_of("toy:catch", Hidden)[1].recipe is None
    assert parts_of(lambda: __import__("gymnasium").make("CartPole-v1"))[1].recipe is None


def test_settings_of_the_environment_are_part_of_the_recipe():
    _, parts = parts_of("toy:catch", env_kwargs={"rows": 4, "columns": 3})
    assert follow(parts.recipe).spec == parts.spec != parts_of("toy:catch")[1].spec


def test_memory_is_refused_where_it_cannot_be_carried():
    forgetful = ModuleType("shoal.architectures.forgetful")
    forgetful.make_agent, forgetful.make_learner = ppo.make_agent, ppo.make_learner
    factory = envs.resolve("toy:memory")
    with pytest.raises(ConfigError, match="forgetful .* carries no memory") as refused:
        make_parts(forgetful, ppo.Config(**SMALL), factory, "lstm")
    assert "\n" not in str(refused.value)
    make_parts(forgetful, ppo.Config(**SMALL), factory, "mlp")
    for name in CARRY_MEMORY:
        module = registry.load(name)
        assert make_parts(module, module.Config(), factory, "gru").agent.recurrent


def test_more_minibatches_than_environments_are_refused_where_memory_is_carried():
    with pytest.raises(ConfigError, match="minibatches=4 cannot be cut from 3 environments") as refused:
        parts_of("toy:memory", "lstm", minibatches=4)
    assert "\n" not in str(refused.value)
    parts_of("toy:memory", "mlp", minibatches=4)
    parts_of("toy:memory", "lstm", minibatches=3)
