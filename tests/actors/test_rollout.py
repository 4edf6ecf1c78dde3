# SPDX-License-Identifier: Apache-2.0
"""Rollouts: the layout changes nothing, ends are kept as environments gave them, faults are named."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from agents.made import Recaller, halves, make_agent
from shoal import envs
from shoal.actors.rollout import DiscountedReturns, Rollout
from shoal.actors.samplers import start
from shoal.architectures.a2c import Config
from shoal.engines import make_engine
from shoal.errors import EnvironmentFault
from shoal.networks.resolve import resolve
from shoal.trees import read_at
from shoal.types import ArraySpec, Box, Discrete, EnvSpec, Steps

SEED = 11
TWO = Discrete(2)


def catch(**settings):
    return envs.resolve("toy:catch", settings or None)


def unrolls(num_envs, first_index=0, lengths=(6, 9, 3), factory=None, seed=SEED):
    """Trajectories of one actor, with the agent's first params for all of them."""
    factory = factory or catch()
    agent = make_agent("a2c", factory.spec)
    rollout = Rollout(factory.make(num_envs, first_index), agent, seed=seed, first_index=first_index)
    params = agent.init(0)
    return [rollout.unroll(params, version, length) for version, length in enumerate(lengths)]


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_two_actors_make_the_halves_of_one_actor_s_trajectories():
    whole, left, right = unrolls(8), unrolls(4), unrolls(4, first_index=4)
    for trajectory, *parts in zip(whole, left, right, strict=True):
        for part, half in zip(parts, halves(trajectory), strict=True):
            # one matrix product over 8 rows may round otherwise than one over 4
            np.testing.assert_allclose(part.log_prob, half.log_prob, atol=1e-6)
            assert_same(part._replace(log_prob=()), half._replace(log_prob=()))


def test_unrolls_continue_one_another():
    (whole,) = unrolls(3, lengths=(18,))
    parts = unrolls(3, lengths=(6, 9, 3))
    for name in ("action", "reward", "terminated", "truncated", "valid", "episode_return", "episode_length"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    np.testing.assert_array_equal(np.concatenate([parts[0].obs, *(part.obs[1:] for part in parts[1:])]), whole.obs)
    for earlier, later in zip(parts, parts[1:], strict=False):
        np.testing.assert_array_equal(earlier.obs[-1], later.obs[0])
    assert [part.version.tolist() for part in parts] == [[0] * 3, [1] * 3, [2] * 3]


def test_shapes_and_types():
    (trajectory, *_) = unrolls(3, lengths=(5,))
    forms = {name: (x.shape, x.dtype.name) for name, x in trajectory._asdict().items() if not isinstance(x, tuple)}
    row = (5, 3)
    assert forms == {
        "obs": ((6, 3, 50), "float32"),
        "action": (row, "int32"),
        "reward": (row, "float32"),
        "terminated": (row, "bool"),
        "truncated": (row, "bool"),
        "valid": (row, "bool"),
        "log_prob": (row, "float32"),
        "version": ((3,), "int64"),
        "episode_return": (row, "float32"),
        "episode_length": (row, "int32"),
    }


def test_seeds_differ_and_repeat():
    assert_same(unrolls(2), unrolls(2))
    assert not np.array_equal(unrolls(2)[0].action, unrolls(2, seed=12)[0].action)


def test_the_row_after_an_end_only_resets():
    (trajectory,) = unrolls(2, lengths=(25,), factory=catch(rows=4))
    ended, valid = trajectory.terminated | trajectory.truncated, trajectory.valid
    assert ended[:-1].any()
    # whatever ends is followed by a row that resets, and nothing else resets
    np.testing.assert_array_equal(valid[1:], ~ended[:-1])
    assert valid[0].all()
    assert not trajectory.reward[~valid].any()
    assert not ended[~valid].any()
    np.testing.assert_array_equal(trajectory.episode_length[ended], 3)
    np.testing.assert_array_equal(trajectory.episode_return[ended], trajectory.reward[ended])
    assert np.isnan(trajectory.episode_return[~ended]).all()
    for t, b in np.argwhere(ended[:-1]):
        final, opening = (trajectory.obs[row, b].reshape(4, 5) for row in (t + 1, t + 2))
        assert final[:3].sum() == 0  # the ball has reached the paddle's row
        assert opening[0].sum() == 1  # a new ball at the top


def test_a_trajectory_once_handed_over_is_not_read_again():
    factory = catch()
    agent = make_agent("a2c", factory.spec)
    params = agent.init(0)
    expected = unrolls(3, lengths=(4, 4))[1]
    rollout = Rollout(factory.make(3), agent, seed=SEED, first_index=0)
    first = rollout.unroll(params, 0, 4)
    for array in first:
        if not isinstance(array, tuple):
            array[...] = 0
    assert_same(rollout.unroll(params, 1, 4), expected)


@pytest.mark.parametrize(
    ("env", "network"),
    [
        ("toy:signpost", "auto"),
        ("toy:gates", "auto"),
        ("toy:dials", "mlp"),
        ("toy:memory", "lstm"),
        ("toy:gates", "gru"),
    ],
)
def test_trees_choices_masks_and_memory_unroll_the_same_in_halves_and_in_parts(env, network):
    factory = envs.resolve(env)
    agent = make_agent("a2c", factory.spec, resolve(network, factory.spec))
    params = agent.init(0)

    def actor(num_envs, first_index):
        env = factory.make(num_envs, first_index)
        return Rollout(env, agent, seed=SEED, first_index=first_index, return_discount=0.9)

    def unrolled(num_envs, first_index, lengths):
        rollout = actor(num_envs, first_index)
        return [rollout.unroll(params, 0, length) for length in lengths]

    (whole,) = unrolled(6, 0, [23])
    (left,), (right,) = unrolled(3, 0, [23]), unrolled(3, 3, [23])
    for part, half in zip((left, right), halves(whole), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), part, half)
    assert (~whole.valid).any()
    first, second = unrolled(6, 0, [7, 16])
    for name in ("action", "reward", "valid", "log_prob", "discounted_return"):
        joined = np.concatenate([getattr(first, name), getattr(second, name)])
        np.testing.assert_allclose(joined, getattr(whole, name), atol=1e-6)
    assert_same(read_at(first.obs, -1), read_at(second.obs, 0))
    assert_same(read_at(second.obs, slice(1, None)), read_at(whole.obs, slice(8, None)))
    if agent.recurrent:
        leaves = jax.tree.leaves(second.memory)
        assert all(leaf.shape == (6, 64) and leaf.any() for leaf in leaves)
        assert not any(leaf.any() for leaf in jax.tree.leaves(first.memory))


