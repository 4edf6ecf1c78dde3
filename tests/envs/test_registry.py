# SPDX-License-Identifier: Apache-2.0
"""Ids to factories: every kind resolves, and every wrong one gets one line with the remedy."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.own import Spaces, Walk
from shoal import envs
from shoal.errors import ConfigError
from shoal.types import ArraySpec, Box, Discrete, EnvSpec

FLAT = spaces.Box(-1, 1, (2,), np.float32)


def refusal(env, kwargs=None) -> str:
    with pytest.raises(ConfigError) as caught:
        envs.resolve(env, kwargs)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("env", "spec"),
    [
        ("CartPole-v1", EnvSpec("CartPole-v1", ArraySpec((4,), "float32"), Discrete(2), 500)),
        ("Pendulum-v1", EnvSpec("Pendulum-v1", ArraySpec((3,), "float32"), Box((1,), (-2.0,), (2.0,)), 200)),
        ("ale:pong", EnvSpec("ale:pong", ArraySpec((4, 84, 84), "uint8"), Discrete(6), 27_000)),
        ("toy:catch", EnvSpec("toy:catch", ArraySpec((50,), "float32"), Discrete(3), 9)),
        ("envs.own:Walk", EnvSpec("envs.own:Walk", ArraySpec((2,), "float32"), Discrete(2), None)),
    ],
)
def test_spec(env, spec):
    factory = envs.resolve(env)
    assert (factory.name, factory.spec) == (env, spec)


def test_class_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_simulator.py").write_text("from envs.own import Walk\nclass Mine(Walk): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert envs.resolve("my_simulator:Mine", {"limit": 3}).make(1).num_envs == 1
    assert refusal("my_simulator:Mime").endswith("module my_simulator has no Mime; nearest: my_simulator:Mine")


def test_callables_keep_their_settings():
    env = envs.resolve(Walk, {"limit": 2}).make(1)
    env.reset(0)
    for _ in range(3):
        rows = env.recv()
        env.send(np.zeros(1, np.int32))
    assert rows.truncated[0]
    assert envs.resolve(Walk).name == "envs.own:Walk"


@pytest.mark.parametrize(
    ("env", "kwargs", "expected"),
    [
        ("CartPole", None, "unknown environment 'CartPole'; nearest: CartPole-v1"),
        ("cartpole-v1", None, "nearest: CartPole-v1"),
        ("CartPole-v7", None, "nearest: CartPole-v1"),
        ("PongNoFrameskip-v4", None, "nearest: ale:pong"),
        ("Catch-v0", None, "nearest: toy:catch"),
        ("zzzzzz", None, "unknown environment 'zzzzzz'; see: shoal list envs"),
        ("", None, "unknown environment ''; see: shoal list envs"),
        ("ale:Pong", None, "unknown game 'ale:Pong'; nearest: ale:pong"),
        ("ale:", None, "unknown game 'ale:'; see: shoal list envs"),
        ("ale:joust", None, "unknown game 'ale:joust'"),
        ("toy:cach", None, "unknown toy environment 'toy:cach'; nearest: toy:catch"),
        ("pgx:connect_four", None, "pgx environments are not available in this version"),
        ("no_such_module:Env", None, "no module named 'no_such_module'"),
        ("envs.no_such:Env", None, "no module named 'envs.no_such'"),
        ("envs.own:Wall", None, "module envs.own has no Wall; nearest: envs.own:Walk"),
        ("envs.own:Wall-v3", None, "registered no Wall-v3"),
        ("envs.own:np", None, "is a module object; name a class or function"),
        ("os:path.sep", None, "is a str object"),
        ("os:getcwd", None, "a str object has no observation_space; an environment follows gymnasium.Env"),
        ("bad name:Env", None, "'bad name:Env' is no environment id"),
        ("envs.own:", None, "'envs.own:' is no environment id"),
        (3, None, "a int object is not callable"),
        (Walk(), None, "a Walk object is not callable"),
        ("CartPole-v1", {"gravity": 1}, "unknown env_kwargs gravity; valid names: sutton_barto_reward"),
        ("Pendulum-v1", {"mass": 1}, "unknown env_kwargs mass; valid names: render_mode, g, max_episode_steps"),
        ("envs.own:Walk", {"limits": 1}, "unknown env_kwargs limits; valid names: limit, tells"),
        ("envs.own:Walk-v3", {"limits": 1}, "unknown env_kwargs limits; valid names: limit, tells"),
        ("envs.own:Spaces", None, "missing a required argument: 'obs'; give it with --env-kwargs or a default"),
        ("toy:catch", [1], "env_kwargs is [1]; give names with values"),
        ("toy:catch", {1: 1}, "env_kwargs is {1: 1}; give names with values"),
        ("toy:catch", {"row": 1}, "unknown env_kwargs row; valid names: rows, columns"),
        ("toy:catch", {"rows": 1}, "rows is 1; give a whole number of at least 2"),
        ("toy:memory", {"length": 1.5}, "length is 1.5; give a whole number of at least 1"),
        ("toy:key_door", {"length": 1}, "length is 1; give a whole number of at least 2"),
        ("toy:bandit", {"probabilities": [0.5, 2]}, "give a list of numbers within 0 .. 1"),
        ("toy:signpost", {"places": 2}, "places is 2; give a whole number of at least 3"),
        ("toy:signpost", {"places": 6}, "places is 6; give an odd number, so that one way is the shorter"),
        ("toy:dials", {"sizes": [3, 1]}, "sizes is 1; give a whole number of at least 2"),
        ("toy:dials", {"sizes": 3}, "sizes is 3; give a list of whole numbers"),
        ("toy:dials", {"sizes": []}, "sizes is []; give a list of whole numbers"),
        ("toy:gates", {"gates": 2}, "gates is 2; give a whole number of at least 3"),
        ("toy:paced", {"step_s": -1}, "step_s is -1; give a number of at least 0.0"),
        ("toy:paced", {"spread": "wide"}, "spread is 'wide'; give a number"),
        ("ale:pong", {"frame_skip": 4}, "unknown env_kwargs frame_skip; valid names: repeat_action_probability,"),
        ("ale:pong", {"frameskip": 0}, "frameskip is 0; give a whole number of at least 1"),
        ("ale:pong", {"repeat_action_probability": 25}, "is 25; give a number within 0 .. 1"),
        ("ale:pong", {"reward_clipping": 1}, "reward_clipping is 1; give true or false"),
    ],
)
def test_refusals(env, kwargs, expected):
    assert expected in refusal(env, kwargs)


@pytest.mark.parametrize(
    ("obs_space", "action_space", "expected"),
    [
        (spaces.Text(3), spaces.Discrete(2), "observation space Text"),
        (spaces.Dict(x=spaces.Tuple([FLAT, spaces.Text(3)])), spaces.Discrete(2), "(entry 'x/1') is not supported"),
        (spaces.Tuple([FLAT, spaces.Dict()]), spaces.Discrete(2), "(entry '1') holds nothing; give it an entry"),
        (FLAT, spaces.Tuple([spaces.Discrete(2)]), "action space Tuple"),
        (FLAT, spaces.Box(0, 5, (2,), np.int32), "action space Box"),
        (FLAT, None, "has no action_space"),
    ],
)
def test_unsupported_spaces(obs_space, action_space, expected):
    assert expected in refusal(lambda: Spaces(None, obs_space, action_space))


def test_module_that_fails_to_import(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "sim_syntax.py").write_text("def broken(:\n")
    (tmp_path / "sim_needs.py").write_text("import a_package_nobody_has\n")
    (tmp_path / "sim_exits.py").write_text("raise SystemExit('bye')\n")
    assert "importing sim_syntax raised SyntaxError" in refusal("sim_syntax:Env")
    assert "needs 'a_package_nobody_has', which is not installed; install it" in refusal("sim_needs:Env")
    assert "importing sim_exits raised SystemExit: bye; fix the module" in refusal("sim_exits:Env")


def test_missing_simulator_names_the_package(monkeypatch):
    def needs_package(*_, **__):
        raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed")

    monkeypatch.setattr(gymnasium, "make", needs_package)
    assert refusal("HalfCheetah-v5") == "HalfCheetah-v5: its simulator is not installed; pip install 'shoal[mujoco]'"
    assert "pip install 'gymnasium[box2d]'" in refusal("LunarLander-v3")


def test_list_holds_one_id_of_each_kind():
    listed = envs.list_envs()
    assert {"CartPole-v1", "Pendulum-v1"} <= set(listed["Gymnasium"])
    assert "CartPole-v0" not in listed["Gymnasium"]
    assert "ale:pong" in listed["ale-py"]
    names = (
        "bandit", "catch", "dials", "gates", "grasp", "key_door", "memory", "paced", "reacher", "signpost", "tictactoe",
    )  # fmt: skip
    assert listed["toy"] == [f"toy:{name}" for name in names]


def test_environments_need_no_jax():
    code = """if True:
        import sys
        from shoal import envs
        assert not {"jax", "gymnasium", "ale_py"} & set(sys.modules)
        import numpy as np
        for name in ("CartPole-v1", "toy:catch", "toy:tictactoe", "toy:paced", "ale:pong"):
            env = envs.resolve(name).make(2)
            env.reset(0)
            env.recv()
            env.send(np.zeros(2, np.int32))
            env.recv()
        assert "jax" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
