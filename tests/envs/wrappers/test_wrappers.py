# SPDX-License-Identifier: Apache-2.0
"""Stacks, limits and masks from info: what they change, what they leave alone, and what cannot have them."""

import dataclasses
import functools
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.own import Walk
from envs.recording import Recording, actions, joined, record_from, same
from shoal import envs
from shoal.envs.base import EnvFactory
from shoal.envs.camera import open_camera
from shoal.envs.gymnasium_env import newest_ids
from shoal.envs.wrappers import wrapped
from shoal.errors import ConfigError, EnvironmentFault
from shoal.trees import read_at, tree_map
from shoal.types import ArraySpec, Discrete, EnvSpec

STEPS = 60


@functools.cache
def bare(env) -> EnvFactory:
    return envs.resolve(env)


def recorded(factory, num_envs=4, first_index=0, steps=STEPS, seed=7) -> Recording:
    env = factory.make(num_envs, first_index)
    try:
        return record_from(env, seed, steps, first_index)
    finally:
        env.close()


def ages(rows: Recording) -> np.ndarray:
    """Steps [T, N] since the opening of the episode that each row belongs to."""
    age = np.zeros(rows.valid.shape, int)
    for step in range(1, len(age)):
        age[step] = np.where(rows.valid[step], age[step - 1] + 1, 0)
    return age


@pytest.mark.parametrize("env", ["toy:catch", "toy:gates", "toy:signpost", "envs.own:Trees", Walk])
@pytest.mark.parametrize("length", [2, 5])
def test_a_stack_holds_the_last_observations_of_its_own_episode(env, length):
    plain, stacked = recorded(bare(env)), recorded(wrapped(bare(env), frame_stack=length))
    for name in ("reward", "terminated", "truncated", "valid"):
        assert same(getattr(plain, name), getattr(stacked, name)), name
    if bare(env).spec.masked:
        assert same(stacked.obs.pop("action_mask"), plain.obs.pop("action_mask"))
    age = ages(plain)
    assert age.max() >= 2
    for step in range(STEPS + 1):
        for slot in range(4):
            for back in range(length):
                source = step - min(back, age[step, slot])
                expected = read_at(plain.obs, (source, slot))
                assert same(read_at(stacked.obs, (step, slot, length - 1 - back)), expected)


@pytest.mark.parametrize(
    ("shape", "stacked"),
    [((), (4,)), ((3,), (4, 3)), ((84, 84), (4, 84, 84)), ((2, 84, 84), (8, 84, 84)), ((84, 84, 3), (4, 84, 84, 3))],
)
def test_stacked_shapes(shape, stacked):
    class Screen(gymnasium.Env):
        observation_space = spaces.Box(0, 255, shape, np.uint8)
        action_space = spaces.Discrete(2)
        n = 0

        def reset(self, *, seed=None, options=None):
            self.n = 0
            return np.full(shape, 0, np.uint8), {}

        def step(self, action):
            self.n += 1
            return np.full(shape, self.n, np.uint8), 0.0, False, False, {}

    factory = wrapped(envs.resolve(Screen), frame_stack=4)
    assert factory.spec.obs == ArraySpec(stacked, "uint8")
    rows = recorded(factory, num_envs=2, steps=5)
    assert rows.obs.shape == (6, 2, *stacked)
    newest = rows.obs.reshape(6, 2, 4, -1)[:, 0, :, 0]
    assert newest.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]


def test_a_stack_of_one_is_no_wrapper():
    assert wrapped(bare("toy:catch")) is bare("toy:catch")


def test_wrapped_environments_are_still_found_by_name():
    for name, around in (("CartPole-v1", {"time_limit": 5}), ("Taxi-v4", {"mask_from_info": True, "frame_stack": 2})):
        assert wrapped(bare(name), **around).origin == bare(name).origin == (name, {})