def test_memory_starts_anew_with_every_episode():
    """A network that adds up cues names the right one only if it forgets those of earlier episodes."""
    factory = envs.resolve("toy:memory", {"length": 3})
    agent = make_agent("a2c", factory.spec, Recaller)
    rollout, params = Rollout(factory.make(5), agent, seed=SEED, first_index=0), agent.init(0)
    for length in (7, 30, 2, 9):
        trajectory = rollout.unroll(params, 0, length)
        ended = trajectory.terminated
        np.testing.assert_array_equal(trajectory.reward[ended], 1)
    assert ended.any()


def test_without_resets_old_cues_are_remembered(monkeypatch):
    monkeypatch.setattr("shoal.actors.rollout.reset_memory", lambda memory, goes_on, initial: memory)
    factory = envs.resolve("toy:memory", {"length": 3})
    agent = make_agent("a2c", factory.spec, Recaller)
    trajectory = Rollout(factory.make(5), agent, seed=SEED, first_index=0).unroll(agent.init(0), 0, 60)
    assert (trajectory.reward[trajectory.terminated] < 0).any()


def test_discounted_returns_by_hand():
    counter = DiscountedReturns(2, 0.5)
    reward = np.array([[1, 0], [2, 4], [0, 0], [3, 8]], np.float32)
    ended = np.array([[False, False], [True, False], [False, False], [False, False]])
    np.testing.assert_array_equal(counter.count(reward, ended), [[1, 0], [2.5, 4], [0, 2], [3, 9]])
    np.testing.assert_array_equal(counter.count(reward[:1], ended[:1]), [[2.5, 4.5]])


def test_returns_are_kept_only_where_they_are_asked_for():
    parts = SimpleNamespace(make_env=catch().make, agent=make_agent("a2c", catch().spec), seed=SEED, sampler=None)
    params = parts.agent.init(0)
    for asked, kind in ((True, np.ndarray), (False, tuple)):
        config = Config(envs_per_actor=2, normalise_reward=asked, discount=0.9)
        assert isinstance(start(0, config, parts).unroll(params, 0, 4).discounted_return, kind)


