# SPDX-License-Identifier: Apache-2.0
"""Learners side by side: what they compute depends on how many they are, not on devices; shares may be uneven."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.made import BOX, DISCRETE, MASKED_CHOICES, make_agent, make_trajectory
from shoal.architectures import registry
from shoal.architectures.base import make_learner_parts
from shoal.errors import ConfigError
from shoal.learners.devices import learner_devices
from shoal.learners.minibatch import make_minibatch
from shoal.learners.sharing_out import most_even
from shoal.learners.spread import BATCH, SAME, Spread
from shoal.losses.across import total
from shoal.networks.recurrent import Gru

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
SMALL = {"envs_per_actor": 8, "unroll_length": 7, "env_steps": 1000}
WITH_STATISTICS = {"normalise_obs": True, "normalise_reward": True, "normalise_advantage": True}


def updated(architecture, learners, devices, spec=DISCRETE, network=None, updates=3, **fields):
    """Params after some updates on one trajectory [7, 8] of uneven validity, and the last metrics."""
    fields = {**SMALL, "learners": learners, "learner_devices": devices, **fields}
    module = registry.load(architecture)
    config, agent = module.Config(**fields), make_agent(architecture, spec, network, **fields)
    learner = module.make_learner(config, agent)
    trajectory = make_trajectory(agent, spec, agent.init(0), num_envs=8)
    assert len(set(trajectory.valid.sum(0).tolist())) > 1
    if config.normalise_reward:
        trajectory = trajectory._replace(discounted_return=np.cumsum(trajectory.reward, 0))
    state = learner.init(0)
    for _ in range(updates):
        state, metrics = learner.update(state, [trajectory])
    assert learner.devices == devices
    return state, metrics


def compare(mine, other):
    np.testing.assert_allclose(mine[0].params, other[0].params, **CLOSE)
    assert mine[1] == pytest.approx(other[1], rel=1e-3, abs=1e-5)


CASES = [
    ("a2c", (2, 4), WITH_STATISTICS),
    ("ppo", (2, 4), {"epochs": 2, "minibatches": 3}),
    ("ppo", (4,), {"epochs": 2, "minibatches": 2, "network": Gru, **WITH_STATISTICS}),
]
MORE = [
    ("a2c", (2, 4), {}),
    ("a2c", (2,), {"network": Gru}),
    ("a2c", (2,), {"spec": BOX, "optimiser": "rmsprop"}),
    ("ppo", (2,), {"epochs": 2, "minibatches": 2, "spec": MASKED_CHOICES}),
]


@pytest.mark.parametrize(
    ("architecture", "several", "fields"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)],
)
def test_learners_compute_the_same_on_any_devices(architecture, several, fields):
    on_one = updated(architecture, 4, 1, **fields)
    for devices in several:
        compare(updated(architecture, 4, devices, **fields), on_one)


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [("a2c", WITH_STATISTICS), ("ppo", {"epochs": 2, "minibatches": 1, "anneal_learning_rate": False})],
)
def test_where_nothing_is_shuffled_apart_any_number_of_learners_is_one(architecture, fields):
    alone = updated(architecture, 1, 1, **fields)
    for learners, devices in ((4, 4), (8, 1)):
        compare(updated(architecture, learners, devices, **fields), alone)


def test_minibatches_of_several_learners_are_others_than_those_of_one():
    one, four = (updated("ppo", learners, 1, epochs=1, minibatches=4, updates=1) for learners in (1, 4))
    assert np.abs(one[0].params - four[0].params).max() > 1e-4


@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
def test_every_device_holds_the_same_bits_after_many_updates(architecture):
    fields = {"epochs": 1, "minibatches": 2} if architecture == "ppo" else {}
    state, _ = updated(architecture, 4, 4, updates=100, normalise_advantage=True, **fields)
    for leaf in (state.params, *jax.tree.leaves(state.optimiser)):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 4
        assert all(copy.tobytes() == copies[0].tobytes() for copy in copies)


def test_one_call_per_minibatch_is_spread_as_well():
    fields = {**SMALL, "epochs": 2, "minibatches": 3, "learners": 4, "learner_devices": 2}
    config = registry.load("ppo").Config(**fields)
    agent = dataclasses.replace(make_agent("ppo", DISCRETE, None, **fields), sees_frames=True)
    spread = Spread(4, jax.devices()[:2])
    looped = make_minibatch(
        agent, *make_learner_parts(config, agent), epochs=2, minibatches=3, seed=config.seed, spread=spread
    )
    trajectory = make_trajectory(agent, DISCRETE, agent.init(0), num_envs=8)
    state = looped.init(0)
    for _ in range(3):
        state, metrics = looped.update(state, [trajectory])
    compare((state, metrics), updated("ppo", 4, 1, epochs=2, minibatches=3))


def uneven_batch():
    agent = make_agent("a2c", DISCRETE, None, **SMALL)
    trajectory = make_trajectory(agent, DISCRETE, agent.init(0), num_envs=8)
    valid = trajectory.valid.copy()
    valid[1:, :4] = False  # the first half of the environments has next to nothing
    return agent, trajectory._replace(valid=valid, version=(), episode_return=(), episode_length=())


def test_gradients_of_uneven_shares_add_up_to_the_gradient_of_the_whole():
    agent, batch = uneven_batch()
    params = agent.init(0)

    def gradient(p, part):
        return total(jax.grad(lambda q: agent.loss(q, agent.prepare(q, part))[0])(p))

    whole = Spread().compiled(gradient, (SAME, BATCH), SAME)(params, batch)
    spread = Spread(2, jax.devices()[:2])
    shared = spread.compiled(gradient, (SAME, BATCH), SAME)(params, spread.place(batch))
    np.testing.assert_allclose(shared, whole, **CLOSE)

    halves = [batch._replace(**{n: jax.tree.map(lambda x, h=h: x[:, h], getattr(batch, n)) for n in batch._fields
                                if n != "memory"}) for h in (slice(0, 4), slice(4, 8))]  # fmt: skip
    naive = np.mean([jax.jit(gradient)(params, half) for half in halves], 0)
    assert np.abs(naive - whole).max() > 1e-3  # the mean of means is another gradient


def test_gradients_are_clipped_after_they_are_averaged():
    """Shares whose gradients point against each other are long one by one and short together."""
    fields = {"optimiser": "sgd", "max_grad_norm": 0.05, "learning_rate": 1.0, "anneal_learning_rate": False}
    alone = updated("a2c", 1, 1, updates=1, **fields)
    compare(updated("a2c", 4, 4, updates=1, **fields), alone)
    assert alone[1]["grad_norm"] > 0.05
    assert alone[1]["step_norm"] == pytest.approx(0.05, rel=1e-4)


@given(st.integers(1, 4), st.integers(0, 2), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_orders_on_devices_name_the_rows_that_learners_named(per_device, doublings, envs, steps, whole_envs):
    devices = 2**doublings
    learners = per_device * devices
    spread = Spread(learners, jax.devices()[:devices])
    rows = envs if whole_envs else steps * envs
    generator = np.random.default_rng(learners * 7 + rows)
    orders = [np.stack([generator.permutation(rows) for _ in range(2)]) for _ in range(learners)]
    placed = spread.rows_on_devices(orders, envs, whole_envs=whole_envs)
    # every row of a batch says who it is: time, then environment over all learners
    names = np.arange(steps)[:, None] * 1000 + np.arange(learners * envs)[None]
    shares = np.split(names, devices, 1)
    found = np.split(placed, devices, 1)
    wanted = np.split(names, learners, 1)
    for device in range(devices):
        own = shares[device][0] if whole_envs else shares[device].ravel()
        mine = range(device * per_device, (device + 1) * per_device)
        expected = [(wanted[i][0] if whole_envs else wanted[i].ravel())[orders[i]] for i in mine]
        np.testing.assert_array_equal(own[found[device]], np.concatenate(expected, 1))


@given(st.integers(1, 64), st.integers(1, 64))
def test_numbers_of_devices_share_learners_evenly(learners, room):
    count = most_even(learners, room)
    assert learners % count == 0
    assert 1 <= count <= max(1, room)


def test_the_last_device_is_left_to_acting_and_more_than_there_are_is_refused():
    assert learner_devices(4, 4, cores=2) == jax.devices()[:4]
    assert learner_devices(4, 0, cores=2) == jax.devices()[:2]
    assert learner_devices(3, 0, cores=2) == jax.devices()[:1]
    with pytest.raises(ConfigError, match="learner_devices=5 are more than the 4 cpu devices for learners") as refused:
        learner_devices(5, 5, cores=8)
    assert "\n" not in str(refused.value)
    agent = make_agent("a2c", DISCRETE, None, **SMALL, learners=2)
    assert agent.device == jax.devices()[-1]
    assert make_agent("a2c", DISCRETE, None, **SMALL).device is None


def test_without_shares_a_total_is_the_number_itself():
    assert total(jnp.float32(3)) == 3
