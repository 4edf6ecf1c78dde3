# SPDX-License-Identifier: Apache-2.0
"""Environments of every form can be measured, named in a profile, and stood in for."""

import dataclasses

import numpy as np
import pytest

from placement.made_up import profile
from shoal import envs
from shoal.engines import nbytes
from shoal.placement.advise import env_facts
from shoal.placement.measure import RandomSteps, measure_env
from shoal.placement.profile import read_profile, write_profile
from shoal.placement.rounds import Rounds
from shoal.placement.twins import TwinEnv, twin_agent
from shoal.placement.workload import made_up_actions, made_up_choices, made_up_obs
from shoal.trees import tree_items
from shoal.types import MultiDiscrete

FORMS = ["toy:catch", "toy:signpost", "toy:dials", "toy:gates", "Pendulum-v1", "envs.own:Trees"]
every_form = pytest.mark.parametrize("env", FORMS)


def forms(tree):
    return [(path, leaf.shape, str(leaf.dtype)) for path, leaf in tree_items(tree)]


def expected(spec, *leading):
    return [(path, (*leading, *leaf.shape), leaf.dtype) for path, leaf in tree_items(spec.obs)]


@every_form
def test_made_up_data_has_the_form_of_real_data(env):
    factory = envs.resolve(env)
    spec = factory.spec
    assert forms(made_up_obs(spec, 5, 3)) == expected(spec, 5, 3)
    assert made_up_actions(spec, 5, 3).shape == (5, 3, *spec.action.shape)
    real = factory.make(3)
    real.reset(0)
    assert forms(real.recv().obs) == expected(spec, 3)
    if spec.masked:
        assert made_up_obs(spec, 4)["action_mask"].all()


def test_made_up_choices_are_within_their_sizes():
    spec = envs.resolve("toy:dials", {"sizes": [2, 7]}).spec
    assert spec.action == MultiDiscrete((2, 7))
    actions = made_up_actions(spec, 300)
    assert actions.min(0).tolist() == [0, 0]
    assert actions.max(0).tolist() == [1, 6]
    assert made_up_choices(spec, 3) is None


@every_form
def test_random_steps_choose_what_is_legal(env):
    """toy:gates and envs.own:Trees raise where they are sent an illegal action."""
    steps = RandomSteps(envs.resolve(env), 4)
    for _ in range(100):
        steps()
    steps.env.close()
    assert 0 < steps.valid_frac <= 1


def test_a_masked_environment_is_measured():
    with Rounds() as rounds:
        timings = measure_env(envs.resolve("toy:gates"), 2, 0.01, rounds)
    assert [point.size for point in timings.step.points][:2] == [1, 2]


@every_form
def test_profiles_name_every_entry(env, tmp_path):
    spec = envs.resolve(env).spec
    facts = env_facts(envs.resolve(env), {})
    assert facts.obs_bytes == sum(nbytes(np.zeros(leaf.shape, leaf.dtype)) for _, leaf in tree_items(spec.obs))
    assert facts.spec().action.shape == spec.action.shape
    assert facts.spec().masked == spec.masked
    assert forms(facts.spec().obs) == forms(spec.obs)
    written = dataclasses.replace(profile(), env=facts)
    write_profile(tmp_path / "p.json", written)
    assert read_profile(tmp_path / "p.json") == written


def test_an_observation_in_words():
    assert env_facts(envs.resolve("toy:catch"), {}).obs_words == "[50] float32"
    words = env_facts(envs.resolve("envs.own:Trees"), {}).obs_words
    assert words == "action_mask [5] bool, last [5] float32, noise/0 [2] float32, noise/1 [4] float32"


@every_form
def test_twins_have_the_form_of_what_they_stand_for(env):
    spec = envs.resolve(env).spec
    twin = TwinEnv(spec, 3, 0)
    twin.reset(0)
    assert forms(twin.recv().obs) == expected(spec, 3)
    agent = twin_agent(spec)
    obs, noise = made_up_obs(spec, 3), np.zeros((3, agent.noise_size), np.float32)
    action, head, _ = agent.act(agent.bind(np.zeros(10, np.float32)), obs, agent.memory(3), noise)
    assert action.shape == agent.mode(head).shape == (3, *spec.action.shape)
    assert head.shape == (3, agent.noise_size)
    twin.send(spec.action.to_env(action))
    assert twin.recv().terminated.shape == (3,)