class Scripted:
    """A VectorEnv that answers as it is told and remembers what it was sent."""

    split_invariant = True

    def __init__(self, num_envs, *, action=TWO, obs_of=None, reward_of=None):
        self.spec = EnvSpec("made:scripted", ArraySpec((2,), "float32"), action)
        self.num_envs, self.sent, self.closed = num_envs, [], False
        self._obs_of, self._reward_of = obs_of or (lambda step: 0.0), reward_of or (lambda step: 1.0)

    def reset(self, seed):
        self.step = 0

    def send(self, action, slots=None):
        self.sent.append(np.array(action))
        self.step += 1

    def recv(self, min_ready=None):
        n = self.num_envs
        obs, reward = np.zeros((n, 2), np.float32), np.zeros(n, np.float32)
        obs[n - 1, 1], reward[n - 1] = self._obs_of(self.step), self._reward_of(self.step)
        no = np.zeros(n, bool)
        return Steps(np.arange(n), obs, reward, no, no, np.full(n, self.step > 0))

    def close(self):
        self.closed = True


def scripted_rollout(env, first_index=0):
    agent = make_agent("a2c", env.spec)
    return Rollout(env, agent, seed=SEED, first_index=first_index), agent.init(0)


@pytest.mark.parametrize(
    ("settings", "what", "step"),
    [
        ({"obs_of": lambda step: np.nan if step == 6 else 0}, "obs", 6),
        ({"obs_of": lambda step: np.inf if step == 8 else 0}, "obs", 8),
        ({"obs_of": lambda step: np.nan if step == 0 else 0}, "obs", 0),
        ({"reward_of": lambda step: np.nan if step == 6 else 0}, "reward", 6),
        ({"reward_of": lambda step: -np.inf if step == 5 else 0}, "reward", 5),
    ],
)
def test_numbers_that_are_not_finite_name_environment_and_step(settings, what, step):
    rollout, params = scripted_rollout(Scripted(3, **settings), first_index=9)
    with pytest.raises(EnvironmentFault) as fault:
        for version in range(2):  # unrolls of 4: the second one has steps 5 to 8
            rollout.unroll(params, version, 4)
    line = str(fault.value)
    assert f"made:scripted #11 (seed {SEED}) returned a {what} that is not a finite number at step {step};" in line
    assert fault.value.exit_code == 3
    assert "\n" not in line


def test_box_actions_reach_the_environment_on_its_own_scale():
    env = Scripted(2, action=Box((1,), (-4.0,), (8.0,)))
    rollout, params = scripted_rollout(env)
    trajectory = rollout.unroll(params, 0, 50)
    sent = np.stack(env.sent)
    np.testing.assert_allclose(sent, np.clip(2 + 6 * trajectory.action, -4, 8), rtol=1e-6)
    assert sent.min() == -4  # the policy's own actions may lie beyond what the environment takes
    assert np.abs(trajectory.action).max() > 1


def test_an_actor_starts_with_its_share_of_the_environments():
    made = []

    def make_env(num_envs, first_index):
        made.append((num_envs, first_index))
        return catch().make(num_envs, first_index)

    parts = SimpleNamespace(make_env=make_env, agent=make_agent("a2c", catch().spec), seed=SEED, sampler=None)
    rollout = start(2, Config(envs_per_actor=3), parts)
    assert made == [(3, 6)]
    np.testing.assert_array_equal(rollout.indices, [6, 7, 8])


def test_an_environment_that_fails_at_its_reset_is_closed():
    env = Scripted(1)

    def reset(seed):
        raise EnvironmentFault("no display")

    env.reset = reset
    parts = SimpleNamespace(make_env=lambda n, first: env, agent=make_agent("a2c", env.spec), seed=SEED, sampler=None)
    with pytest.raises(EnvironmentFault, match="no display"):
        start(0, Config(envs_per_actor=1), parts)
    assert env.closed


def test_phases_and_notes():
    notes = []

    def program():
        return unrolls(2, lengths=(5, 12))

    engine = make_engine("inline")
    engine.on_note = lambda **metrics: notes.append(metrics["env_steps_generated"])
    first, second = engine.run(program)
    assert set(engine.phases()["main"]) == {"prepare", "act", "env_step", "assemble"}
    assert notes == [first.valid.sum(), second.valid.sum()]
