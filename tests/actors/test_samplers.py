# SPDX-License-Identifier: Apache-2.0
"""Five ways to collect, one result: the same trajectories for the same seeds and params, over episode ends."""

import dataclasses

import jax
import numpy as np
import pytest

from actors.collecting import SEED, WAYS, WHOLE, assert_all_equal, assert_equal, collect, config_of, parts_of
from shoal.actors.samplers import start, way_of


@pytest.mark.parametrize(
    ("env", "network"),
    [
        ("toy:catch", "auto"),
        ("toy:memory", "gru"),
        ("toy:gates", "lstm"),
        ("toy:dials", "mlp"),
        ("toy:signpost", "auto"),
    ],
)
def test_all_samplers_give_the_same_trajectories(env, network):
    serial = collect(config_of(), parts_of(config_of(), env, network))
    assert any((~trajectory.valid).any() for trajectory in serial)  # over an end
    for name, fields in WAYS.items():
        config = config_of(**fields)
        assert_all_equal(collect(config, parts_of(config, env, network)), serial, rounded=name not in WHOLE)


@pytest.mark.parametrize("way", ["serial", "parallel", "central by size", "alternating"])
def test_other_seeds_give_other_trajectories(way):
    config = config_of(**WAYS[way])
    one, other = (
        collect(changed, parts_of(changed))[0] for changed in (config, dataclasses.replace(config, seed=SEED + 1))
    )
    assert not np.array_equal(one.action, other.action)
    again, later = (collect(config, parts_of(config), epoch=epoch)[0] for epoch in (0, 1))
    assert_equal(again, one, rounded=True)
    assert not np.array_equal(later.action, one.action)


@pytest.mark.parametrize("network", ["agents.made:InJax", "agents.made:GruInJax"])
def test_policies_in_jax_collect_the_same_everywhere(network):
    serial = collect(config_of(), parts_of(config_of(), "toy:catch", network))
    for name in ("parallel", "central by size", "alternating"):
        config = config_of(**WAYS[name])
        assert_all_equal(collect(config, parts_of(config, "toy:catch", network)), serial, rounded=True)


@pytest.mark.parametrize("way", ["serial", "parallel", "central by size", "alternating"])
def test_rewards_to_scale_statistics_and_stacks_go_along(way):
    fields = {"normalise_reward": True, "normalise_obs": True, "frame_stack": 2, "time_limit": 4}
    serial = collect(config_of(**fields), parts_of(config_of(**fields), "toy:bandit", "gru"))
    config = config_of(**fields, **WAYS[way])
    found = collect(config, parts_of(config, "toy:bandit", "gru"))
    assert_all_equal(found, serial, rounded=True)
    assert found[0].discounted_return.any()
    assert found[1].truncated.any()


@pytest.mark.parametrize("way", ["parallel", "central by size", "alternating"])
def test_a_trajectory_that_is_kept_stays_as_it_was(way):
    """More unrolls than any number of buffers made beforehand, all kept; the last ones released and made again."""
    config = config_of(**WAYS[way])
    parts = parts_of(config)
    params = np.asarray(parts.learner.init(0).params)
    sampler = start(0, config, parts)
    kept, copies = [], []
    for version in range(5):
        kept.append(sampler.unroll(params, version, 6))
        copies.append(jax.tree.map(np.copy, kept[-1]))
    del kept[3:]
    part = kept[2].obs[1:3]  # a view keeps the whole
    del kept[2]
    for version in range(3):
        sampler.unroll(params, version, 6)
    sampler.close()
    for trajectory, copy in zip(kept, copies, strict=False):
        assert_equal(trajectory, copy)
    np.testing.assert_array_equal(part, copies[2].obs[1:3])


def test_buffers_come_back_when_nobody_reads_them():
    config = config_of(**WAYS["parallel"])
    parts = parts_of(config)
    params = np.asarray(parts.learner.init(0).params)
    sampler = start(0, config, parts)
    for version in range(6):
        trajectory = sampler.unroll(params, version, 6)  # the one before is given up only now
    assert len(sampler._buffers.all) == 2
    del trajectory
    sampler.close()


def test_which_way():
    assert way_of(config_of()) == "serial"
    assert way_of(config_of(env_workers=2)) == "central"
    assert way_of(config_of(sampler="async")) == "serial"
    assert way_of(config_of(sampler="async", env_workers=2)) == "central"
    assert way_of(config_of(sampler="parallel", env_workers=2)) == "parallel"
