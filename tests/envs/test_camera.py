# SPDX-License-Identifier: Apache-2.0
"""Cameras show the environment itself, or the frames its agent sees; what has no picture is refused in one line."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from shoal import envs
from shoal.envs.camera import as_picture, enlarged, holds_frames, newest_frame, open_camera
from shoal.errors import ConfigError, EnvironmentFault
from shoal.types import ArraySpec


class Painted(gymnasium.Env):
    """Draws how many steps its episode has had; has pictures only in the mode that is asked for them."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode
        self.steps = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == 4, False, {}

    def render(self):
        return np.full((6, 8, 3), 10 * self.steps, np.uint8) if self.render_mode == "rgb_array" else None


class NoMode(Painted):
    """Draws itself without being asked to, in gray and at no stated speed."""

    metadata = {}

    def __init__(self):
        super().__init__("rgb_array")

    def render(self):
        return super().render()[..., 0]


class Blind(Painted):
    def render(self):
        raise NotImplementedError


class RaisesInRender(Painted):
    def render(self):
        raise RuntimeError("no display")


class Floats(Painted):
    def render(self):
        return np.zeros((6, 8, 3), np.float32)


class LosesItsDisplay(Painted):
    def render(self):
        return None if self.steps == 2 else super().render()


class Screen(Blind):
    """Its observations are frames [stack, H, W], the newest last."""

    observation_space = spaces.Box(0, 255, (3, 20, 10), np.uint8)

    def observe(self):
        return np.stack([np.full((20, 10), max(0, self.steps - age), np.uint8) for age in (2, 1, 0)])

    def reset(self, **settings):
        super().reset(**settings)
        return self.observe(), {}

    def step(self, action):
        _, *rest = super().step(action)
        return (self.observe(), *rest)


def filmed(camera, steps=4):
    """Pictures after the reset and after each step."""
    camera.env.reset(0)
    obs = camera.env.recv().obs
    shown = [camera.picture(obs[0])]
    for _ in range(steps):
        camera.env.send(np.zeros(1, np.int64))
        shown.append(camera.picture(camera.env.recv().obs[0]))
    camera.close()
    return np.array(shown)


@pytest.mark.parametrize(("env", "frames_per_s"), [(Painted, 12), (NoMode, 30)])
def test_pictures_show_the_environment_after_each_step(env, frames_per_s):
    camera = open_camera(envs.resolve(env))
    shown = filmed(camera)
    assert camera.frames_per_s == frames_per_s
    assert shown.shape == (5, 6, 8, 3)
    assert shown[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]


def test_an_environment_by_name_is_rendered_too():
    factory = envs.resolve(f"{__name__}:Painted", {"render_mode": None})
    assert filmed(open_camera(factory))[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]


def test_frames_are_shown_enlarged_where_nothing_is_rendered():
    shown = filmed(open_camera(envs.resolve(Screen)))
    assert shown.shape == (5, 320, 160, 3)
    assert shown[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_game_shows_its_newest_screen():
    camera = open_camera(envs.resolve("ale:pong", {"frameskip": 2}))
    try:
        camera.env.reset(0)
        for _ in range(40):
            obs = camera.env.recv().obs[0]
            camera.env.send(np.zeros(1, np.int64))
        picture = camera.picture(obs)
    finally:
        camera.close()
    assert camera.frames_per_s == 30
    assert picture.shape == (336, 336, 3)
    assert np.array_equal(picture[::4, ::4, 0], obs[-1])
    assert not np.array_equal(obs[-1], obs[0])


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (Blind, "it draws no pictures of itself"),
        (RaisesInRender, "its render() raised RuntimeError: no display"),
        (Floats, "its render() returned float32 [6, 8, 3]"),
        ("toy:catch", "it draws no pictures of itself"),
        ("toy:tictactoe", "it draws no pictures of itself"),
    ],
)
def test_what_has_no_picture_is_refused_in_one_line(env, reason):
    with pytest.raises(ConfigError) as caught:
        open_camera(envs.resolve(env))
    line = str(caught.value)
    assert f"cannot be filmed: {reason}, and its observations are no frames; give it render_mode" in line
    assert "\n" not in line


def test_pictures_that_stop_are_the_environments_fault():
    with pytest.raises(EnvironmentFault, match="stopped returning pictures"):
        filmed(open_camera(envs.resolve(LosesItsDisplay)))


def test_gymnasiums_own_environments_are_drawn_with_pygame():
    pytest.importorskip("pygame")
    camera = open_camera(envs.resolve("CartPole-v1"))
    shown = filmed(camera, steps=6)
    assert camera.frames_per_s == 50
    assert shown.shape == (7, 400, 600, 3)
    assert any(not np.array_equal(a, b) for a, b in zip(shown, shown[1:], strict=False))


def test_a_missing_pygame_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(
        ConfigError, match=r"^CartPole-v1 cannot be filmed: pygame is not installed; pip install 'shoal\[video\]'$"
    ):
        open_camera(envs.resolve("CartPole-v1"))


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4), (2, 5, 7), (2, 5, 4, 3)])
def test_frames_of_every_layout_become_colour_pictures(shape):
    obs = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    assert holds_frames(ArraySpec(shape, "uint8"))
    frame = newest_frame(obs)
    newest = obs[-1] if shape[0] == 2 else obs
    assert frame.shape[2] == 3
    assert np.array_equal(frame[..., 0], newest[..., 0] if newest.ndim == 3 else newest)
    factor = 336 // max(frame.shape[:2])
    assert np.array_equal(enlarged(frame)[::factor, ::factor], frame)


@pytest.mark.parametrize("shape", [(5,), (), (2, 2, 2, 2, 2), (0, 4), (5, 4, 2, 2)])
def test_other_observations_hold_no_frames(shape):
    assert not holds_frames(ArraySpec(shape, "uint8"))
    assert not holds_frames(ArraySpec((5, 4, 3), "float32"))
    assert as_picture(np.zeros((5, 4, 3))) is None
    assert as_picture("a picture") is None
