# SPDX-License-Identifier: Apache-2.0
"""From an environment's id to printed advice: the real thing, cut short."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from placement.made_up import profile, trial
from shoal import envs
from shoal.cli import advise as command
from shoal.engines import RoleFailed
from shoal.errors import ConfigError, EnvironmentFault
from shoal.placement import advise as advising
from shoal.placement import measure, workload
from shoal.placement.profile import read_profile
from shoal.placement.render import render
from shoal.placement.rounds import Rounds
from shoal.placement.stages import BOXES
from shoal.placement.traces import two_sizes
from shoal.placement.verdict import advise_on

SHORT = 0.5
"""seconds, for which figures are too noisy to look at"""


class Breaks:
    """A simulator that works for some steps only."""

    def __new__(cls, after: int = 3):
        import gymnasium

        class Env(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
            action_space = gymnasium.spaces.Discrete(2)
            steps = 0

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                return np.zeros(2, np.float32), {}

            def step(self, action):
                self.steps += 1
                if self.steps > after:
                    raise OSError("the simulator hung up")
                return np.zeros(2, np.float32), 0.0, False, False, {}

        return Env()


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    path = tmp_path_factory.mktemp("advise") / "p.json"
    told = []
    advice, found = advising.advise("CartPole-v1", json_path=path, seconds=SHORT, tell=told.append)
    return advice, found, path, told


def test_cartpole_is_measured(cartpole):
    advice, found, _, told = cartpole
    assert found.env.obs[""].shape == (4,)
    assert set(found.inference) == {"numpy", "cpu"}
    assert [p.size for p in found.env_step.points][:2] == [1, 8]
    assert found.inference["numpy"].points[0].size == 1
    assert found.copy.size == measure.COPY_BYTES
    assert found.copy_bytes_per_s > 0
    assert found.update["cpu"].points[0].size == 256
    assert any(t.architecture == "ppo" and not t.simulated for t in found.trials)
    points = [*found.env_step.points, found.env_reset, *found.update["cpu"].points, found.estimate]
    assert all(p.noise is None or p.noise >= 0 for p in points)
    assert all(t.env_steps > 0 and t.wall_s > 0 for t in found.trials)
    assert sum(stage.share for stage in advice.stages) == pytest.approx(1)
    assert {"the environment alone", "updates over batch sizes"} <= set(told)


def test_its_profile_can_be_read_back(cartpole):
    advice, found, path, _ = cartpole
    assert read_profile(path) == found
    assert advise_on(read_profile(path)).command == advice.command


def printed(advice, found, width):
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(render(advice, found, width), highlight=False)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_the_terminal(cartpole, width):
    text = printed(*cartpole[:2], width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "parallel…" not in text
    for words in (*BOXES, "environment step", "no GPU seen", "Limits", "Verdict", "shoal train", "shoal race"):
        assert words in " ".join(text.split())


def test_noise_stands_behind_figures():
    made = profile(trials=(trial(),))
    text = printed(advise_on(made), made, 120)
    assert "±2% · inference" in text
    assert "measured 50.0k ±3%" in text
    assert "environment: a step computes, holds Python's lock, and moves <0.1% of what memory can (10.0 GB/s)" in text


def test_markup_in_names_is_printed_as_it_is():
    made = profile(trials=(trial(),))
    advice = advise_on(made)
    text = printed(advice, made, 120)
    assert "[4] float32" in text


def test_command_line(capsys, tmp_path):
    path = tmp_path / "p.json"
    words = ["--env", "toy:bandit", "--arch", "impala", "--json", str(path)]
    assert command.run(words, seconds=SHORT) == 0
    out = capsys.readouterr().out
    assert "Where the time goes  impala" in out
    assert "\x1b" not in out
    assert str(path) in out
    assert json.loads(path.read_text())["env"]["id"] == "toy:bandit"


def test_settings_of_the_environment_reach_it_and_the_line_to_run(capsys, monkeypatch):
    """They reach what is measured, whose figures are made up: of steps that wait, on threads that overlap them."""
    seen = []

    def as_if_measured(factory, _architecture, _network, env_kwargs, *_):
        env = factory.make(1, 0)
        env.reset(0)
        env.recv()
        for _ in range(5):
            env.send(factory.spec.action.to_env(np.zeros((1, *factory.spec.action.shape), np.float32)))
            rows = env.recv()
            seen.append(bool(rows.terminated[0] | rows.truncated[0]))
        env.close()
        runs = (trial("ppo", 400.0), trial("a2c", 390.0), trial("impala", 3000.0, engine="threads", actors=8))
        made = profile(step=(0.0, 2e-3), step_cores=0.0, gain=2.0, trials=runs)
        return dataclasses.replace(made, env=advising.env_facts(factory, env_kwargs))

    monkeypatch.setattr(advising, "measure_profile", as_if_measured)
    words = ["--env", "toy:paced", "--env-kwargs", '{"step_s": 0.002, "episode_steps": 5}']
    assert command.run(words, seconds=SHORT) == 0
    assert seen == [False] * 4 + [True]
    out = " ".join(capsys.readouterr().out.split())
    assert "a step waits" in out
    assert "Parallelise: waiting environments overlap" in out
    assert """--env-kwargs '{"step_s": 0.002, "episode_steps": 5}'""" in out


@pytest.mark.slow
@pytest.mark.alone
def test_an_environment_that_waits_is_found_to_wait(capsys):
    assert command.run(["--env", "toy:paced", "--env-kwargs", '{"step_s": 0.002}'], seconds=SHORT) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "a step waits" in out
    assert "Parallelise: waiting environments overlap" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--env", "CartPole-v1", "--arch", "pppo"], "pppo"),
        (["--env", "CartPole-v1", "--arch", "sac"], "sac"),
        (["--env", "CartPole-v9"], "CartPole-v1"),
        (["--env", "CartPole-v1", "--network", "nature_cnn"], "nature_cnn"),
        (["--env", "CartPole-v1", "--env-kwargs", "{"], "JSON"),
        (["--env", "CartPole-v1", "--json", "."], "folder"),
        (["--env", "CartPole-v1", "--json", "none/such/p.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(words, told):
    with pytest.raises(ConfigError) as caught:
        command.run(words, seconds=SHORT)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("after", [3, 60])
def test_an_environment_that_breaks_while_measured(after):
    with pytest.raises((EnvironmentFault, RoleFailed)) as caught:
        advising.advise(Breaks, env_kwargs={"after": after}, seconds=SHORT)
    assert caught.value.exit_code == 3
    assert "the simulator hung up" in str(caught.value)


def test_continuous_actions_are_measured_too():
    factory = envs.resolve("Pendulum-v1")
    steps = measure.RandomSteps(factory, 2)
    steps()
    steps.env.close()
    work = workload.make_workload("a2c", factory, "auto")
    with Rounds() as rounds:
        assert len(measure.measure_inference(work, 0.01, rounds)["numpy"].points) == 5
        estimate = measure.measure_estimate(work, 0.01, rounds)
    assert estimate.size == work.config.envs_per_actor * work.config.unroll_length


def test_a_device_agent_acts_as_the_host_does():
    work = workload.make_workload("ppo", envs.resolve("CartPole-v1"), "auto")
    on_device = workload.device_agent(work)
    obs, noise = workload.made_up_obs(work.spec, 16), np.zeros((16, 2), np.float32)
    actions = []
    for agent in (work.parts.agent, on_device):
        action, head, _ = agent.act(agent.bind(work.params), obs, (), noise)
        actions.append((action, head))
    np.testing.assert_array_equal(actions[0][0], actions[1][0])
    np.testing.assert_allclose(actions[0][1], actions[1][1], rtol=1e-5, atol=1e-6)


def test_updates_over_frames_are_timed_in_the_shapes_that_are_traced():
    work = workload.make_workload("impala", envs.resolve("ale:pong"), "auto")
    config = work.config
    batches = [config.batch_trajectories * one.envs_per_actor for one in two_sizes(config, frames=True)]
    assert list(measure.shapes_of_batches(work).values()) == [(config.unroll_length, size) for size in batches]
    assert config.batch_trajectories * config.envs_per_actor in batches