@pytest.mark.parametrize("env", ["toy:catch", "toy:memory", "toy:gates", "toy:tictactoe", "envs.own:Trees", Walk])
def test_a_limit_truncates_and_the_next_row_resets(env):
    limit = 3
    factory = wrapped(bare(env), time_limit=limit)
    assert factory.spec.max_episode_steps == limit
    plain, rows = recorded(bare(env)), recorded(factory)
    age = ages(rows)
    assert age.max() == limit
    np.testing.assert_array_equal(rows.truncated, (age == limit) & ~rows.terminated)
    assert rows.truncated.any()
    ended = rows.terminated | rows.truncated
    np.testing.assert_array_equal(rows.valid[1:], ~ended[:-1])
    assert not rows.reward[~rows.valid].any()
    # up to the first limit nothing differs
    assert same(read_at(rows.obs, slice(limit + 1)), read_at(plain.obs, slice(limit + 1)))


def test_a_longer_limit_than_an_episode_changes_nothing():
    case = "toy:catch"
    assert wrapped(bare(case), time_limit=50).spec.max_episode_steps == 9
    one, other = recorded(bare(case)), recorded(wrapped(bare(case), time_limit=50))
    assert all(same(values, getattr(other, name)) for name, values in vars(one).items())


@pytest.mark.parametrize(
    ("env", "adapter"), [("CartPole-v1", "NativeVector"), ("ale:pong", "AleVector"), ("Pendulum-v1", "TimeLimit")]
)
def test_limits_of_other_adapters(env, adapter):
    factory = wrapped(bare(env), time_limit=7)
    assert factory.spec.max_episode_steps == 7
    assert type(factory.make(1)).__name__ == adapter
    rows = recorded(factory, steps=20)
    assert ages(rows).max() == 7
    assert rows.truncated[[7, 15]].all()
    assert not rows.valid[[8, 16]].any()


