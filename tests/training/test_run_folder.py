# SPDX-License-Identifier: Apache-2.0
"""What a run leaves, and what train, load, evaluate and resume make of it."""

import json
import math

import jax
import numpy as np
import pytest

import shoal
from agents.made import Narrow
from shoal import training
from shoal.architectures import registry
from shoal.architectures.assemble import default_engine, segment_seed
from shoal.architectures.replayed import ReplayConfig
from shoal.errors import ConfigError
from shoal.records.flow import merged_rows, read_flow
from shoal.records.metrics import unknown_names
from shoal.training import recorder
from training.runs import ENVS, SMALL, checkpoints, facts, train, untimed_rows

ARCHITECTURES = tuple(registry.ARCHITECTURES)
REMEMBER = tuple(name for name in ARCHITECTURES if issubclass(registry.load(name).Config, ReplayConfig))
NOT_PROMISED = {
    "a3c": {"queue_fill_frac", "step_norm", "phase_s/update", "phase_s/publish"},
    "pg": {"loss/total", "loss/value"},
    **{name: {"policy_lag_mean", "policy_lag_max", "loss/policy", "loss/entropy"} for name in REMEMBER},
    "gorila": {"loss/policy", "loss/entropy", "step_norm", "phase_s/update", "phase_s/publish"},
}
"""rows of metrics that an architecture cannot have: no queue, no learner, no critic, no policy apart from values; rows
of a memory have an age instead of a lag"""


def architecture_of(result):
    return facts(result.run_dir)["architecture"]


def observations(result, number, seed):
    return np.random.default_rng(seed).random((number, *result.factory.spec.obs.shape)).astype(np.float32)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def result(request, tmp_path_factory):
    """A finished run of each architecture, on its default engine."""
    return train(tmp_path_factory.mktemp("run") / request.param, request.param)


def test_everything_is_there(result):
    names = {path.name for path in result.run_dir.iterdir()}
    assert names == {
        "config.json",
        "hardware.json",
        "metrics.jsonl",
        "flow.json",
        "log.txt",
        "checkpoints",
        "report.html",
    } | ({"replay"} if architecture_of(result) in REMEMBER else set())
    assert checkpoints(result.run_dir)[-1].name == f"step-{result.state.env_steps}"
    assert json.loads((result.run_dir / "hardware.json").read_text())["devices"][0]["platform"] == "cpu"


def test_rows_hold_what_is_promised(result):
    rows, name = result.metrics, architecture_of(result)
    bystander = name in ("a3c", "gorila")  # whose workers may be far on before the body first looks
    assert len(rows) >= 2 - bystander
    for row in rows:
        assert unknown_names(row) == []
    last, remembers = rows[-1], name in REMEMBER
    # a row in which nothing was drawn, or of which no worker has told yet, has no losses
    seen = set().union(*rows) if remembers or bystander else set(last)
    assert seen | NOT_PROMISED.get(name, set()) >= {
        "env_steps",
        "wall_s",
        "updates",
        "episodes",
        "episode_return_mean",
        "episode_length_mean",
        "env_steps_per_s",
        "policy_lag_mean",
        "policy_lag_max",
        "sample_reuse",
        "queue_fill_frac",
        "grad_norm",
        "step_norm",
        "learning_rate",
        "phase_s/env_step",
        "phase_s/act",
        "phase_s/update",
        "phase_s/publish",
        "loss/total",
        "loss/policy",
        "loss/value",
        "loss/entropy",
    }
    assert (last["env_steps"], last["updates"], last["version"]) == (
        result.state.env_steps,
        result.state.updates,
        result.state.version,
    )
    assert last["env_steps"] >= SMALL["env_steps"]
    assert last["episode_length_mean"] == 9
    assert -9 * 16.3 <= last["episode_return_mean"] <= 1  # Pendulum's worst step, catch's best episode


def test_rows_grow(result):
    for name in ("env_steps", "env_steps_generated", "wall_s", "updates", "version", "episodes"):
        values = [row[name] for row in result.metrics]
        assert values == sorted(values), name
    assert all(row["env_steps_generated"] >= row["env_steps"] for row in result.metrics)
    steps = {row["env_steps"] for row in result.metrics}
    assert len(steps) == len(result.metrics)
    # seconds are those since the row before: over all rows they add up to the flow's, but for those after the last row
    flow = read_flow(result.run_dir / "flow.json")
    total = sum(row["phase_s/env_step"] for row in result.metrics)
    assert 0 < total <= 1.01 * sum(s["phases"]["actor"]["env_step"] for s in flow["segments"])


def test_flow_counts_what_the_learner_received(result):
    rows = {row["message"]: row for row in merged_rows(read_flow(result.run_dir / "flow.json"))}
    if architecture_of(result) in REMEMBER:
        assert rows["BATCH"]["count"] > 0
    elif "TRAJ" in rows:
        assert rows["TRAJ"]["count"] == result.state.version  # one trajectory an update
    else:
        assert rows["GRAD"]["count"] >= result.state.version  # what was pushed after the last look is counted, too
    numbers = rows["PARAM"]["bytes"] / rows["PARAM"]["count"] / 4 - result.state.params.size
    assert numbers in ((0, 1) if architecture_of(result) in REMEMBER else (0,))  # one may say how to explore


