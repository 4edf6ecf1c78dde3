# SPDX-License-Identifier: Apache-2.0
"""`shoal evaluate --video`: a film of a real run; what cannot be filmed is one line, before JAX is loaded."""

import json
import sys

import numpy as np
import pytest

from cli.shell import one_line_of, shoal_each
from shoal.cli.main import main

ENVIRONMENTS = """
import gymnasium, numpy as np

class Painted(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.zeros(3, np.float32), 2.0, self.count == 9, False, {}

    def render(self):
        return np.full((16, 24, 3), 25 * self.count, np.uint8)
"""
SMALL = ("--env-steps", "64", "--unroll-length", "8", "--envs-per-actor", "4")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run on an environment that draws itself and one on a toy that does not."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "painted.py").write_text(ENVIRONMENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, env in [("run", "painted:Painted"), ("catch", "toy:catch")]:
            assert main(["train", "a2c", "--env", env, "--run-dir", name, *SMALL]) == 0
        yield folder


def test_a_film_shows_one_episode_from_reset_to_end(place, capsys):
    iio = pytest.importorskip("imageio.v3")
    assert main(["evaluate", "run", "--episodes", "2", "--video", "film.gif", "--json", "found.json"]) == 0
    answer = capsys.readouterr()
    assert answer.err == ""
    assert answer.out.splitlines()[-1] == "video         film.gif: 9 steps, return 18.00"
    shown = iio.imread(place / "film.gif", plugin="pillow")
    assert shown[:, 0, 0, 0].tolist() == [25 * count for count in range(10)]
    filmed = json.loads((place / "found.json").read_text())["video"]
    assert filmed == {"path": "film.gif", "frames": 10, "return": 18.0, "length": 9, "whole": True}
    assert np.array_equal(shown[..., 0], shown[..., 1])


def test_what_cannot_be_filmed_is_one_line_without_jax(place):
    pytest.importorskip("imageio")
    before = sorted(path.name for path in place.iterdir())
    refused = {
        ("catch", "x.gif"): "toy:catch cannot be filmed",
        ("run", "x.avi"): "x.avi is no kind of film",
        ("run", "none/x.gif"): "no such file or directory",
    }
    answers = shoal_each([("evaluate", run, "--video", film) for run, film in refused], cwd=place)
    for answer, reason in zip(answers, refused.values(), strict=True):
        assert reason in one_line_of(answer)
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_missing_extra_is_one_line_that_names_it(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "imageio", None)
    assert main(["evaluate", str(place / "run"), "--video", str(place / "x.gif")]) == 2
    answer = capsys.readouterr()
    assert answer.err == "shoal: a .gif film needs a package that is missing; pip install 'shoal[video]'\n"
    assert answer.out == ""
    assert not (place / "x.gif").exists()