class Doors(gymnasium.Env):
    """Says in its info which door is open, closes all of them at the end, and minds."""

    observation_space = spaces.Discrete(5)
    action_space = spaces.Discrete(3)

    def __init__(self, silent_after=None):
        self.silent_after = silent_after

    def info(self):
        mask = np.zeros(3, np.int8)
        mask[self.door] = self.steps < 4
        return {} if self.steps == self.silent_after else {"prob": 1.0, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.door = 0, int(self.np_random.integers(3))
        return self.steps, self.info()

    def step(self, action):
        assert action == self.door
        self.steps, self.door = self.steps + 1, int(self.np_random.integers(3))
        return self.steps, 1.0, self.steps == 4, False, self.info()


def test_masks_move_from_info_into_the_observation():
    factory = wrapped(envs.resolve(Doors), mask_from_info=True)
    obs = {"action_mask": ArraySpec((3,), "bool"), "obs": ArraySpec((5,), "float32")}
    assert factory.spec == EnvSpec(factory.name, obs, Discrete(3), None)
    rows = recorded(factory)
    assert rows.reward.sum() == rows.valid.sum() > 0
    np.testing.assert_array_equal(rows.obs["action_mask"].sum(-1), ~rows.terminated)
    np.testing.assert_array_equal(rows.obs["obs"].argmax(-1), ages(rows))


def test_taxi_tells_what_is_legal():
    (taxi,) = (name for name in newest_ids() if name.startswith("Taxi"))
    factory = wrapped(envs.resolve(taxi), mask_from_info=True, time_limit=30)
    rows = recorded(factory, steps=40)
    assert rows.obs["action_mask"].shape == (41, 4, 6)
    assert rows.obs["obs"].shape == (41, 4, 500)
    assert rows.truncated[30].all()
    # moves into walls are not legal, and legal ones never cost the ten of a wrong pick-up
    assert rows.reward.min() == -1


def test_wrappers_go_around_one_another():
    factory = wrapped(envs.resolve(Doors), frame_stack=2, time_limit=2, mask_from_info=True)
    assert factory.spec.obs == {"action_mask": ArraySpec((3,), "bool"), "obs": ArraySpec((2, 5), "float32")}
    rows = recorded(factory)
    assert rows.truncated.any()
    assert not rows.terminated.any()
    np.testing.assert_array_equal(rows.obs["obs"].argmax(-1)[..., 1], ages(rows))
    np.testing.assert_array_equal(rows.obs["obs"].argmax(-1)[..., 0], np.maximum(0, ages(rows) - 1))


ALL = {"frame_stack": 3, "time_limit": 5}


@pytest.mark.parametrize("env", ["toy:catch", "toy:gates", "toy:memory", "envs.own:Trees", Walk, "ale:breakout"])
def test_wrappers_commute_with_splitting_environments_over_actors(env):
    factory = wrapped(bare(env), **ALL)
    whole, halves = recorded(factory), [recorded(factory, 2, first) for first in (0, 2)]
    assert all(same(values, getattr(joined(halves), name)) for name, values in vars(whole).items())
    assert not same(whole.obs, recorded(factory, seed=8).obs)


@pytest.mark.parametrize("env", ["toy:gates", "envs.own:Trees"])
def test_environments_stepped_apart_are_wrapped_alike(env):
    factory = wrapped(bare(env), **ALL)
    together = recorded(factory)
    apart = factory.make(4)
    apart.reset(7)
    obs = tree_map(np.copy, apart.recv().obs)
    for step in range(20):
        action = actions(apart, step, 0, obs)
        for slots in (np.array([2, 0]), np.array([3]), np.array([1])):
            apart.send(action[slots], slots)
            rows = apart.recv(min_ready=1)
            for position, slot in enumerate(rows.slots):
                assert same(read_at(rows.obs, position), read_at(together.obs, (step + 1, slot)))
                assert rows.truncated[position] == together.truncated[step + 1, slot]
        obs = read_at(together.obs, step + 1)


def test_a_wrapped_factory_travels():
    factory = wrapped(bare("toy:gates"), **ALL)
    travelled = pickle.loads(pickle.dumps(factory))
    assert travelled.spec == factory.spec
    assert same(recorded(factory).obs, recorded(travelled).obs)


class Painted(Walk):
    """Draws how many steps its episode has had."""

    def render(self):
        return np.full((6, 8, 3), self.steps, np.uint8)


def test_a_camera_films_what_the_agent_plays():
    camera = open_camera(wrapped(envs.resolve(Painted, {"limit": 100}), frame_stack=2, time_limit=3))
    camera.env.reset(0)
    shown, shapes = [], set()
    for _ in range(6):
        rows = camera.env.recv()
        shapes.add(rows.obs.shape)
        shown.append(int(camera.picture(read_at(rows.obs, 0))[0, 0, 0]))
        camera.env.send(np.zeros(1, np.int32))
    camera.close()
    assert shown == [0, 1, 2, 3, 0, 1]
    assert shapes == {(1, 2, 2)}


@pytest.mark.parametrize(
    ("env", "settings", "expected"),
    [
        ("toy:catch", {"frame_stack": 0}, "frame_stack=0 shows nothing; give a whole number of at least 1"),
        ("toy:catch", {"time_limit": 0}, "time_limit=0 leaves no step; give a whole number of at least 1, or none"),
        ("toy:catch", {"mask_from_info": True}, "toy:catch: mask_from_info cannot be used: it is stepped many at once"),
        ("Pendulum-v1", {"mask_from_info": True}, "mask_from_info masks no Box actions; set it to false"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(env, settings, expected):
    with pytest.raises(ConfigError) as caught:
        wrapped(bare(env), **settings)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_environments_that_cannot_be_told_to_reset_are_refused():
    endless = dataclasses.replace(bare("toy:catch"), limited=None)
    with pytest.raises(ConfigError, match="time_limit=5 cannot be used: its environments cannot be told to reset"):
        wrapped(endless, time_limit=5)


def test_info_without_a_mask_is_a_fault():
    with pytest.raises(EnvironmentFault, match="gave no action_mask in its info, which holds nothing; give it always"):
        wrapped(bare(Walk), mask_from_info=True)
    factory = wrapped(envs.resolve(Doors, {"silent_after": 2}), mask_from_info=True)
    with pytest.raises(EnvironmentFault, match=r"environment 5 \(seed \d+, step 2\) gave no action_mask"):
        recorded(factory, first_index=5)