def test_load_gives_the_same_policy(result):
    loaded = shoal.load(result.run_dir)
    jax.tree.map(np.testing.assert_array_equal, loaded.state, result.state)
    assert loaded.config == result.config
    assert loaded.metrics == result.metrics
    obs = observations(result, 40, seed=0)
    np.testing.assert_array_equal(loaded.policy(obs), result.policy(obs))


def test_a_policy_of_a_batch_is_that_of_its_rows(result):
    obs = observations(result, 20, seed=1)
    batch = result.policy(obs)
    np.testing.assert_allclose(batch, [result.policy(row) for row in obs], rtol=1e-5, atol=1e-6)
    drawn = result.policy(np.repeat(obs[:1], 300, 0), deterministic=False)
    draws = len(np.unique(drawn.round(4), axis=0))
    if architecture_of(result) in REMEMBER and architecture_of(result) != "sac":
        assert draws == 1  # how to explore is not learnt, and does not stay with the params
    else:
        assert draws > 1
    np.testing.assert_array_equal(drawn, result.policy(np.repeat(obs[:1], 300, 0), deterministic=False))
    with pytest.raises(ValueError, match=result.factory.spec.id):
        result.policy(np.zeros((2, 49), np.float32))


def test_an_exported_policy_acts_like_the_result_s(result, tmp_path):
    obs = observations(result, 40, seed=2)
    exported = shoal.load_policy(result.export(tmp_path / "policy"))
    np.testing.assert_array_equal(exported(obs), result.policy(obs))
    assert exported.spec == result.factory.spec


def test_policies_that_act_in_jax_only_are_not_exported(tmp_path):
    own = train(tmp_path / "run", env_steps=20, network="agents.made:Narrow")
    with pytest.raises(ConfigError, match="acts in JAX only") as refused:
        own.export(tmp_path / "policy")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "policy").exists()


def test_runs_with_memory_and_statistics_leave_policies_with_both(tmp_path):
    result = train(tmp_path / "run", "impala", "toy:memory", network="lstm", normalise_obs=True, normalise_reward=True)
    loaded, exported = shoal.load(result.run_dir), shoal.load_policy(result.export(tmp_path / "policy"))
    obs, memories = np.random.default_rng(3).normal(size=(5, 3, 3)).astype(np.float32), [None] * 3
    for row in obs:
        answers = [
            policy.act(row, m) for policy, m in zip((result.policy, loaded.policy, exported), memories, strict=True)
        ]
        np.testing.assert_array_equal(answers[0][0], answers[1][0])
        np.testing.assert_array_equal(answers[0][0], answers[2][0])
        memories = [memory for _, memory in answers]
    assert shoal.evaluate(result.run_dir, episodes=3)["length_mean"] == 11


def test_evaluate_uses_the_checkpoint(result):
    found = shoal.evaluate(result.run_dir, episodes=12, seed=1)
    assert found["episodes"] == 12
    assert len(found["returns"]) == 12
    if architecture_of(result) not in ENVS:
        assert set(found["returns"]) <= {-1.0, 1.0}
    assert found["return_mean"] == pytest.approx(np.mean(found["returns"]))
    assert found["length_mean"] == 9
    assert shoal.evaluate(result.run_dir, episodes=12, seed=1) == found
    assert "evaluation" in (result.run_dir / "log.txt").read_text()


def test_config_json_repeats_the_run(result, tmp_path):
    kept = facts(result.run_dir)
    config = registry.load(kept["architecture"]).Config(**kept["config"])
    assert config == result.config
    again = training.train(
        kept["architecture"],
        kept["env"],
        config=config,
        engine="inline",
        network=kept["network"],
        env_kwargs=kept["env_kwargs"],
        run_dir=tmp_path / "again",
        quiet=True,
    )
    assert again.state.env_steps >= config.env_steps
    if kept["engine"] == "inline":  # always in fixed order
        np.testing.assert_array_equal(again.state.params, result.state.params)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fixed_order_repeats_and_other_seeds_differ(architecture, tmp_path):
    settings = {"order": "fixed", "num_actors": 2, "engine": "threads", "env_steps": 300}
    one, two = (train(tmp_path / name, architecture, **settings) for name in "ab")
    np.testing.assert_array_equal(one.state.params, two.state.params)
    assert untimed_rows(one.run_dir) == untimed_rows(two.run_dir)
    inline = train(tmp_path / "c", architecture, **{**settings, "engine": "inline"})
    np.testing.assert_array_equal(one.state.params, inline.state.params)
    other = train(tmp_path / "d", architecture, **settings, seed=1)
    assert not np.array_equal(one.state.params, other.state.params)


