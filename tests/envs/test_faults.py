# SPDX-License-Identifier: Apache-2.0
"""Environments that misbehave give one line with id, index, seed, step, what was wrong and the remedy."""

from functools import partial

import numpy as np
import pytest
from gymnasium import spaces

from envs.on_demand import BAD_RESETS, BAD_STEPS, Hostile, raising, stepping
from envs.own import Spaces
from shoal import envs, seeds
from shoal.errors import ConfigError, EnvironmentFault
from shoal.types import Discrete

SEED, FIRST_INDEX, AT = 3, 4, 2


def run(make, num_envs=2, steps=6):
    """Make, reset and step, as an actor would."""
    env = envs.resolve(make).make(num_envs, FIRST_INDEX)
    env.reset(SEED)
    rows = [env.recv()]
    for _ in range(steps):
        env.send(np.zeros(num_envs, np.int32))
        rows.append(env.recv())
    env.close()
    return rows


class OnlyTheSecond:
    """A constructor whose second environment of an actor is hostile; the first one made only tells the spec."""

    def __init__(self, **hostile):
        self.hostile = hostile
        self.made = 0

    def __call__(self):
        self.made += 1
        return Hostile(**self.hostile) if self.made == 3 else Hostile()


def message_of(make) -> str:
    with pytest.raises(EnvironmentFault) as caught:
        run(make)
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("name", BAD_STEPS)
def test_bad_step(name):
    call, expected = BAD_STEPS[name]
    message = message_of(OnlyTheSecond(step=call, at=AT))
    seed = seeds.derive(SEED, "env", FIRST_INDEX + 1)
    assert f"OnlyTheSecond: environment {FIRST_INDEX + 1} (seed {seed}, step {AT}) " in message
    assert expected in message
    assert "; " in message


@pytest.mark.parametrize("name", BAD_RESETS)
@pytest.mark.parametrize("at", [1, 2])
def test_bad_reset(name, at):
    call, expected = BAD_RESETS[name]
    message = message_of(OnlyTheSecond(reset=call, at=at))
    step = 0 if at == 1 else 4  # episodes end in step 3, and the step after it resets
    assert f"environment {FIRST_INDEX + 1} (seed {seeds.derive(SEED, 'env', FIRST_INDEX + 1)}, step {step}) " in message
    assert expected in message


def test_float_screen_is_refused():
    screens = spaces.Box(0, 255, (2, 2), np.uint8)
    make = partial(Hostile, obs_space=screens, step=stepping(obs=np.zeros((2, 2))))
    make.__qualname__ = "screens"
    assert "an obs of dtype float64, declared uint8" in message_of(make)


@pytest.mark.parametrize(
    ("obs", "expected"), [(7, "returned obs 7, declared 2 .. 4"), (2.0, "float 2.0 as a Discrete")]
)
def test_bad_discrete_obs(obs, expected):
    assert expected in message_of(partial(Spaces, obs, spaces.Discrete(3, start=2), spaces.Discrete(2)))


def test_reset_without_seed_keyword():
    class OldApi(Hostile):
        def reset(self):
            return self.good_obs

    assert "unexpected keyword argument 'seed' in reset" in message_of(OldApi)


def test_constructor_that_raises():
    def make():
        raise OSError("no display")

    with pytest.raises(EnvironmentFault, match=r"environment 0 raised OSError: no display when it was made; fix"):
        envs.resolve(make)


def test_a_constructor_that_fails_half_way_closes_what_it_made():
    closed = []

    class Counted(Hostile):
        made = 0

        def __init__(self):
            super().__init__()
            Counted.made += 1
            if Counted.made == 4:
                raise RuntimeError("no more licences")

        def close(self):
            closed.append(self)

    with pytest.raises(EnvironmentFault, match="environment 6 raised RuntimeError: no more licences"):
        run(Counted, num_envs=3)
    assert len(closed) == 3


def test_constructor_that_returns_the_same_object():
    env = Hostile()
    with pytest.raises(ConfigError, match="the same object twice; return a new environment"):
        run(lambda: env)


def test_interrupt_is_no_fault():
    with pytest.raises(KeyboardInterrupt):
        run(OnlyTheSecond(step=raising(KeyboardInterrupt())))


def test_close_that_raises_hides_nothing():
    class ClosesBadly(Hostile):
        def close(self):
            raise RuntimeError("already closed")

    assert len(run(ClosesBadly)) == 7


@pytest.mark.parametrize(
    "step",
    [
        stepping(obs=[0, 0, 0], reward=1, terminated=0, truncated=1),
        stepping(obs=np.zeros(3), reward=np.float64(1), terminated=np.bool_(False), truncated=np.array(True)),
        stepping(reward=np.array(1.0), truncated=True),
        stepping(reward=True, truncated=True),
    ],
)
def test_other_spellings_of_good_values_pass(step):
    rows = run(partial(Hostile, step=step), steps=1)
    assert list(rows[1].reward) == [1, 1]
    assert rows[1].truncated.all()
    assert not rows[1].terminated.any()


def test_episodes_of_one_step():
    class EndsAtOnce(Hostile):
        def step(self, action):
            return self.good_obs, 1.0, True, False, {}

    rows = run(EndsAtOnce, steps=4)
    assert [bool(row.valid[0]) for row in rows] == [False, True, False, True, False]


def test_discrete_obs_are_one_hot_and_actions_start_where_the_space_does():
    made = []

    def make():
        made.append(Spaces(3, spaces.Discrete(3, start=2), spaces.Discrete(2, start=-5)))
        return made[-1]

    factory = envs.resolve(make)
    assert (factory.spec.obs.shape, factory.spec.obs.dtype, factory.spec.action) == ((3,), "float32", Discrete(2))
    env = factory.make(2)
    env.reset(0)
    env.recv()
    env.send(np.array([0, 1], np.int32))
    assert env.recv().obs.tolist() == [[0, 1, 0]] * 2
    assert [each.received for each in made[1:]] == [[-5], [-4]]
    assert all(type(each.received[0]) is int for each in made[1:])


def test_box_actions_arrive_in_the_dtype_of_their_space():
    made = []

    def make():
        made.append(Spaces(0.5, spaces.Box(0, 1, (), np.float32), spaces.Box(-2, 2, (2,), np.float64)))
        return made[-1]

    env = envs.resolve(make).make(1)
    env.reset(0)
    assert env.recv().obs.tolist() == [0.5]
    env.send(np.array([[-2, 1]], np.float32))
    (received,) = made[1].received
    assert received.dtype == np.float64
    assert received.tolist() == [-2, 1]


def test_vector_form_that_raises_or_lies_is_named():
    factory = envs.resolve("CartPole-v1")
    env = factory.make(2, FIRST_INDEX)
    env._env.step = lambda _: raising(RuntimeError("torn"))()
    env.reset(SEED)
    env.recv()
    seed = seeds.derive(SEED, "env", FIRST_INDEX)
    with pytest.raises(
        EnvironmentFault, match=rf"environments 4 \.\. 5 \(seed {seed}, step 1\) raised RuntimeError: torn"
    ):
        env.send(np.zeros(2, np.int32))
    env._env.reset = lambda seed: (np.zeros((2, 3), np.float32), {})
    with pytest.raises(EnvironmentFault, match=r"obs \(2, 3\) float32 from reset, declared \(2, 4\) float32; return"):
        env.reset(SEED)