def test_looking_at_a_run_changes_nothing_that_it_writes(tmp_path, monkeypatch):
    settings = {"order": "fixed", "num_actors": 2, "engine": "threads", "env_steps": 300}
    unseen = train(tmp_path / "a", "r2d2", **settings)
    monkeypatch.setattr(recorder, "SECONDS_PER_VIEW", 0.0)
    seen = train(tmp_path / "b", "r2d2", **settings)
    assert untimed_rows(unseen.run_dir) == untimed_rows(seen.run_dir)


def test_a_run_can_go_on_for_longer(tmp_path, capsys):
    first = train(tmp_path / "run", "ppo", env_steps=200)
    rows = untimed_rows(first.run_dir)
    more = shoal.resume(first.run_dir, env_steps=500, quiet=True)
    assert more.state.env_steps >= 500
    assert untimed_rows(first.run_dir)[: len(rows)] == rows
    assert facts(first.run_dir)["config"]["env_steps"] == 500
    assert [row["wall_s"] for row in more.metrics] == sorted(row["wall_s"] for row in more.metrics)
    assert more.metrics[-1]["episodes"] > first.metrics[-1]["episodes"]
    segments = read_flow(first.run_dir / "flow.json")["segments"]
    assert [s["from_env_steps"] for s in segments] == [0, first.state.env_steps]
    assert capsys.readouterr().err == ""
    still = shoal.resume(first.run_dir, quiet=True)
    np.testing.assert_array_equal(still.state.params, more.state.params)


def test_stop_at_a_return(tmp_path):
    result = train(tmp_path / "run", env_steps=100_000, stop_return=-2.0)
    # any mean is above -2, but it needs 100 episodes
    assert result.stop_reason is not None
    assert "-2" in result.stop_reason
    assert 100 <= result.metrics[-1]["episodes"] < 200
    assert result.exit_code == 0
    assert checkpoints(result.run_dir)[-1].name == f"step-{result.state.env_steps}"


def test_stop_after_minutes(tmp_path):
    result = train(tmp_path / "run", env_steps=10**8, stop_minutes=0.4 / 60)
    assert "minutes" in result.stop_reason
    assert 0.4 <= result.metrics[-1]["wall_s"] < 60
    assert result.state.env_steps < 10**8


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_callables_train(engine, tmp_path):
    from training.own_envs import Sound

    make = lambda: Sound()  # noqa: E731 a lambda is what is to be tested
    result = train(tmp_path / "run", env=make, engine=engine, num_actors=2)
    assert result.state.env_steps >= SMALL["env_steps"]
    for use in (shoal.load, shoal.resume, shoal.evaluate):
        with pytest.raises(ConfigError, match="pass it again as env="):
            use(result.run_dir)
    assert shoal.evaluate(result.run_dir, episodes=2, env=make)["episodes"] == 2
    assert shoal.resume(result.run_dir, env=make, env_steps=700, quiet=True).state.env_steps >= 700


def test_networks_of_one_s_own_train_and_load(tmp_path):
    named = train(tmp_path / "named", network="agents.made:Narrow")
    given = train(tmp_path / "given", network=Narrow)
    np.testing.assert_array_equal(named.state.params, given.state.params)
    assert facts(given.run_dir)["network"] == "agents.made:Narrow"
    np.testing.assert_array_equal(shoal.load(given.run_dir).state.params, given.state.params)

    class Hidden(Narrow):
        """Cannot be found by name."""

    hidden = train(tmp_path / "hidden", network=Hidden)
    with pytest.raises(ConfigError, match="pass it again as network="):
        shoal.load(hidden.run_dir)
    np.testing.assert_array_equal(shoal.load(hidden.run_dir, network=Hidden).state.params, given.state.params)


def test_box_actions_come_out_on_the_environment_s_scale(tmp_path):
    result = train(tmp_path / "run", env="Pendulum-v1", env_steps=100)
    drawn = result.policy(np.random.default_rng(0).normal(size=(200, 3)), deterministic=False)
    assert drawn.shape == (200, 1)
    assert np.abs(drawn).max() == 2
    assert math.isfinite(shoal.evaluate(result.run_dir, episodes=2)["return_mean"])


def test_default_engines():
    configs = {name: registry.load(name).Config() for name in ARCHITECTURES}
    assert {name: default_engine(name, config) for name, config in configs.items()} == {
        "a2c": "inline",
        "ppo": "inline",
        "impala": "threads",
        "appo": "threads",
        "seed": "threads",
        "pg": "threads",
        "a3c": "processes",
        "gorila": "processes",
        **{name: "threads" for name in REMEMBER if name != "gorila"},
    }
    a2c = registry.load("a2c").Config
    assert default_engine("a2c", a2c(num_actors=2)) == "threads"
    assert default_engine("a2c", a2c(num_actors=2, learners=2, learner_processes=2)) == "processes"


def test_every_start_has_its_own_randomness():
    config = registry.load("a2c").Config(seed=3)
    other = registry.load("a2c").Config(seed=4)
    seeds = {segment_seed(config, 0), segment_seed(config, 100), segment_seed(other, 0), segment_seed(other, 100)}
    assert len(seeds) == 4
